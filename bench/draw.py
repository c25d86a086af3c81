"""Draws a chart as SVG, by hand: readable on light and on dark pages, whose colours it follows.

Values lie on a logarithmic axis. Lines are named at their right end; bars carry their value. A thin line goes from the
least to the most of each figure.
"""

import math
from html import escape

from bench.chart import Chart, Point, Series

_WIDTH = 820
_LEFT, _RIGHT = 70, 190  # room beside a chart of lines: its axis, its names
_TOP, _BOTTOM = 64, 44
_LINES_HEIGHT = 320
_BAR_LEFT, _BAR_RIGHT, _BAR_STEP = 200, 110, 30
_NAME_STEP = 16  # between the names of two lines, at the least
_OURS = (("#0a58ca", "#6ea8fe"), ("#3d8bfd", "#a6c8ff"))  # on light pages, on dark ones
_NAMED = ("bare gRPC echo", "bare frames", "Redis", "etcd", "PostgreSQL", "labgrid", "flock")  # in the order of _PEERS
_PEERS = (
    ("#b4510b", "#f0a35e"),
    ("#1a7f47", "#63d297"),
    ("#7b3fa0", "#c79bea"),
    ("#a61e4d", "#f28ab2"),
    ("#76610a", "#dcc14e"),
    ("#0c7a83", "#5fd0d9"),
    ("#59636e", "#aab4bf"),
)


def svg(chart: Chart) -> str:
    """The picture."""
    assert chart.series, f"{chart.name} has nothing to draw"
    body, height = _lines(chart) if chart.has_lines else _bars(chart)
    subtitle = f"{chart.unit}, logarithmic" + (f"; {chart.note}" if chart.note else "")
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-labelledby="title" font-family="system-ui, sans-serif" font-size="13">',
        f'<title id="title">{escape(chart.title)}</title>',
        f"<style>{_style(chart)}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}" rx="6"/>',
        f'<text class="ink" x="16" y="26" font-size="15" font-weight="600">{escape(chart.title)}</text>',
        f'<text class="faint" x="16" y="45">{escape(subtitle)}</text>',
    ]
    return "\n".join([*head, *body, "</svg>"]) + "\n"


def _style(chart: Chart) -> str:
    light, dark = (_colours(chart, index) for index in (0, 1))
    return (
        ".page{fill:#ffffff;stroke:#d0d7de}.ink{fill:#1f2328}.faint{fill:#59636e}.grid{stroke:#d8dee4}"
        f"{light}"
        "@media (prefers-color-scheme: dark){"
        ".page{fill:#0d1117;stroke:#30363d}.ink{fill:#e6edf3}.faint{fill:#9198a1}.grid{stroke:#30363d}"
        f"{dark}}}"
    )


def _colours(chart: Chart, index: int) -> str:
    """A peer has its own colour in every picture."""
    ours = 0
    rules = []
    for number, one in enumerate(chart.series):
        if one.is_ours:
            colour, ours = _OURS[ours % len(_OURS)][index], ours + 1
        else:
            name = one.label.partition(",")[0]
            colour = _PEERS[_NAMED.index(name) if name in _NAMED else number % len(_PEERS)][index]
        rules.append(f".s{number}{{stroke:{colour}}}.f{number}{{fill:{colour}}}")
    return "".join(rules)


