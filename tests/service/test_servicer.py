"""The gRPC door: every method once well, and what each answers to those who ask wrongly."""

import os

import grpc
import pytest

from rm.core import limits
from rm.core.types import PoolName
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2
from support.served import DEADLINE_S, MEMORY_UNITS, UNIT, memory, refusal_of, seconds, streams

CODE = grpc.StatusCode


def units_of(allotment: types_pb2.Allotment) -> list[int]:
    return [unit for ranges in allotment.units for one in ranges.ranges for unit in range(one.start, one.stop)]


def is_as_it_was(served, lease: types_pb2.Lease) -> bool:
    """Whether a lease has all that it was granted with; its state is said to readers only."""
    found = served.stub().GetLease(pb.GetLeaseRequest(lease_id=lease.id)).lease
    assert found.state == types_pb2.Lease.STATE_HELD
    found.ClearField("state")
    return found == lease


# Every method once well.


def test_acquire_grants_what_was_asked_and_says_so_in_full(served) -> None:
    client = served.open_session()
    lease = client.acquire(memory(2), streams(3), request_id=1, label="mine", ttl_duration=seconds(30))
    assert (lease.id, lease.token, lease.card, lease.label) == ("L1", 1, "0", "mine")
    assert [(one.pool, units_of(one)) for one in lease.allotments] == [("memory", [0, 1]), ("streams", [0, 1, 2])]
    assert [one.unit_bytes for one in lease.allotments] == [UNIT, 0]
    assert lease.session_id == client.id
    assert lease.ttl_duration == seconds(30)
    assert (lease.holder.pid > 0, lease.holder.command != "") == (True, True)


def test_a_lease_has_the_daemons_ttl_unless_it_says_another_or_none(served) -> None:
    client = served.open_session()
    usual = client.acquire(streams(), request_id=1)
    never = client.acquire(streams(), request_id=2, ttl_duration=seconds(0))
    assert usual.ttl_duration == seconds(10)
    assert not never.HasField("ttl_duration")


def test_acquire_waits_as_long_as_it_was_told_and_is_granted_meanwhile(served) -> None:
    holder, waiter = served.open_session(), served.open_session()
    held = holder.acquire(memory(MEMORY_UNITS), request_id=1)
    request = pb.AcquireRequest(request_id=1, claims=[memory(1)], wait_duration=seconds(60))
    answer = waiter.stub.Acquire.future(request, metadata=waiter.metadata, timeout=DEADLINE_S)
    served.until(lambda: len(served.engine.waitlist) == 1)
    assert holder.call("Release", pb.ReleaseRequest(lease_id=held.id)).released is True
    assert answer.result().lease.token == 2


def test_a_call_that_is_cancelled_leaves_the_queue(served) -> None:
    client = served.open_session()
    client.acquire(memory(MEMORY_UNITS), request_id=1)
    request = pb.AcquireRequest(request_id=2, claims=[memory(1)], wait_duration=seconds(60))
    answer = client.stub.Acquire.future(request, metadata=client.metadata)
    served.until(lambda: len(served.engine.waitlist) == 1)
    answer.cancel()
    served.until(lambda: len(served.engine.waitlist) == 0)


def test_a_call_that_runs_into_its_deadline_leaves_the_queue(served) -> None:
    client = served.open_session()
    client.acquire(memory(MEMORY_UNITS), request_id=1)
    request = pb.AcquireRequest(request_id=2, claims=[memory(1)], wait_duration=seconds(60))
    code, _ = refusal_of(client.stub.Acquire, request, metadata=client.metadata, timeout=0.1)
    assert code == CODE.DEADLINE_EXCEEDED
    served.until(lambda: len(served.engine.waitlist) == 0)


def test_the_same_acquire_again_gets_the_same_lease_however_long_it_would_wait_now(served) -> None:
    client = served.open_session()
    first = client.acquire(streams(), request_id=1, wait_duration=seconds(9))
    assert client.acquire(streams(), request_id=1, wait_duration=seconds(3)) == first
    assert client.acquire(streams(), request_id=1) == first
    request = pb.AcquireRequest(request_id=1, claims=[streams(2)])
    assert refusal_of(client.call, "Acquire", request)[0] == CODE.INVALID_ARGUMENT


