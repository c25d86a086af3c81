"""What a chart is, before anybody draws it: series of points, each a median with its least and most."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """A figure over a place on the x axis, which is a word."""

    x: str
    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together. Ours are drawn so that they stand out."""

    label: str
    points: tuple[Point, ...]
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """``lines`` over places that are common to all series, or else a bar for each series; values on a log axis."""

    name: str  # of the file that it is drawn into
    title: str
    unit: str
    series: tuple[Series, ...]
    has_lines: bool = True
    note: str = ""  # what the picture does not say by itself

    def to_json(self) -> dict[str, Any]:
        """The chart as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Chart":
        """The chart again."""
        series = tuple(
            Series(one["label"], tuple(Point(**point) for point in one["points"]), one["is_ours"])
            for one in values["series"]
        )
        return cls(**{**values, "series": series})
