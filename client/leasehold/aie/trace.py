"""Trace units: one a module, with eight slots for the events that it records."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leasehold.aie.channels import channel_claim, modules_of, named, roles_across
from leasehold.aie.claimed import ClaimedResource, Plan
from leasehold.aie.device import Device
from leasehold.aie.event import Event, EventLike, event_of
from leasehold.aie.grants import Part
from leasehold.claims import Site
from leasehold.errors import Exhausted, Held, Invalid, WrongState

if TYPE_CHECKING:
    from leasehold.aie.trace_event import TraceEvent

SLOT_COUNT = 8


class TraceControl(ClaimedResource):
    """The trace unit of a module (``XAieTraceCntr``): one ``trace_ctrl``, and a channel for each event from elsewhere.

    That is for what starts and what stops it. All of it, with the channels of its slots, is one lease, and whatever
    ends the unit ends its slots.
    """

    pool = "trace_ctrl"

    def __init__(self, device: Device, tile: Site, *, reservation: str = "") -> None:
        """Claims nothing. ``reservation`` names what a compiler set aside: the unit, and channels for it and its slots.

        Raises:
            Invalid: there is no such tile, or it has no trace unit.
        """
        super().__init__(device, tile, reservation=reservation)
        self._modules: dict[str, str] = {}
        self._events: dict[str, Event] = {}
        self._slots: dict[int, TraceEvent] = {}

    def initialize(self, start: EventLike | str, stop: EventLike | str) -> None:
        """Says which events start and stop it, or only of which module they are, to be named by ``configure``.

        Raises:
            WrongState: it is reserved.
            Invalid: an event of a module that the tile does not have.
        """
        with self._device.lock:
            self._check_not_reserved("it is initialized anew")
            roles = {"start": start, "stop": stop}
            self._modules = modules_of(self._device, self._tile, roles)
            self._events = named(roles)
            self._initialize(is_configured=len(self._events) == 2)

    def configure(self, *, start: EventLike | None = None, stop: EventLike | None = None) -> None:
        """Names other events of the modules it was initialized with.

        Raises:
            WrongState: it is not initialized, or runs.
            Invalid: an event of another module: that may need a channel.
        """
        with self._device.lock:
            if not self.is_initialized:
                raise WrongState(f"{self} is not initialized, and cannot be configured")
            self._check_stopped("change")
            given = {"start": start, "stop": stop}
            events = {role: event_of(value) for role, value in given.items() if value is not None}
            for role, event in events.items():
                if event.module != self._modules[role]:
                    text = f"{self} was initialized with a {role} event of module {self._modules[role]}, not {event}"
                    raise Invalid(text, facts={"role": role, "event": str(event)})
            self._events |= events
            self._is_configured = len(self._events) == 2

    # What it got.

    @property
    def events(self) -> dict[str, Event]:
        """The events that start and stop it."""
        return dict(self._events)

    def channel(self, role: str) -> int:
        """The channel of its ``start`` or ``stop`` event.

        Raises:
            WrongState: it is not reserved.
            Invalid: that event is of its own module and needs none.
        """
        channels = self.channels
        if role not in channels:
            raise Invalid(f"{self} needs no channel for {role!r}: it has {', '.join(channels) or 'none'}")
        return channels[role]

    @property
    def channels(self) -> dict[str, int]:
        """The channel of each role (``start``, ``stop``) whose event comes from the other module.

        Raises:
            WrongState: it is not reserved.
        """
        allotments = self._held_part("channels").allotments[1:]
        roles = roles_across(self._modules, self._tile)
        return {role: allotment.ids[0] for role, allotment in zip(roles, allotments, strict=True)}

    # Its slots.

    def event(self, event: EventLike | None = None) -> "TraceEvent":
        """Makes an object for one of its slots, which is reserved like any other; initialized where ``event`` is given.

        Raises:
            Invalid: an event of a module that the tile does not have.
        """
        from leasehold.aie.trace_event import TraceEvent

        return TraceEvent(self, event)

    @property
    def slots(self) -> "dict[int, TraceEvent]":
        """What is reserved in its slots, by number."""
        with self._device.lock:
            return dict(sorted(self._slots.items()))

    def slot(self, number: int) -> "TraceEvent":
        """What is reserved in a slot.

        Raises:
            Invalid: there is no such slot, or nothing in it.
        """
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < SLOT_COUNT:
            raise Invalid(f"a trace unit has slots 0 to {SLOT_COUNT - 1}, not {number!r}", facts={"slot": str(number)})
        if number not in self._slots:
            raise Invalid(f"slot {number} of {self} is not reserved", facts={"slot": number})
        return self._slots[number]

    def fill_slot(self, event: "TraceEvent", wanted: int | None, *, needs_channel: bool) -> tuple[int, Part | None]:
        """Gives an event a slot, and a channel where it needs one. For the event; the device's lock is held.

        Raises:
            WrongState: it is not reserved, or runs.
            Exhausted, Held: no slot is free, or not the wanted one; or no channel is.
            Invalid: there is no such slot.
        """
        part = self._held_part("trace event")
        self._check_stopped("trace event")
        part.grant.check()
        number = self._free_slot(wanted)
        channel = None
        if needs_channel:
            channel = part.grant.extend([channel_claim(self._device, self._tile, self._reservation)])
        self._slots[number] = event
        return number, channel

    def empty_slot(self, number: int) -> None:
        """Forgets what is in a slot. For the event itself; the device's lock is held."""
        del self._slots[number]

    # How it is reserved and given back.

    def _plans(self) -> Sequence[Plan]:
        channels = [
            channel_claim(self._device, self._tile, self._reservation) for _ in roles_across(self._modules, self._tile)
        ]
        return [Plan(self._tile, (self._unit_claim(self._tile), *channels))]

    def _parts(self) -> Sequence[Part]:
        own = [] if self._part is None else [self._part]
        return own + [event.channel_part for event in self._slots.values() if event.channel_part is not None]

    def _check_stopped(self, what: str) -> None:
        super()._check_stopped(what)
        if what in {"free", "release"} and (running := [one for one in self._slots.values() if one.is_running]):
            raise WrongState(f"{running[0]} runs: no {what} of {self} before it is stopped")

    def close(self) -> None:
        """Ends it in whatever state: it and its slots stop, and everything goes back to where it came from.

        Raises:
            Exception: what ``on_program`` raised; the units are back all the same.
        """
        with self._device.lock:
            try:
                for event in list(self._slots.values()):
                    event.stop()
            finally:
                super().close()

    def _end(self, *, to_pool: bool) -> None:
        if self._part is None:
            return
        indexes = [index for part in self._parts() for index in part.indexes]
        self._part.grant.end(indexes, to_pool=to_pool)
        self._forget()

    def _forget(self) -> None:
        for event in list(self._slots.values()):
            event.forget()
        super()._forget()

    def _free_slot(self, wanted: int | None) -> int:
        if wanted is not None and not 0 <= wanted < SLOT_COUNT:
            raise Invalid(f"a trace unit has slots 0 to {SLOT_COUNT - 1}, not {wanted}", facts={"slot": wanted})
        if wanted in self._slots:
            raise Held(f"slot {wanted} of {self} is taken", facts={"slot": wanted})
        free = [number for number in range(SLOT_COUNT) if number not in self._slots]
        if not free:
            text = f"all {SLOT_COUNT} slots of {self} are taken"
            raise Exhausted(text, facts={"slot_count": SLOT_COUNT, "free_count": 0})
        return free[0] if wanted is None else wanted
