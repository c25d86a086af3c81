"""The session socket: whatever one client sends, or fails to send, costs nobody else anything."""

import fcntl
import os
import random
import socket

import pytest

from rm.core import limits
from rm.core.types import NS_PER_S
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2
from support.descriptors import descriptor_count
from support.served import DEADLINE_S, LENGTH, Client, attaching, framed, greeting, memory, streams

OPEN = {"open_session": session_pb2.OpenSession(protocol_version=1)}
PATIENCE_S = limits.HANDSHAKE_NS_MAX / NS_PER_S


def reason_of(frame: session_pb2.ServerFrame) -> str:
    assert frame.WhichOneof("body") == "fault", frame
    return frame.fault.detail.reason


# Who speaks, and how.


def test_a_session_is_opened_for_the_process_that_the_kernel_names(served) -> None:
    opened = greeting(served.connect()).session_opened
    assert opened.pid == os.getpid()
    assert len(opened.session_secret) >= 32


def test_two_sessions_have_different_ids_and_secrets(served) -> None:
    first, second = (greeting(served.connect()).session_opened for _ in range(2))
    assert first.session_id != second.session_id
    assert first.session_secret != second.session_secret


def test_a_frame_that_comes_byte_by_byte_is_understood(served) -> None:
    connection = served.connect()
    for byte in framed(correlation_id=3, **OPEN):
        connection.send(bytes([byte]))
    answer = connection.receive()
    assert answer.correlation_id == 3
    assert answer.WhichOneof("body") == "session_opened"


def test_frames_that_come_in_one_piece_are_answered_in_their_order(served) -> None:
    connection = served.connect()
    frames = [framed(correlation_id=2 + index, keep_alive=rm_pb.KeepAliveRequest()) for index in range(50)]
    connection.send(framed(correlation_id=1, **OPEN) + b"".join(frames))
    assert [connection.receive().correlation_id for _ in range(51)] == list(range(1, 52))


BAD_FIRST_BYTES = {
    "nothing but noise": random.Random(1).randbytes(4096),
    "an http request": b"GET / HTTP/1.1\r\nHost: rmd\r\n\r\n",
    "a frame of no bytes": LENGTH.pack(0),
    "a frame that is too long": LENGTH.pack(limits.FRAME_BYTES_MAX + 1),
    "a frame as long as can be said": b"\xff" * 4,
    "a frame that is no protobuf": LENGTH.pack(4) + b"\xff\xff\xff\xff",
    "a frame with a text that is no utf-8": LENGTH.pack(8) + b"\x1a\x06\x08\x01\x12\x02\xc3\x28",
    "a frame that says nothing": framed(correlation_id=1),
    "a keepalive before the greeting": framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest()),
    "a goodbye before the greeting": framed(correlation_id=1, close_session=session_pb2.CloseSession()),
    "a greeting without a version": framed(correlation_id=1, open_session=session_pb2.OpenSession()),
    "a version to come": framed(correlation_id=1, open_session=session_pb2.OpenSession(protocol_version=2)),
    "a negative version": framed(correlation_id=1, attach_session=session_pb2.AttachSession(protocol_version=-1)),
}


@pytest.mark.parametrize("data", BAD_FIRST_BYTES.values(), ids=BAD_FIRST_BYTES.keys())
def test_a_bad_beginning_is_told_and_closed_and_costs_nobody_else(served, witness, data) -> None:
    connection = served.connect()
    connection.send(data)
    assert reason_of(connection.receive()) == "INVALID_REQUEST"
    assert connection.is_closed_by_peer()
    assert witness.is_served()


@pytest.mark.parametrize("data", [b"\xff" * 4, LENGTH.pack(0), framed(correlation_id=1, **OPEN)])
def test_a_bad_frame_in_an_open_session_leaves_the_session_and_its_leases(served, data) -> None:
    client = served.open_session()
    lease = client.acquire(streams(2), request_id=1)
    client.connection.send(data)
    assert reason_of(client.connection.receive()) == "INVALID_REQUEST"
    with served.connect() as again:
        assert attaching(client, again).session_opened.session_id == client.id
        kept = again.ask(keep_alive=rm_pb.KeepAliveRequest(lease_ids=[lease.id]))
        assert list(kept.keep_alive.lost_lease_ids) == []


def test_a_frame_of_the_greatest_length_is_taken(served) -> None:
    client = served.open_session()
    filler = ["x" * 1000] * 64
    frame = framed(correlation_id=5, keep_alive=rm_pb.KeepAliveRequest(lease_ids=filler))
    missing = limits.FRAME_BYTES_MAX + LENGTH.size - len(frame)
    filler[0] += "x" * missing
    frame = framed(correlation_id=5, keep_alive=rm_pb.KeepAliveRequest(lease_ids=filler))
    assert len(frame) == limits.FRAME_BYTES_MAX + LENGTH.size
    client.connection.send(frame)
    assert list(client.connection.receive().keep_alive.lost_lease_ids) == filler


# Silence.


