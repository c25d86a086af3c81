"""One event that a trace unit records: a slot of the unit, and a channel where it comes from the other module."""

from typing import TYPE_CHECKING

from leasehold.aie.channels import modules_of
from leasehold.aie.event import Event, EventLike, event_of
from leasehold.aie.grants import Part
from leasehold.aie.resource import Resource, State
from leasehold.errors import Invalid, WrongState

if TYPE_CHECKING:
    from leasehold.aie.trace import TraceControl


class TraceEvent(Resource):
    """A slot of a trace unit (``XAieTraceEvent``). It has no bit of its own; its channel belongs to the unit's lease.

    It is reserved while its unit is reserved and does not run, and ends with it at the latest.
    """

    def __init__(self, control: "TraceControl", event: EventLike | None = None) -> None:
        """Takes nothing; is initialized and configured where ``event`` is given.

        Raises:
            Invalid: an event of a module that the tile does not have.
        """
        self._control = control
        self._event: Event | None = None
        self._module = ""
        self._slot: int | None = None
        self._part: Part | None = None
        super().__init__(control.device)
        if event is not None:
            self.initialize(event)

    def initialize(self, event: EventLike | str) -> None:
        """Says which event is recorded, or only of which module it is, to be named by ``configure``.

        Raises:
            WrongState: it is reserved.
            Invalid: an event of a module that the tile does not have.
        """
        with self._device.lock:
            self._check_not_reserved("it is initialized anew")
            self._module = modules_of(self._device, self._control.tile, {"trace": event})["trace"]
            self._event = None if isinstance(event, str) else event_of(event)
            self._initialize(is_configured=self._event is not None)

    def configure(self, event: EventLike) -> None:
        """Names another event of the module it was initialized with.

        Raises:
            WrongState: it is not initialized, or it or its unit runs.
            Invalid: an event of another module: that may need a channel.
        """
        found = event_of(event)
        with self._device.lock:
            if not self.is_initialized:
                raise WrongState(f"{self} is not initialized, and cannot be configured")
            self._check_stopped("change")
            if self._control.is_running:
                raise WrongState(f"{self._control} runs: no change of {self} before it is stopped")
            if found.module != self._module:
                raise Invalid(f"{self} was initialized with an event of module {self._module}, not {found}")
            self._event = found
            self._is_configured = True

    # What it is.

    @property
    def control(self) -> "TraceControl":
        """The trace unit that it is a slot of."""
        return self._control

    @property
    def event(self) -> Event | None:
        """The event that is recorded; None until it is named."""
        return self._event

    @property
    def is_prereserved(self) -> bool:
        """Whether its unit was set aside before, and its channel with it."""
        return self._control.is_prereserved

    @property
    def ids(self) -> tuple[int, ...]:
        """The number of its slot, 0 to 7.

        Raises:
            WrongState: it is not reserved.
        """
        self._check_reserved("slot")
        assert self._slot is not None, f"{self} is reserved and has no slot"
        return (self._slot,)

    @property
    def channel(self) -> int:
        """The channel that carries its event.

        Raises:
            WrongState: it is not reserved.
            Invalid: the event is of the unit's own module and needs none.
        """
        self._check_reserved("channel")
        if self._part is None:
            raise Invalid(f"{self} needs no channel: its event is of module {self._module}")
        return self._part.allotments[0].ids[0]

    @property
    def channel_part(self) -> Part | None:
        """Its channel's part of its unit's lease; None where it has none."""
        return self._part

    def forget(self) -> None:
        """Becomes initialized: its unit has given everything back. For the unit; the device's lock is held."""
        if self._slot is not None:
            self._control.empty_slot(self._slot)
        self._slot = self._part = None
        self._state = State.INITIALIZED

    # How it is reserved and given back.

    def set_preferred_id(self, unit: int | None, *, is_static: bool = False) -> None:
        """Asks for exactly this slot, 0 to 7; None for any.

        Raises:
            WrongState: it is reserved.
            Invalid: no number, or ``is_static``: no compiler sets a slot aside, only its unit.
        """
        if is_static:
            raise Invalid("a slot cannot be set aside: its trace unit is")
        super().set_preferred_id(unit)

    def _reserve(self) -> None:
        needs_channel = self._module != self._control.tile[2]
        self._device.end_orphans()
        self._slot, self._part = self._control.fill_slot(self, self._preferred_id, needs_channel=needs_channel)
        self._become_reserved()

    def _end(self, *, to_pool: bool) -> None:
        if self._slot is not None:
            if self._part is not None:
                self._part.end(to_pool=to_pool)
            self.forget()

    def _is_held(self) -> bool:
        return self._control._is_held()

    def _check_held(self) -> None:
        self._control._check_held()

    def __str__(self) -> str:
        return f"TraceEvent of {self._control}"
