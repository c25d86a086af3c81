"""Streams: work in order, in a thread of its own that begins with the first task.

A task that fails stops its stream: those behind it are cancelled until somebody synchronises, and is told why. A stream
is a unit of the card. It belongs to a context and ends with it; a default stream, with nothing else.
"""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from leasehold.runtime import memory_ops
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.task import Marker, Task, nothing

if TYPE_CHECKING:
    from leasehold.runtime.context import Context
    from leasehold.runtime.event import Event, Ticket
    from leasehold.runtime.execution import Execution
    from leasehold.runtime.holding import Held
    from leasehold.runtime.model_io import IO


class Stream:
    """An ordered queue. A context manager: it is destroyed, and so awaited, at the end of its block."""

    def __init__(self, context: "Context", held: "Held", *, is_default: bool) -> None:
        self.context = context
        self.held = held
        self.is_default = is_default
        self.handle = 0
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._changed = threading.Condition(threading.Lock())  # closing, or a ticket that its thread waits for
        self._thread: threading.Thread | None = None
        self._is_closed = self._is_forced = self._has_ended = False
        self._fault: BaseException | None = None  # its own thread's, but for being looked at
        self._cpus: tuple[int, ...] = ()
        self._on_ended: Callable[[], None] = nothing

    @property
    def id(self) -> int:
        """Its unit of the card."""
        return self.held.ids[0]

    @property
    def is_live(self) -> bool:
        """Whether it takes tasks: neither it nor its context was destroyed."""
        return not self._is_closed

    @property
    def is_inside(self) -> bool:
        """Whether this is called in one of its tasks."""
        return threading.current_thread() is self._thread

    # What programs do with it.

    def submit(self, fn: Callable[..., object], *args: Any) -> Task:  # noqa: ANN401 - whatever ``fn`` takes
        """Puts ``fn(*args)`` at the end of the queue.

        Raises:
            Fault: the stream is destroyed, or the lease of its device lost.
        """
        self.context.activation.check(Code.FAIL)
        return self.put(Task((lambda: fn(*args)) if args else fn))

    def memcpy(self, target: memory_ops.Memory, source: memory_ops.Memory, byte_count: int) -> Task:
        """Copies in order with the other tasks; which way says the kind of the addresses.

        Raises:
            Fault: as for ``Context.memcpy``; a copy within the host is none of a stream.
        """
        kind = memory_ops.kind_of(target, source)
        return memory_ops.memcpy_async(self.context, target, source, byte_count, kind=kind, stream=self)

    def memset(self, target: memory_ops.Memory, value: int, byte_count: int) -> Task:
        """Fills device memory in order with the other tasks."""
        return memory_ops.memset_async(self.context, target, value, byte_count, self)

    def execute(self, execution: "Execution", io: "IO", *, group: int = 0) -> Task:
        """Runs a model in order with the other tasks; its buffers are kept until it has ended."""
        return execution.submit(io, group=group, stream=self)

    def record(self, event: "Event") -> None:
        """Has ``event`` happen when everything submitted so far has ended well."""
        event.record(self)

    def wait(self, event: "Event", timeout: float | None = None) -> None:
        """Holds what is submitted from now on back until ``event`` has happened; it returns at once itself.

        An event that was not recorded yet is waited for until it is. After ``timeout`` seconds the stream fails.
        """
        event.hold_back(self, timeout)

    def synchronize(self, timeout: float | None = None) -> None:
        """Waits until everything submitted so far has ended; raises the error that stopped the stream, and goes on.

        Raises:
            TimeoutError: not within ``timeout`` seconds; nothing is cancelled, and an error stays for the next call.
            Fault: the stream is destroyed, or this is one of its own tasks.
        """
        if self.is_inside:
            raise Fault(Code.STREAM_ILLEGAL, "a task cannot wait for its own stream")
        marker = Marker()
        with self._changed:
            self._check_live()
            is_idle = self._thread is None
            if not is_idle:
                self._queue.put(marker)
        if not is_idle:
            if not marker.wait_reached(timeout):
                raise TimeoutError(f"stream {self.id} has not ended its tasks")
            if marker.taken is not None:
                raise marker.taken
        if self.context.activation.lost_because:
            raise Fault(Code.FAIL, f"the lease of the device is lost: {self.context.activation.lost_because}")

    def destroy(self, *, is_forced: bool = False) -> None:
        """Ends it when its tasks have ended; with ``is_forced`` at once, and what has not begun is cancelled.

        Raises:
            Fault: it is a default stream, or was destroyed already.
        """
        self.context.runtime.destroy_stream(self, is_forced=is_forced)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        with suppress(Fault):  # it may have been destroyed inside
            self.destroy(is_forced=fault is not None)

    # What the runtime does with it.

    def put(self, task: Task) -> Task:
        """Puts a task at the end of the queue. One that is refused is cancelled first.

        Raises:
            Fault: the stream takes none.
        """
        try:
            with self._changed:
                self._check_live()
                if self._thread is None:
                    self._start()
                self._queue.put(task)
        except Fault as refusal:
            task.cancel(refusal)
            raise
        return task

    def run(self, task: Task) -> None:
        """Carries a task out in order, and waits for it; its error is the caller's, and stops nothing.

        Raises:
            Fault: what it failed with, or the stream takes none.
        """
        if self.is_inside:
            fault = task.carry_out()
            if fault is not None:
                raise fault
            return
        task.is_awaited = True
        self.put(task).wait()

    def await_all(self) -> None:
        """Waits until everything submitted so far has ended, and leaves its error where it is."""
        marker = Marker(takes_error=False)
        with self._changed:
            is_idle = self._thread is None or self._is_closed
            if not is_idle:
                self._queue.put(marker)
        if not is_idle and not self.is_inside:
            marker.wait()

    def close(self, *, is_forced: bool = False) -> bool:
        """Takes no more tasks; answers whether this call made it so. ``ended`` waits for those it has."""
        with self._changed:
            was_closed, self._is_closed = self._is_closed, True
            self._is_forced = self._is_forced or is_forced
            if self._thread is not None and not was_closed:
                self._queue.put(None)
            self._changed.notify_all()
        return not was_closed

    def ended(self, then: Callable[[], None], *, is_awaited: bool) -> None:
        """Has ``then`` called once its last task has ended: before this returns, where it ``is_awaited``."""
        with self._changed:
            thread = None if self._has_ended else self._thread
            if thread is not None:
                self._on_ended = then
        if thread is None:
            then()
        elif is_awaited and not self.is_inside:
            thread.join()

    def join(self) -> None:
        """Waits for the thread of a closed stream, unless this is it."""
        with self._changed:
            assert self._is_closed, "a stream that takes tasks never ends"
            thread = self._thread
        if thread is not None and not self.is_inside:
            thread.join()

    def notify(self) -> None:
        """Has its thread look again at what it waits for."""
        with self._changed:
            self._changed.notify_all()

    def await_ticket(self, ticket: "Ticket", timeout: float | None) -> None:
        """In its thread: waits for an event to happen.

        Raises:
            Fault: it never will, or not in time.
        """
        with self._changed:
            is_over = self._changed.wait_for(lambda: ticket.is_settled or self._gives_up(ticket), timeout)
        if ticket.fault is not None:
            raise Fault(Code.EVENT_WAIT, f"the event will not happen: {ticket.fault}")
        if not is_over:
            raise Fault(Code.EVENT_WAIT, f"the event did not happen within {timeout:g} s")
        if not ticket.is_settled:
            raise Fault(Code.STREAM_GONE, "the stream was destroyed while it waited for an event nobody has recorded")

    def _gives_up(self, ticket: "Ticket") -> bool:
        return self._is_forced or (self._is_closed and not ticket.is_submitted)

    def _check_live(self) -> None:
        if self._is_closed:
            raise Fault(Code.STREAM_NOT_EXIST, "the stream was destroyed, or its context")

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"leasehold-axcl-{self.id}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        """The thread: one task after the other."""
        anywhere = tuple(sorted(os.sched_getaffinity(0)))
        activation = self.context.activation
        while (task := self._queue.get()) is not None:
            if isinstance(task, Marker):
                if task.reach(self._fault):
                    self._fault = None
            elif self._is_forced:
                task.cancel(Fault(Code.TASK_CANCELLED, "the stream was destroyed by force"))
            elif self._fault is not None and not task.is_awaited:
                task.cancel(Fault(Code.TASK_CANCELLED, f"an earlier task failed: {self._fault}"))
            else:
                if self._cpus is not activation.cpus:
                    self._cpus = activation.cpus
                    _pin(self._cpus or anywhere)
                fault = task.carry_out()
                if fault is not None and not task.is_awaited:
                    self._fault = fault
            del task  # or the last one's buffers would live until the next
        with self._changed:
            then, self._on_ended = self._on_ended, nothing
            self._has_ended = True
        then()

    def __repr__(self) -> str:
        kind = "default stream" if self.is_default else "stream"
        return f"<{kind} {self.id} of {self.context!r}{'' if self.is_live else ', destroyed'}>"


def _pin(cpus: tuple[int, ...]) -> None:
    with suppress(OSError):  # a CPU that this process may not use: the task runs where it may
        os.sched_setaffinity(0, cpus)
