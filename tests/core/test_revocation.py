"""A lease that must end is told first: it may be let go politely, is not kept alive, and does not grow."""

import pytest

from rm.core import limits
from rm.core.claims import Units
from rm.core.errors import InvalidRequest, LeaseGone, LeaseNotFound, NotOwner
from rm.core.events import LeaseEnded, Request, RevocationBegan, UnitsReturned
from rm.core.lease import Revocation
from rm.core.types import NS_PER_S, LeaseId, SessionId
from support.books import NO_REQUEST, acquire, asker, deadlines_of, kill, ledger_of, pool, release, restored, snapshot

S1 = SessionId("s1")
L1 = LeaseId("L1")
ADMIN = asker("root", uid=0, is_admin=True)
NOTICE_NS = 3 * NS_PER_S


@pytest.fixture
def ledger():
    made = ledger_of(pool("streams", 4))
    acquire(made, Units("streams", 2), ttl_ns=10 * NS_PER_S)
    return made


def revoke(ledger, *, who=ADMIN, lease_id=L1, cause="asked to", notice_ns=NOTICE_NS, now_ns=0):
    event = ledger.decide_revoke(lease_id, who, cause, notice_ns=notice_ns, now_ns=now_ns)
    if event is not None:
        ledger.apply(event)
    return event


def test_an_admin_ends_anybodys_lease_after_a_notice(ledger) -> None:
    assert revoke(ledger, now_ns=5) == RevocationBegan(L1, "asked to", NOTICE_NS + 5, NOTICE_NS)
    assert (ledger.revoking, list(ledger.leases)) == ({"L1": Revocation("asked to", NOTICE_NS)}, ["L1"])
    assert ledger.decide_expire(now_ns=NOTICE_NS + 4) == []
    assert ledger.decide_expire(now_ns=NOTICE_NS + 5) == [LeaseEnded(L1, "asked to", is_violent=True)]


@pytest.mark.parametrize("ttl_ns", [None, NS_PER_S, limits.TTL_NS_MAX])
def test_the_notice_replaces_the_keepalives_deadline_be_it_earlier_later_or_none(ledger, ttl_ns) -> None:
    lease = acquire(ledger, Units("streams", 1), ttl_ns=ttl_ns)
    revoke(ledger, lease_id=lease.id)
    assert deadlines_of(ledger)[lease.id] == NOTICE_NS


@pytest.mark.parametrize("who", [asker("s1"), asker("s2", uid=0)], ids=["its owner", "root without the daemons word"])
def test_nobody_but_an_admin_revokes(ledger, who) -> None:
    with pytest.raises(NotOwner, match=f"not uid {who.holder.uid}"):
        revoke(ledger, who=who)
    assert ledger.revoking == {}


def test_revoking_again_or_what_has_ended_changes_nothing(ledger) -> None:
    revoke(ledger)
    before, deadlines = snapshot(ledger), deadlines_of(ledger)
    assert revoke(ledger, cause="in no hurry", notice_ns=NOTICE_NS) is None
    assert (snapshot(ledger), deadlines_of(ledger)) == (before, deadlines)
    kill(ledger)
    assert revoke(ledger) is None


def test_revoking_again_with_less_notice_makes_it_sooner(ledger) -> None:
    revoke(ledger)
    assert revoke(ledger, cause="in a hurry", notice_ns=1) == RevocationBegan(L1, "in a hurry", 1, 1)
    assert ledger.decide_expire(now_ns=1) == [LeaseEnded(L1, "in a hurry", is_violent=True)]


@pytest.mark.parametrize("lease_id", ["L2", "L0", "", "L01"])
def test_what_never_was_cannot_be_revoked(ledger, lease_id) -> None:
    with pytest.raises(LeaseNotFound):
        revoke(ledger, lease_id=LeaseId(lease_id))


@pytest.mark.parametrize("notice_ns", [-1, limits.NOTICE_NS_MAX + 1])
def test_a_notice_that_none_can_be_is_refused(ledger, notice_ns) -> None:
    with pytest.raises(InvalidRequest, match="a notice is"):
        revoke(ledger, notice_ns=notice_ns)


@pytest.mark.parametrize("notice_ns", [0, limits.NOTICE_NS_MAX])
def test_a_notice_at_the_edge_is_one(ledger, notice_ns) -> None:
    assert revoke(ledger, notice_ns=notice_ns).deadline_ns == notice_ns


@pytest.mark.parametrize("cause", ["x" * (limits.LABEL_CHARS_MAX + 1), "\x1b[31m", "two\nlines"])
def test_a_cause_that_cannot_be_shown_is_refused(ledger, cause) -> None:
    with pytest.raises(InvalidRequest, match="a cause"):
        revoke(ledger, cause=cause)


def test_a_keepalive_does_not_save_a_lease_that_is_told_to_end_and_says_so(ledger) -> None:
    revoke(ledger)
    event, lost = ledger.decide_renew([L1], S1, now_ns=1)
    assert (event.deadlines, lost) == ((), ("L1",))


def test_a_lease_that_is_told_to_end_does_not_grow_and_may_shrink(ledger) -> None:
    revoke(ledger)
    with pytest.raises(LeaseGone, match="about to end: asked to"):
        ledger.decide_extend(L1, (Units("streams", 1),), asker(), NO_REQUEST)
    event = ledger.decide_give_back(L1, asker(), NO_REQUEST, pool="streams", ids=[0])
    assert isinstance(event, UnitsReturned)


def test_an_extension_of_before_is_still_answered_when_it_is_asked_again(ledger) -> None:
    request = Request(S1, 5, b"x")
    ledger.apply(ledger.decide_extend(L1, (Units("streams", 1),), asker(), request))
    revoke(ledger)
    assert ledger.decide_extend(L1, (Units("streams", 1),), asker(), request) == ledger.leases[L1]


def test_who_lets_go_in_time_ends_politely_and_nothing_is_left_to_fence(ledger) -> None:
    revoke(ledger)
    release(ledger, ledger.leases[L1])
    assert (ledger.revoking, ledger.quarantine, deadlines_of(ledger)) == ({}, {}, {})
    assert ledger.decide_expire(now_ns=1 << 62) == []
    assert ledger.cards["0"].pools["streams"].counts().free == 4


def test_a_pause_of_the_daemon_is_no_part_of_the_notice(ledger) -> None:
    revoke(ledger)
    ledger.deadlines.postpone(60 * NS_PER_S)
    assert ledger.decide_expire(now_ns=NOTICE_NS) == []
    assert len(ledger.decide_expire(now_ns=NOTICE_NS + 60 * NS_PER_S)) == 1


# After a restart.


def test_after_a_restart_every_lease_has_its_ttl_and_time_to_come_back_and_no_other_one_a_clock(ledger) -> None:
    acquire(ledger, Units("streams", 1))
    again = restored(ledger)
    again.apply(again.decide_deadlines(now_ns=7))
    assert deadlines_of(again) == {"L1": 10 * NS_PER_S + limits.RESTART_GRACE_NS + 7, "L2": None}


@pytest.mark.parametrize("ttl_ns", [None, NS_PER_S])
def test_after_a_restart_a_lease_that_is_told_to_end_has_its_whole_notice_again(ledger, ttl_ns) -> None:
    lease = acquire(ledger, Units("streams", 1), ttl_ns=ttl_ns)
    revoke(ledger, lease_id=lease.id)
    again = restored(ledger)
    again.apply(again.decide_deadlines(now_ns=7))
    assert again.revoking == {lease.id: Revocation("asked to", NOTICE_NS)}
    assert deadlines_of(again)[lease.id] == NOTICE_NS + 7