def test_extend_adds_and_give_back_takes_and_the_last_unit_ends_it(served) -> None:
    client = served.open_session()
    lease = client.acquire(streams(2), request_id=1)
    grown = client.call("Extend", pb.ExtendRequest(request_id=2, lease_id=lease.id, claims=[memory(1)])).lease
    assert [one.pool for one in grown.allotments] == ["streams", "memory"]

    def give_back(pool: str, stop: int, request_id: int) -> types_pb2.Lease:
        ranges = [types_pb2.UnitRange(start=0, stop=stop)]
        request = pb.GiveBackRequest(request_id=request_id, lease_id=lease.id, pool=pool, ranges=ranges)
        return client.call("GiveBack", request).lease

    assert [units_of(one) for one in give_back("memory", 1, 3).allotments] == [[0, 1], []]
    assert list(give_back("streams", 2, 4).allotments) == []
    assert refusal_of(client.call, "GetLease", pb.GetLeaseRequest(lease_id=lease.id))[0] == CODE.NOT_FOUND


def test_release_ends_once_and_by_request_id_too(served) -> None:
    client = served.open_session()
    first = client.acquire(streams(), request_id=1)
    client.acquire(streams(), request_id=2)
    assert client.call("Release", pb.ReleaseRequest(lease_id=first.id)).released is True
    assert client.call("Release", pb.ReleaseRequest(lease_id=first.id)).released is False
    assert client.call("Release", pb.ReleaseRequest(request_id=2)).released is True
    assert served.engine.ledger.leases == {}
    code, detail = refusal_of(client.call, "Acquire", pb.AcquireRequest(request_id=2, claims=[streams()]))
    assert (code, detail.reason) == (CODE.NOT_FOUND, "LEASE_GONE")


def test_keepalive_renews_and_names_what_is_lost(served) -> None:
    client = served.open_session()
    lease = client.acquire(streams(), request_id=1)
    served.pass_time(s=9)
    answer = client.call("KeepAlive", pb.KeepAliveRequest(lease_ids=[lease.id, "L8"]))
    assert list(answer.lost_lease_ids) == ["L8"]
    served.pass_time(s=9)
    assert list(served.engine.ledger.leases) == [lease.id]


