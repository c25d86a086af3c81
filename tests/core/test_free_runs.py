"""FreeRuns: the index must never differ from the bits it was derived from."""

import pytest
from bitarray import bitarray
from bitarray.util import zeros
from hypothesis import given
from hypothesis import strategies as st

from rm.core.bitmap import first_gap, longest_run_of_clear_bits, runs_of_clear_bits
from rm.core.free_runs import FreeRuns
from rm.core.types import UnitRange
from support.strategies import SAME_EVERY_RUN

UNITS = 24


def same(index: FreeRuns, bits: bitarray) -> bool:
    anew = FreeRuns(bits)
    return (index._edge, index._bins) == (anew._edge, anew._bins)


@SAME_EVERY_RUN
@given(st.lists(st.tuples(st.integers(0, UNITS - 1), st.integers(1, 8)), max_size=40))
def test_after_every_change_the_index_is_as_if_derived_anew(changes) -> None:
    bits = zeros(UNITS, endian="little")
    index = FreeRuns(bits)
    for start, length in changes:
        run = UnitRange(start, min(start + length, UNITS))
        if not bits[run.start : run.stop].any():
            index.take(run)
            bits[run.start : run.stop] = 1
        elif bits[run.start : run.stop].all():
            index.give(run)
            bits[run.start : run.stop] = 0
        assert same(index, bits)
        assert list(index) == list(runs_of_clear_bits(bits))
        assert index.largest() == longest_run_of_clear_bits(bits)


@SAME_EVERY_RUN
@given(st.text("01", min_size=1, max_size=40))
def test_first_fit_is_the_first_gap_for_every_count_and_alignment(text) -> None:
    bits = bitarray(text, endian="little")
    index = FreeRuns(bits)
    for count in range(1, len(text) + 2):
        for align in range(1, len(text) + 2):
            assert index.first_fit(count, align) == first_gap(bits, count, align), (count, align)


@pytest.mark.parametrize("text", ["1111", "11011011", "0"])
def test_an_index_of_a_map_that_starts_full_or_small_is_right(text) -> None:
    bits = bitarray(text, endian="little")
    index = FreeRuns(bits)
    assert list(index) == list(runs_of_clear_bits(bits))
    assert index.largest() == longest_run_of_clear_bits(bits)


def test_a_run_in_the_middle_of_a_free_one_is_found_and_cut_out() -> None:
    index = FreeRuns(zeros(UNITS, endian="little"))
    index.take(UnitRange(5, 7))
    index.take(UnitRange(10, 12))
    assert list(index) == [UnitRange(0, 5), UnitRange(7, 10), UnitRange(12, UNITS)]


@pytest.mark.parametrize("run", [UnitRange(4, 6), UnitRange(5, 6), UnitRange(3, 9), UnitRange(0, 6), UnitRange(5, 9)])
def test_taking_what_is_not_free_in_full_is_an_error(run) -> None:
    index = FreeRuns(zeros(UNITS, endian="little"))
    index.take(UnitRange(5, 8))
    with pytest.raises(AssertionError):
        index.take(run)


@pytest.mark.parametrize("run", [UnitRange(-1, 2), UnitRange(3, 3), UnitRange(0, UNITS + 1)])
def test_a_run_outside_the_map_is_an_error(run) -> None:
    index = FreeRuns(zeros(UNITS, endian="little"))
    with pytest.raises(AssertionError):
        index.take(run)
    with pytest.raises(AssertionError):
        index.give(run)


@SAME_EVERY_RUN
@given(st.text("01", min_size=1, max_size=40), st.lists(st.integers(1, 8), max_size=20), st.randoms())
def test_taking_the_first_is_finding_it_and_taking_it_and_giving_it_back_undoes_that(text, counts, random) -> None:
    bits = bitarray(text, endian="little")
    index = FreeRuns(bits)
    taken = []
    for count in counts:
        expected = first_gap(bits, count)
        assert index.take_first(count) == expected
        if expected >= 0:
            bits[expected : expected + count] = 1
            taken.append((expected, expected + count))
        elif taken:
            start, stop = taken.pop(random.randrange(len(taken)))
            index.give_back(start, stop=stop)
            bits[start:stop] = 0
        assert same(index, bits)
