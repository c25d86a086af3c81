"""The clocks of the engine. Nothing else in the daemon reads one."""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def monotonic_ns(self) -> int:
        """For deadlines: never steps, whatever happens to the wall clock."""

    def wall_ns(self) -> int:
        """For people: nanoseconds since 1970."""


class SystemClock:
    """The clocks of this host."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """CLOCK_REALTIME."""
        return time.time_ns()
