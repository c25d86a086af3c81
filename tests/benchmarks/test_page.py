"""The measured part of the page is written anew from a run's figures, and the rest of it is left alone."""

import pytest

from bench.chart import Chart, Point, Series
from bench.harness import Bar, Figure, Row
from bench.page import BEGIN, END, write


def document(*rows: Row, charts: tuple[Chart, ...] = ()) -> dict:
    """What a run of one benchmark leaves."""
    part = {
        "machine": "2026-01-02, 2 CPUs",
        "elapsed_s": 3.0,
        "rows": [row.to_json() for row in rows],
        "noise": [],
        "remarks": ["Redis 7.0.15", "etcd is absent: not installed"],
        "charts": [chart.to_json() for chart in charts],
    }
    return {"seed": 1, "benchmarks": {"pairs": part}}


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "benchmarks.md"
    path.write_text(f"# By hand\n\n{BEGIN}\nold figures\n{END}\n\n## Limits, by hand\n", encoding="utf-8")
    return path


def test_what_is_written_by_hand_stays_and_old_figures_go(page) -> None:
    row = Row("pairs: ours against theirs", Figure.of([3.0, 4.0]), Figure.of([2.0]), Figure.of([1.7], "x"))
    write(document(row), page)
    first = page.read_text()
    assert first.startswith("# By hand\n")
    assert first.endswith("## Limits, by hand\n")
    assert "old figures" not in first
    assert "| pairs: ours against theirs | 3.5 (3..4) | 2 | 1.7x |  |  |" in first
    assert "etcd is absent: not installed" in first
    write(document(row), page)
    assert page.read_text() == first


def test_a_missed_bar_is_said_in_the_open(page) -> None:
    ratio = Figure.of([0.5], "x")
    rows = [
        Row("slow", ratio=ratio, bar=Bar(least=0.85)),
        Row("slow for a reason", ratio=ratio, bar=Bar(least=0.85), limit="the speed of light"),
        Row("quick", ratio=ratio, bar=Bar(0.6), limit="none"),
    ]
    write(document(*rows), page)
    text = page.read_text()
    assert "3 rows have a bar, 2 of them miss it" in text
    assert "| slow |  |  | 0.5x | >= 0.85x | **no** |" in text
    assert "| slow for a reason |  |  | 0.5x | >= 0.85x | **no**: the speed of light |" in text
    assert "| quick |  |  | 0.5x | <= 0.6x | yes |" in text


def test_pictures_lie_beside_the_page_and_are_shown_in_it(page) -> None:
    chart = Chart("pairs-durable", "Pairs", "pairs/s", (Series("ours", (Point("1", 1.0, 1.0, 1.0),), is_ours=True),))
    written = write(document(charts=(chart,)), page)
    assert page.parent / "pictures" / "bench-pairs-durable.svg" in written
    assert "![Pairs](pictures/bench-pairs-durable.svg)" in page.read_text()


def test_a_page_without_markers_is_refused_and_left_alone(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# By hand\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no <!-- measured"):
        write(document(), page)
    assert page.read_text() == "# By hand\n"


@pytest.mark.parametrize(
    ("bar", "median", "is_met", "text"),
    [
        (Bar(2.0), 2.0, True, "<= 2x"),
        (Bar(2.0), 2.01, False, "<= 2x"),
        (Bar(least=5.0), 5.0, True, ">= 5x"),
        (Bar(least=5.0), 4.99, False, ">= 5x"),
        (Bar(3.0, of_figure=True), 3.0, True, "<= 3 ms"),
    ],
)
def test_a_bar_is_met_at_its_edge(bar, median, is_met, text) -> None:
    measured = Figure.of([median], "ms")
    row = Row("x", figure=measured, ratio=measured, bar=bar)
    assert row.is_met is is_met
    assert row.bar_text == text
