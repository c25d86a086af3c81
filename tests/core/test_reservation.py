"""The table of the design: what each claim and each end does to a unit that is held, reserved, both or neither."""

import pytest

from rm.core.claims import Ids, Units
from rm.core.errors import InvalidRequest, LeaseNotFound, NotOwner, PoolExhausted, Refusal, UnitHeld
from rm.core.reservation import ReservationSpec
from rm.core.types import NO_UNITS, CardId, LeaseId, PoolName, UnitRange, UnitSet
from support.books import CARD, NO_REQUEST, acquire, asker, kill, ledger_of, pool, release, reserve, snapshot, wish_for

OTHER = asker("s2")

PLAIN = Units("streams", 1)
BY_ID = Ids("streams", (0,))
RESERVED = Units("streams", 1, reservation="graph")
RESERVED_ID = Ids("streams", (0,), reservation="graph")


def unit_in_state(held: int, reserved: int):
    """A pool of one unit, and its lease where it is held."""
    ledger = ledger_of(pool("streams", 1))
    if reserved:
        reserve(ledger, "graph", "streams", (0,))
    lease = acquire(ledger, BY_ID) if held else None
    assert state(ledger) == (held, reserved, 0)
    return ledger, lease


def state(ledger) -> tuple[int, int, int]:
    counts = ledger.cards["0"].pools["streams"].counts()
    return counts.held, counts.reserved, counts.quarantined


# (held, reserved), the claim, and the state it leads to or the refusal.
CLAIMS = [
    ((0, 0), PLAIN, (1, 0)),
    ((0, 0), BY_ID, (1, 0)),
    ((0, 0), RESERVED, InvalidRequest),
    ((0, 0), RESERVED_ID, InvalidRequest),
    ((0, 1), PLAIN, PoolExhausted),
    ((0, 1), BY_ID, (1, 1)),
    ((0, 1), RESERVED, (1, 1)),
    ((0, 1), RESERVED_ID, (1, 1)),
    ((1, 1), PLAIN, PoolExhausted),
    ((1, 1), BY_ID, UnitHeld),
    ((1, 1), RESERVED, PoolExhausted),
    ((1, 1), RESERVED_ID, UnitHeld),
    ((1, 0), PLAIN, PoolExhausted),
    ((1, 0), BY_ID, UnitHeld),
    ((1, 0), RESERVED, InvalidRequest),
    ((1, 0), RESERVED_ID, InvalidRequest),
]


@pytest.mark.parametrize(("before", "claim", "after"), CLAIMS, ids=repr)
def test_a_claim_does_what_the_table_says(before, claim, after) -> None:
    ledger, _ = unit_in_state(*before)
    if isinstance(after, tuple):
        acquire(ledger, claim, who=OTHER)
        assert state(ledger) == (*after, 0)
        return
    untouched = snapshot(ledger)
    with pytest.raises(Refusal) as found:
        ledger.decide_acquire(wish_for(claim, who=OTHER), now_ns=0, now_wall_ns=0)
    assert type(found.value) is after
    assert snapshot(ledger) == untouched


# (held, reserved), how it ends, and (held, reserved, quarantined) after it.
ENDS = [
    ((1, 1), "keeping", (0, 1, 0)),
    ((1, 1), "to pool", (0, 0, 0)),
    ((1, 1), "death", (0, 1, 1)),
    ((1, 0), "keeping", (0, 0, 0)),
    ((1, 0), "to pool", (0, 0, 0)),
    ((1, 0), "death", (0, 0, 1)),
]


@pytest.mark.parametrize(("before", "end", "after"), ENDS, ids=repr)
def test_an_end_does_what_the_table_says(before, end, after) -> None:
    ledger, lease = unit_in_state(*before)
    if end == "death":
        kill(ledger)
    else:
        release(ledger, lease, to_pool=end == "to pool")
    assert state(ledger) == after
    assert lease.id not in ledger.leases


@pytest.mark.parametrize(("before", "end", "after"), ENDS[:2] + ENDS[3:5], ids=repr)
def test_giving_back_does_as_an_end_does(before, end, after) -> None:
    ledger, lease = unit_in_state(*before)
    event = ledger.decide_give_back(lease.id, asker(), NO_REQUEST, pool="streams", ids=[0], to_pool=end == "to pool")
    ledger.apply(event)
    assert state(ledger) == after


@pytest.mark.parametrize("reserved", [0, 1])
@pytest.mark.parametrize("to_pool", [False, True])
def test_what_is_not_held_cannot_be_ended(reserved, to_pool) -> None:
    ledger, _ = unit_in_state(0, reserved)
    with pytest.raises(LeaseNotFound):
        ledger.decide_release(LeaseId("L1"), asker(), to_pool=to_pool)


