"""Live means now < deadline, a renewal never shortens, and an ended lease leaves nothing behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm.core import limits
from rm.core.claims import Units
from rm.core.deadlines import Deadlines, is_live
from rm.core.errors import InvalidRequest, NotOwner
from rm.core.events import LeaseEnded, Renewed, RevocationBegan
from rm.core.types import NS_PER_S, LeaseId, SessionId
from support.books import acquire, asker, deadlines_of, kill, ledger_of, pool, snapshot
from support.strategies import SAME_EVERY_RUN

S1 = SessionId("s1")


@pytest.mark.parametrize(
    ("deadline_ns", "now_ns", "lives"), [(10, 9, True), (10, 10, False), (10, 11, False), (None, 1 << 62, True)]
)
def test_a_lease_lives_until_just_before_its_deadline(deadline_ns, now_ns, lives) -> None:
    assert is_live(deadline_ns, now_ns) is lives


def test_at_its_deadline_a_lease_is_overdue() -> None:
    deadlines = Deadlines()
    deadlines.set(LeaseId("L1"), 10)
    assert [deadlines.expired(now) for now in (9, 10)] == [[], ["L1"]]


def test_an_overdue_lease_stays_overdue_until_it_is_dropped() -> None:
    deadlines = Deadlines()
    deadlines.set(LeaseId("L1"), 10)
    assert [deadlines.expired(10) for _ in range(3)] == [["L1"]] * 3
    deadlines.drop(LeaseId("L1"))
    assert deadlines.expired(10) == []


def test_a_renewal_never_shortens() -> None:
    deadlines = Deadlines()
    for deadline_ns in (10, 30, 20):
        deadlines.set(LeaseId("L1"), deadline_ns)
    assert deadlines.get(LeaseId("L1")) == 30
    assert (deadlines.expired(29), deadlines.expired(30)) == ([], ["L1"])


def test_a_deadline_that_is_replaced_may_be_earlier_and_the_lease_is_overdue_once() -> None:
    deadlines = Deadlines()
    deadlines.set(LeaseId("L1"), 30)
    deadlines.replace(LeaseId("L1"), 10)
    assert [deadlines.expired(now) for now in (9, 10, 30)] == [[], ["L1"], ["L1"]]


def test_overdue_leases_come_earliest_first_and_then_by_id() -> None:
    deadlines = Deadlines()
    for name, deadline_ns in (("L3", 5), ("L2", 9), ("L1", 9), ("L4", 11)):
        deadlines.set(LeaseId(name), deadline_ns)
    assert deadlines.expired(10) == ["L3", "L1", "L2"]


def test_postponing_gives_every_lease_the_time_that_was_lost() -> None:
    deadlines = Deadlines()
    deadlines.set(LeaseId("L1"), 10)
    deadlines.set(LeaseId("L2"), 12)
    deadlines.postpone(5)
    assert [deadlines.expired(now) for now in (14, 15, 17)] == [[], ["L1"], ["L1", "L2"]]


def test_time_never_goes_backwards() -> None:
    with pytest.raises(AssertionError):
        Deadlines().postpone(0)


def test_ended_leases_leave_nothing_behind_however_far_their_deadlines_were() -> None:
    deadlines = Deadlines()
    deadlines.set(LeaseId("L0"), 7)
    for number in range(1, 10_000):
        deadlines.set(LeaseId(f"L{number}"), 10**18)
        deadlines.drop(LeaseId(f"L{number}"))
    assert len(deadlines._heap) < 2_000
    assert deadlines.expired(7) == ["L0"]


names = st.sampled_from([LeaseId(f"L{number}") for number in range(4)])
acts = st.one_of(
    st.tuples(st.just("set"), names, st.integers(0, 50)),
    st.tuples(st.just("replace"), names, st.integers(0, 50)),
    st.tuples(st.just("drop"), names, st.just(0)),
    st.tuples(st.just("postpone"), names, st.integers(1, 5)),
    st.tuples(st.just("look"), names, st.integers(0, 60)),
)


@SAME_EVERY_RUN
@given(st.lists(acts, max_size=40))
def test_deadlines_are_a_dict_with_a_clock(acts) -> None:
    deadlines, model = Deadlines(), {}
    for act, name, number in acts:
        match act:
            case "set":
                deadlines.set(name, number)
                model[name] = max(number, model.get(name, number))
            case "replace":
                deadlines.replace(name, number)
                model[name] = number
            case "drop":
                deadlines.drop(name)
                model.pop(name, None)
            case "postpone":
                deadlines.postpone(number)
                model = {lease: deadline + number for lease, deadline in model.items()}
            case "look":
                due = sorted((deadline, lease) for lease, deadline in model.items() if number >= deadline)
                assert deadlines.expired(number) == [lease for _, lease in due]
        assert [deadlines.get(lease) for lease in model] == list(model.values())


# Through the ledger.


def counts_of(ledger) -> tuple[int, int]:
    """How many streams are held, and how many in quarantine."""
    counts = ledger.cards["0"].pools["streams"].counts()
    return counts.held, counts.quarantined


@pytest.fixture
def ledger():
    return ledger_of(pool("streams", 4))


def test_a_lease_is_due_one_ttl_after_its_grant(ledger) -> None:
    acquire(ledger, Units("streams", 1), ttl_ns=2 * NS_PER_S, now_ns=7)
    assert deadlines_of(ledger) == {"L1": 2 * NS_PER_S + 7}


def test_a_lease_without_a_ttl_is_never_due(ledger) -> None:
    acquire(ledger, Units("streams", 1))
    assert deadlines_of(ledger) == {"L1": None}
    assert ledger.decide_expire(now_ns=1 << 62) == []


def test_an_overdue_lease_is_told_first_and_ends_in_violence_when_the_notice_is_over(ledger) -> None:
    acquire(ledger, Units("streams", 1), ttl_ns=NS_PER_S)
    assert ledger.decide_expire(now_ns=NS_PER_S - 1) == []
    (told,) = ledger.decide_expire(now_ns=NS_PER_S)
    over_ns = NS_PER_S + limits.NOTICE_NS_DEFAULT
    assert told == RevocationBegan(LeaseId("L1"), "keepalive missed", over_ns)
    ledger.apply(told)
    assert (counts_of(ledger), deadlines_of(ledger)) == ((1, 0), {"L1": over_ns})
    assert ledger.decide_expire(now_ns=over_ns - 1) == []
    (ended,) = ledger.decide_expire(now_ns=over_ns)
    assert ended == LeaseEnded(LeaseId("L1"), "keepalive missed", is_violent=True)
    ledger.apply(ended)
    assert counts_of(ledger) == (0, 1)
    assert ledger.decide_expire(now_ns=1 << 62) == []


def test_a_renewal_moves_the_deadline_to_one_ttl_from_now_and_has_no_number(ledger) -> None:
    acquire(ledger, Units("streams", 1), ttl_ns=NS_PER_S)
    before = snapshot(ledger)
    event, lost = ledger.decide_renew([LeaseId("L1")], S1, now_ns=5)
    assert (event, lost) == (Renewed((("L1", NS_PER_S + 5),)), ())
    ledger.apply(event)
    assert deadlines_of(ledger) == {"L1": NS_PER_S + 5}
    assert snapshot(ledger) == before, "a renewal is no fact that outlives this run"


def test_a_renewal_from_the_past_changes_nothing(ledger) -> None:
    acquire(ledger, Units("streams", 1), ttl_ns=NS_PER_S, now_ns=100)
    ledger.apply(ledger.decide_renew([LeaseId("L1")], S1, now_ns=50)[0])
    assert deadlines_of(ledger) == {"L1": NS_PER_S + 100}


def test_an_ended_lease_never_revives(ledger) -> None:
    acquire(ledger, Units("streams", 1), ttl_ns=NS_PER_S)
    kill(ledger)
    event, lost = ledger.decide_renew([LeaseId("L1"), LeaseId("L9")], S1, now_ns=0)
    assert (event.deadlines, lost) == ((), ("L1", "L9"))


def test_a_renewal_of_another_session_s_lease_renews_none(ledger) -> None:
    mine = acquire(ledger, Units("streams", 1), ttl_ns=NS_PER_S)
    other = acquire(ledger, Units("streams", 1), ttl_ns=NS_PER_S, who=asker("s2"))
    with pytest.raises(NotOwner):
        ledger.decide_renew([mine.id, other.id], S1, now_ns=5)
    assert deadlines_of(ledger) == {"L1": NS_PER_S, "L2": NS_PER_S}


def test_a_renewal_of_nothing_is_fine_and_one_of_too_much_is_not(ledger) -> None:
    assert ledger.decide_renew([], S1, now_ns=0) == (Renewed(()), ())
    with pytest.raises(InvalidRequest):
        ledger.decide_renew([LeaseId("L1")] * 4_097, S1, now_ns=0)
