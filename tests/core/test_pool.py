"""Pool: three truths about each unit, and what is derived from them."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm.core.pool import Pool, amount_text, bytes_text
from rm.core.types import UnitRange, UnitSet
from support.books import bits_set, pool
from support.strategies import SAME_EVERY_RUN, pool_specs


def units(*bits: int, site: int = 0) -> UnitSet:
    return UnitSet((site,), (tuple(UnitRange(bit, bit + 1) for bit in bits),))


@SAME_EVERY_RUN
@given(st.data(), pool_specs())
def test_what_is_derived_never_differs_from_the_truths(data, spec) -> None:
    state = Pool(spec)
    held, reserved, quiet = set(), set(), set()
    spots = [(s, b) for s in range(spec.site_count) for b in range(spec.unit_count_at(s) * spec.slices_per_unit)]
    verbs = st.sampled_from(["hold", "drop", "quarantine", "quiet", "reserve", "unreserve"])
    for verb, (site, bit) in data.draw(st.lists(st.tuples(verbs, st.sampled_from(spots)), max_size=30)):
        one, spot = units(bit, site=site), (site, bit)
        match verb:
            case "hold" if spot not in held | quiet:
                state.hold(one)
                held.add(spot)
            case "drop" if spot in held:
                state.drop(one, to_quarantine=False)
                held.discard(spot)
            case "quarantine" if spot in held:
                state.drop(one, to_quarantine=True)
                held.discard(spot)
                quiet.add(spot)
            case "quiet" if spot in quiet:
                state.quiet(one)
                quiet.discard(spot)
            case "reserve" if spot not in held | reserved | quiet:
                state.reserve(one)
                reserved.add(spot)
            case "unreserve" if spot in reserved:
                state.unreserve(one)
                reserved.discard(spot)
        assert state.check() == []
        assert [bits_set(m) for m in (state.held, state.reserved, state.quarantined)] == [held, reserved, quiet]
        assert state.counts().free == len(set(spots) - held - reserved - quiet)


def test_a_site_with_fewer_units_has_the_missing_ones_blocked_and_counted_nowhere() -> None:
    state = Pool(pool("p", 4, sites=("a", "b", "c"), site_unit_counts=(4, 1, 0), slices_per_unit=2))
    counts = state.counts()
    assert (counts.total, counts.free, counts.largest_run) == (10, 10, 8)
    assert bits_set(state.blocked) == {(1, bit) for bit in range(2, 8)} | {(2, bit) for bit in range(8)}


def test_only_a_single_row_of_whole_units_has_an_index_of_runs() -> None:
    assert Pool(pool("p", 4)).free_runs is not None
    assert Pool(pool("p", 4, slices_per_unit=2)).free_runs is None
    assert Pool(pool("p", 4, sites=("a", "b"))).free_runs is None


def test_the_longest_run_is_that_of_the_site_that_has_the_longest() -> None:
    state = Pool(pool("p", 5, sites=("a", "b")))
    state.hold(units(0, site=0))
    state.hold(units(2, site=1))
    assert state.largest_run() == 4


def test_a_unit_that_is_held_cannot_be_held_again() -> None:
    state = Pool(pool("p", 4))
    state.hold(units(1))
    with pytest.raises(AssertionError):
        state.hold(units(0, 1))


def test_a_unit_in_quarantine_cannot_be_held() -> None:
    state = Pool(pool("p", 4))
    state.hold(units(1))
    state.drop(units(1), to_quarantine=True)
    with pytest.raises(AssertionError, match="quarantine"):
        state.hold(units(1))


def test_a_held_reserved_unit_is_counted_as_both_and_is_free_once_neither() -> None:
    state = Pool(pool("p", 4))
    state.reserve(units(1))
    state.hold(units(1))
    both = state.counts()
    state.drop(units(1), to_quarantine=False)
    still = state.counts()
    state.unreserve(units(1))
    assert [(c.held, c.reserved, c.free) for c in (both, still, state.counts())] == [(1, 1, 3), (0, 1, 3), (0, 0, 4)]


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (512 << 20, "512 MiB"),
        (64 << 10, "64 KiB"),
        (7680 << 20, "7.5 GiB"),
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1 << 30, "1 GiB"),
        (1 << 40, "1 TiB"),
        (3 << 39, "1.5 TiB"),
    ],
)
def test_bytes_are_written_in_their_largest_unit(byte_count, text) -> None:
    assert bytes_text(byte_count) == text


@pytest.mark.parametrize(
    ("shape", "bit_count", "text"),
    [
        ({}, 1, "1 unit"),
        ({}, 2, "2 units"),
        ({"slices_per_unit": 4}, 2, "0.5 units"),
        ({"unit_bytes": 65_536}, 16, "1 MiB"),
    ],
)
def test_an_amount_is_written_as_bytes_or_as_units(shape, bit_count, text) -> None:
    assert amount_text(pool("p", 4, **shape), bit_count) == text


@pytest.mark.parametrize("seed", range(12))
def test_the_longest_run_is_that_which_a_naive_count_finds(seed) -> None:
    """By columns where sites are many and their units few, by rows elsewhere, in a row of its own by its index."""
    random = Random(seed)
    bit_count, site_count = random.choice(((1, 9), (3, 40), (16, 50), (9, 10), (10, 9), (12, 12), (5, 2), (40, 1)))
    counts = (
        random.choice(((), tuple(random.randint(0, bit_count) for _ in range(site_count)))) if site_count > 1 else ()
    )
    sites = tuple(f"t{site}" for site in range(site_count)) if site_count > 1 else ()
    state = Pool(pool("p", bit_count, sites=sites, site_unit_counts=counts))
    there = {(site, bit) for site in range(site_count) for bit in range(counts[site] if counts else bit_count)}
    free = set(there)
    for spot in random.sample(sorted(there), len(there)):
        longest = run = 0
        for site in range(site_count):
            for bit in range(bit_count + 1):
                run = run + 1 if (site, bit) in free else 0
                longest = max(longest, run)
        assert state.largest_run() == longest, f"seed {seed}: {spot} is next"
        state.hold(units(spot[1], site=spot[0]))
        free.discard(spot)
    assert state.largest_run() == 0
