"""Makes time pass for the engine, and notices when the daemon itself stood still.

A daemon that was stopped, or starved, comes back to find every keepalive overdue, though its clients did their part:
they wrote, and nobody read. So a tick that comes late moves every deadline by what it was late, and expires nothing.
"""

import asyncio
from contextlib import suppress

import structlog

from rm.core.types import NS_PER_S
from rm.service.engine import Engine

TICK_NS = NS_PER_S // 4
_log = structlog.get_logger(__name__)


class Timer:
    """Ticks the engine until it is stopped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last_ns = engine.clock.monotonic_ns()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._sleeps_until_ns = self._last_ns
        engine.waiting.on_enter = self._entered

    def start(self) -> None:
        """Begins to tick, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="timer")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Ends ticking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def tick(self) -> None:
        """One tick: expires what is overdue, unless the tick itself is overdue by more than a period."""
        now_ns = self._engine.clock.monotonic_ns()
        gap_ns = now_ns - self._last_ns - TICK_NS
        self._last_ns = now_ns
        if gap_ns > TICK_NS:
            self._engine.postpone(gap_ns)
        else:
            self._engine.tick()

    async def _run(self) -> None:
        while not self._engine.commits.failed_because:  # then nothing changes any more
            self._wake.clear()
            seconds = self._seconds_to_next()
            self._sleeps_until_ns = self._engine.clock.monotonic_ns() + round(seconds * NS_PER_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            self.tick()

    def _entered(self, deadline_ns: int) -> None:
        """Wakes the timer where it would sleep past the end of a wait that begins now."""
        if deadline_ns < self._sleeps_until_ns:
            self._wake.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Without a timer no lease would ever end: stops the daemon."""
        if not task.cancelled():
            _log.error("the timer failed", fault=repr(task.exception()))
            self._engine.commits.fail("the timer failed: without it no lease would ever end")

    def _seconds_to_next(self) -> float:
        """Up to a period; less where a wait ends sooner."""
        deadline_ns = self._engine.waiting.next_deadline_ns()
        if deadline_ns is None:
            return TICK_NS / NS_PER_S
        return min(TICK_NS, max(0, deadline_ns - self._engine.clock.monotonic_ns())) / NS_PER_S
