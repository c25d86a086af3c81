"""Events: points in one stream that other streams of the same device wait for.

A wait is for the record that was submitted last before it; where there was none, for the next. A record that is
cancelled, because its stream failed or was destroyed, settles its waits too: they fail, and nobody hangs.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from leasehold.errors import LeaseholdError
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.task import Task

if TYPE_CHECKING:
    from leasehold.runtime.activation import Activation
    from leasehold.runtime.stream import Stream


class Ticket:
    """One happening of an event: what a wait waits for."""

    def __init__(self) -> None:
        self.is_submitted = False
        self.is_settled = False
        self.fault: LeaseholdError | None = None
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []

    def settle(self, fault: LeaseholdError | None = None) -> None:
        """Has it happen, or with ``fault`` never happen. The first call counts."""
        with self._lock:
            if self.is_settled:
                return
            self.fault = fault
            self.is_settled = True
            waiting, self._waiting = self._waiting, []
        for notify in waiting:
            notify()

    def on_settled(self, notify: Callable[[], None]) -> None:
        """Has ``notify`` called when it is settled; at once where it is."""
        with self._lock:
            if not self.is_settled:
                self._waiting.append(notify)
                return
        notify()


class Event:
    """Belongs to a device; streams of any of its contexts may record it and wait for it."""

    def __init__(self, activation: "Activation") -> None:
        self.activation = activation
        self.handle = 0
        self.is_live = True
        self._lock = threading.Lock()
        self._ticket = Ticket()

    @property
    def has_happened(self) -> bool:
        """Whether what was recorded last has happened."""
        return self._ticket.is_settled and self._ticket.fault is None

    def record(self, stream: "Stream") -> None:
        """Has it happen when everything submitted to ``stream`` so far has ended well.

        Raises:
            Fault: one of both is destroyed, or they belong to different devices.
        """
        self._check(stream)
        with self._lock:
            if self._ticket.is_submitted:
                self._ticket = Ticket()
            ticket = self._ticket
            ticket.is_submitted = True
            why = Fault(Code.TASK_CANCELLED, "its record was cancelled")
            stream.put(Task(ticket.settle, lambda: ticket.settle(why)))

    def hold_back(self, stream: "Stream", timeout: float | None = None) -> None:
        """Has what is submitted to ``stream`` from now on wait for it.

        Raises:
            Fault: one of both is destroyed, or they belong to different devices.
        """
        self._check(stream)
        with self._lock:
            ticket = self._ticket
            stream.put(Task(lambda: stream.await_ticket(ticket, timeout)))
        ticket.on_settled(stream.notify)

    def destroy(self) -> None:
        """Ends it; a wait for a record that was submitted still gets it.

        Raises:
            Fault: it was destroyed already.
        """
        self.activation.runtime.destroy_event(self)

    def end(self) -> None:
        """Fails the waits for a record that will never be."""
        with self._lock:
            self.is_live = False
            ticket = self._ticket
        if not ticket.is_submitted:
            ticket.settle(Fault(Code.EVENT_NOT_EXIST, "it was destroyed before it was recorded"))

    def _check(self, stream: "Stream") -> None:
        if not self.is_live:
            raise Fault(Code.EVENT_NOT_EXIST, "the event was destroyed")
        if stream.context.activation is not self.activation:
            raise Fault(Code.STREAM_ILLEGAL, "an event orders streams of its own device only")
        self.activation.check(Code.FAIL)
