"""Calls over the session socket: answered in any order, given up, bounded, and as fair as the gRPC door."""

import time
from contextlib import suppress

import pytest

from rm.core import limits
from rm.service.calls import METHODS
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb
from support.served import (
    DEADLINE_S,
    LENGTH,
    MEMORY_UNITS,
    PROTOCOL_VERSION,
    Client,
    framed,
    memory,
    seconds,
    serving,
    streams,
)


@pytest.fixture
def door():
    return "session"


def acquiring(request_id: int, *claims, wait: float = 0.0, correlation_id: int = 0) -> bytes:
    request = rm_pb.AcquireRequest(request_id=request_id, claims=claims)
    if wait:
        request.wait_duration.CopyFrom(seconds(wait))
    return framed(correlation_id=correlation_id or request_id, acquire=request)


def answers_of(client: Client, count: int) -> dict[int, pb.ServerFrame]:
    """So many answers, by the call that each is to, in the order in which they came."""
    return {(frame := client.connection.receive()).correlation_id: frame for _ in range(count)}


def waiter_count(served) -> int:
    return served.call(lambda: len(served.engine.waitlist))


def test_every_method_can_be_called_through_both_doors(served) -> None:
    assert set(METHODS.values()) == {*served.server._servicer._methods.names, "WatchEvents"}


def test_answers_come_as_they_are_ready_and_not_in_the_order_of_the_calls(served, witness) -> None:
    client = served.open_session()
    whole = witness.acquire(memory(MEMORY_UNITS), request_id=1)
    client.connection.send(acquiring(1, memory(1), wait=60) + acquiring(2, streams()) + acquiring(3, streams()))
    assert list(answers_of(client, 2)) == [2, 3]
    witness.call("Release", rm_pb.ReleaseRequest(lease_id=whole.id))
    assert list(answers_of(client, 1)) == [1]


def test_a_call_that_is_given_up_leaves_the_queue_and_is_not_answered(served, witness) -> None:
    client = served.open_session()
    whole = witness.acquire(memory(MEMORY_UNITS), request_id=1)
    client.connection.send(acquiring(1, memory(1), wait=60))
    served.until(lambda: len(served.engine.waitlist) == 1)
    client.connection.send(framed(cancel=pb.Cancel(called_id=1)) + acquiring(2, streams()))
    assert list(answers_of(client, 1)) == [2]
    assert waiter_count(served) == 0
    witness.call("Release", rm_pb.ReleaseRequest(lease_id=whole.id))
    assert client.is_served()


def test_giving_up_what_was_answered_or_never_asked_does_nothing(served, witness) -> None:
    client = served.open_session()
    client.connection.send(acquiring(1, streams()) + framed(cancel=pb.Cancel(called_id=1)) * 2)
    client.connection.send(framed(cancel=pb.Cancel(called_id=99)))
    assert answers_of(client, 1)[1].acquire.lease.id
    assert client.is_served()


def test_a_connection_that_breaks_withdraws_its_waits_and_its_session_may_ask_again(served, witness) -> None:
    client = served.open_session()
    whole = witness.acquire(memory(MEMORY_UNITS), request_id=1)
    client.connection.send(b"".join(acquiring(number, memory(1), wait=60) for number in range(1, 11)))
    served.until(lambda: len(served.engine.waitlist) == 10)
    client.connection.socket.close()
    served.until(lambda: len(served.engine.waitlist) == 0)
    witness.call("Release", rm_pb.ReleaseRequest(lease_id=whole.id))
    assert served.call(lambda: list(served.engine.ledger.leases)) == []


def test_more_calls_wait_for_units_than_for_the_disk_and_the_rest_is_heard_later(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "CALLS_WAITING_MAX", 200)
    client = served.open_session()
    whole = witness.acquire(memory(MEMORY_UNITS), request_id=1)
    client.connection.send(b"".join(acquiring(number, memory(1), wait=60) for number in range(1, 211)))
    served.until(lambda: len(served.engine.waitlist) == 200)
    assert witness.is_served()
    assert waiter_count(served) == 200
    client.connection.send(framed(correlation_id=999, release=rm_pb.ReleaseRequest(request_id=1)))
    witness.call("Release", rm_pb.ReleaseRequest(lease_id=whole.id))
    assert len(answers_of(client, 211)) == 211


