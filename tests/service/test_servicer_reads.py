"""What the gRPC door tells those who look: pages, events, explanations, and the check of the books."""

import asyncio

import grpc
import pytest

from rm.core import limits, report
from rm.service.event_log import Happening
from rm.store.store import MemoryStore
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2
from support.served import DEADLINE_S, MEMORY_UNITS, memory, refusal_of, seconds, serving, streams

CODE = grpc.StatusCode
KIND = types_pb2.Event


# Pages.


def test_leases_come_in_pages_each_once_and_oldest_first(served, witness) -> None:
    granted = [witness.acquire(streams(), request_id=1 + index).id for index in range(7)]
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        answer = witness.stub.ListLeases(pb.ListLeasesRequest(page_size=3, page_token=token))
        seen += [lease.id for lease in answer.leases]
        token, pages = answer.next_page_token, pages + 1
    assert (seen, pages) == (granted, 3)


def test_a_page_that_is_just_full_is_the_last(served, witness) -> None:
    for index in range(3):
        witness.acquire(streams(), request_id=1 + index)
    answer = witness.stub.ListLeases(pb.ListLeasesRequest(page_size=3))
    assert (len(answer.leases), answer.next_page_token) == (3, "")


def test_a_lease_that_ends_between_two_pages_hides_no_other(served, witness) -> None:
    granted = [witness.acquire(streams(), request_id=1 + index).id for index in range(4)]
    first = witness.stub.ListLeases(pb.ListLeasesRequest(page_size=2))
    witness.call("Release", pb.ReleaseRequest(lease_id=granted[1]))
    rest = witness.stub.ListLeases(pb.ListLeasesRequest(page_size=2, page_token=first.next_page_token))
    assert [lease.id for lease in rest.leases] == granted[2:]


def test_only_leases_with_units_of_a_pool_are_listed_where_one_is_named(served, witness) -> None:
    witness.acquire(streams(), request_id=1)
    wanted = witness.acquire(memory(1), request_id=2)
    found = witness.stub.ListLeases(pb.ListLeasesRequest(pool="memory")).leases
    assert [lease.id for lease in found] == [wanted.id]
    assert list(witness.stub.ListLeases(pb.ListLeasesRequest(pool="nowhere")).leases) == []


# Events.


def test_past_events_come_oldest_first_and_then_the_stream_ends(served, witness) -> None:
    lease = witness.acquire(streams(), request_id=1)
    witness.call("Release", pb.ReleaseRequest(lease_id=lease.id))
    events = [one.event for one in witness.stub.WatchEvents(pb.WatchEventsRequest(past_count=10))]
    assert [event.kind for event in events] == [KIND.KIND_STARTED, KIND.KIND_GRANTED, KIND.KIND_ENDED]
    assert [event.revision for event in events] == [1, 3, 4], "2 is the session that was opened"
    assert [event.lease_id for event in events] == ["", lease.id, lease.id]
    assert events[2].cause == "released"
    only_last = list(witness.stub.WatchEvents(pb.WatchEventsRequest(past_count=1)))
    assert [one.event.revision for one in only_last] == [4]
    assert list(witness.stub.WatchEvents(pb.WatchEventsRequest())) == []


def test_who_follows_hears_of_everything_from_then_on_without_a_gap(served, witness) -> None:
    witness.acquire(streams(), request_id=1)
    watching = witness.stub.WatchEvents(pb.WatchEventsRequest(past_count=1, follow=True), timeout=DEADLINE_S)
    first = next(watching).event.revision
    witness.acquire(streams(), request_id=2)
    witness.call("Extend", pb.ExtendRequest(request_id=3, lease_id="L2", claims=[memory(1)]))
    heard = [next(watching).event for _ in range(2)]
    assert [(event.revision, event.kind) for event in heard] == [
        (first + 1, KIND.KIND_GRANTED),
        (first + 2, KIND.KIND_EXTENDED),
    ]
    watching.cancel()
    served.until(lambda: not served.engine.log._watchers)


