"""How long the daemon waits for what a client owes it. Time in which the daemon itself stood still does not count.

A loop that was stopped comes back to find its overdue timers due, and its readers only in the same turn or the next:
who did his part meanwhile would be taken for one who did not. So a patience that ends late by more than a moment begins
anew, and any other one leaves the readers a turn.
"""

import asyncio
from collections.abc import Callable

from rm.core import limits
from rm.core.types import NS_PER_S

_LATE_S = 0.05


class Patience:
    """Calls ``on_end`` on the running loop after ``limits.HANDSHAKE_NS_MAX``, unless it is cancelled before."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._begin()

    def cancel(self) -> None:
        """Ends it without a call; may be said again."""
        self._handle.cancel()

    def _begin(self) -> None:
        self._handle = self._loop.call_later(limits.HANDSHAKE_NS_MAX / NS_PER_S, self._due)

    def _due(self) -> None:
        if self._loop.time() - self._handle.when() > _LATE_S:
            self._begin()
        else:
            self._handle = self._loop.call_later(0, self._on_end)  # call_soon would come before the readers