def _decades(points: list[Point]) -> tuple[int, int]:
    """The powers of ten below and above all of them; the least may not be positive, as times beyond another are not."""
    values = [value for point in points for value in (point.least, point.median, point.most) if value > 0]
    assert values, "a logarithmic axis needs a value above nothing"
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _lines(chart: Chart) -> tuple[list[str], int]:
    low, high = _decades([point for one in chart.series for point in one.points])
    places = [point.x for point in chart.series[0].points]
    right, bottom = _WIDTH - _RIGHT, _TOP + _LINES_HEIGHT

    def x_of(place: str) -> float:
        return _LEFT + 20 + places.index(place) * (right - _LEFT - 40) / max(1, len(places) - 1)

    def y_of(value: float) -> float:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return bottom - share * _LINES_HEIGHT

    out = []
    for exponent in range(low, high + 1):
        y = y_of(10.0**exponent)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="faint" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_power(exponent)}</text>')
    out += [
        f'<text class="faint" x="{x_of(place):.1f}" y="{bottom + 20}" text-anchor="middle">{escape(place)}</text>'
        for place in places
    ]
    ends = []
    for number, one in enumerate(chart.series):
        at = [(x_of(point.x), y_of(point.median)) for point in one.points]
        out += _whiskers(number, [(x_of(p.x), y_of(p.least), y_of(p.most)) for p in one.points])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        width = 3 if one.is_ours else 1.6
        out.append(f'<polyline class="s{number}" points="{path}" fill="none" stroke-width="{width}"/>')
        out += [f'<circle class="f{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in at]
        ends.append((at[-1][1], number, one))
    return out + _names(ends, right), bottom + _BOTTOM


def _whiskers(number: int, spans: list[tuple[float, float, float]]) -> list[str]:
    return [
        f'<line class="s{number}" x1="{x:.1f}" x2="{x:.1f}" y1="{least:.1f}" y2="{most:.1f}" opacity="0.5"/>'
        for x, least, most in spans
    ]


def _names(ends: list[tuple[float, int, Series]], right: int) -> list[str]:
    """The names of lines at their right ends, moved apart where they would lie on each other."""
    out, last = [], -math.inf
    for end, number, one in sorted(ends, key=lambda item: (item[0], item[1])):
        y = max(end, last + _NAME_STEP)
        last = y
        weight = "600" if one.is_ours else "400"
        out.append(
            f'<line class="s{number}" x1="{right - 12}" y1="{end:.1f}" x2="{right + 6}" y2="{y:.1f}" opacity="0.6"/>'
            f'<circle class="f{number}" cx="{right + 10}" cy="{y:.1f}" r="4"/>'
            f'<text class="ink" x="{right + 19}" y="{y + 4:.1f}" font-weight="{weight}">{escape(one.label)}</text>'
        )
    return out


def _bars(chart: Chart) -> tuple[list[str], int]:
    low, high = _decades([one.points[0] for one in chart.series])
    right, bottom = _WIDTH - _BAR_RIGHT, _TOP + _BAR_STEP * len(chart.series)

    def x_of(value: float) -> float:
        share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return _BAR_LEFT + share * (right - _BAR_LEFT)

    out = []
    for exponent in range(low, high + 1):
        x = x_of(10.0**exponent)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        out.append(f'<text class="faint" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{_power(exponent)}</text>')
    for number, one in enumerate(chart.series):
        point, y = one.points[0], _TOP + _BAR_STEP * number
        weight = "600" if one.is_ours else "400"
        middle = y + _BAR_STEP / 2
        width = max(2.0, x_of(point.median) - _BAR_LEFT)
        out += [
            f'<text class="ink" x="{_BAR_LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end" '
            f'font-weight="{weight}">{escape(one.label)}</text>',
            f'<rect class="f{number}" x="{_BAR_LEFT}" y="{y + 6}" width="{width:.1f}" '
            f'height="{_BAR_STEP - 12}" rx="2"/>',
            f'<line class="s{number}" x1="{x_of(point.least):.1f}" x2="{x_of(point.most):.1f}" y1="{middle:.1f}" '
            f'y2="{middle:.1f}" stroke-width="2" opacity="0.7"/>',
            f'<text class="ink" x="{max(x_of(point.median), x_of(point.most)) + 8:.1f}" y="{middle + 4:.1f}">'
            f"{_number(point.median)} {escape(chart.unit)}</text>",
        ]
    return out, bottom + _BOTTOM


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _power(exponent: int) -> str:
    """A power of ten, short enough for an axis."""
    for least, letter in ((6, "M"), (3, "k")):
        if exponent >= least:
            return f"{10 ** (exponent - least)}{letter}"
    return f"{10.0**exponent:g}"