def test_the_death_of_a_session_is_told_with_its_cause(served, witness) -> None:
    lease = witness.acquire(memory(1), request_id=1)
    served.call(lambda: served.engine.end_session(witness.id, "process died", is_violent=True))
    events = [one.event for one in witness.stub.WatchEvents(pb.WatchEventsRequest(past_count=2))]
    assert [event.kind for event in events] == [KIND.KIND_ENDED, KIND.KIND_UNITS_QUIET]
    assert [(event.lease_id, event.cause) for event in events] == [(lease.id, "process died"), (lease.id, "")]


def test_a_watcher_that_falls_behind_is_told_to_list_anew(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_PER_WATCHER_MAX", 5)
    watching = witness.stub.WatchEvents(pb.WatchEventsRequest(follow=True), timeout=DEADLINE_S)
    served.until(lambda: len(served.engine.log._watchers) == 1)

    def many() -> None:  # in one turn of the loop: the watcher cannot read meanwhile
        for _ in range(40):
            served.engine.end_session("nobody", "", is_violent=False)
            served.engine.log.add(Happening(served.engine.ledger.revision, "granted", "", 0))

    served.call(many)
    first = next(watching).event
    assert first.kind == KIND.KIND_RESYNC
    watching.cancel()


@pytest.mark.parametrize("count", [-1, limits.EVENTS_REMEMBERED + 1])
def test_more_past_events_than_are_kept_cannot_be_asked(served, witness, count) -> None:
    code, detail = refusal_of(lambda: list(witness.stub.WatchEvents(pb.WatchEventsRequest(past_count=count))))
    assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")


def test_one_watcher_above_the_limit_is_refused_and_a_free_place_is_given_on(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS_MAX", 1)
    first = witness.stub.WatchEvents(pb.WatchEventsRequest(follow=True), timeout=DEADLINE_S)
    served.until(lambda: len(served.engine.log._watchers) == 1)
    code, detail = refusal_of(lambda: list(witness.stub.WatchEvents(pb.WatchEventsRequest())))
    assert (code, detail.reason) == (CODE.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    first.cancel()
    served.until(lambda: not served.engine.log._watchers)
    assert list(witness.stub.WatchEvents(pb.WatchEventsRequest())) == []


# Explanations.


def test_explain_says_what_would_be_granted_and_takes_nothing(served, witness) -> None:
    before = served.engine.ledger.revision
    answer = witness.call("Explain", pb.ExplainRequest(claims=[memory(2)]))
    assert (answer.grantable, answer.card, answer.HasField("refusal")) == (True, "0", False)
    assert answer.allotments[0].units[0].ranges[0] == types_pb2.UnitRange(start=0, stop=2)
    assert served.engine.ledger.revision == before


def test_explain_says_why_not_and_who_holds(served, witness) -> None:
    lease = witness.acquire(memory(MEMORY_UNITS), request_id=1)
    answer = served.stub().Explain(pb.ExplainRequest(claims=[memory(1)]))
    assert (answer.grantable, answer.refusal.reason) == (False, "POOL_EXHAUSTED")
    assert answer.refusal.facts["holders"][0]["lease"] == lease.id
    assert [pool.name for pool in answer.cards[0].pools] == ["memory"]


def test_explain_says_that_others_wait_in_front_also_where_the_units_are_there(served, witness) -> None:
    witness.acquire(memory(MEMORY_UNITS - 1), request_id=1)
    request = pb.AcquireRequest(request_id=2, claims=[memory(2)], wait_duration=seconds(60))
    waiting = witness.stub.Acquire.future(request, metadata=witness.metadata)
    served.until(lambda: len(served.engine.waitlist) == 1)
    answer = served.stub().Explain(pb.ExplainRequest(claims=[memory(1)]))
    assert (answer.grantable, answer.waiter_count) == (False, 1)
    waiting.cancel()
    served.until(lambda: len(served.engine.waitlist) == 0)


def test_explain_of_what_can_never_be_says_so(served) -> None:
    for request in (
        pb.ExplainRequest(claims=[memory(MEMORY_UNITS + 1)]),
        pb.ExplainRequest(claims=[memory(1)], card="9"),
    ):
        answer = served.stub().Explain(request)
        assert (answer.grantable, answer.refusal.reason) == (False, "INVALID_REQUEST")


def test_explain_agrees_with_acquire_where_nobody_waits_on_one_of_two_cards(tmp_path, door) -> None:
    with serving(tmp_path, card_count=2, door=door) as served:
        client = served.open_session()
        client.acquire(memory(MEMORY_UNITS), request_id=1, card="0")
        request = pb.AcquireRequest(request_id=2, claims=[memory(1)], card="0", wait_duration=seconds(60))
        waiting = client.stub.Acquire.future(request, metadata=client.metadata)
        served.until(lambda: len(served.engine.waitlist) == 1)
        explained = client.call("Explain", pb.ExplainRequest(claims=[memory(1)]))
        granted = client.acquire(memory(1), request_id=3)
        assert (explained.grantable, explained.card) == (True, granted.card)
        waiting.cancel()
        served.until(lambda: len(served.engine.waitlist) == 0)


@pytest.mark.parametrize("door", ["grpc"], indirect=True)
def test_a_forged_session_is_refused_in_explain_too(served, witness) -> None:
    metadata = (("rmapi-session-id", witness.id), ("rmapi-session-secret", "0"))
    request = pb.ExplainRequest(claims=[memory(1)])
    assert refusal_of(served.stub().Explain, request, metadata=metadata)[0] == CODE.UNAUTHENTICATED


# The check.


@pytest.mark.parametrize("what", ["held", "quarantined", "reserved"])
def test_the_check_finds_a_single_bit_that_was_flipped_by_hand(served, witness, what) -> None:
    witness.acquire(streams(2), request_id=1)
    bits = getattr(served.engine.ledger.cards["0"].pools["streams"], what).bits
    assert list(witness.stub.CheckConsistency(pb.CheckConsistencyRequest()).differences) == []
    bits.invert(1)
    answer = witness.stub.CheckConsistency(pb.CheckConsistencyRequest())
    assert any("streams" in difference for difference in answer.differences)
    bits.invert(1)
    assert list(witness.stub.CheckConsistency(pb.CheckConsistencyRequest()).differences) == []
    assert answer.unit_count == served.engine.ledger.cards["0"].pools["memory"].total_count + 256 * 6 + 16 * 3 + 2


class SlowStore(MemoryStore):
    """Reads back only when it may, and counts how many want it to at once."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = asyncio.Event()
        self.reading_count = self.reading_count_max = self.read_count = 0

    async def read_back(self) -> None:
        self.reading_count += 1
        self.reading_count_max = max(self.reading_count_max, self.reading_count)
        await self.may_read.wait()
        self.reading_count -= 1
        self.read_count += 1


def test_two_checks_at_once_are_read_back_one_after_the_other(tmp_path, monkeypatch, door) -> None:
    asked, find = [], report.differences
    monkeypatch.setattr(report, "differences", lambda ledger: asked.append("check") or find(ledger))
    store = SlowStore()
    with serving(tmp_path, store=store, door=door) as served:
        checks = [served.stub().CheckConsistency.future(pb.CheckConsistencyRequest()) for _ in range(3)]
        served.until(lambda: len(asked) == len(checks))  # from here to the store no turn of the loop passes
        assert served.call(lambda: store.reading_count) == 1
        served.call(store.may_read.set)
        for check in checks:
            assert list(check.result(DEADLINE_S).differences) == []
        assert (store.read_count, store.reading_count_max) == (len(checks), 1)
