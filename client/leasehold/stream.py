"""Streams: ordered queues of work, each with a thread of its own on the cores of its lease."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, ParamSpec, TypeVar

from leasehold.errors import Closed, LeaseholdError

P = ParamSpec("P")
T = TypeVar("T")


class Task(Generic[T]):
    """One piece of work on a stream."""

    def __init__(self, stream: "Stream") -> None:
        self._future: Future[T] = Future()
        self._stream = stream

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> T:
        """Waits for it, and returns what it returned or raises what it raised.

        Raises:
            TimeoutError: it did not end within ``timeout`` seconds.
            RuntimeError: it is asked for in a task of the same stream, which it waits for.
        """
        if not self._future.done():
            self._stream.check_not_inside()
        return self._future.result(timeout)


class Stream:
    """An ordered queue: tasks run one after another, in the order they were submitted, in one thread.

    An error of a task does not stop those behind it. ``synchronize`` raises the first error since the last time.
    """

    def __init__(self, stream_id: int, *, cpus: Sequence[int], check_lease: Callable[[], None]) -> None:
        """Makes the queue. ``cpus`` are what its thread may run on; none means any.

        Raises:
            LeaseholdError: this process may not run on one of them.
        """
        self.id = stream_id
        self._cpus = tuple(cpus)
        self._check_lease = check_lease
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._first_error: BaseException | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"leasehold-stream-{stream_id}", daemon=True)
        self._is_pinned: Future[None] = Future()
        self._thread.start()
        self._is_pinned.result()

    def submit(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Puts ``fn(*args, **kwargs)`` at the end of the queue.

        Raises:
            LeaseLost: the lease is lost.
            Closed: the stream is closed.
        """
        self._check_lease()
        task: Task[T] = Task(self)

        def work() -> None:
            if not task._future.set_running_or_notify_cancel():
                return  # whoever awaited it has given up
            try:
                self._check_lease()
                result = fn(*args, **kwargs)
            except BaseException as fault:
                with self._lock:
                    self._first_error = self._first_error or fault
                task._future.set_exception(fault)
            else:
                task._future.set_result(result)

        with self._lock:
            if self._is_closed:
                raise Closed(f"stream {self.id} is closed")
            self._work.put(work)
        return task

    def synchronize(self, timeout: float | None = None) -> None:
        """Waits until everything submitted so far has ended; raises the first error since the last call.

        Raises:
            TimeoutError: it did not end within ``timeout`` seconds; errors stay for the next call.
            RuntimeError: it is called in a task of this stream, which it would wait for.
            LeaseLost: the lease is lost.
        """
        self.check_not_inside()
        marker: Future[None] = Future()
        with self._lock:
            if not self._is_closed:
                self._work.put(lambda: marker.set_result(None))
        if not self._is_closed:
            marker.result(timeout)
        with self._lock:
            fault, self._first_error = self._first_error, None
        if fault is not None:
            raise fault
        self._check_lease()

    @property
    def is_inside(self) -> bool:
        """Whether this is called in a task of this stream."""
        return threading.current_thread() is self._thread

    def check_not_inside(self) -> None:
        """Refuses to wait for this stream in one of its own tasks.

        Raises:
            RuntimeError: this is one.
        """
        if self.is_inside:
            raise RuntimeError("a task cannot wait for its own stream")

    def close(self) -> None:
        """Lets what was submitted end, and ends the thread. Errors nobody has asked for are dropped."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._work.put(None)
        if not self.is_inside:
            self._thread.join()

    def _run(self) -> None:
        try:
            if self._cpus:
                os.sched_setaffinity(0, self._cpus)  # of this thread alone, on Linux
        except OSError as fault:
            cpus = ", ".join(str(cpu) for cpu in self._cpus)
            self._is_pinned.set_exception(LeaseholdError(f"this process may not run on CPU {cpus}: {fault.strerror}"))
            return
        self._is_pinned.set_result(None)
        while (work := self._work.get()) is not None:
            work()
            del work  # or the last task's arguments would live until the next

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{self._work.qsize()} queued"
        return f"<Stream {self.id}: {state}>"
