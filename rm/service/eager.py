"""Coroutines that begin at once: where they need not wait, they are over when the call that began them returns."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class EagerTask:
    """A coroutine that was begun in the turn of the loop of its caller, and goes on when what it waits for is there.

    A task of asyncio takes its first step in the next turn, and costs several times as much. Nobody waits for the end
    of this one: the coroutine says itself what came of it. It may wait for futures only, as locks and events do.
    """

    __slots__ = ("_coroutine", "_is_cancelled", "_loop", "_waits_for", "on_done")

    def __init__(self, coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        """Begins ``coroutine``."""
        self._coroutine = coroutine
        self._loop = loop
        self._waits_for: asyncio.Future[Any] | None = None
        self._is_cancelled = False
        self.on_done: Callable[[], None] | None = None
        """Called at its end, where that was not yet when it was made."""
        self._step()

    @property
    def is_done(self) -> bool:
        """Whether it waits for nothing any more."""
        return self._waits_for is None

    def cancel(self) -> None:
        """Raises ``CancelledError`` where the coroutine waits; does nothing where it is over."""
        if self._waits_for is not None and not self._waits_for.cancel():
            self._is_cancelled = True  # what it waits for is there, and it is about to hear of it

    def _step(self) -> None:
        try:
            if self._is_cancelled:
                self._is_cancelled = False
                awaited = self._coroutine.throw(asyncio.CancelledError())
            else:
                awaited = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._end()
            return
        except Exception as fault:
            self._loop.call_exception_handler({"message": "fault of our own in a call", "exception": fault})
            self._end()
            return
        assert awaited._asyncio_future_blocking, "only futures can be waited for here"
        awaited._asyncio_future_blocking = False
        self._waits_for = awaited
        awaited.add_done_callback(self._go_on)

    def _end(self) -> None:
        if self.on_done is not None:
            self.on_done()

    def _go_on(self, _: "asyncio.Future[Any]") -> None:
        self._waits_for = None
        self._step()
