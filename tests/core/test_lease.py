"""Giving back parts of a lease, by unit and by slice; growing it; who may end it."""

from fractions import Fraction

import pytest

from rm.core.claims import Common, Ids, Run, Units
from rm.core.errors import InvalidRequest, LeaseGone, LeaseNotFound, NotOwner, PoolExhausted
from rm.core.events import Extended, LeaseEnded, Request, UnitsReturned
from rm.core.types import LeaseId, SessionId
from support.books import NO_REQUEST, acquire, asker, ids, kill, ledger_of, pool, release, snapshot, spots

S1 = SessionId("s1")


@pytest.fixture
def ledger():
    return ledger_of(
        pool("memory", 8, unit_bytes=65_536),
        pool("streams", 4),
        pool("cores", 3, slices_per_unit=4),
        pool("bcast", 4, sites=("a", "b", "c")),
    )


def give_back(ledger, lease, name, units, *, request=NO_REQUEST, **more):
    event = ledger.decide_give_back(lease.id, asker(), request, pool=name, ids=units, **more)
    if isinstance(event, UnitsReturned | LeaseEnded):
        ledger.apply(event)
    return event


def left(ledger, lease):
    return [spots(allotment) for allotment in ledger.leases[lease.id].allotments]


# Giving back.


def test_units_that_are_given_back_are_free_and_the_rest_is_kept(ledger) -> None:
    lease = acquire(ledger, Units("streams", 4), Run("memory", 2))
    give_back(ledger, lease, "streams", [2, 0])
    assert left(ledger, lease) == [((0, (1, 3)),), ((0, (0, 1)),)]
    assert ids(acquire(ledger, Units("streams", 2)).allotments[0]) == [0, 2]


def test_an_allotment_that_is_given_back_whole_keeps_its_place_without_units(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1), Run("memory", 2))
    give_back(ledger, lease, "streams", [0])
    assert left(ledger, lease) == [(), ((0, (0, 1)),)]
    assert ledger.leases[lease.id].pools == {"memory"}


def test_a_lease_ends_with_its_last_unit(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1), Units("cores", 1))
    assert isinstance(give_back(ledger, lease, "streams", [0]), UnitsReturned)
    event = give_back(ledger, lease, "cores", [0])
    assert event == LeaseEnded(lease.id, "released", is_violent=False)
    assert ledger.leases == {}


def test_a_unit_of_several_allotments_is_given_back_from_each(ledger) -> None:
    lease = acquire(ledger, Units("cores", Fraction(1, 4)), Units("cores", Fraction(1, 2)), Units("streams", 1))
    give_back(ledger, lease, "cores", [0])
    assert left(ledger, lease) == [(), (), ((0, (0,)),)]


def test_a_slice_is_given_back_by_the_id_of_its_unit_and_only_one_s_own(ledger) -> None:
    other = acquire(ledger, Units("cores", Fraction(1, 2)), who=asker("s2"))
    lease = acquire(ledger, Units("cores", Fraction(1, 4)), Units("cores", 2))
    give_back(ledger, lease, "cores", [0, 2])
    assert left(ledger, lease) == [(), ((0, (4, 5, 6, 7)),)]
    assert left(ledger, other) == [((0, (0, 1)),)]
    assert ids(acquire(ledger, Units("cores", Fraction(1, 4))).allotments[0]) == [2]


def test_a_common_unit_can_be_given_back_site_by_site(ledger) -> None:
    lease = acquire(ledger, Common("bcast"))
    give_back(ledger, lease, "bcast", [0], at=("b",))
    assert left(ledger, lease) == [((0, (0,)), (2, (0,)))]
    give_back(ledger, lease, "bcast", [0], at=("c", "a"))
    assert ledger.leases == {}


def test_memory_goes_back_by_whole_allotments_only(ledger) -> None:
    lease = acquire(ledger, Run("memory", 2), Run("memory", 3))
    for part in ([0], [0, 1, 2]):
        before = snapshot(ledger)
        with pytest.raises(InvalidRequest, match="whole allotments"):
            give_back(ledger, lease, "memory", part)
        assert snapshot(ledger) == before
    give_back(ledger, lease, "memory", [0, 1])
    assert left(ledger, lease) == [(), ((0, (2, 3, 4)),)]


@pytest.mark.parametrize(
    ("name", "units", "at"),
    [
        ("streams", [], ()),
        ("streams", [2], ()),
        ("streams", [0, 0], ()),
        ("streams", [4], ()),
        ("streams", [-1], ()),
        ("streams", [0, 2], ()),
        ("cores", [0], ()),
        ("nowhere", [0], ()),
        ("bcast", [0], ()),
        ("bcast", [0], ("b",)),
        ("bcast", [0], ("a", "a")),
        ("bcast", [0], ("nowhere",)),
    ],
)
def test_what_a_lease_does_not_hold_cannot_be_given_back(ledger, name, units, at) -> None:
    lease = acquire(ledger, Units("streams", 2), Ids("bcast", (0,), ("a",)))
    acquire(ledger, Units("streams", 1), Units("cores", 1))
    before = snapshot(ledger)
    with pytest.raises(InvalidRequest):
        give_back(ledger, lease, name, units, at=at)
    assert snapshot(ledger) == before