@pytest.mark.parametrize("reserved", [0, 1])
@pytest.mark.parametrize("claim", [PLAIN, BY_ID, RESERVED, RESERVED_ID], ids=repr)
def test_a_unit_in_quarantine_is_refused_to_every_claim(reserved, claim) -> None:
    ledger, _ = unit_in_state(1, reserved)
    kill(ledger)
    with pytest.raises(Refusal):
        ledger.decide_acquire(wish_for(claim, who=OTHER), now_ns=0, now_wall_ns=0)
    counts = ledger.cards["0"].pools["streams"].counts()
    assert (counts.free, counts.quarantined) == (0, 1)


@pytest.mark.parametrize(("reserved", "claim"), [(0, PLAIN), (1, RESERVED)])
def test_a_quiet_unit_can_be_claimed_again_as_it_could_before(reserved, claim) -> None:
    ledger, lease = unit_in_state(1, reserved)
    kill(ledger)
    ledger.apply(ledger.decide_quiet(lease.id))
    assert state(ledger) == (0, reserved, 0)
    acquire(ledger, claim, who=OTHER)


# Making a reservation, and taking it away.


@pytest.mark.parametrize("how", ["held", "reserved", "quarantined"])
def test_only_free_units_can_be_reserved(how) -> None:
    ledger, _ = unit_in_state(int(how != "reserved"), int(how == "reserved"))
    if how == "quarantined":
        kill(ledger)
    before = snapshot(ledger)
    with pytest.raises(UnitHeld):
        reserve(ledger, "other", "streams", (0,))
    assert snapshot(ledger) == before


def spec(**changes) -> ReservationSpec:
    units = ((PoolName("streams"), UnitSet((0,), ((UnitRange(0, 1),),))),)
    return ReservationSpec(**{"name": "r", "content_hash": "", "card": CARD, "units": units} | changes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "graph"},
        {"card": CardId("7")},
        {"units": ((PoolName("nowhere"), UnitSet((0,), ((UnitRange(0, 1),),))),)},
        {"units": spec().units * 2},
    ],
    ids=repr,
)
def test_a_reservation_that_can_never_be_is_invalid(wrong) -> None:
    ledger = ledger_of(pool("streams", 2))
    reserve(ledger, "graph", "streams", (1,))
    with pytest.raises(InvalidRequest):
        ledger.decide_reserve(spec(**wrong))


def test_unreserving_gives_the_units_to_the_pool() -> None:
    ledger, _ = unit_in_state(0, 1)
    ledger.apply(ledger.decide_unreserve("graph", asker()))
    assert state(ledger) == (0, 0, 0)
    acquire(ledger, PLAIN)
    with pytest.raises(InvalidRequest):
        ledger.decide_unreserve("graph", asker())


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_reservation_in_use_stays(is_dead) -> None:
    ledger, _ = unit_in_state(1, 1)
    if is_dead:
        kill(ledger)
    with pytest.raises(UnitHeld):
        ledger.decide_unreserve("graph", asker())


def test_a_reservation_is_its_owner_s_to_use_up_and_to_take_away() -> None:
    ledger = ledger_of(pool("streams", 2))
    reserve(ledger, "graph", "streams", (0, 1), owner_uid=1000)
    stranger = asker("s2", uid=1001)
    with pytest.raises(NotOwner):
        ledger.decide_unreserve("graph", stranger)
    lease = acquire(ledger, BY_ID, who=asker("s2", uid=1001, is_admin=True))
    before = snapshot(ledger)
    with pytest.raises(NotOwner):
        ledger.decide_release(lease.id, stranger, to_pool=True)
    with pytest.raises(NotOwner):
        ledger.decide_give_back(lease.id, stranger, NO_REQUEST, pool="streams", ids=[0], to_pool=True)
    assert snapshot(ledger) == before
    ledger.apply(ledger.decide_release(lease.id, stranger))
    ledger.apply(ledger.decide_unreserve("graph", asker("s3", uid=1000)))


def test_a_unit_given_to_the_pool_has_left_its_reservation_for_good() -> None:
    ledger = ledger_of(pool("streams", 2))
    reserve(ledger, "graph", "streams", (0, 1))
    release(ledger, acquire(ledger, Units("streams", 1, reservation="graph")), to_pool=True)
    assert ledger.reservations["graph"].names_any(PoolName("streams"), UnitSet((0,), ((UnitRange(0, 1),),))) is False
    reserve(ledger, "other", "streams", (0,))
    ledger.apply(ledger.decide_unreserve("graph", asker()))
    assert state(ledger) == (0, 1, 0), "taking the first away leaves the second as it is"
    with pytest.raises(PoolExhausted):
        acquire(ledger, Units("streams", 2))


def test_a_reservation_may_be_empty_and_gives_nothing() -> None:
    ledger = ledger_of(pool("streams", 1))
    ledger.apply(ledger.decide_reserve(spec(units=((PoolName("streams"), NO_UNITS),))))
    with pytest.raises(PoolExhausted):
        acquire(ledger, Units("streams", 1, reservation="r"))