def test_a_thousand_calls_in_one_piece_are_answered_beside_others(served, witness) -> None:
    client = served.open_session()
    ask = framed(correlation_id=5, list_cards=rm_pb.ListCardsRequest())
    client.connection.send(ask * 1_000)
    assert witness.is_served()
    assert {client.connection.receive().WhichOneof("body") for _ in range(1_000)} == {"list_cards"}


def test_a_reader_that_asks_for_much_and_reads_nothing_is_kept_little(served, witness) -> None:
    client = served.open_session()
    witness.connection.send(acquiring(1, streams()))
    witness.connection.receive()
    ask = framed(correlation_id=5, get_bitmap=rm_pb.GetBitmapRequest(pool="memory"))
    connection = served.call(lambda: served.server._session_socket._by_session[client.id])
    client.connection.socket.setblocking(False)
    sent = 0
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            sent += client.connection.socket.send(ask * 100)
        except BlockingIOError:
            break
    assert witness.is_served()
    assert served.call(lambda: connection.outbox.queued_bytes) <= 2 * limits.FRAME_BYTES_MAX
    client.connection.socket.setblocking(True)
    client.connection.socket.settimeout(DEADLINE_S)
    whole_count = sent // len(ask)
    assert {client.connection.receive().WhichOneof("body") for _ in range(whole_count)} == {"get_bitmap"}


# Large requests.


