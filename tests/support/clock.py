"""A clock that stands still until a test moves it."""

from rm.core.types import NS_PER_S

WALL_START_NS = 1_700_000_000 * NS_PER_S


class ManualClock:
    """Both clocks of the engine. Nothing but the test moves them."""

    def __init__(self, now_ns: int = 1_000 * NS_PER_S) -> None:
        self.now_ns = now_ns
        self.wall_now_ns = WALL_START_NS

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.wall_now_ns

    def advance(self, *, s: float = 0, ns: int = 0) -> None:
        """Lets time pass."""
        step_ns = round(s * NS_PER_S) + ns
        assert step_ns >= 0, "time does not go back"
        self.now_ns += step_ns
        self.wall_now_ns += step_ns
