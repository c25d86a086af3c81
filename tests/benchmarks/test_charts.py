"""The pictures of the benchmarks are well-formed, carry both colour schemes, and keep their names apart."""

import itertools
import re
from xml.etree import ElementTree

import pytest

from bench.chart import Chart, Point, Series
from bench.draw import svg

_SVG = "{http://www.w3.org/2000/svg}"


def lines_chart(count: int = 3) -> Chart:
    """So many lines that all end at the same place."""
    points = (Point("1", 40.0, 30.0, 50.0), Point("4", 4_000.0, 3_000.0, 5_000.0))
    series = tuple(Series(f"peer <{number}> & co", points, is_ours=not number) for number in range(count))
    return Chart("pairs", "Pairs & more <by> clients", "pairs/s", series)


def bars_chart(*values: float) -> Chart:
    """A bar a value."""
    series = tuple(Series(f"bar {value:g}", (Point("", value, value / 2, value * 2),)) for value in values)
    return Chart("reclaim", "Reclaim", "ms", series, has_lines=False)


@pytest.mark.parametrize("chart", [lines_chart(), bars_chart(0.02, 3.0, 2_000.0)], ids=["lines", "bars"])
def test_a_picture_is_well_formed_and_follows_the_colours_of_the_page(chart) -> None:
    root = ElementTree.fromstring(svg(chart))
    assert root.tag == f"{_SVG}svg"
    assert root.find(f"{_SVG}title").text == chart.title
    style = root.find(f"{_SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    assert dark.count("{") == dark.count("}")
    for number in range(len(chart.series)):
        colours = [re.search(rf"\.f{number}\{{fill:(#\w+)\}}", scheme)[1] for scheme in (light, dark)]
        assert colours[0] != colours[1]


@pytest.mark.parametrize("chart", [lines_chart(9), bars_chart(0.02, 3.0, 2_000.0)], ids=["lines", "bars"])
def test_ink_and_page_differ_in_both_schemes(chart) -> None:
    for scheme in ElementTree.fromstring(svg(chart)).find(f"{_SVG}style").text.split("@media"):
        ink, page = (_brightness(re.search(rf"\.{name}\{{fill:(#\w+)", scheme)[1]) for name in ("ink", "page"))
        assert abs(ink - page) > 150


def test_names_of_lines_that_end_together_lie_apart() -> None:
    root = ElementTree.fromstring(svg(lines_chart(9)))
    named = sorted(float(text.get("y")) for text in root.iter(f"{_SVG}text") if (text.text or "").startswith("peer"))
    assert len(named) == 9
    assert min(after - before for before, after in itertools.pairwise(named)) >= 14


def test_everything_lies_inside_of_the_picture() -> None:
    for chart in (lines_chart(9), bars_chart(0.02, 3.0, 2_000.0)):
        root = ElementTree.fromstring(svg(chart))
        _, _, width, height = map(float, root.get("viewBox").split())
        for element in root.iter():
            for names, most in ((("x", "x1", "x2", "cx"), width), (("y", "y1", "y2", "cy"), height)):
                places = [float(element.get(name)) for name in names if element.get(name)]
                assert all(0 <= place <= most for place in places), ElementTree.tostring(element)


def test_a_value_that_is_not_above_nothing_lies_at_the_edge() -> None:
    chart = Chart("x", "X", "ms", (Series("one", (Point("", 0.5, -0.1, 2.0),)),), has_lines=False)
    ElementTree.fromstring(svg(chart))


def test_a_chart_survives_its_file() -> None:
    import json

    assert Chart.from_json(json.loads(json.dumps(lines_chart().to_json()))) == lines_chart()


def _brightness(colour: str) -> float:
    return sum(int(colour[at : at + 2], 16) for at in (1, 3, 5)) / 3
