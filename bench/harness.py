"""What the benchmarks share: figures with their spread, rows of the table, and rounds that are repeated when noisy."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bench.chart import Chart, Point
from bench.quiet import OthersMeter

QUIET_SHARE_MAX = 0.10  # of all CPUs, taken by processes that are not ours, in a round that counts as quiet
SEED = 20_261_120
Round = dict[str, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number measured several times: its median, least and most."""

    median: float
    least: float
    most: float
    count: int
    unit: str

    @classmethod
    def of(cls, values: Iterable[float], unit: str = "") -> "Figure":
        """The figure of at least one value."""
        all_values = list(values)
        assert all_values, "a figure needs a value"
        return cls(statistics.median(all_values), min(all_values), max(all_values), len(all_values), unit)

    def __str__(self) -> str:
        unit = self.unit if self.unit in {"", "x"} else f" {self.unit}"
        spread = f" ({_short(self.least)}..{_short(self.most)})" if self.count > 1 else ""
        return f"{_short(self.median)}{unit}{spread}"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a row must meet, ``most`` or ``least``: the ratio's median, or with ``of_figure`` the figure's."""

    most: float | None = None
    of_figure: bool = False
    least: float | None = None

    def text(self, unit: str) -> str:
        """The bar in words."""
        sign, bound = ("<=", self.most) if self.most is not None else (">=", self.least)
        return f"{sign} {bound:g} {unit}".rstrip() if self.of_figure else f"{sign} {bound:g}x"

    def is_met_by(self, median: float) -> bool:
        """Whether that is within the bar."""
        return (self.most is None or median <= self.most) and (self.least is None or median >= self.least)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. A row without a bar is a report; ``is_checked`` is a yes or no that is not a number."""

    what: str
    figure: Figure | None = None
    baseline: Figure | None = None
    ratio: Figure | None = None
    bar: Bar | None = None
    is_checked: bool | None = None
    note: str = ""
    limit: str = ""
    """What stands in the way of the bar; told where it is missed."""

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        if self.bar is None:
            return self.is_checked
        measured = self.figure if self.bar.of_figure else self.ratio
        assert measured is not None, f"{self.what} has a bar and nothing to compare with it"
        return self.bar.is_met_by(measured.median)

    @property
    def bar_text(self) -> str:
        """The bar in words; empty where there is none."""
        if self.bar is not None:
            return self.bar.text(self.figure.unit if self.figure else "")
        return "yes" if self.is_checked is not None else ""

    @property
    def limit_text(self) -> str:
        """What stands in the way, where the bar is missed."""
        return self.limit if self.is_met is False else ""

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {**asdict(self), "bar": self.bar_text, "is_met": self.is_met, "limit": self.limit_text}


@dataclass(frozen=True, slots=True)
class Rounds:
    """The rounds of one benchmark that count."""

    kept: list[Round]

    def column(self, key: str) -> list[float]:
        """One value of every round."""
        return [one[key] for one in self.kept]

    def figure(self, key: str, unit: str = "", *, scale: float = 1.0) -> Figure:
        """The figure of one value, each times ``scale``."""
        return Figure.of((value * scale for value in self.column(key)), unit)

    def point(self, x: str, key: str, *, scale: float = 1.0) -> Point:
        """The figure of one value, as it is drawn over ``x``."""
        figure = self.figure(key, scale=scale)
        return Point(x, figure.median, figure.least, figure.most)

    def ratio(self, upper: str, lower: str, *, scale: float = 1.0) -> Figure:
        """The figure of ``upper`` over ``lower``, divided within each round, so that a slow spell cancels out."""
        return Figure.of((one[upper] / one[lower] * scale for one in self.kept), "x")

    def row(
        self,
        what: str,
        figure: str,
        baseline: str,
        unit: str,
        bar: Bar | None = None,
        *,
        note: str = "",
        limit: str = "",
    ) -> Row:
        """The line of one value against another in the same unit, and of their ratio."""
        measured, against = self.figure(figure, unit), self.figure(baseline, unit)
        return Row(what, measured, against, self.ratio(figure, baseline), bar, note=note, limit=limit)


def run_rounds(count: int, measure: Callable[[int], Round], *, what: str) -> Rounds:
    """Runs ``measure(number)`` until ``count`` rounds were quiet, or twice as many have run; keeps the quietest.

    A round is quiet where processes that are not ours took little of the CPUs meanwhile. ``noise`` is told otherwise.
    """
    assert count >= 1
    ran: list[tuple[float, Round]] = []
    quiet_count = 0
    while quiet_count < count and len(ran) < 2 * count:
        with OthersMeter() as meter:
            measured = measure(len(ran))
        ran.append((meter.share, measured))
        quiet_count += meter.share <= QUIET_SHARE_MAX
        progress(f"{what}: round {len(ran)}, {quiet_count} of {count} quiet")
    noisy_count = len(ran) - quiet_count
    ran.sort(key=lambda one: one[0])
    if noisy_count:
        kept_count = max(0, count - quiet_count)
        noise.append(
            f"{what}: {noisy_count} of {len(ran)} rounds ran beside other work, {kept_count} of them are counted"
        )
    return Rounds([measured for _, measured in ran[:count]])


noise: list[str] = []  # what was not quiet, for the foot of the table
remarks: list[str] = []  # what was measured against, and what is absent, for the foot of the table too
charts: list[Chart] = []  # what the page draws
_last_progress = 0.0


def progress(text: str) -> None:
    """Says on standard error what is going on, at most once a second."""
    global _last_progress  # noqa: PLW0603 - one terminal, one clock
    now = time.monotonic()
    if now - _last_progress >= 1.0:
        _last_progress = now
        print(f"  {text}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Says a line on standard error."""
    print(text, file=sys.stderr, flush=True)


def wait_until(is_so: Callable[[], bool], *, what: str, timeout_s: float = 20.0) -> None:
    """Asks again until ``is_so()``.

    Raises:
        TimeoutError: it never was.
    """
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() >= give_up_at:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.001)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