def test_giving_back_again_under_the_same_number_answers_what_is_left(ledger) -> None:
    lease = acquire(ledger, Units("streams", 2))
    request = Request(S1, 5, b"p")
    give_back(ledger, lease, "streams", [1], request=request)
    before = snapshot(ledger)
    assert give_back(ledger, lease, "streams", [1], request=request) == ledger.leases[lease.id]
    assert snapshot(ledger) == before


def test_giving_back_the_last_unit_again_answers_that_it_was_done(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1))
    request = Request(S1, 5, b"p")
    give_back(ledger, lease, "streams", [0], request=request)
    assert give_back(ledger, lease, "streams", [0], request=request) is None


def test_giving_back_to_a_lease_that_never_was_is_refused(ledger) -> None:
    with pytest.raises(LeaseNotFound):
        ledger.decide_give_back(LeaseId("L1"), asker(), NO_REQUEST, pool="streams", ids=[0])


# Growing.


def extend(ledger, lease, *claims, request=NO_REQUEST):
    event = ledger.decide_extend(lease.id, claims, asker(), request)
    if isinstance(event, Extended):
        ledger.apply(event)
    return event


def test_new_allotments_come_behind_the_old_ones_and_the_token_stays(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1))
    extend(ledger, lease, Units("streams", 1), Units("cores", 1))
    assert left(ledger, lease) == [((0, (0,)),), ((0, (1,)),), ((0, (0, 1, 2, 3)),)]
    assert (ledger.leases[lease.id].token, ledger.last_token) == (1, 1)


def test_all_new_claims_are_granted_or_none(ledger) -> None:
    lease = acquire(ledger, Units("streams", 4))
    before = snapshot(ledger)
    with pytest.raises(PoolExhausted):
        extend(ledger, lease, Units("cores", 1), Units("streams", 1))
    assert snapshot(ledger) == before


def test_a_lease_grows_on_its_own_card_only() -> None:
    two = ledger_of(pool("streams", 1), card_count=2)
    lease = acquire(two, Units("streams", 1))
    with pytest.raises(PoolExhausted):
        extend(two, lease, Units("streams", 1))


def test_growing_again_under_the_same_number_changes_nothing(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1))
    request = Request(S1, 5, b"p")
    extend(ledger, lease, Units("streams", 1), request=request)
    before = snapshot(ledger)
    assert extend(ledger, lease, Units("streams", 1), request=request) == ledger.leases[lease.id]
    assert snapshot(ledger) == before
    release(ledger, lease)
    with pytest.raises(LeaseGone):
        extend(ledger, lease, Units("streams", 1), request=request)


# Who may, and how often.


@pytest.mark.parametrize("is_admin", [False, True])
def test_a_lease_belongs_to_its_session_and_to_nobody_else(ledger, is_admin) -> None:
    lease = acquire(ledger, Units("streams", 1))
    other = asker("s2", is_admin=is_admin)
    for decide in (
        lambda: ledger.decide_release(lease.id, other),
        lambda: ledger.decide_extend(lease.id, (Units("streams", 1),), other, NO_REQUEST),
        lambda: ledger.decide_give_back(lease.id, other, NO_REQUEST, pool="streams", ids=[0]),
    ):
        with pytest.raises(NotOwner) as found:
            decide()
        assert found.value.facts["lease"] == lease.id


def test_ending_an_ended_lease_again_does_nothing(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1))
    release(ledger, lease)
    assert ledger.decide_release(lease.id, asker()) is None


@pytest.mark.parametrize("name", ["L2", "L0", "L-1", "", "L", "1", "L01", "l1", "L1 ", "L\u0661", "L" + "1" * 5_000])
def test_a_lease_that_never_was_cannot_be_ended(ledger, name) -> None:
    acquire(ledger, Units("streams", 1))
    with pytest.raises(LeaseNotFound):
        ledger.decide_release(LeaseId(name), asker())


def test_the_death_of_a_session_ends_its_leases_oldest_first_and_no_others(ledger) -> None:
    leases = [acquire(ledger, Units("streams", 1), who=asker(who)) for who in ("s1", "s2", "s1")]
    ended = [event.lease_id for event in ledger.decide_end_session(S1, "process died", is_violent=True)]
    assert ended == [leases[0].id, leases[2].id]
    kill(ledger)
    assert list(ledger.leases) == [leases[1].id]
    assert list(ledger.quarantine) == ended
    assert ledger.decide_end_session(S1, "again", is_violent=True) == []


def test_a_token_is_never_given_twice(ledger) -> None:
    first = acquire(ledger, Units("streams", 1))
    release(ledger, first)
    assert acquire(ledger, Units("streams", 1)).token == first.token + 1


def test_a_lease_is_told_to_people_by_its_label_and_its_program(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1), label="camera 2")
    assert lease.text() == "L1 'camera 2' (pid 100, s1)"
