"""The same request again finds the same lease, and never a second one."""

import pytest

from rm.core import limits
from rm.core.claims import Units
from rm.core.dedupe import Requests
from rm.core.errors import InvalidRequest, LeaseGone, PoolExhausted
from rm.core.events import Request, RequestForgone
from rm.core.types import LeaseId, SessionId
from support.books import acquire, asker, ledger_of, pool, release, snapshot, wish_for

S1, S2 = SessionId("s1"), SessionId("s2")


def request(number: int, *, session: SessionId = S1, fingerprint: bytes = b"p") -> Request:
    return Request(session, number, fingerprint)


@pytest.fixture
def requests() -> Requests:
    return Requests()


def test_a_request_is_new_until_it_is_remembered(requests) -> None:
    assert requests.find(request(1)) is None
    requests.remember(request(1), LeaseId("L1"))
    assert requests.find(request(1)) == "L1"
    assert requests.find(request(2)) is None


def test_the_same_number_is_another_request_in_another_session(requests) -> None:
    requests.remember(request(1), LeaseId("L1"))
    assert requests.find(request(1, session=S2)) is None


def test_the_same_number_with_other_parameters_is_invalid(requests) -> None:
    requests.remember(request(1), LeaseId("L1"))
    with pytest.raises(InvalidRequest):
        requests.find(request(1, fingerprint=b"other"))


@pytest.mark.parametrize("fingerprint", [b"", b"p"])
def test_a_request_that_was_given_up_is_gone_whatever_its_parameters(requests, fingerprint) -> None:
    requests.remember(request(3, fingerprint=b""), None)
    with pytest.raises(LeaseGone):
        requests.find(request(3, fingerprint=fingerprint))
    assert requests.lease_of(S1, 3) is None


def test_number_zero_is_never_remembered(requests) -> None:
    requests.remember(request(0), LeaseId("L1"))
    assert requests.find(request(0)) is None


def test_a_session_that_is_forgotten_begins_anew_and_others_do_not(requests) -> None:
    for session in (S1, S2):
        requests.remember(request(1, session=session), LeaseId("L1"))
    requests.forget(S1)
    requests.forget(S1)
    assert requests.find(request(1)) is None
    assert requests.find(request(1, session=S2)) == "L1"


def test_what_is_too_old_to_be_remembered_is_gone_and_never_new(requests) -> None:
    most = limits.REQUESTS_REMEMBERED_PER_SESSION
    for number in range(1, most + 1):
        requests.remember(request(number), LeaseId(f"L{number}"))
    assert requests.find(request(1)) == "L1"
    requests.remember(request(most + 1), LeaseId("L0"))
    with pytest.raises(LeaseGone):
        requests.find(request(1))
    assert requests.find(request(2)) == "L2"


def test_a_number_that_was_left_out_counts_as_old_once_a_later_one_is_forgotten(requests) -> None:
    for number in range(2, limits.REQUESTS_REMEMBERED_PER_SESSION + 3):
        requests.remember(request(number), LeaseId(f"L{number}"))
    with pytest.raises(LeaseGone):
        requests.find(request(1))


# Through the ledger.


@pytest.fixture
def ledger():
    return ledger_of(pool("streams", 2))


def test_the_same_request_again_gets_the_same_lease_and_changes_nothing(ledger) -> None:
    wish = wish_for(Units("streams", 1), request_id=1, fingerprint=b"p")
    lease = acquire(ledger, Units("streams", 1), request_id=1, fingerprint=b"p")
    before = snapshot(ledger)
    assert ledger.decide_acquire(wish, now_ns=5, now_wall_ns=5) == lease
    assert snapshot(ledger) == before


def test_a_request_whose_lease_ended_is_gone_and_never_a_second_lease(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1), request_id=1)
    release(ledger, lease)
    with pytest.raises(LeaseGone) as found:
        acquire(ledger, Units("streams", 1), request_id=1)
    assert found.value.facts == {"lease": lease.id, "request_id": 1}


def test_a_refusal_is_decided_afresh(ledger) -> None:
    first = acquire(ledger, Units("streams", 2), request_id=1)
    with pytest.raises(PoolExhausted):
        acquire(ledger, Units("streams", 1), request_id=2)
    release(ledger, first)
    assert acquire(ledger, Units("streams", 1), request_id=2).id == "L2"


def test_a_request_without_a_number_is_granted_each_time(ledger) -> None:
    assert [acquire(ledger, Units("streams", 1)).id for _ in range(2)] == ["L1", "L2"]


def test_forgoing_a_request_that_never_came_keeps_it_from_being_granted(ledger) -> None:
    event = ledger.decide_forgo(S1, 7)
    assert event == RequestForgone(Request(S1, 7, b""))
    ledger.apply(event)
    with pytest.raises(LeaseGone):
        acquire(ledger, Units("streams", 1), request_id=7)
    assert acquire(ledger, Units("streams", 1), request_id=7, who=asker("s2")).id == "L1"


def test_forgoing_a_request_that_was_granted_ends_its_lease_once(ledger) -> None:
    lease = acquire(ledger, Units("streams", 1), request_id=7)
    event = ledger.decide_forgo(S1, 7)
    ledger.apply(event)
    assert (event.lease_id, event.is_violent, ledger.leases) == (lease.id, False, {})
    assert ledger.decide_forgo(S1, 7) is None
