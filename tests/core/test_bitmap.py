"""UnitBitmap: one bit a unit, in columns, and the searches over raw bits."""

from itertools import pairwise

import pytest
from bitarray import bitarray
from bitarray.util import zeros
from hypothesis import given
from hypothesis import strategies as st

from rm.core.bitmap import UnitBitmap, first_gap, longest_run_of_clear_bits, runs_of_clear_bits
from rm.core.types import NO_UNITS, UnitRange, UnitSet, ranges_of
from support.books import bits_set
from support.strategies import SAME_EVERY_RUN

SITES, UNITS = 3, 6


@st.composite
def unit_sets(draw) -> UnitSet:
    sites = tuple(draw(st.lists(st.integers(0, SITES - 1), min_size=1, max_size=SITES, unique=True)))
    one_runs = st.sets(st.integers(0, UNITS - 1), min_size=1).map(lambda ids: ranges_of(sorted(ids)))
    is_same = draw(st.booleans())
    return UnitSet(sites, (draw(one_runs),) if is_same else tuple(draw(one_runs) for _ in sites))


def spots_of(units: UnitSet) -> set[tuple[int, int]]:
    return {(site, bit) for site, runs in units.by_site() for run in runs for bit in range(run.start, run.stop)}


def bitmap_with(units: UnitSet) -> UnitBitmap:
    bitmap = UnitBitmap(UNITS, SITES)
    bitmap.fill(units, 1)
    return bitmap


@SAME_EVERY_RUN
@given(unit_sets(), unit_sets())
def test_a_bitmap_is_a_set_of_site_and_unit(there, asked) -> None:
    bitmap, mine, theirs = bitmap_with(there), spots_of(there), spots_of(asked)
    assert bits_set(bitmap) == mine
    assert bitmap.count() == len(mine) == there.unit_count
    assert bitmap.has_none(asked) is not (mine & theirs != set())
    assert bitmap.has_all(asked) is (theirs <= mine)
    assert spots_of(bitmap.part(asked)) == mine & theirs
    assert spots_of(bitmap.part(asked, 0)) == theirs - mine
    assert {(s, u) for s in range(SITES) for u in range(UNITS) if bitmap.has(u, s)} == mine
    for site in range(SITES):
        assert set(bitmap.at_site(site).search(1)) == {unit for s, unit in mine if s == site}


@SAME_EVERY_RUN
@given(unit_sets(), unit_sets())
def test_filling_writes_the_units_named_and_no_other(there, named) -> None:
    for value, expected in ((1, spots_of(there) | spots_of(named)), (0, spots_of(there) - spots_of(named))):
        bitmap = bitmap_with(there)
        bitmap.fill(named, value)
        assert bits_set(bitmap) == expected


@SAME_EVERY_RUN
@given(unit_sets())
def test_what_is_inserted_can_be_removed_once(units) -> None:
    bitmap = UnitBitmap(UNITS, SITES)
    bitmap.insert(units)
    with pytest.raises(AssertionError, match="already set"):
        bitmap.insert(units)
    bitmap.remove(units)
    assert bitmap.count() == 0
    with pytest.raises(AssertionError, match="not set in full"):
        bitmap.remove(units)


def test_one_common_unit_is_one_column() -> None:
    bitmap = bitmap_with(UnitSet((0, 1, 2), ((UnitRange(2, 3),),)))
    assert bitmap.bits == bitarray("000 000 111 000 000 000".replace(" ", ""), endian="little")


@pytest.mark.parametrize("run", [UnitRange(5, 7), UnitRange(-1, 1), UnitRange(2, 2), UnitRange(6, 7)])
@pytest.mark.parametrize("sites", [(0,), (0, 1)])
def test_units_outside_the_map_are_an_error_not_clipped(run, sites) -> None:
    bitmap = UnitBitmap(UNITS, SITES)
    with pytest.raises(AssertionError):
        bitmap.fill(UnitSet(sites, ((run,),)), 1)
    assert bitmap.count() == 0
    assert len(bitmap.bits) == UNITS * SITES


def test_a_site_outside_the_map_is_an_error() -> None:
    with pytest.raises(AssertionError):
        UnitBitmap(UNITS, SITES).fill(UnitSet((SITES,), ((UnitRange(0, 1),),)), 1)


def test_a_copy_changes_by_itself() -> None:
    first = UnitBitmap(UNITS, 1)
    twin = first.copy()
    twin.fill(UnitSet((0,), ((UnitRange(0, 1),),)), 1)
    assert (first.count(), twin.count()) == (0, 1)


def test_no_units_are_in_every_map_and_in_none() -> None:
    bitmap = UnitBitmap(UNITS, SITES)
    assert bitmap.has_none(NO_UNITS)
    assert bitmap.has_all(NO_UNITS)
    assert bitmap.part(NO_UNITS) == NO_UNITS
    bitmap.insert(NO_UNITS)
    assert bitmap.count() == 0


@SAME_EVERY_RUN
@given(st.text("01", min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 9))
def test_the_first_gap_is_the_lowest_aligned_row_of_clear_bits(text, count, align) -> None:
    bits = bitarray(text, endian="little")
    starts = [s for s in range(0, len(text) - count + 1, align) if "1" not in text[s : s + count]]
    assert first_gap(bits, count, align) == (starts[0] if starts else -1)


@SAME_EVERY_RUN
@given(st.text("01", min_size=1, max_size=40))
def test_the_runs_of_clear_bits_are_what_splitting_at_the_ones_leaves(text) -> None:
    bits = bitarray(text, endian="little")
    runs = list(runs_of_clear_bits(bits))
    assert [len(run) for run in runs] == [len(piece) for piece in text.split("1") if piece]
    assert [unit for run in runs for unit in range(run.start, run.stop)] == [i for i, c in enumerate(text) if c == "0"]
    assert longest_run_of_clear_bits(bits) == max(map(len, text.split("1")))


def test_a_full_map_has_no_gap_and_no_run() -> None:
    full = ~zeros(8, endian="little")
    assert first_gap(full, 1) == -1
    assert list(runs_of_clear_bits(full)) == []
    assert longest_run_of_clear_bits(full) == 0


@SAME_EVERY_RUN
@given(st.sets(st.integers(0, 30)))
def test_ranges_hold_their_ids_and_never_touch(ids) -> None:
    runs = ranges_of(sorted(ids))
    assert [unit for run in runs for unit in range(run.start, run.stop)] == sorted(ids)
    assert all(a.stop < b.start for a, b in pairwise(runs))


@pytest.mark.parametrize("ids", [[1, 1], [2, 1]])
def test_ranges_of_ids_that_do_not_ascend_are_an_error(ids) -> None:
    with pytest.raises(AssertionError):
        ranges_of(ids)


def test_a_range_is_written_with_its_last_unit() -> None:
    assert (str(UnitRange(3, 4)), str(UnitRange(3, 6)), len(UnitRange(3, 6))) == ("3", "3-5", 3)


def test_a_unit_set_needs_its_runs_for_all_sites_or_for_each() -> None:
    run = (UnitRange(0, 2),)
    assert UnitSet((0, 1, 2), (run,)).unit_count == 6
    assert UnitSet((0, 1), (run, (UnitRange(0, 1),))).unit_count == 3
    assert UnitSet((4,), (run,)).is_same_everywhere is False
    with pytest.raises(AssertionError):
        UnitSet((0, 1, 2), (run, run))