@pytest.mark.parametrize("beginning", [b"", b"\0", LENGTH.pack(100), framed(correlation_id=1, **OPEN)[:-1]])
def test_who_does_not_greet_in_time_is_closed(served, witness, beginning) -> None:
    with served.loop_time() as pass_seconds:
        connection = served.connect()
        connection.send(beginning)
        served.until(lambda: len(served.server._session_socket._connections) == 2)
        pass_seconds(PATIENCE_S - 0.001)
        assert [served.call(lambda: len(served.server._session_socket._connections)) for _ in range(3)] == [2] * 3
        pass_seconds(0.001)
        assert connection.is_closed_by_peer()
    assert witness.is_served()


def test_who_has_greeted_may_be_silent(served) -> None:
    with served.loop_time() as pass_seconds:
        client, silent = served.open_session(), served.connect()
        served.until(lambda: len(served.server._session_socket._connections) == 2)
        pass_seconds(PATIENCE_S)
        assert silent.is_closed_by_peer(), "the limit has passed since"
        assert client.is_served()


def test_who_only_tries_to_attach_is_closed_in_time_too(served) -> None:
    with served.loop_time() as pass_seconds:
        connection = served.connect()
        bad = session_pb2.AttachSession(protocol_version=1, session_id="S1", session_secret="x")
        assert reason_of(connection.ask(attach_session=bad)) == "SESSION_UNKNOWN"
        pass_seconds(PATIENCE_S)
        assert connection.is_closed_by_peer()


def test_a_client_does_not_pay_for_time_in_which_the_daemon_stood_still(served, witness) -> None:
    late = framed(keep_alive=rm_pb.KeepAliveRequest(lease_ids=["x" * 1_000] * 100))  # more than is read in one turn
    bad = session_pb2.AttachSession(protocol_version=1, session_id="S1", session_secret="x")
    with served.loop_time() as pass_seconds:
        new, old = served.connect(), served.open_session()
        connection = served.server._session_socket._by_session[old.id]
        old.connection.send(late[:5])
        served.until(lambda: connection._rest is not None)

        def stand_still() -> None:  # while both do what they should
            new.send(framed(correlation_id=7, attach_session=bad))
            old.connection.send(late[5:])
            pass_seconds(PATIENCE_S + 1)

        served.call(stand_still)
        assert reason_of(new.receive()) == "SESSION_UNKNOWN"
        assert len(old.connection.receive().keep_alive.lost_lease_ids) == 100
        pass_seconds(PATIENCE_S)
        assert new.is_closed_by_peer(), "who goes on being silent is closed all the same"
        assert old.is_served()


# Attaching.


@pytest.mark.parametrize("secret", ["", "0" * 64, "\N{SNOWMAN}"])
def test_a_forged_secret_is_refused_and_its_sender_may_open_a_session_of_its_own(served, witness, secret) -> None:
    connection = served.connect()
    assert reason_of(attaching(witness, connection, secret=secret)) == "SESSION_UNKNOWN"
    assert greeting(connection).session_opened.session_id != witness.id


def test_a_broken_connection_ends_no_session(served) -> None:
    client = served.open_session()
    lease = client.acquire(streams(), request_id=1)
    client.connection.socket.close()
    with served.connect() as again:
        assert attaching(client, again).session_opened.session_secret == client.secret
        request = rm_pb.GetLeaseRequest(lease_id=lease.id)
        assert served.stub(again).GetLease(request, timeout=DEADLINE_S).lease.id == lease.id


def test_a_newer_connection_of_a_session_closes_the_older(served) -> None:
    client = served.open_session()
    newer = served.connect()
    assert attaching(client, newer).WhichOneof("body") == "session_opened"
    assert client.connection.is_closed_by_peer()
    assert newer.ask(keep_alive=rm_pb.KeepAliveRequest()).WhichOneof("body") == "keep_alive"


def test_a_lost_lease_is_told_on_the_newest_connection(served) -> None:
    client = served.open_session()
    lease = client.acquire(streams(), request_id=1)
    newer = served.connect()
    attaching(client, newer)
    served.pass_time(ns=limits.TTL_NS_DEFAULT)
    assert newer.receive().lease_revoking.lease_id == lease.id
    served.pass_time(ns=limits.NOTICE_NS_DEFAULT)
    told = newer.receive()
    assert (told.correlation_id, told.lease_ended.lease_id) == (0, lease.id)
    assert told.lease_ended.cause == "keepalive missed"


def test_the_command_that_a_client_says_it_becomes_is_named_in_refusals(served, witness) -> None:
    connection = served.connect()
    opening = session_pb2.OpenSession(protocol_version=1, command="./transcode in.mp4")
    opened = connection.ask(open_session=opening).session_opened
    client = Client(connection, opened.session_id, opened.session_secret, served.stub(connection))
    assert client.acquire(streams(), request_id=1).holder.command == "./transcode in.mp4"


# Goodbye.


