"""Reservations by claims: placed like a request, all or none; found again by content; replaced; shared; refused."""

from dataclasses import replace
from fractions import Fraction

import pytest

from rm.core import limits
from rm.core.claims import Common, FirstOf, Ids, Run, Units, Whole
from rm.core.errors import InvalidRequest, NotOwner, PoolExhausted, UnitHeld
from rm.core.ledger import Ledger
from rm.core.report import differences
from rm.core.reservation import ReservationSpec
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, PoolName, UnitRange, UnitSet
from support.books import (
    CARD,
    acquire,
    asker,
    card,
    kill,
    ledger_of,
    pool,
    refused,
    release,
    reserve,
    reserve_claims,
    reserved,
    snapshot,
    spots,
)

OWNER, STRANGER = asker("s1"), asker("s2", uid=1001)
ADMIN = asker("root", uid=0, is_admin=True)
STREAMS, CHANNELS = pool("streams", 4), pool("ch", 3, sites=("a", "b"))


@pytest.fixture
def ledger() -> Ledger:
    return ledger_of(STREAMS, CHANNELS, pool("mem", 8, unit_bytes=65_536))


# Setting aside.


def test_claims_are_placed_as_those_of_a_request_and_belong_to_who_asked(ledger) -> None:
    acquire(ledger, Ids("streams", (0,)))
    spec = reserve_claims(
        ledger, "g", Units("streams", 2), Common("ch"), Run("mem", 2, align_count=2), content_hash="h", is_shared=True
    )
    assert (spec.owner_uid, spec.is_shared, spec.content_hash, spec.card) == (1000, True, "h", CARD)
    assert reserved(ledger) == {(0, 1), (0, 2)}
    assert reserved(ledger, "ch") == {(0, 0), (1, 0)}
    assert reserved(ledger, "mem") == {(0, 0), (0, 1)}
    assert differences(ledger) == []


def test_claims_of_one_pool_get_different_units(ledger) -> None:
    reserve_claims(ledger, "g", Units("ch", 1, ("a", "a")), Ids("ch", (2,), ("a",)))
    assert reserved(ledger, "ch") == {(0, 0), (0, 1), (0, 2)}
    ledger.apply(ledger.decide_unreserve("g", OWNER))
    assert reserved(ledger, "ch") == set()
    assert differences(ledger) == []


def test_the_first_alternative_that_fits_is_set_aside(ledger) -> None:
    acquire(ledger, Units("streams", 2))
    reserve_claims(ledger, "g", FirstOf((Units("streams", 3), Units("streams", 1))))
    assert reserved(ledger) == {(0, 2)}


def test_the_first_card_that_fits_is_taken_and_of_one_profile_where_it_matters() -> None:
    ledger = Ledger((card(STREAMS), replace(card(STREAMS, card_id="1"), profile="array")))
    acquire(ledger, Units("streams", 4), card=CARD)
    assert reserve_claims(ledger, "g", Units("streams", 1)).card == "1"
    assert reserve_claims(ledger, "h", Units("streams", 1), profile="array").card == "1"
    refused(ledger, PoolExhausted, ReserveWish("i", (Units("streams", 1),), OWNER, profile="test"))
    wrong = ReserveWish("i", (Units("streams", 1),), OWNER, profile="array", card=CARD)
    fault = refused(ledger, InvalidRequest, wrong, match="made for profile array, and card 0 is of profile test")
    assert fault.facts == {"card": "0", "profile": "test", "wanted": "array"}


