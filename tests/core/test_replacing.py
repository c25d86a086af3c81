"""Putting a reservation in the place of another of its name: what is freed, what is found again, and who may."""

from dataclasses import replace

import pytest

from rm.core.claims import Common, Ids, Run, Units
from rm.core.errors import NotOwner, UnitHeld
from rm.core.events import ReservationReplaced, Reserved
from rm.core.ledger import Ledger
from rm.core.report import differences
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, PoolName
from support.books import (
    CARD,
    acquire,
    asker,
    kill,
    ledger_of,
    pool,
    refused,
    release,
    reserve_claims,
    reserved,
    snapshot,
)

OWNER, STRANGER = asker("s1"), asker("s2", uid=1001)
ADMIN = asker("root", uid=0, is_admin=True)
STREAMS, CHANNELS = pool("streams", 4), pool("ch", 3, sites=("a", "b"))


@pytest.fixture
def ledger() -> Ledger:
    return ledger_of(STREAMS, CHANNELS, pool("mem", 8, unit_bytes=65_536))


def test_a_replaced_reservation_gives_its_units_back_and_the_new_one_may_have_them(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 3), Ids("ch", (2,), ("a", "b")), content_hash="old")
    event = ledger.decide_reserve_claims(
        ReserveWish("g", (Run("streams", 4),), OWNER, content_hash="new", replaces=True, is_shared=True)
    )
    assert isinstance(event, ReservationReplaced)
    ledger.apply(event)
    assert reserved(ledger) == {(0, 0), (0, 1), (0, 2), (0, 3)}
    assert reserved(ledger, "ch") == set()
    assert ledger.reservations["g"].spec == event.spec
    assert event.spec.is_shared
    assert differences(ledger) == []


def test_ids_of_the_replaced_reservation_are_free_to_the_new_one_and_those_of_others_are_not(ledger) -> None:
    reserve_claims(ledger, "g", Ids("streams", (0, 1)))
    reserve_claims(ledger, "other", Ids("streams", (3,)))
    wish = ReserveWish("g", (Ids("streams", (1, 2)),), OWNER, replaces=True)
    refused(ledger, UnitHeld, replace(wish, claims=(Ids("streams", (1, 3)),)), match="reserved by g of uid 1000, other")
    ledger.apply(ledger.decide_reserve_claims(wish))
    assert reserved(ledger) == {(0, 1), (0, 2), (0, 3)}


def test_a_common_unit_of_the_replaced_reservation_is_free_to_the_new_one(ledger) -> None:
    reserve_claims(ledger, "g", Ids("ch", (0,), ("a", "b")))
    reserve_claims(ledger, "g", Common("ch"), Units("ch", 1, ("a",)), replaces=True)
    assert reserved(ledger, "ch") == {(0, 0), (1, 0), (0, 1)}


def test_replacing_may_move_a_reservation_to_another_card() -> None:
    ledger = ledger_of(STREAMS, card_count=2)
    reserve_claims(ledger, "g", Units("streams", 4))
    assert reserve_claims(ledger, "g", Units("streams", 4), card=CardId("1"), replaces=True).card == "1"
    assert [one.pools[PoolName("streams")].reserved_count for one in ledger.cards.values()] == [0, 4]
    assert differences(ledger) == []


def test_what_is_not_there_is_replaced_by_being_made(ledger) -> None:
    wish = ReserveWish("g", (Units("streams", 1),), OWNER, replaces=True)
    assert isinstance(ledger.decide_reserve_claims(wish), Reserved)


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_reservation_in_use_is_not_replaced(ledger, is_dead) -> None:
    reserve_claims(ledger, "g", Units("streams", 2))
    lease = acquire(ledger, Units("streams", 1, reservation="g"))
    if is_dead:
        kill(ledger)
    wish = ReserveWish("g", (Units("streams", 1),), OWNER, replaces=True)
    fault = refused(ledger, UnitHeld, wish, match="units of reservation g in pool streams are in use")
    assert [holder["lease"] for holder in fault.facts["holders"]] == ([] if is_dead else [lease.id])


def test_only_an_owner_or_an_admin_replaces_also_what_is_shared(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 1), is_shared=True)
    wish = ReserveWish("g", (Units("streams", 2),), STRANGER, replaces=True)
    fault = refused(ledger, NotOwner, wish, match="reservation g belongs to uid 1000")
    assert fault.facts == {"reservation": "g", "owner_uid": 1000}
    assert reserve_claims(ledger, "g", Units("streams", 2), who=ADMIN, replaces=True).owner_uid == 0


def test_a_reservation_that_lost_units_can_be_replaced_by_one_for_the_same_content(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 2), content_hash="h")
    release(ledger, acquire(ledger, Units("streams", 1, reservation="g")), to_pool=True)
    assert reserved(ledger) == {(0, 1)}
    reserve_claims(ledger, "g", Units("streams", 2), content_hash="h", replaces=True)
    assert reserved(ledger) == {(0, 0), (0, 1)}


def test_replacing_may_share_what_was_not_shared_and_the_other_way_round(ledger) -> None:
    for is_shared in (False, True, False):
        reserve_claims(ledger, "g", Units("streams", 1), content_hash="h", is_shared=is_shared, replaces=True)
        assert ledger.reservations["g"].spec.is_shared is is_shared


@pytest.mark.parametrize(
    "claims",
    [
        (Units("streams", 3),),
        (Units("streams", 1),),
        (Ids("streams", (0, 2)),),
        (Units("streams", 2), Units("ch", 1, ("a",))),
        (Run("streams", 2), Common("ch")),
    ],
)
def test_who_replaces_what_was_made_for_the_same_content_with_other_claims_gets_what_it_claims(ledger, claims) -> None:
    reserve_claims(ledger, "g", Units("streams", 2), content_hash="h")
    spec = reserve_claims(ledger, "g", *claims, content_hash="h", replaces=True)
    fresh = ledger_of(*ledger.cards[CARD].spec.pools)
    assert spec.units == reserve_claims(fresh, "g", *claims, content_hash="h").units
    before = snapshot(ledger)
    acquire(ledger, Ids("streams", (0,), reservation="g"))
    assert reserve_claims(ledger, "g", *claims, content_hash="h", replaces=True) == spec  # asked again: it is there
    assert len(ledger.reservations) == 1
    assert differences(ledger) == []
    assert before["reservations"] == snapshot(ledger)["reservations"]
