"""``Whole`` claims, which take all that a reservation names; and the strict rule, by which ids must be reserved."""

import pytest

from rm.core.claims import Common, Ids, Run, Units, Whole
from rm.core.errors import InvalidRequest, NotOwner, UnitHeld
from rm.core.ledger import Ledger
from rm.core.report import differences
from rm.core.types import PoolName, UnitRange
from support.books import (
    NO_REQUEST,
    acquire,
    asker,
    gate,
    kill,
    ledger_of,
    pool,
    release,
    reserve,
    reserve_claims,
    snapshot,
    spots,
    wish_for,
)

STRICT = asker("strict", needs_reserved=True)
WHOLE = Whole("ch", "g")


@pytest.fixture
def ledger() -> Ledger:
    """A reservation of channels 0 at a and b and 2 at a; and of pieces of memory."""
    made = ledger_of(pool("ch", 4, sites=("a", "b")), pool("mem", 8, unit_bytes=65_536), pool("streams", 4))
    reserve_claims(made, "g", Ids("ch", (0,), ("a", "b")), Ids("ch", (2,), ("a",)), Run("mem", 2), content_hash="h")
    return made


def refused(ledger: Ledger, kind: type[Exception], *claims, who=None, match: str | None = None) -> None:
    before = snapshot(ledger)
    with pytest.raises(kind, match=match):
        ledger.decide_acquire(wish_for(*claims, who=who), now_ns=0, now_wall_ns=0)
    assert snapshot(ledger) == before


@pytest.mark.parametrize("key", ["g", "h"])
def test_a_whole_claim_takes_all_that_the_reservation_names(ledger, key) -> None:
    lease = acquire(ledger, Whole("mem", key), Whole("ch", key))
    assert [spots(one) for one in lease.allotments] == [((0, (0, 1)),), ((0, (0, 2)), (1, (0,)))]
    assert differences(ledger) == []
    release(ledger, lease)
    acquire(ledger, WHOLE)


def test_a_whole_claim_takes_what_is_left_after_some_went_to_the_pool(ledger) -> None:
    release(ledger, acquire(ledger, Ids("ch", (0,), ("a",))), to_pool=True)
    assert spots(acquire(ledger, WHOLE).allotments[0]) == ((0, (2,)), (1, (0,)))


def test_a_whole_claim_is_refused_while_one_unit_is_held(ledger) -> None:
    acquire(ledger, Ids("ch", (2,), ("a",)), who=asker("s2"))
    refused(ledger, UnitHeld, WHOLE, match="unit 2 at a of pool ch of card 0 is held; held by L1")
    kill(ledger, "s2")
    refused(ledger, UnitHeld, WHOLE, match="in quarantine")


def test_a_whole_claim_is_its_owner_s(ledger) -> None:
    refused(ledger, NotOwner, WHOLE, who=asker("s2", uid=1001))
    acquire(ledger, WHOLE, who=asker("s2", uid=1001, is_admin=True))


@pytest.mark.parametrize("claim", [Whole("streams", "g"), Whole("ch", "nothing"), Whole("nowhere", "g")], ids=repr)
def test_a_whole_claim_of_nothing_is_invalid(ledger, claim) -> None:
    refused(ledger, InvalidRequest, claim)


def test_all_given_to_the_pool_leaves_nothing_to_claim_whole(ledger) -> None:
    release(ledger, acquire(ledger, WHOLE), to_pool=True)
    refused(ledger, InvalidRequest, WHOLE, match="reservation g has no units of pool ch")


@pytest.mark.parametrize(
    "other", [WHOLE, Whole("ch", "h"), Ids("ch", (2,), ("a",)), Ids("ch", (0,), ("b",), "g")], ids=repr
)
def test_a_unit_is_not_claimed_whole_and_once_more(ledger, other) -> None:
    refused(ledger, InvalidRequest, WHOLE, other, match="claimed twice")


def test_a_whole_claim_counts_against_what_its_sites_have(ledger) -> None:
    refused(ledger, InvalidRequest, WHOLE, Units("ch", 3, ("a",)), match="4 units in all at site a")
    acquire(ledger, WHOLE, Units("ch", 2, ("a",)))


def test_beside_a_whole_claim_others_of_the_pool_get_other_units(ledger) -> None:
    lease = acquire(ledger, Common("ch"), Units("ch", 1, ("b",)), WHOLE)
    assert [spots(one) for one in lease.allotments] == [
        ((0, (1,)), (1, (1,))),
        ((1, (2,)),),
        ((0, (0, 2)), (1, (0,))),
    ]


def test_a_lease_is_extended_by_a_whole_reservation(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1))
    ledger.apply(ledger.decide_extend(lease.id, (WHOLE,), asker(), NO_REQUEST))
    assert spots(ledger.leases[lease.id].allotments[1]) == ((0, (0, 2)), (1, (0,)))


def test_a_whole_claim_on_a_gated_site_is_invalid(ledger) -> None:
    gate(ledger, "b")
    refused(ledger, InvalidRequest, WHOLE, match="clock-gated")


def test_a_whole_claim_of_slices_takes_each_slice() -> None:
    ledger = ledger_of(pool("cores", 2, slices_per_unit=4))
    reserve(ledger, "g", "cores", (1,))
    (one,) = acquire(ledger, Whole("cores", "g")).allotments
    assert one.units.runs == ((UnitRange(4, 8),),)


# The strict rule.


@pytest.mark.parametrize("claim", [Ids("ch", (1,), ("a",)), Ids("ch", (0, 1), ("a",)), Ids("ch", (2,), ("a", "b"))])
def test_by_the_strict_rule_ids_that_are_not_all_reserved_are_invalid(ledger, claim) -> None:
    refused(ledger, InvalidRequest, claim, who=STRICT, match="is not reserved, as a claim by id needs here")
    acquire(ledger, claim)


@pytest.mark.parametrize(
    "claim",
    [Ids("ch", (0,), ("a", "b")), Ids("ch", (0, 2), ("a",)), Ids("ch", (2,), ("a",), "g"), Units("ch", 1, ("b",)),
     Common("ch"), Run("mem", 1), WHOLE],
    ids=repr,
)  # fmt: skip
def test_the_strict_rule_concerns_nothing_else(ledger, claim) -> None:
    acquire(ledger, claim, who=STRICT)


def test_the_strict_rule_does_not_lift_the_others(ledger) -> None:
    stranger = asker("s2", uid=1001, needs_reserved=True)
    refused(ledger, NotOwner, Ids("ch", (0,), ("a",)), who=stranger)
    acquire(ledger, Ids("ch", (0,), ("a",)))
    refused(ledger, UnitHeld, Ids("ch", (0,), ("a",)), who=STRICT)


def test_who_is_strict_may_set_aside_what_nobody_has(ledger) -> None:
    reserve_claims(ledger, "more", Ids("ch", (3,), ("a",)), who=STRICT)
    assert ledger.reservations["more"].units[PoolName("ch")].has(3, 0)