def large(byte_count: int) -> bytes:
    """A keepalive whose frame has so many bytes behind its length."""
    request = rm_pb.KeepAliveRequest(lease_ids=["x" * 1_000] * (byte_count // 1_003 - 1))
    missing = byte_count - (len(framed(correlation_id=1, keep_alive=request)) - LENGTH.size) - 3
    request.lease_ids.append("y" * missing)
    data = framed(correlation_id=1, keep_alive=request)
    return data + b"" if len(data) == byte_count + LENGTH.size else large_exactly(request, byte_count)


def large_exactly(request: rm_pb.KeepAliveRequest, byte_count: int) -> bytes:
    while (excess := len(framed(correlation_id=1, keep_alive=request)) - LENGTH.size - byte_count) != 0:
        request.lease_ids[-1] = "y" * (len(request.lease_ids[-1]) - excess)
    return framed(correlation_id=1, keep_alive=request)


def test_a_request_as_long_as_a_message_may_be_is_answered_and_one_byte_more_is_not(served, witness) -> None:
    client = served.open_session()
    client.connection.send(large(limits.MESSAGE_BYTES_MAX))
    assert client.connection.receive().WhichOneof("body") == "keep_alive"
    client.connection.send(LENGTH.pack(limits.MESSAGE_BYTES_MAX + 1))
    assert client.connection.receive().fault.detail.reason == "INVALID_REQUEST"
    assert client.connection.is_closed_by_peer()


def test_one_large_request_above_the_limit_is_refused_until_another_is_whole(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "LARGE_FRAMES_MAX", 1)
    first, second = served.open_session(), served.open_session()
    data = large(limits.FRAME_BYTES_MAX + 1)
    first.connection.send(data[:-1])
    served.until(lambda: served.server._session_socket._large_frames.count == 1)
    with suppress(ConnectionError):  # it may be refused before all of it is sent
        second.connection.send(data[:-1])
    assert second.connection.receive().fault.detail.reason == "QUOTA_EXCEEDED"
    first.connection.send(data[-1:])
    assert first.connection.receive().WhichOneof("body") == "keep_alive"
    third = served.open_session()
    third.connection.send(data)
    assert third.connection.receive().WhichOneof("body") == "keep_alive"
    third.connection.send(data[:-1])
    served.until(lambda: served.server._session_socket._large_frames.count == 1)
    third.connection.socket.close()
    served.until(lambda: served.server._session_socket._large_frames.count == 0)


# Without a session.


def test_a_visitor_reads_and_changes_nothing(served, witness) -> None:
    stub = served.stub()
    assert stub.GetStatus(rm_pb.GetStatusRequest()).session_count == 1
    connection = stub.wire.connection
    refused = connection.ask(acquire=rm_pb.AcquireRequest(request_id=1, claims=[streams()]))
    assert refused.fault.detail.reason == "SESSION_UNKNOWN"
    refused = connection.ask(fetch_windows=pb.FetchWindows(lease_id="L1"))
    assert refused.fault.detail.reason == "SESSION_UNKNOWN"
    assert served.call(lambda: list(served.engine.ledger.leases)) == []


def test_a_visitor_of_another_version_is_told_so(served) -> None:
    connection = served.connect()
    answer = connection.ask(visit=pb.Visit(protocol_version=PROTOCOL_VERSION + 1))
    assert "version" in answer.fault.detail.message
    assert connection.is_closed_by_peer()


# Batches.


@pytest.mark.parametrize("any_door", ["grpc", "session"])
def test_the_operations_of_a_batch_are_decided_in_their_order_each_by_itself(tmp_path, any_door) -> None:
    with serving(tmp_path, door=any_door) as served:
        client = served.open_session()
        all_of_it = rm_pb.AcquireRequest(request_id=1, claims=[memory(MEMORY_UNITS)])
        operations = [
            rm_pb.Operation(acquire=all_of_it),
            rm_pb.Operation(acquire=rm_pb.AcquireRequest(request_id=2, claims=[memory(1)])),
            rm_pb.Operation(release=rm_pb.ReleaseRequest(lease_id="L1")),
            rm_pb.Operation(acquire=rm_pb.AcquireRequest(request_id=3, claims=[memory(1)])),
            rm_pb.Operation(extend=rm_pb.ExtendRequest(request_id=4, lease_id="L2", claims=[streams()])),
            rm_pb.Operation(acquire=rm_pb.AcquireRequest(request_id=5, claims=[streams()], wait_duration=seconds(1))),
            rm_pb.Operation(),
            rm_pb.Operation(acquire=rm_pb.AcquireRequest(request_id=3, claims=[memory(1)])),
        ]
        outcomes = client.call("Batch", rm_pb.BatchRequest(operations=operations)).outcomes
        told = [one.refusal.reason or one.WhichOneof("kind") for one in outcomes]
        invalid = "INVALID_REQUEST"
        assert told == ["acquire", "POOL_EXHAUSTED", "release", "acquire", "extend", invalid, invalid, "acquire"]
        assert [outcomes[index].acquire.lease.id for index in (0, 3, 7)] == ["L1", "L2", "L2"]


@pytest.mark.parametrize("count", [0, limits.OPERATIONS_PER_BATCH_MAX + 1])
def test_a_batch_of_none_or_too_many_is_refused_whole(served, witness, count) -> None:
    operations = [
        rm_pb.Operation(acquire=rm_pb.AcquireRequest(request_id=1 + n, claims=[streams()])) for n in range(count)
    ]
    answer = witness.connection.ask(batch=rm_pb.BatchRequest(operations=operations))
    assert answer.fault.detail.reason == "INVALID_REQUEST"
    assert served.call(lambda: list(served.engine.ledger.leases)) == []


def test_as_many_operations_as_a_batch_may_have_are_carried_out(served, witness) -> None:
    count = limits.OPERATIONS_PER_BATCH_MAX
    operations = [
        rm_pb.Operation(acquire=rm_pb.AcquireRequest(request_id=1 + n, claims=[streams()])) for n in range(count)
    ]
    answer = witness.connection.ask(batch=rm_pb.BatchRequest(operations=operations)).batch
    assert [one.WhichOneof("kind") for one in answer.outcomes] == ["acquire"] * count
