"""The mode of a card: shared by those who want the same, and refused to everybody else until they are gone."""

import pytest

from rm.core.claims import Common, FirstOf, Ids, Units
from rm.core.errors import InvalidRequest, PoolExhausted, UnitHeld
from support.books import acquire, asker, kill, ledger_of, pool, release, snapshot, spots, wish_for

MODES = ("disable", "std", "big-little")


@pytest.fixture
def ledger():
    return ledger_of(pool("vnpu", 2, sites=MODES), pool("streams", 4), card_count=2)


def refused(ledger, kind, *claims, **more):
    before = snapshot(ledger)
    with pytest.raises(kind) as found:
        ledger.decide_acquire(wish_for(*claims, **more), now_ns=0, now_wall_ns=0)
    assert snapshot(ledger) == before
    return found.value


def std(card: str = "0") -> dict[str, str]:
    return {"card": card}


def test_the_same_mode_is_shared_until_its_units_run_out(ledger) -> None:
    first = acquire(ledger, Units("vnpu", 1, ("std",)), **std())
    second = acquire(ledger, Units("vnpu", 1, ("std",)), who=asker("s2"), **std())
    assert [spots(one.allotments[0]) for one in (first, second)] == [((1, (0,)),), ((1, (1,)),)]
    refused(ledger, PoolExhausted, Units("vnpu", 1, ("std",)), **std())


def test_another_mode_is_refused_and_told_who_holds_this_one(ledger) -> None:
    lease = acquire(ledger, Units("vnpu", 1, ("std",)), **std())
    refusal = refused(ledger, UnitHeld, Units("vnpu", 1, ("disable",)), who=asker("s2"), **std())
    assert (refusal.facts["mode"], refusal.facts["asked_mode"]) == ("std", "disable")
    assert [holder["lease"] for holder in refusal.facts["holders"]] == [lease.id]
    assert lease.text() in str(refusal)


@pytest.mark.parametrize(
    "claim", [Units("vnpu", 1, ("disable",)), Ids("vnpu", (1,), ("disable",)), Common("vnpu", ("disable",))]
)
def test_no_kind_of_claim_gets_round_it(ledger, claim) -> None:
    acquire(ledger, Units("vnpu", 1, ("std",)), **std())
    refused(ledger, UnitHeld, claim, who=asker("s2"), **std())


def test_each_card_has_its_own(ledger) -> None:
    acquire(ledger, Units("vnpu", 1, ("std",)), **std())
    lease = acquire(ledger, Units("vnpu", 1, ("disable",)), who=asker("s2"))
    assert lease.card == "1"


def test_the_card_goes_over_when_the_last_unit_of_its_mode_is_back(ledger) -> None:
    first, second = (acquire(ledger, Units("vnpu", 1, ("std",)), **std()) for _ in range(2))
    release(ledger, first)
    refused(ledger, UnitHeld, Units("vnpu", 1, ("disable",)), **std())
    release(ledger, second)
    assert acquire(ledger, Units("vnpu", 1, ("disable",)), **std()).card == "0"


def test_a_mode_whose_holder_died_stands_until_the_card_is_quiet(ledger) -> None:
    lease = acquire(ledger, Units("vnpu", 1, ("std",)), **std())
    kill(ledger)
    refusal = refused(ledger, UnitHeld, Units("vnpu", 1, ("disable",)), who=asker("s2"), **std())
    assert "not yet proven quiet" in str(refusal)
    acquire(ledger, Units("vnpu", 1, ("std",)), who=asker("s2"), **std())
    ledger.apply(ledger.decide_quiet(lease.id))


@pytest.mark.parametrize(
    "claims",
    [
        (Units("vnpu", 1, ("std", "disable")),),
        (Units("vnpu", 1, ("std",)), Units("vnpu", 1, ("disable",))),
        (Common("vnpu"),),
    ],
)
def test_two_modes_at_once_can_never_be(ledger, claims) -> None:
    assert "one mode at a time" in str(refused(ledger, InvalidRequest, *claims, **std()))


def test_the_mode_that_is_there_may_be_taken_for_the_one_that_is_liked(ledger) -> None:
    acquire(ledger, Units("vnpu", 1, ("std",)), **std())
    either = FirstOf((Units("vnpu", 1, ("disable",)), Units("vnpu", 1, ("std",))))
    lease = acquire(ledger, either, Units("streams", 1), who=asker("s2"), **std())
    assert spots(lease.allotments[0]) == ((1, (1,)),)


def test_a_pool_of_that_name_without_modes_is_a_pool_like_any_other() -> None:
    ledger = ledger_of(pool("vnpu", 2))
    assert acquire(ledger, Units("vnpu", 2)).card == "0"
