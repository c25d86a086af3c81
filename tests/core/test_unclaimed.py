"""A grant whose answer reached nobody comes back; one that is claimed, or asked for again, never does."""

import pytest

from rm.core import limits
from rm.core.claims import Units
from rm.core.types import NS_PER_S, SessionId
from rm.core.unclaimed import Unclaimed, patience_ns
from support.books import acquire, asker, ledger_of, pool

S1, S2 = SessionId("s1"), SessionId("s2")
TTL_NS = 30 * NS_PER_S
PATIENCE_NS = 20 * NS_PER_S


@pytest.fixture
def leases():
    ledger = ledger_of(pool("streams", 4))
    return [acquire(ledger, Units("streams", 1), ttl_ns=TTL_NS) for _ in range(2)]


def heard(unclaimed, leases, named, *, now_ns, session=S1):
    found = unclaimed.heard(session, leases, {lease.id for lease in named}, now_ns=now_ns)
    return [lease.id for lease in found]


def test_a_lease_that_is_left_out_for_two_periods_came_to_nobody(leases) -> None:
    unclaimed, first = Unclaimed(), leases[0]
    assert heard(unclaimed, leases, [first], now_ns=5) == []
    assert heard(unclaimed, leases, [first], now_ns=5 + PATIENCE_NS - 1) == []
    assert heard(unclaimed, leases, [first], now_ns=5 + PATIENCE_NS) == ["L2"]


def test_a_lease_that_is_named_once_in_between_begins_anew(leases) -> None:
    unclaimed, first = Unclaimed(), leases[0]
    heard(unclaimed, leases, [first], now_ns=0)
    heard(unclaimed, leases, leases, now_ns=PATIENCE_NS - 1)
    assert heard(unclaimed, leases, [first], now_ns=PATIENCE_NS) == []
    assert heard(unclaimed, leases, [first], now_ns=2 * PATIENCE_NS) == ["L2"]


def test_a_lease_whose_acquire_is_sent_once_more_begins_anew(leases) -> None:
    unclaimed = Unclaimed()
    heard(unclaimed, leases, [], now_ns=0)
    unclaimed.asked_again(leases[1])
    assert heard(unclaimed, leases, [], now_ns=PATIENCE_NS) == ["L1"]
    assert heard(unclaimed, leases, [], now_ns=2 * PATIENCE_NS) == ["L1", "L2"]


def test_a_lease_that_is_named_between_two_looks_begins_anew(leases) -> None:
    unclaimed = Unclaimed()
    heard(unclaimed, leases, [], now_ns=0)
    unclaimed.named(S1, ["L1", "L7"])
    assert heard(unclaimed, leases, [], now_ns=PATIENCE_NS) == ["L2"]


def test_a_session_is_looked_at_once_in_a_while_however_often_it_sends_keepalives() -> None:
    unclaimed = Unclaimed()
    looks = [unclaimed.is_due(S1, now_ns=now_ns) for now_ns in (0, 1, limits.UNCLAIMED_LOOKS_NS)]
    assert looks == [True, False, True]
    assert unclaimed.is_due(S2, now_ns=1)


def test_silence_is_no_keepalive_and_takes_nothing(leases) -> None:
    assert heard(Unclaimed(), leases, [], now_ns=1 << 62) == [], "time begins when it is left out"


def test_each_session_is_heard_by_itself(leases) -> None:
    unclaimed = Unclaimed()
    heard(unclaimed, leases, [], now_ns=0)
    assert heard(unclaimed, [], [], now_ns=PATIENCE_NS, session=S2) == []
    assert heard(unclaimed, leases, [], now_ns=PATIENCE_NS) == ["L1", "L2"]


def test_a_lease_that_has_ended_and_a_session_that_is_forgotten_leave_nothing_behind(leases) -> None:
    unclaimed = Unclaimed()
    heard(unclaimed, leases, [], now_ns=0)
    heard(unclaimed, leases[:1], [], now_ns=1)
    assert unclaimed._since_ns == {S1: {"L1": 0}}
    heard(unclaimed, leases[:1], leases[:1], now_ns=2)
    assert unclaimed._since_ns == {}
    heard(unclaimed, leases, [], now_ns=3)
    for _ in range(2):
        unclaimed.forget(S1)
    assert unclaimed._since_ns == {}


@pytest.mark.parametrize(
    ("ttl_ns", "patience"),
    [
        (None, limits.TTL_NS_DEFAULT * 2 // 3),
        (limits.TTL_NS_MIN, limits.UNCLAIMED_NS_MIN),
        (15 * NS_PER_S, 10 * NS_PER_S),
    ],
)
def test_patience_is_two_periods_of_the_keepalive_and_never_less_than_a_retry_takes(ttl_ns, patience) -> None:
    lease = acquire(ledger_of(pool("streams", 1)), Units("streams", 1), who=asker(), ttl_ns=ttl_ns)
    assert patience_ns(lease) == patience