def test_closing_a_session_ends_its_leases_politely_and_then_the_connection(served) -> None:
    client = served.open_session()
    client.acquire(streams(3), request_id=1)
    assert client.connection.ask(close_session=session_pb2.CloseSession()).WhichOneof("body") == "session_closed"
    assert client.connection.is_closed_by_peer()
    assert served.engine.ledger.leases == {}
    assert served.engine.log.past(1)[0].cause == "session closed"
    assert reason_of(attaching(client, served.connect())) == "SESSION_UNKNOWN"


def test_two_goodbyes_in_one_piece_are_one(served, witness) -> None:
    client = served.open_session()
    client.acquire(streams(), request_id=1)
    client.connection.send(framed(correlation_id=1, close_session=session_pb2.CloseSession()) * 2)
    assert client.connection.receive().WhichOneof("body") == "session_closed"
    assert client.connection.is_closed_by_peer()
    assert witness.is_served()


# Windows.


def test_windows_arrive_as_sealed_files_of_the_right_sizes(served) -> None:
    client = served.open_session()
    lease = client.acquire(memory(2), streams(), memory(5), request_id=1)
    client.connection.send(framed(correlation_id=1, fetch_windows=session_pb2.FetchWindows(lease_id=lease.id)))
    frame, descriptors = client.connection.receive_with_descriptors()
    try:
        assert [(one.allotment_index, one.size_bytes) for one in frame.windows.windows] == [(0, 131072), (2, 327680)]
        assert {one.lease_id for one in frame.windows.windows} == {lease.id}
        assert [os.fstat(fd).st_size for fd in descriptors] == [131072, 327680]
        for fd in descriptors:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    finally:
        for fd in descriptors:
            os.close(fd)


def test_a_lease_without_memory_has_no_windows(served) -> None:
    client = served.open_session()
    lease = client.acquire(streams(), request_id=1)
    answer = client.connection.ask(fetch_windows=session_pb2.FetchWindows(lease_id=lease.id))
    assert answer.WhichOneof("body") == "windows"
    assert list(answer.windows.windows) == []


@pytest.mark.parametrize("lease_id", ["", "L1000", "L1\0", "x" * 60_000])
def test_windows_of_no_lease_are_refused_and_the_connection_goes_on(served, lease_id) -> None:
    client = served.open_session()
    answer = client.connection.ask(fetch_windows=session_pb2.FetchWindows(lease_id=lease_id))
    assert reason_of(answer) == "LEASE_NOT_FOUND"
    assert client.is_served()


def test_windows_of_anothers_lease_are_refused(served, witness) -> None:
    lease = witness.acquire(memory(1), request_id=1)
    thief = served.open_session()
    thief.connection.send(framed(correlation_id=1, fetch_windows=session_pb2.FetchWindows(lease_id=lease.id)))
    frame, descriptors = thief.connection.receive_with_descriptors()
    assert reason_of(frame) == "NOT_OWNER"
    assert descriptors == []


def test_a_keepalive_of_anothers_lease_is_refused(served, witness) -> None:
    lease = witness.acquire(streams(), request_id=1)
    answer = served.open_session().connection.ask(keep_alive=rm_pb.KeepAliveRequest(lease_ids=[lease.id]))
    assert reason_of(answer) == "NOT_OWNER"


def test_as_many_windows_as_one_frame_may_carry_arrive_together(served) -> None:
    client = served.open_session()
    lease = client.acquire(*[memory(1)] * limits.CLAIMS_PER_REQUEST_MAX, request_id=1)
    client.connection.send(framed(correlation_id=1, fetch_windows=session_pb2.FetchWindows(lease_id=lease.id)))
    frame, descriptors = client.connection.receive_with_descriptors()
    for fd in descriptors:
        os.close(fd)
    assert len(descriptors) == len(frame.windows.windows) == limits.CLAIMS_PER_REQUEST_MAX


# What is not kept.


def test_descriptors_that_belong_to_no_frame_cost_their_sender_the_connection_and_are_not_kept(served, witness) -> None:
    before = descriptor_count()
    frame = framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest())
    for _ in range(20):
        client = served.open_session(witness.stub)
        with open("/dev/null") as null:
            socket.send_fds(client.connection.socket, [frame], [null.fileno()] * 50)
        assert client.connection.receive().WhichOneof("body") == "keep_alive"
        assert reason_of(client.connection.receive()) == "INVALID_REQUEST"
        assert client.connection.is_closed_by_peer()
        with served.connect() as again:
            assert attaching(client, again).session_opened.session_id == client.id
            again.ask(close_session=session_pb2.CloseSession())
        client.connection.socket.close()
    served.until(lambda: descriptor_count() == before)


def test_connections_and_sessions_that_ended_leave_no_descriptor(served, witness) -> None:
    before = descriptor_count()
    for index in range(30):
        connection = served.connect()
        if index % 3:
            greeting(connection)
        if index % 3 == 2:
            connection.ask(close_session=session_pb2.CloseSession())
        connection.socket.close()
    served.until(lambda: len(served.server._session_socket._connections) == 1)
    left = sum(1 for index in range(30) if index % 3 == 1)
    assert descriptor_count() == before + left, "an open session has its pidfd and nothing else"