def test_all_is_set_aside_or_nothing(ledger) -> None:
    acquire(ledger, Ids("ch", (1,), ("b",)))
    wish = ReserveWish("g", (Units("streams", 2), Ids("ch", (1,), ("a", "b"))), OWNER)
    refused(ledger, UnitHeld, wish)
    assert "g" not in ledger.reservations


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (ReserveWish("", (Units("streams", 1),), OWNER), "a reservation's name"),
        (ReserveWish("x" * (limits.NAME_CHARS_MAX + 1), (Units("streams", 1),), OWNER), "a reservation's name"),
        (ReserveWish("a\nb", (Units("streams", 1),), OWNER), "printable"),
        (ReserveWish("g", (Units("streams", 1),), OWNER, content_hash="\x1b[2J"), "content hash"),
        (ReserveWish("g", (Units("streams", 1),), OWNER, content_hash="h" * (limits.LABEL_CHARS_MAX + 1)), "hash"),
        (ReserveWish("g", (Units("streams", 1),), OWNER, profile="p" * (limits.LABEL_CHARS_MAX + 1)), "profile"),
        (ReserveWish("g", (Units("streams", 1),), OWNER, profile="\x07"), "profile"),
        (ReserveWish("g", (), OWNER), "claims in a request"),
        (ReserveWish("g", (Units("streams", 1),) * (limits.CLAIMS_PER_REQUEST_MAX + 1), OWNER), "claims in a request"),
        (ReserveWish("g", (Units("nowhere", 1),), OWNER), "no pool"),
        (ReserveWish("g", (Units("streams", 5),), OWNER), "4 units in all"),
        (ReserveWish("g", (Units("streams", 3), Units("streams", 2)), OWNER), "4 units in all"),
        (ReserveWish("g", (Ids("streams", (4,)),), OWNER), "units 0 to 3, not 4"),
        (ReserveWish("g", (Ids("streams", (0,)), Ids("streams", (0, 1))), OWNER), "twice"),
        (ReserveWish("g", (Units("ch", 1),), OWNER), "sites named"),
        (ReserveWish("g", (Units("ch", 1, ("c",)),), OWNER), "no site 'c'"),
        (ReserveWish("g", (Units("streams", 1, (), "old"),), OWNER), "not from a reservation"),
        (ReserveWish("g", (Whole("streams", "old"),), OWNER), "not from a reservation"),
        (ReserveWish("g", (Units("streams", 1),), OWNER, card=CardId("7")), "no card"),
        (ReserveWish("old", (Units("streams", 1),), OWNER), "replace it, or choose another name"),
        (ReserveWish("old", (Units("streams", 1),), OWNER, content_hash="other"), "replace it"),
    ],
    ids=lambda value: "" if isinstance(value, ReserveWish) else value,
)
def test_what_can_never_be_set_aside_is_invalid(ledger, wish, words) -> None:
    reserve(ledger, "old", "streams", (3,), owner_uid=1000, content_hash="h")
    refused(ledger, InvalidRequest, wish, match=words)


def test_a_name_a_hash_and_a_profile_have_a_most(ledger) -> None:
    most = {"content_hash": "h" * limits.LABEL_CHARS_MAX}
    reserve_claims(ledger, "x" * limits.NAME_CHARS_MAX, Units("streams", 1), **most)
    assert len(ledger.reservations) == 1


def test_reservations_have_a_most_and_replacing_one_needs_no_more_room() -> None:
    ledger = ledger_of(pool("streams", limits.RESERVATIONS_MAX + 1))
    for number in range(limits.RESERVATIONS_MAX):
        reserve_claims(ledger, str(number), Ids("streams", (number,)))
    refused(ledger, InvalidRequest, ReserveWish("more", (Units("streams", 1),), OWNER), match="reservations")
    reserve_claims(ledger, "7", Ids("streams", (limits.RESERVATIONS_MAX,)), replaces=True)


# Who is in the way.


def test_a_conflict_names_the_units_and_their_holder(ledger) -> None:
    lease = acquire(ledger, Ids("ch", (1,), ("a", "b")))
    fault = refused(ledger, UnitHeld, ReserveWish("g", (Ids("ch", (0, 1), ("b",)),), STRANGER))
    assert str(fault) == f"unit 1 at b of pool ch of card 0 is held; held by {lease.id} (pid 100, s1)"
    assert (fault.facts["state"], fault.facts["units"]) == ("held", "1 at b")
    assert [holder["lease"] for holder in fault.facts["holders"]] == [lease.id]


def test_a_conflict_names_the_units_and_their_reservation(ledger) -> None:
    reserve_claims(ledger, "mine", Ids("streams", (1, 2)))
    reserve(ledger, "anybody's", "streams", (3,))
    fault = refused(ledger, UnitHeld, ReserveWish("g", (Ids("streams", (0, 1, 2, 3)),), STRANGER))
    assert str(fault) == "unit 1-3 of pool streams of card 0 is reserved by mine of uid 1000, anybody's"
    assert (fault.facts["state"], fault.facts["holders"]) == ("reserved", [])