def test_reading_needs_no_session(served) -> None:
    lease = served.open_session().acquire(memory(2), streams(), request_id=1)
    stub = served.stub()
    assert stub.GetLease(pb.GetLeaseRequest(lease_id=lease.id)).lease.id == lease.id
    assert [one.id for one in stub.ListLeases(pb.ListLeasesRequest()).leases] == [lease.id]
    (card,) = stub.ListCards(pb.ListCardsRequest()).cards
    pools = {pool.name: (pool.total_count, pool.free_count, pool.held_count) for pool in card.pools}
    assert pools["memory"] == (MEMORY_UNITS, MEMORY_UNITS - 2, 2)
    assert pools["streams"] == (256, 255, 1)
    assert (card.profile, card.backend, list(card.core_cpus)) == ("embedded", "embedded", [0, 1])
    bitmap = stub.GetBitmap(pb.GetBitmapRequest(pool="memory")).bitmap
    assert (bitmap.card, bitmap.held_bits[0], len(bitmap.held_bits)) == ("0", 0b11, MEMORY_UNITS // 8)
    status = stub.GetStatus(pb.GetStatusRequest())
    assert (status.session_count, status.lease_count, status.waiter_count) == (1, 1, 0)
    assert status.durability == pb.GetStatusResponse.DURABILITY_NONE
    check = stub.CheckConsistency(pb.CheckConsistencyRequest())
    assert (list(check.differences), check.lease_count) == ([], 1)


def test_every_answer_says_which_events_it_has_seen(served) -> None:
    client = served.open_session()
    before = client.call("ListLeases", pb.ListLeasesRequest()).revision
    assert before == served.engine.ledger.revision
    request = pb.AcquireRequest(request_id=1, claims=[streams()])
    assert client.call("Acquire", request).revision == before + 1
    assert client.call("ListLeases", pb.ListLeasesRequest()).revision == before + 1


# Who may.


CHANGING = [
    ("Acquire", pb.AcquireRequest(request_id=1, claims=[streams()])),
    ("Extend", pb.ExtendRequest(request_id=1, lease_id="L1", claims=[streams()])),
    ("GiveBack", pb.GiveBackRequest(request_id=1, lease_id="L1", pool="streams")),
    ("Release", pb.ReleaseRequest(lease_id="L1")),
    ("KeepAlive", pb.KeepAliveRequest(lease_ids=["L1"])),
    ("Revoke", pb.RevokeRequest(lease_id="L1")),
]


@pytest.mark.parametrize(("method", "request_message"), CHANGING, ids=[method for method, _ in CHANGING])
def test_who_has_no_session_or_forges_one_changes_nothing(served, witness, method, request_message) -> None:
    lease = witness.acquire(streams(2), request_id=1)
    forged = [
        (),
        (("rmapi-session-id", witness.id),),
        (("rmapi-session-id", witness.id), ("rmapi-session-secret", "0" * 64)),
        (("rmapi-session-id", "S0"), ("rmapi-session-secret", witness.secret)),
        (("rmapi-session-id", ""), ("rmapi-session-secret", "")),
    ]
    for metadata in forged:
        code, detail = refusal_of(getattr(served.stub(), method), request_message, metadata=metadata)
        assert (code, detail.reason) == (CODE.UNAUTHENTICATED, "SESSION_UNKNOWN")
    assert list(served.engine.ledger.leases) == [lease.id]


def test_another_session_cannot_end_change_or_keep_alive_a_lease(served, witness) -> None:
    lease = witness.acquire(streams(2), request_id=1)
    stranger = served.open_session()
    ranges = [types_pb2.UnitRange(start=0, stop=1)]
    tries = [
        ("Release", pb.ReleaseRequest(lease_id=lease.id)),
        ("KeepAlive", pb.KeepAliveRequest(lease_ids=[lease.id])),
        ("Extend", pb.ExtendRequest(request_id=1, lease_id=lease.id, claims=[streams()])),
        ("GiveBack", pb.GiveBackRequest(request_id=1, lease_id=lease.id, pool="streams", ranges=ranges)),
    ]
    for method, request in tries:
        code, detail = refusal_of(stranger.call, method, request)
        assert (code, detail.reason) == (CODE.PERMISSION_DENIED, "NOT_OWNER"), method
    assert stranger.call("Release", pb.ReleaseRequest(request_id=1)).released is False
    assert is_as_it_was(served, lease)


# Asked wrongly.


@pytest.mark.parametrize("request_id", [0, -1, -(2**63)])
def test_a_request_id_below_one_is_invalid_in_every_method(served, witness, request_id) -> None:
    lease = witness.acquire(streams(), request_id=7)
    for method, request in [
        ("Acquire", pb.AcquireRequest(request_id=request_id, claims=[streams()])),
        ("Extend", pb.ExtendRequest(request_id=request_id, lease_id=lease.id, claims=[streams()])),
        ("GiveBack", pb.GiveBackRequest(request_id=request_id, lease_id=lease.id, pool="streams")),
        ("Release", pb.ReleaseRequest(request_id=request_id)),
    ]:
        code, detail = refusal_of(witness.call, method, request)
        assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST"), method


RANGE = types_pb2.UnitRange


def returning(ranges: list[types_pb2.UnitRange], pool: str = "streams") -> pb.GiveBackRequest:
    return pb.GiveBackRequest(request_id=9, lease_id="L1", pool=pool, ranges=ranges)


NEVER = {
    "nothing claimed": ("Acquire", pb.AcquireRequest(request_id=9)),
    "too many claims": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()] * 65)),
    "an unknown card": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], card="7")),
    "an unknown pool": ("Acquire", pb.AcquireRequest(request_id=9, claims=[types_pb2.Claim(pool="x")])),
    "more than there is": ("Acquire", pb.AcquireRequest(request_id=9, claims=[memory(MEMORY_UNITS + 1)])),
    "a label too long": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], label="x" * 129)),
    "a ttl too short": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], ttl_duration=seconds(0.9))),
    "a ttl below zero": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], ttl_duration=seconds(-1))),
    "a ttl too long": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], ttl_duration=seconds(86401))),
    "a wait below zero": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], wait_duration=seconds(-1))),
    "a wait too long": ("Acquire", pb.AcquireRequest(request_id=9, claims=[streams()], wait_duration=seconds(86401))),
    "a release of nothing": ("Release", pb.ReleaseRequest()),
    "units it has not": ("GiveBack", returning([RANGE(start=5, stop=6)])),
    "no units": ("GiveBack", pb.GiveBackRequest(request_id=9, lease_id="L1", pool="streams")),
    "a range of nothing": ("GiveBack", returning([RANGE()])),
    "a range below zero": ("GiveBack", returning([RANGE(start=-1, stop=1)])),
    "a pool to give back to": ("GiveBack", returning([RANGE(stop=1)], "x")),
    "a page token": ("ListLeases", pb.ListLeasesRequest(page_token="x")),
    "a page token of many digits": ("ListLeases", pb.ListLeasesRequest(page_token="9" * 20)),
    "a page token of odd digits": ("ListLeases", pb.ListLeasesRequest(page_token="\N{ARABIC-INDIC DIGIT ONE}")),
    "a page below zero": ("ListLeases", pb.ListLeasesRequest(page_size=-1)),
    "a page too long": ("ListLeases", pb.ListLeasesRequest(page_size=limits.LEASES_PER_PAGE_MAX + 1)),
    "bits of an unknown card": ("GetBitmap", pb.GetBitmapRequest(card="7", pool="memory")),
    "bits of an unknown pool": ("GetBitmap", pb.GetBitmapRequest(pool="x")),
    "an explanation of nothing": ("Explain", pb.ExplainRequest()),
}  # fmt: skip


