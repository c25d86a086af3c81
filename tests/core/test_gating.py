"""Sites whose clock is off: left out of all, refused by name, still to be reserved, and never gated while held."""

import pytest

from rm.core import limits
from rm.core.claims import Common, FirstOf, Ids, Units, Whole
from rm.core.errors import InvalidRequest, UnitHeld
from rm.core.events import SitesGated
from rm.core.ledger import Ledger
from rm.core.report import differences
from rm.core.types import CardId, PoolName
from rm.devices.profiles import load_profile
from support.books import (
    CARD,
    NO_REQUEST,
    acquire,
    asker,
    gate,
    kill,
    ledger_of,
    pool,
    release,
    reserve_claims,
    restored,
    snapshot,
    spots,
    wish_for,
)

SITES = ("a", "b", "c")


@pytest.fixture
def ledger() -> Ledger:
    return ledger_of(pool("ch", 2, sites=SITES), pool("perf", 2, sites=("b", "c")), pool("streams", 2), card_count=2)


def refused(ledger: Ledger, claim, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        ledger.decide_acquire(wish_for(claim, card=CARD), now_ns=0, now_wall_ns=0)


def test_a_gated_site_is_not_among_all(ledger) -> None:
    gate(ledger, "b")
    lease = acquire(ledger, Common("ch"))
    assert spots(lease.allotments[0]) == ((0, (0,)), (2, (0,)))
    assert differences(ledger) == []


@pytest.mark.parametrize(
    "claim",
    [
        Common("ch", ("a", "b")),
        Units("ch", 1, ("b",)),
        Ids("ch", (0,), ("a", "b")),
        Units("perf", 1, ("c", "b")),
        FirstOf((Units("ch", 1, ("b",)), Common("perf", ("b",)))),
    ],
    ids=repr,
)
def test_a_gated_site_is_refused_by_name_in_every_pool(ledger, claim) -> None:
    gate(ledger, "b")
    refused(ledger, claim, "site b of pool (ch|perf) is clock-gated")


def test_where_every_site_is_gated_all_are_none(ledger) -> None:
    gate(ledger, *SITES)
    refused(ledger, Common("ch"), "every site of pool ch is clock-gated")
    assert acquire(ledger, Units("streams", 2)).card == CARD, "a pool without sites has no clock to gate"


@pytest.mark.parametrize("claim", [Units("pc_event", 1), Ids("pc_event", (0,)), Common("pc_event")], ids=repr)
def test_the_only_site_of_a_pool_is_gated_also_where_it_is_not_named(claim) -> None:
    spec = load_profile("aie:1x2").card(CARD, backend="fake", memory_bytes=0, cpus=())
    ledger = Ledger((spec,))
    acquire(ledger, claim)
    kill(ledger)
    gate(ledger, "0,1,core")
    refused(ledger, claim, "clock-gated")


def test_gating_says_which_sites_are_off_and_all_others_are_on_again(ledger) -> None:
    gate(ledger, "b", "c")
    event = ledger.decide_gate(CARD, ["c", "a", "c"])
    assert event == SitesGated(CARD, ("a", "c"))
    ledger.apply(event)
    acquire(ledger, Units("ch", 2, ("b",)), Units("perf", 2, ("b",)))
    gate(ledger)
    assert spots(acquire(ledger, Common("ch", ("a", "c"))).allotments[0]) == ((0, (0,)), (2, (0,)))


def test_another_card_keeps_its_clocks(ledger) -> None:
    gate(ledger, *SITES)
    assert acquire(ledger, Common("ch")).card == "1"


def test_a_site_of_which_a_unit_is_held_is_not_gated(ledger) -> None:
    lease = acquire(ledger, Units("perf", 1, ("c",)), card=CARD)
    before = snapshot(ledger)
    with pytest.raises(UnitHeld, match="units of pool perf at site c are held") as found:
        ledger.decide_gate(CARD, ["a", "c"])
    assert found.value.facts["site"] == "c"
    assert [holder["lease"] for holder in found.value.facts["holders"]] == [lease.id]
    assert snapshot(ledger) == before
    release(ledger, lease)
    gate(ledger, "a", "c")


@pytest.mark.parametrize("sites", [["nowhere"], ["a", ""]])
def test_a_site_that_no_pool_has_is_invalid(ledger, sites) -> None:
    with pytest.raises(InvalidRequest, match="card 0 has no site"):
        ledger.decide_gate(CARD, sites)


def test_a_card_that_is_not_there_and_too_many_sites_are_invalid(ledger) -> None:
    with pytest.raises(InvalidRequest, match="no card"):
        ledger.decide_gate(CardId("7"), [])
    most = ["a"] * limits.SITES_PER_POOL_MAX
    ledger.decide_gate(CARD, most)
    with pytest.raises(InvalidRequest, match="gated sites"):
        ledger.decide_gate(CARD, [*most, "a"])


def test_a_gated_site_can_be_reserved_and_is_claimed_once_its_clock_runs(ledger) -> None:
    gate(ledger, "b")
    reserve_claims(ledger, "g", Ids("ch", (0,), ("a", "b")), Units("perf", 1, ("b",)), card=CARD)
    refused(ledger, Whole("ch", "g"), "site b of pool ch is clock-gated")
    refused(ledger, Units("perf", 1, ("b",), "g"), "clock-gated")
    assert spots(acquire(ledger, Ids("ch", (0,), ("a",), "g")).allotments[0]) == ((0, (0,)),)
    kill(ledger)
    for lease_id in list(ledger.quarantine):
        ledger.apply(ledger.decide_quiet(lease_id))
    gate(ledger)
    acquire(ledger, Whole("ch", "g"), Whole("perf", "g"))


def test_who_reserves_all_sites_means_those_whose_clock_runs(ledger) -> None:
    gate(ledger, "b")
    spec = reserve_claims(ledger, "g", Common("ch"), card=CARD)
    assert spec.units[0][1].sites == (0, 2)


def test_a_lease_is_not_extended_to_a_gated_site(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1), card=CARD)
    gate(ledger, "b")
    with pytest.raises(InvalidRequest, match="clock-gated"):
        ledger.decide_extend(lease.id, (Units("ch", 1, ("b",)),), asker(), NO_REQUEST)


def test_gated_sites_outlive_a_snapshot(ledger) -> None:
    gate(ledger, "b", "c")
    again = restored(ledger)
    assert snapshot(again) == snapshot(ledger)
    refused(again, Units("ch", 1, ("c",)), "clock-gated")


def test_a_site_that_no_pool_has_is_found_when_it_is_applied(ledger) -> None:
    with pytest.raises(AssertionError, match="card 0 has no site nowhere"):
        ledger.apply(SitesGated(CARD, ("nowhere",)))


def test_books_that_disagree_about_clocks_say_so(ledger) -> None:
    lease = acquire(ledger, Units("ch", 1, ("b",)), card=CARD)
    state = ledger.cards[CARD].pools[PoolName("ch")]
    state.gate(("b",))
    assert differences(ledger) == [
        "card 0: the clocks of pool ch differ from those of the card",
        f"card 0: {lease.id} holds units of pool ch at a clock-gated site",
    ]
    state.open_sites = (0, 1, 2)
    assert "card 0: pool ch: a site is both open and gated, or neither" in differences(ledger)