def test_a_conflict_names_units_in_quarantine(ledger) -> None:
    acquire(ledger, Ids("streams", (1,)))
    kill(ledger)
    refused(ledger, UnitHeld, ReserveWish("g", (Ids("streams", (1,)),), OWNER), match="unit 1 .* is in quarantine")


def test_a_conflict_over_many_units_names_a_few() -> None:
    ledger = ledger_of(pool("streams", 64))
    acquire(ledger, Ids("streams", tuple(range(0, 64, 2))))
    fault = refused(ledger, UnitHeld, ReserveWish("g", (Ids("streams", tuple(range(64))),), OWNER))
    assert fault.facts["units"] == "0, 2, 4, 6, 8, 10, 12, 14, ..."


def test_a_unit_that_is_held_in_part_is_named_as_the_unit_it_is() -> None:
    ledger = ledger_of(pool("cores", 2, slices_per_unit=4))
    acquire(ledger, Units("cores", 1), Units("cores", Fraction(1, 4)))
    fault = refused(ledger, UnitHeld, ReserveWish("g", (Ids("cores", (1,)),), OWNER))
    assert fault.facts["units"] == "1"


def test_a_pool_that_is_too_full_says_what_it_has(ledger) -> None:
    reserve_claims(ledger, "mine", Units("streams", 2))
    acquire(ledger, Units("streams", 1))
    refused(ledger, PoolExhausted, ReserveWish("g", (Units("streams", 2),), OWNER), match="has 1 unit free")


# The same again.


def test_who_sets_the_same_content_aside_again_finds_it(ledger) -> None:
    first = reserve_claims(ledger, "g", Units("streams", 2), content_hash="h")
    before = snapshot(ledger)
    for name, more in (("g", {}), ("other", {"replaces": True}), ("g", {"card": CARD, "profile": "test"})):
        assert reserve_claims(ledger, name, Units("streams", 3), content_hash="h", **more) == first
    assert reserve_claims(ledger, "g", Units("streams", 2), content_hash="h", replaces=True) == first
    assert snapshot(ledger) == before


def test_the_same_content_is_found_also_while_its_units_are_held_or_lost(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 2), content_hash="h")
    lease = acquire(ledger, Units("streams", 1, reservation="g"))
    assert reserve_claims(ledger, "g", Units("streams", 2), content_hash="h").name == "g"
    release(ledger, lease, to_pool=True)
    assert reserve_claims(ledger, "g", Units("streams", 2), content_hash="h").name == "g"
    assert reserved(ledger) == {(0, 1)}


def test_another_user_another_card_and_no_hash_are_not_the_same() -> None:
    ledger = ledger_of(STREAMS, card_count=2)
    reserve_claims(ledger, "g", Units("streams", 1), content_hash="h")
    reserve_claims(ledger, "theirs", Units("streams", 1), content_hash="h", who=STRANGER)
    assert reserve_claims(ledger, "there", Units("streams", 1), content_hash="h", card=CardId("1")).name == "there"
    reserve_claims(ledger, "nameless", Units("streams", 1))
    reserve_claims(ledger, "nameless too", Units("streams", 1))
    assert len(ledger.reservations) == 5


def test_the_same_content_on_a_card_of_another_profile_is_not_the_same() -> None:
    ledger = Ledger((card(STREAMS), replace(card(STREAMS, card_id="1"), profile="array")))
    reserve_claims(ledger, "g", Units("streams", 1), content_hash="h")
    assert reserve_claims(ledger, "there", Units("streams", 1), content_hash="h", profile="array").card == "1"


# Shared reservations.


def test_anybody_uses_a_shared_reservation_and_gives_its_units_to_the_pool(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 3), content_hash="h", is_shared=True)
    for claim in (Units("streams", 1, reservation="g"), Units("streams", 1, reservation="h"), Ids("streams", (2,))):
        acquire(ledger, claim, who=STRANGER)
    for lease in list(ledger.leases.values()):
        ledger.apply(ledger.decide_release(lease.id, STRANGER, to_pool=True))
    assert reserved(ledger) == set()


