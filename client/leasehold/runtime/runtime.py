"""The model of AXCL in one process: devices with reference counts, and which context each thread is bound to.

Setting a device for the first time takes a lease; what is created on it extends that, and what is destroyed gives back;
the last reset ends it. Threads begin unbound. What was destroyed stays dead for every thread that was bound to it.

Locks: a device's ``changing`` may be held while the daemon is asked. No lock is held while tasks are waited for.
"""

import os
import threading
from contextlib import suppress
from importlib.metadata import version
from typing import cast

import leasehold
from leasehold.card import Card
from leasehold.errors import DaemonUnavailable, LeaseholdError, NotFound
from leasehold.lease import Lease
from leasehold.runtime.activation import Activation
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.context import Context
from leasehold.runtime.device import Device, DeviceProperties
from leasehold.runtime.event import Event
from leasehold.runtime.handles import Handles
from leasehold.runtime.holding import CardClient
from leasehold.runtime.stream import Stream


class _Bound(threading.local):
    """The current context of a thread. A thread that ends takes it along."""

    context: Context | None = None


class Runtime:
    """All devices of one process. Any thread may use it; a forked child is refused."""

    def __init__(self, client: CardClient | None = None) -> None:
        """``client`` is connected to the daemon at the first use unless one is given, which is then the caller's."""
        self._given_client = client
        self._client: CardClient | None = None
        self._connected: CardClient | None = None
        self._connected_pid = 0
        self._pid = 0
        self._connecting = threading.RLock()
        self._devices: dict[int, Device] = {}
        self._inherited: Lease | None = None
        self._bound = _Bound()
        self._contexts: Handles[Context] = Handles()
        self._streams: Handles[Stream] = Handles()
        self._events: Handles[Event] = Handles()

    # The process.

    @property
    def client(self) -> CardClient:
        """The client; connects at the first use.

        Raises:
            Fault: no daemon is there, or this process is a forked child.
        """
        self.check_process()
        if self._client is not None:
            return self._client
        with self._connecting:
            if self._client is None:
                try:
                    if self._connected is None:
                        self._connected = self._given_client or cast(CardClient, leasehold.connect())
                        self._connected_pid = os.getpid()
                    client = self._connected  # kept where what follows fails: the next try goes on with it
                    inherited, cards = _inherited_lease(client), client.cards()
                except DaemonUnavailable as fault:
                    self._disconnect()
                    raise Fault(Code.OPEN, str(fault)) from fault
                devices = [Device(self, index, card) for index, card in enumerate(cards)]
                if inherited is not None:  # a program that takes the first takes what it has a lease of
                    devices.sort(key=lambda device: device.card.id != inherited.card)
                self._devices = {device.id: device for device in devices}
                self._inherited, self._pid = inherited, os.getpid()
                self._client = client  # last: other threads take all the rest to be there with it
            return self._client

    def check_process(self) -> None:
        """Refuses a forked child: its parent's threads, and what they held, are not there.

        Raises:
            Fault: this is one.
        """
        if self._pid and self._pid != os.getpid():
            text = f"this process was forked from {self._pid}, which uses the runtime; start processes by 'spawn'"
            raise Fault(Code.DEVICE_UNSUPPORTED, text)

    def close(self) -> None:
        """Resets every device, whatever its count, and ends the session. It begins anew at the next use."""
        if self._connected_pid != os.getpid():  # nothing has begun, or it is a parent's
            return
        with self._connecting:  # a first use that is under way is over then
            devices = [] if self._client is None else list(self._devices.values())
        for device in devices:
            with device.changing:
                activation = self._detach(device)
            self._finish(activation, releases=self._given_client is not None)
        with self._connecting:
            self._client, self._inherited, self._pid = None, None, 0
        self._disconnect()

    def _disconnect(self) -> None:
        """Ends the session, where it is the runtime's own."""
        connected, self._connected = self._connected, None
        if connected is not None and self._given_client is None:
            with suppress(LeaseholdError):  # a daemon that is gone hears no goodbye
                connected.close()

    # Devices.

    def devices(self) -> list[Device]:
        """All devices, in the order of their cards; first that of which ``rmctl run`` took a lease.

        Raises:
            Fault: no daemon is there.
        """
        assert self.client is not None
        return list(self._devices.values())

    def device(self, device_id: int) -> Device:
        """One device.

        Raises:
            Fault: there is none of this id.
        """
        assert self.client is not None
        is_number = hasattr(device_id, "__index__") and not isinstance(device_id, bool)
        found = self._devices.get(device_id.__index__()) if is_number else None
        if found is None:
            there = ", ".join(str(known) for known in self._devices)
            raise Fault(Code.INVALID_DEVICE, f"there is no device {device_id!r}; there are {there}")
        return found

    def set_device(self, device_id: int) -> None:
        """Uses a device once more, and binds this thread to its default context, unless to another one of it already.

        Raises:
            Fault: there is none of this id, the daemon refuses a lease, or the one there is was lost.
        """
        device = self.device(device_id)
        with device.changing:
            if device.activation is None:
                self._activate(device)
            else:
                device.activation.check(Code.NO_CONNECT)
                device.ref_count += 1
            current = self._current()
            if current is None or current.device is not device:
                self._bound.context = device.default_context

    def reset_device(self, device_id: int) -> None:
        """Uses a device once less; after the last time its tasks are awaited and everything is given back.

        Raises:
            Fault: there is none of this id, or it is not active.
        """
        device = self.device(device_id)
        with device.changing:
            if device.activation is None:
                raise Fault(Code.NOT_ACTIVE, f"device {device_id} is not active in this process")
            device.ref_count -= 1
            activation = None if device.ref_count else self._detach(device)
        self._finish(activation)

    def current_device(self) -> Device:
        """The device of this thread's current context.

        Raises:
            Fault: the thread has none.
        """
        return self._current_of_device().device

    def synchronize_device(self) -> None:
        """Waits for everything on the device of this thread's current context; returns at once where it has none.

        Raises:
            Fault: the lease of the device is lost.
        """
        self.check_process()
        current = self._current()
        if current is not None:
            current.activation.synchronize()
            current.activation.check(Code.FAIL)

    def properties(self, device_id: int) -> DeviceProperties:
        """What a device is and has, for all processes together.

        Raises:
            Fault: there is none of this id, or nobody can be asked.
        """
        device = self.device(device_id)
        try:
            card = next(card for card in self.client.cards() if card.id == device.card.id)
        except (LeaseholdError, StopIteration) as fault:
            raise Fault(Code.QUERY_DEVICE, f"device {device_id} cannot be asked: {fault}") from fault
        return _properties(card)

    # Contexts.

    def create_context(self, device_id: int) -> Context:
        """A context of its own, bound to this thread. A device that is not active becomes so, with a count of 1.

        Raises:
            Fault: there is no such device, the card has no context or stream left, or the lease was lost.
        """
        device = self.device(device_id)
        with device.changing:
            if device.activation is None:
                self._activate(device)
            assert device.activation is not None
            context = device.activation.create_context()
            self._give_handles(context)
        self._bound.context = context
        return context

    def destroy_context(self, context: Context) -> None:
        """Ends a context when its tasks have ended; no thread is bound to it any more.

        Raises:
            Fault: it is a default context, or was destroyed already.
        """
        self.check_process()
        if context.is_default:
            raise Fault(Code.CONTEXT_DESTROY, "a default context ends with its device")
        self._contexts.pop(context.handle)
        for stream in context.streams:
            self._streams.pop(stream.handle)
        if not context.activation.end_context(context):
            raise Fault(Code.CONTEXT_NOT_EXIST, "the context was destroyed already")

    def set_current_context(self, context: Context) -> None:
        """Binds this thread.

        Raises:
            Fault: the context was destroyed.
        """
        self.check_process()
        if not context.is_live:
            raise Fault(Code.CONTEXT_NOT_EXIST, "the context was destroyed")
        self._bound.context = context

    def current_context(self) -> Context:
        """What this thread is bound to.

        Raises:
            Fault: nothing, or what has been destroyed since.
        """
        self.check_process()
        current = self._current()
        if current is None:
            raise Fault(Code.NO_CONTEXT, "this thread has no current context")
        return current

    def find_current_context(self) -> Context | None:
        """What this thread is bound to, if anything."""
        self.check_process()
        return self._current()

    # Streams and events.

    def create_stream(self, context: Context | None = None) -> Stream:
        """A stream of ``context``; of this thread's current one, unless given.

        Raises:
            Fault: there is no current context, it was destroyed, or the card has no stream left.
        """
        owner = self.current_context() if context is None else context
        if not owner.is_live:
            raise Fault(Code.CONTEXT_NOT_EXIST, "the context was destroyed")
        stream = owner.activation.create_stream(owner)
        stream.handle = self._streams.add(stream)
        if not stream.is_live:  # its context was destroyed meanwhile, and its handle with it
            self._streams.pop(stream.handle)
        return stream

    def destroy_stream(self, stream: Stream, *, is_forced: bool = False) -> None:
        """Ends a stream when its tasks have ended; with ``is_forced`` at once.

        Raises:
            Fault: it is a default stream, or was destroyed already, by itself or with its context.
        """
        self.check_process()
        if stream.is_default:
            raise Fault(Code.STREAM_DESTROY, "a default stream ends with its context")
        self._streams.pop(stream.handle)
        if not stream.context.activation.end_stream(stream, is_forced=is_forced):
            raise Fault(Code.STREAM_DESTROY, "the stream was destroyed already, or its context")

    def create_event(self) -> Event:
        """An event of the device of this thread's current context.

        Raises:
            Fault: the thread has none.
        """
        event = self._current_of_device().activation.create_event()
        event.handle = self._events.add(event)
        return event

    def destroy_event(self, event: Event) -> None:
        """Ends an event.

        Raises:
            Fault: it was destroyed already, or its device reset.
        """
        self.check_process()
        self._events.pop(event.handle)
        if not event.activation.end_event(event):
            raise Fault(Code.EVENT_NOT_EXIST, "the event was destroyed already, or its device reset")

    # By handle, for those who have numbers.

    def find_context(self, handle: int) -> Context | None:
        """The live context that a handle stands for."""
        self.check_process()
        return self._contexts.get(handle)

    def find_stream(self, handle: int) -> Stream | None:
        """The live stream that a handle stands for, a default one as well."""
        self.check_process()
        return self._streams.get(handle)

    def find_event(self, handle: int) -> Event | None:
        """The live event that a handle stands for."""
        self.check_process()
        return self._events.get(handle)

    # Inside.

    def _give_handles(self, context: Context) -> None:
        context.handle = self._contexts.add(context)
        context.default_stream.handle = self._streams.add(context.default_stream)

    def _activate(self, device: Device) -> None:
        lease = self._inherited
        is_for_it = lease is not None and lease.valid and lease.card == device.card.id
        activation = Activation(self, device, lease if is_for_it else None)
        self._give_handles(activation.default_context)
        device.activation, device.ref_count = activation, 1

    def _detach(self, device: Device) -> Activation | None:
        """Takes a device's activation from it: dead for every thread, and another may begin at once."""
        activation, device.activation, device.ref_count = device.activation, None, 0
        if activation is not None:
            activation.begin_end()
        return activation

    def _finish(self, activation: Activation | None, *, releases: bool = True) -> None:
        """Awaits the tasks of an activation that was detached, and gives everything back. No lock is held."""
        if activation is not None:
            self._forget_handles(activation)
            activation.end(releases=releases)

    def _forget_handles(self, activation: Activation) -> None:
        for context in self._contexts:
            if context.activation is activation:
                self._contexts.pop(context.handle)
        for stream in self._streams:
            if stream.context.activation is activation:
                self._streams.pop(stream.handle)
        for event in self._events:
            if event.activation is activation:
                self._events.pop(event.handle)

    def _current_of_device(self) -> Context:
        self.check_process()
        current = self._current()
        if current is None:
            raise Fault(Code.NO_ACTIVE_DEVICE, "this thread has no current context, and so no device")
        return current

    def _current(self) -> Context | None:
        context = self._bound.context
        return context if context is not None and context.is_live else None


def _inherited_lease(client: CardClient) -> Lease | None:
    """The lease that ``rmctl run`` took before this process became this program."""
    try:
        return client.inherited() if isinstance(client, leasehold.Client) else None
    except NotFound:
        return None


def _properties(card: Card) -> DeviceProperties:
    memory = next((pool for pool in card.pools if pool.name == "memory"), None)
    cores = next((pool for pool in card.pools if pool.name == "cores"), None)
    return DeviceProperties(
        name=card.profile,
        software_version=version("leasehold"),
        total_memory=int(memory.total * memory.unit_bytes) if memory else 0,
        free_memory=int(memory.free * memory.unit_bytes) if memory else 0,
        core_count=int(cores.total) if cores else 0,
        cores_in_use=cores.used if cores else 0.0,
    )
