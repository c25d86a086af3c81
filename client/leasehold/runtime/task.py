"""Tasks: what lies on a stream. Each is carried out or cancelled, once, and then lets go of what it kept."""

import threading
from collections.abc import Callable

from leasehold.errors import LeaseholdError


def nothing() -> None:
    """Lets go of nothing."""


class Task:
    """One piece of work. ``release`` is called when it has ended, in whatever way.

    One that ``is_awaited`` has a submitter who hears its error at once: it stops nothing, nor is it stopped.
    """

    __slots__ = ("_gate", "_release", "_run", "error", "is_awaited")

    def __init__(self, run: Callable[[], object], release: Callable[[], None] = nothing) -> None:
        self._run: Callable[[], object] | None = run
        self._release = release
        self._gate = threading.Lock()
        self._gate.acquire()
        self.error: BaseException | None = None
        self.is_awaited = False

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._run is None

    def wait(self, timeout: float | None = None) -> None:
        """Waits until it has ended; raises what it failed with, and leaves that for ``synchronize`` too.

        Raises:
            TimeoutError: it did not end within ``timeout`` seconds.
        """
        if not self._gate.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise TimeoutError("the task has not ended yet")
        self._gate.release()
        if self.error is not None:
            raise self.error

    # What its stream does with it.

    def carry_out(self) -> BaseException | None:
        """Does the work; answers what it failed with."""
        assert self._run is not None, "a task is carried out once"
        try:
            self._run()
        except BaseException as fault:  # whatever a program's own function raises; its submitter hears of it
            return self._end(fault)
        return self._end(None)

    def cancel(self, why: LeaseholdError) -> None:
        """Ends it without doing it."""
        self._end(why)

    def _end(self, fault: BaseException | None) -> BaseException | None:
        try:
            self._release()
        except LeaseholdError as unreleased:
            fault = fault or unreleased
        self.error = fault
        self._run, self._release = None, nothing  # nor keep what they refer to
        self._gate.release()
        return fault


class Marker(Task):
    """A place in the queue that somebody waits for. Unless ``is_abandoned``, it takes the error of what lies before."""

    __slots__ = ("_lock", "is_abandoned", "is_reached", "taken")

    def __init__(self, *, takes_error: bool = True) -> None:
        super().__init__(nothing)
        self._lock = threading.Lock()
        self.is_abandoned, self.is_reached = not takes_error, False
        self.taken: BaseException | None = None

    def reach(self, fault: BaseException | None) -> bool:
        """The queue has come here; answers whether ``fault`` was taken, and is the stream's no more."""
        with self._lock:
            self.is_reached = True
            if not self.is_abandoned:
                self.taken = fault
        self._end(None)
        return not self.is_abandoned

    def wait_reached(self, timeout: float | None) -> bool:
        """Waits for that; where it takes too long, the error stays for the next."""
        try:
            self.wait(timeout)
        except TimeoutError:
            with self._lock:
                self.is_abandoned = not self.is_reached
        return not self.is_abandoned