def test_a_shared_reservation_is_taken_away_by_its_owner_or_an_admin_only(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 1), is_shared=True)
    before = snapshot(ledger)
    with pytest.raises(NotOwner):
        ledger.decide_unreserve("g", STRANGER)
    assert snapshot(ledger) == before
    assert ledger.decide_unreserve("g", ADMIN) == ledger.decide_unreserve("g", OWNER)


def test_what_is_not_shared_is_its_owner_s(ledger) -> None:
    reserve_claims(ledger, "g", Units("streams", 1), content_hash="h")
    for claim in (Units("streams", 1, reservation="g"), Ids("streams", (0,)), Whole("streams", "h")):
        with pytest.raises(NotOwner):
            acquire(ledger, claim, who=STRANGER)


# Exactly these units.


def exactly(*units: UnitSet) -> ReservationSpec:
    return ReservationSpec("g", "", CARD, tuple((PoolName("ch"), one) for one in units))


def row(start: int, stop: int) -> tuple[UnitRange, ...]:
    return (UnitRange(start, stop),)


@pytest.mark.parametrize(
    "units",
    [
        (UnitSet((0,), (row(0, 1),)), UnitSet((0,), (row(0, 1),))),
        (UnitSet((0, 0), (row(0, 1), row(0, 1))),),
        (UnitSet((0, 0), (row(0, 1),)),),
        (UnitSet((0,), ((UnitRange(0, 2), UnitRange(1, 3)),)),),
    ],
    ids=repr,
)
def test_a_unit_named_twice_is_invalid_wherever_it_stands(ledger, units) -> None:
    before = snapshot(ledger)
    with pytest.raises(InvalidRequest, match="twice"):
        ledger.decide_reserve(exactly(*units))
    assert snapshot(ledger) == before


@pytest.mark.parametrize(
    "units",
    [
        UnitSet((2,), (row(0, 1),)),
        UnitSet((-1,), (row(0, 1),)),
        UnitSet((0,), (row(2, 4),)),
        UnitSet((0,), (row(-1, 1),)),
        UnitSet((0,), (row(1, 1),)),
        UnitSet((0, 1), (row(0, 4),)),
    ],
    ids=repr,
)
def test_units_that_a_pool_does_not_have_are_invalid(ledger, units) -> None:
    with pytest.raises(InvalidRequest, match="no such units"):
        ledger.decide_reserve(exactly(units))


def test_exactly_these_units_name_who_is_in_the_way(ledger) -> None:
    lease = acquire(ledger, Ids("ch", (1,), ("a",)))
    units = UnitSet((0, 1), (row(0, 2),))
    with pytest.raises(UnitHeld, match=f"unit 1 at a of pool ch of card 0 is held; held by {lease.id}"):
        ledger.decide_reserve(exactly(units))
    reserve(ledger, "other", "ch", (0,), at=("b",), owner_uid=7)
    with pytest.raises(UnitHeld, match="unit 0 at b of pool ch of card 0 is reserved by other of uid 7"):
        ledger.decide_reserve(exactly(units), held_too=True)


def test_what_somebody_holds_can_be_reserved_where_that_is_asked_for(ledger) -> None:
    lease = acquire(ledger, Ids("ch", (1,), ("a",)))
    ledger.apply(ledger.decide_reserve(exactly(UnitSet((0, 1), (row(1, 2),))), held_too=True))
    counts = ledger.cards[CARD].pools[PoolName("ch")].counts()
    assert (counts.free, counts.held, counts.reserved) == (4, 1, 2)
    assert differences(ledger) == []
    release(ledger, lease)
    assert reserved(ledger, "ch") == {(0, 1), (1, 1)}
    assert ledger.cards[CARD].pools[PoolName("ch")].counts().free == 4


@pytest.mark.parametrize("is_shared", [False, True])
def test_nobody_gets_between_an_owner_and_its_content_hash_by_the_name_of_a_reservation(ledger, is_shared) -> None:
    reserve_claims(ledger, "sha256:h", Units("streams", 1), who=STRANGER, is_shared=is_shared)
    reserve_claims(ledger, "mine", Units("streams", 2), content_hash="sha256:h")
    lease = acquire(ledger, Units("streams", 2, reservation="sha256:h"), who=OWNER)
    assert spots(lease.allotments[0]) == ((0, (1, 2)),)
