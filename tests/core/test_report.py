"""``differences`` finds every way in which the books can disagree with themselves; ``explain`` takes nothing."""

from dataclasses import replace

import pytest

from rm.core import report
from rm.core.claims import Common, Run, Units
from rm.core.errors import PoolExhausted
from rm.core.types import UnitRange, UnitSet
from support.books import acquire, asker, kill, ledger_of, pool, reserve, snapshot, wish_for


@pytest.fixture
def ledger():
    """Some of everything: held, reserved, both, and in quarantine."""
    ledger = ledger_of(
        pool("memory", 8, unit_bytes=65_536), pool("bcast", 4, sites=("a", "b"), site_unit_counts=(4, 3))
    )
    acquire(ledger, Run("memory", 2), Common("bcast"), who=asker("dead"))
    kill(ledger, "dead")
    acquire(ledger, Run("memory", 2), Common("bcast"))
    reserve(ledger, "graph", "memory", (6, 7))
    reserve(ledger, "other", "memory", (5,))
    acquire(ledger, Units("memory", 1, reservation="graph"))
    assert report.differences(ledger) == []
    return ledger


def unit(bit: int, site: int = 0) -> UnitSet:
    return UnitSet((site,), ((UnitRange(bit, bit + 1),),))


# A bit of memory: 0-1 quarantined, 2-3 held, 4 free, 5 and 7 reserved, 6 reserved and held.
@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("fact", ["held", "reserved", "quarantined", "blocked"])
@pytest.mark.parametrize("name", ["memory", "bcast"])
def test_a_bit_that_is_flipped_is_found(ledger, name, fact, bit) -> None:
    bits = getattr(ledger.cards["0"].pools[name], fact).bits
    bits[bit] = not bits[bit]
    assert report.differences(ledger) != []
    bits[bit] = not bits[bit]
    assert report.differences(ledger) == []


@pytest.mark.parametrize("counter", ["held_count", "reserved_count", "quarantined_count", "free_count"])
def test_a_counter_that_is_off_by_one_is_found(ledger, counter) -> None:
    memory = ledger.cards["0"].pools["memory"]
    setattr(memory, counter, getattr(memory, counter) + 1)
    assert report.differences(ledger) != []


def test_a_free_run_that_the_index_has_lost_is_found(ledger) -> None:
    ledger.cards["0"].pools["memory"].free_runs.take(UnitRange(4, 5))
    assert len(report.differences(ledger)) == 1


def test_a_lease_that_the_books_have_lost_is_found_in_bits_and_indexes(ledger) -> None:
    del ledger.leases["L2"]
    found = "\n".join(report.differences(ledger))
    assert "2 units of pool memory are held by nobody" in found
    assert "index of leases by session" in found
    assert "index of leases by pool" in found


def test_a_unit_that_two_leases_have_is_found(ledger) -> None:
    ledger.leases["L9"] = replace(ledger.leases["L2"], id="L9")
    assert any("held by L9 and by another" in fault for fault in report.differences(ledger))


def test_a_unit_both_held_and_in_quarantine_is_found(ledger) -> None:
    ledger.cards["0"].pools["memory"].quarantined.fill(unit(2), 1)
    assert any("both held and quarantined" in fault for fault in report.differences(ledger))


def test_a_lost_quarantine_is_found(ledger) -> None:
    ledger.quarantine.clear()
    assert any("quarantined by nobody" in fault for fault in report.differences(ledger))


def test_a_reservation_that_lost_a_unit_or_names_one_too_many_is_found(ledger) -> None:
    mine = ledger.reservations["graph"].units["memory"]
    for bit in (4, 7):
        mine.bits[bit] = not mine.bits[bit]
        assert any("reserved in pool memory" in fault for fault in report.differences(ledger))
        mine.bits[bit] = not mine.bits[bit]


def test_a_unit_that_two_reservations_name_is_found(ledger) -> None:
    ledger.reservations["graph"].units["memory"].fill(unit(5), 1)
    assert any("named by two reservations" in fault for fault in report.differences(ledger))


def test_an_index_that_names_a_lease_too_many_is_found(ledger) -> None:
    ledger.leases_by_pool["0", "bcast"]["L9"] = None
    ledger.leases_by_session["s9"] = {"L9": None}
    assert len(report.differences(ledger)) == 2


def test_a_token_above_the_last_is_found(ledger) -> None:
    ledger.last_token -= 1
    assert report.differences(ledger) == ["a lease has a token above the last that was given"]


def test_units_are_counted_over_all_pools_and_sites(ledger) -> None:
    assert report.unit_count(ledger) == 8 + 4 + 3


def test_explaining_says_what_would_be_granted_and_takes_nothing(ledger) -> None:
    before = snapshot(ledger)
    explained = report.explain(ledger, wish_for(Units("memory", 1)))
    assert (explained.card, explained.refusal) == ("0", None)
    assert snapshot(ledger) == before
    assert explained.allotments == acquire(ledger, Units("memory", 1)).allotments


def test_explaining_says_why_not(ledger) -> None:
    explained = report.explain(ledger, wish_for(Run("memory", 2)))
    assert isinstance(explained.refusal, PoolExhausted)
    assert (explained.card, explained.allotments) == (None, ())
