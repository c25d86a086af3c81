"""What every object is: the states it goes through, and that its units are back at its end.

    created --initialize--> initialized --reserve--> reserved --start--> running
                                 ^                     |    ^               |
                                 '--- free, release ---'    '----- stop ----'

Beside its state an object is configured or not (``start`` needs it), and prereserved or not: its units were set aside
before it was made, by a compiler. ``free`` gives those back to their reservation, ``release`` gives any to the pool.
"""

import warnings
from abc import ABC, abstractmethod
from enum import StrEnum
from types import TracebackType
from typing import Self

from leasehold.aie.device import Device
from leasehold.errors import Invalid, WrongState


class State(StrEnum):
    """How far an object has come."""

    CREATED = "created"
    INITIALIZED = "initialized"
    RESERVED = "reserved"
    RUNNING = "running"


class Resource(ABC):
    """One resource of the array. A context manager: it stops, and its units are back, when its block is left.

    It claims nothing before ``reserve``. One that is dropped without an end is warned about, and ended by the next call
    of its device that reserves something.
    """

    def __init__(self, device: Device, *, reservation: str = "") -> None:
        self._device = device
        self._reservation = reservation
        self._preferred_id: int | None = None
        self._is_static = bool(reservation)
        self._is_configured = False
        self._state = State.CREATED

    # What it is.

    @property
    def device(self) -> Device:
        """The array it is made for."""
        return self._device

    @property
    def state(self) -> State:
        """How far it has come."""
        return self._state

    @property
    def is_initialized(self) -> bool:
        """Whether it may be reserved."""
        return self._state is not State.CREATED

    @property
    def is_configured(self) -> bool:
        """Whether everything is known that a start needs."""
        return self._is_configured

    @property
    def is_reserved(self) -> bool:
        """Whether it has its units, running or not."""
        return self._state in {State.RESERVED, State.RUNNING}

    @property
    def is_prereserved(self) -> bool:
        """Whether its units were set aside before: it takes them from there, and ``free`` gives them back there."""
        return self._is_static

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._state is State.RUNNING

    @property
    @abstractmethod
    def ids(self) -> tuple[int, ...]:
        """Ids of its own units, without those of channels.

        Raises:
            WrongState: it is not reserved.
        """

    @property
    def id(self) -> int:
        """Its one id; the lowest where it has several.

        Raises:
            WrongState: it is not reserved.
        """
        return self.ids[0]

    # What it goes through.

    def set_preferred_id(self, unit: int | None, *, is_static: bool = False) -> None:
        """Asks for exactly this id; None for any. ``is_static`` says that it was set aside before.

        Raises:
            WrongState: it is reserved.
            Invalid: no id, or ``is_static`` without one.
        """
        with self._device.lock:
            self._check_not_reserved("another id can be asked for")
            if unit is None and is_static:
                raise Invalid("which unit was set aside before must be said by its id")
            if unit is not None and (isinstance(unit, bool) or not isinstance(unit, int) or unit < 0):
                raise Invalid(f"an id is a number from 0, not {unit!r}")
            self._preferred_id = unit
            self._is_static = is_static or bool(self._reservation)

    def reserve(self) -> None:
        """Takes its units, all of them or none.

        Raises:
            WrongState: it is not initialized, or has them already.
            Refused: one of its kinds says why; nothing was taken.
        """
        with self._device.lock:
            self._check_may_reserve()
            self._reserve()

    def start(self) -> None:
        """Starts it; does nothing where it runs. The device's ``on_program`` is told.

        Raises:
            WrongState: it is not reserved, or not configured.
            LeaseLost: its units were taken back.
            Exception: what ``on_program`` raised; it does not run then.
        """
        with self._device.lock:
            if self._state is State.RUNNING:
                return
            self._check_reserved("start")
            if not self._is_configured:
                raise WrongState(f"{self} is not configured, and cannot start")
            self._check_held()
            self._program("start")
            self._state = State.RUNNING

    def stop(self) -> None:
        """Stops it; does nothing where it does not run.

        Where its units were taken back, or are those of a parent process, ``on_program`` is not told: the registers are
        somebody else's.

        Raises:
            Exception: what ``on_program`` raised; it counts as running still.
        """
        with self._device.lock:
            if self._state is State.RUNNING:
                if self._is_held():
                    self._program("stop")
                self._state = State.RESERVED

    def free(self) -> None:
        """Gives its units back to where they were set aside: they can be claimed from there again.

        Does nothing where it is not reserved.

        Raises:
            WrongState: it runs, or its units came from the pool (``release`` gives those back).
        """
        with self._device.lock:
            if not self.is_prereserved:
                raise WrongState(f"{self} has nothing that was set aside before; release it")
            self._check_stopped("free")
            self._end(to_pool=False)

    def release(self) -> None:
        """Gives its units to the pool, those too that were set aside before; does nothing where it is not reserved.

        Raises:
            WrongState: it runs.
            NotOwner: they were set aside by another user; it still has them, and may ``free`` them.
        """
        with self._device.lock:
            self._check_stopped("release")
            if self.is_reserved:
                self._end(to_pool=True)
                self._is_static, self._reservation = False, ""

    def close(self) -> None:
        """Ends it in whatever state: it stops, and its units go back to where they came from.

        Raises:
            Exception: what ``on_program`` raised; the units are back all the same.
        """
        with self._device.lock:
            try:
                self.stop()
            finally:
                self._end(to_pool=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_state", State.CREATED) in {State.RESERVED, State.RUNNING}:
            self._device.abandon(self)  # first: a warning may be made an error
            warnings.warn(
                f"{self} was dropped without an end; use it as a context manager", ResourceWarning, stacklevel=2
            )

    def __str__(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{self}: {self._state}>"

    # What each kind of object adds.

    @abstractmethod
    def _reserve(self) -> None:
        """Takes its units and becomes reserved, or raises and changes nothing."""

    @abstractmethod
    def _end(self, *, to_pool: bool) -> None:
        """Gives its units back and becomes initialized, or raises and changes nothing; nothing where it has none."""

    @abstractmethod
    def _is_held(self) -> bool:
        """Whether its units are still this process's, as far as is known here."""

    @abstractmethod
    def _check_held(self) -> None:
        """Raises ``LeaseLost`` where its units were taken back."""

    def _program(self, action: str) -> None:
        """Where a driver writes registers; may be overridden as well as passed to the device."""
        self._device.program(action, self)

    def _check_may_reserve(self) -> None:
        self._check_not_reserved("it can be reserved")
        if self._state is State.CREATED:
            raise WrongState(f"{self} is not initialized, and cannot be reserved")

    # What they share.

    def _initialize(self, *, is_configured: bool | None = None) -> None:
        """Becomes initialized; configured or not, or as it was where that is not said."""
        self._check_not_reserved("it is initialized anew")
        self._state = State.INITIALIZED
        if is_configured is not None:
            self._is_configured = is_configured

    def _become_reserved(self) -> None:
        """Has its units from now on. Raises nothing."""
        self._state = State.RESERVED
        self._device.note(self)

    def _check_not_reserved(self, what: str) -> None:
        if self.is_reserved:
            raise WrongState(f"{self} is reserved; free or release it before {what}")

    def _check_reserved(self, what: str) -> None:
        if not self.is_reserved:
            raise WrongState(f"{self} is not reserved: no {what}")

    def _check_stopped(self, what: str) -> None:
        if self._state is State.RUNNING:
            raise WrongState(f"{self} runs: no {what} before it is stopped")
