"""Writes what was measured into docs/benchmarks.md, between its markers, and draws the charts beside it."""

from pathlib import Path
from typing import Any

from bench.chart import Chart
from bench.draw import svg
from bench.harness import Figure

BEGIN = "<!-- measured: from here to the next marker by `python -m bench --write`, the rest by hand -->"
END = "<!-- end of what was measured -->"
_PICTURES = "pictures"
_HEAD = ["| what | figure | baseline | ratio | bar | met |", "|---|---|---|---|---|---|"]


def write(document: dict[str, Any], page: Path) -> list[Path]:
    """Renews the measured part of the page; answers every file that it wrote.

    Raises:
        ValueError: the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN if not begin else END}")
    pictures = page.parent / _PICTURES
    pictures.mkdir(exist_ok=True)
    written = []
    for part in document["benchmarks"].values():
        for values in part["charts"]:
            chart = Chart.from_json(values)
            written.append(pictures / _file_name(chart))
            written[-1].write_text(svg(chart), encoding="utf-8")
    measured = "\n".join(_measured(document))
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}", encoding="utf-8")
    return [*written, page]


def _measured(document: dict[str, Any]) -> list[str]:
    parts = document["benchmarks"]
    with_bars = [row for part in parts.values() for row in part["rows"] if row["is_met"] is not None]
    missed_count = sum(not row["is_met"] for row in with_bars)
    lines = [f"{len(with_bars)} rows have a bar, {missed_count} of them miss it:", "", *_HEAD]
    lines += [_line(row) for row in with_bars]
    for name, part in parts.items():
        lines += ["", f"### {name}", "", f"{part['machine']}, {part['elapsed_s']:.0f} s."]
        if part["remarks"]:
            lines += ["", "Measured against: " + "; ".join(part["remarks"]) + "."]
        lines += [line for one in part["noise"] for line in ("", f"Noise: {one}.")]
        for values in part["charts"]:
            chart = Chart.from_json(values)
            lines += ["", f"![{chart.title}]({_PICTURES}/{_file_name(chart)})"]
        lines += ["", *_HEAD, *(_line(row) for row in part["rows"])]
    return lines


def _line(row: dict[str, Any]) -> str:
    note = f" ({row['note']})" if row["note"] else ""
    met = {None: "", True: "yes", False: "**no**"}[row["is_met"]] + (f": {row['limit']}" if row.get("limit") else "")
    figures = [str(Figure(**row[key])) if row[key] else "" for key in ("figure", "baseline", "ratio")]
    return "| " + " | ".join([row["what"] + note, *figures, row["bar"], met]).replace("\n", " ") + " |"


def _file_name(chart: Chart) -> str:
    return f"bench-{chart.name}.svg"
