"""What a device has while this process uses it: leases, memory, contexts, an engine.

It begins and ends with the device's reference count; a device that is used again has another.
"""

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from leasehold.claims import Claim, Units
from leasehold.errors import LeaseholdError
from leasehold.lease import Lease
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.context import Context
from leasehold.runtime.engine import Engine
from leasehold.runtime.event import Event
from leasehold.runtime.holding import Held, Holding, refused_as
from leasehold.runtime.memory import Arena, base_of
from leasehold.runtime.stream import Stream

if TYPE_CHECKING:
    from leasehold.runtime.device import Device
    from leasehold.runtime.runtime import Runtime


class Activation:
    """One life of a device in this process."""

    def __init__(self, runtime: "Runtime", device: "Device", inherited: Lease | None) -> None:
        """Takes the lease that the default context and its stream need.

        Raises:
            Fault: the daemon refuses.
        """
        self.runtime = runtime
        self.device = device
        self.cpus: tuple[int, ...] = ()  # what streams run on; replaced, never changed
        self._lock = threading.Lock()
        self._is_ending = False
        self._contexts: set[Context] = set()
        self._streams: set[Stream] = set()  # every one whose thread may still run
        self._events: set[Event] = set()
        self._inherited = inherited
        self.holding = Holding(runtime.client, device.card.id, self._let_go_of_lost)
        self.arena = Arena(self.holding, base_of(device.index))
        self.engine = Engine(self, device.card)
        wanted = [Units("contexts"), Units("streams")]
        if any(
            pool.name == "processes" for pool in device.card.pools
        ):  # a card that serves so many processes and no more
            wanted.insert(0, Units("processes"))
        with refused_as(Code.PORT_ALLOCATE, lost=Code.NO_CONNECT):
            held = self.holding.hold(*wanted)
        self.default_context = Context(self, held[-2], held[-1], is_default=True)
        self._contexts.add(self.default_context)
        self._streams.add(self.default_context.default_stream)
        if inherited is not None:
            self._use_inherited(inherited)

    @property
    def lost_because(self) -> str:
        """Why its leases are lost; empty while they stand."""
        return self.holding.lost_because

    def check(self, code: Code, *, is_thorough: bool = False) -> None:
        """Refuses where its leases are lost; thoroughly, by asking what only the memory itself can tell.

        Raises:
            Fault: of ``code``.
        """
        if is_thorough:
            self.holding.look()
        if because := self.lost_because:
            raise Fault(code, f"the lease of device {self.device.id} is lost: {because}")

    # Contexts, streams, events.

    def create_context(self) -> Context:
        """A context of its own, with its default stream.

        Raises:
            Fault: the card has none left, or the device was reset meanwhile.
        """
        context_unit, stream_unit = self._hold(Code.CONTEXT_CREATE, Units("contexts"), Units("streams"))
        context = Context(self, context_unit, stream_unit, is_default=False)
        with self._lock:
            if not self._is_ending:
                self._contexts.add(context)
                self._streams.add(context.default_stream)
                return context
        raise Fault(Code.CONTEXT_CREATE, "the device was reset")

    def create_stream(self, context: Context) -> Stream:
        """A stream of ``context``.

        Raises:
            Fault: the card has none left, or the context was destroyed meanwhile.
        """
        (unit,) = self._hold(Code.STREAM_CREATE, Units("streams"))
        stream = Stream(context, unit, is_default=False)
        with self._lock:  # before anybody can put a task on it
            self._streams.add(stream)
        if not context.add(stream):
            self._forget(stream)
            self.holding.drop(unit)
            raise Fault(Code.NO_CONTEXT, "the context was destroyed")
        return stream

    def create_event(self) -> Event:
        """An event of this device."""
        event = Event(self)
        with self._lock:
            if self._is_ending:
                raise Fault(Code.NO_ACTIVE_DEVICE, "the device was reset")
            self._events.add(event)
        return event

    def end_context(self, context: Context) -> bool:
        """Ends a context when its tasks have ended, and gives back its units; answers whether this call did."""
        with self._lock:
            if context not in self._contexts:
                return False
            self._contexts.remove(context)
            streams = context.end()
        units = [context.held]
        for stream in streams:
            stream.ended(partial(self._forget, stream), is_awaited=True)
            units.append(stream.held)
        self.holding.drop(*units)
        return True

    def end_stream(self, stream: Stream, *, is_forced: bool) -> bool:
        """Ends a stream when its tasks have ended; answers whether this call did."""
        if not stream.context.remove(stream):
            return False
        stream.close(is_forced=is_forced)
        stream.ended(partial(self._give_back, stream), is_awaited=not is_forced)
        return True

    def end_event(self, event: Event) -> bool:
        """Ends an event; answers whether this call did."""
        with self._lock:
            if event not in self._events:
                return False
            self._events.remove(event)
        event.end()
        return True

    # Cores.

    def use_cores(self) -> None:
        """Has streams run on the cores that are leased from now on."""
        here = self._inherited.cores if self._inherited is not None and self._inherited.has_cpus else ()
        cpus = tuple(sorted({*here, *self.holding.cpus}))
        if cpus != self.cpus:
            self.cpus = cpus

    # The whole.

    def synchronize(self) -> None:
        """Waits until everything submitted to its streams so far has ended. Errors stay for their streams."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.await_all()

    def begin_end(self) -> None:
        """Takes nothing more: its contexts are dead for every thread from now on."""
        with self._lock:
            self._is_ending = True
            contexts, events = list(self._contexts), list(self._events)
        for context in contexts:
            context.end()
        for event in events:
            event.end()

    def end(self, *, releases: bool = True) -> None:
        """Waits for its tasks, and gives everything back; without ``releases``, the end of the session does that."""
        self.begin_end()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:  # also those that somebody else is about to close: then none waits for another
            stream.close()
        for stream in streams:
            stream.join()
        self.engine.close()
        self.arena.close()
        self.holding.close(releases=releases)

    def _hold(self, code: Code, *claims: Claim) -> tuple[Held, ...]:
        self.check(Code.NO_CONNECT)
        with refused_as(code, lost=Code.NO_CONNECT):
            return self.holding.hold(*claims)

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._streams.discard(stream)

    def _give_back(self, stream: Stream) -> None:
        """After a stream's last task, perhaps in its thread: nobody is there to hear of an error."""
        self._forget(stream)
        with suppress(LeaseholdError):
            self.holding.drop(stream.held)

    def _let_go_of_lost(self) -> None:
        """Its lease is wanted back: what is left of the leases goes as soon as no work uses their memory."""
        self.arena.close(self.holding.close)

    def _use_inherited(self, lease: Lease) -> None:
        """What ``rmctl run`` took for this process is for its blocks and its cores; it is never given back."""
        self.holding.watch(lease)
        for index in range(lease.allotment_count):
            if lease.unit_bytes(index) and lease.allotment(index).ids:
                held = Held(lease, index, lease.allotment(index), lease.unit_bytes(index))
                self.arena.add_window(held, is_kept=True)
        self.use_cores()
