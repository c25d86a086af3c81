"""Every one of the 61 statements, named by its number: what is answered here is what the table says."""

import re
from pathlib import Path

import pytest

from support.statements import STATEMENTS
from support.statements.case import cases

PAGE = Path(__file__).resolve().parents[2] / "docs" / "axcl.md"


@pytest.fixture(scope="module")
def run():
    with cases() as one:
        yield one


@pytest.mark.parametrize("number", sorted(STATEMENTS), ids=lambda number: f"{number:02}")
def test_statement(run, number) -> None:
    one = STATEMENTS[number]
    assert run(one.run) == one.ours, one.says


def test_there_are_61_of_them() -> None:
    assert sorted(STATEMENTS) == list(range(1, 62))


def test_the_page_has_a_line_for_each_answer_that_is_not_the_shipped_library_s() -> None:
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert told == {number for number, one in STATEMENTS.items() if one.ours != one.gen1}