@pytest.mark.parametrize(("method", "request_message"), NEVER.values(), ids=NEVER.keys())
def test_what_can_never_be_is_invalid_and_changes_nothing(served, witness, method, request_message) -> None:
    lease = witness.acquire(streams(), request_id=1)
    code, detail = refusal_of(witness.call, method, request_message)
    assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert detail.message
    assert is_as_it_was(served, lease)


def test_a_range_as_long_as_a_pool_could_ever_be_is_refused_before_anything_is_counted_out(served, witness) -> None:
    witness.acquire(streams(), request_id=1)
    for ranges in ([RANGE(stop=2**63 - 1)], [RANGE(stop=limits.UNITS_PER_POOL_MAX)], [RANGE(stop=60_000)] * 10_000):
        request = pb.GiveBackRequest(request_id=9, lease_id="L1", pool="streams", ranges=ranges)
        code, detail = refusal_of(witness.call, "GiveBack", request)
        assert (code, detail.facts["most"]) == (CODE.INVALID_ARGUMENT, limits.IDS_PER_CLAIM_MAX)


def test_a_refusal_says_who_holds_and_its_reason_is_in_the_trailer(served, witness) -> None:
    lease = witness.acquire(memory(MEMORY_UNITS), request_id=1, label="holder")
    stranger = served.open_session()
    code, detail = refusal_of(stranger.call, "Acquire", pb.AcquireRequest(request_id=1, claims=[memory(1)]))
    assert (code, detail.reason) == (CODE.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED")
    assert detail.facts["holders"][0]["lease"] == lease.id
    assert "'holder'" in detail.message


@pytest.mark.parametrize("char", ["x", "\N{SNOWMAN}", "\U0001f600", "\n", "\x7f", "%"])
def test_however_odd_a_name_is_its_refusal_arrives(served, witness, char) -> None:
    claim = types_pb2.Claim(pool=char * 20_000, units=types_pb2.UnitsClaim(unit_count=1))
    code, detail = refusal_of(witness.call, "Acquire", pb.AcquireRequest(request_id=9, claims=[claim]))
    assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")


@pytest.mark.parametrize("char", ["x", "\N{SNOWMAN}", "\U0001f600"])
def test_a_refusal_arrives_however_many_hold_and_whatever_they_are_called(served, witness, char) -> None:
    witness.acquire(memory(MEMORY_UNITS - 20), request_id=1)
    stranger = served.open_session()
    for count in range(12):
        witness.acquire(memory(1), request_id=2 + count, label=char * (10 + 10 * count))
        request = pb.AcquireRequest(request_id=1, claims=[memory(21)])
        code, detail = refusal_of(stranger.call, "Acquire", request)
        assert (code, detail.reason) == (CODE.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED")
        assert detail.facts["free_count"] == 19 - count


def test_a_fault_of_our_own_is_internal_and_shows_no_traceback(served, witness, monkeypatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("a secret path")

    monkeypatch.setattr(served.engine.backend, "prepare", broken)
    with pytest.raises(grpc.RpcError) as raised:
        witness.acquire(memory(1), request_id=1)
    assert raised.value.code() == CODE.INTERNAL
    assert "a secret path" not in raised.value.details()
    monkeypatch.undo()
    assert witness.acquire(memory(1), request_id=1).token == 1


def test_a_card_that_fails_is_told_as_such(served, witness, monkeypatch) -> None:
    pool = served.engine.ledger.cards["0"].pools[PoolName("memory")]
    revision = served.engine.ledger.revision
    assert pool.free_count == MEMORY_UNITS

    def out_of_descriptors(name: str, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", out_of_descriptors)
    code, detail = refusal_of(witness.call, "Acquire", pb.AcquireRequest(request_id=1, claims=[memory(1)]))
    assert (code, detail.reason) == (CODE.INTERNAL, "CARD_FAILED")
    monkeypatch.undo()
    assert (pool.free_count, served.engine.ledger.revision) == (MEMORY_UNITS, revision)
