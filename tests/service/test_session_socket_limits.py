"""The session socket at its limits: full queues, full tables, and a host that has run out of descriptors."""

import os
import socket

import pytest

from rm.core import limits
from rm.core.types import NS_PER_S
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2
from support.descriptors import descriptor_count
from support.served import DEADLINE_S, attaching, framed, greeting, memory, streams


def reason_of(frame: session_pb2.ServerFrame) -> str:
    assert frame.WhichOneof("body") == "fault", frame
    return frame.fault.detail.reason


def flood(connection, frame: bytes, count: int) -> None:
    """Sends and never reads, until the daemon has had enough."""
    for _ in range(count):
        try:
            connection.send(frame)
        except (ConnectionError, TimeoutError):
            return


def big_question() -> bytes:
    """A frame whose answer is as long as itself."""
    return framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest(lease_ids=["x" * 1000] * 60))


def test_who_asks_and_does_not_read_is_heard_no_further_and_gets_every_answer_when_it_does(served, witness) -> None:
    client = served.open_session()
    connection = served.call(lambda: served.server._session_socket._by_session[client.id])
    client.connection.send(big_question() * 4)
    client.connection.socket.settimeout(0.3)
    flood(client.connection, big_question(), 200)
    assert witness.is_served()
    assert served.call(lambda: connection.outbox.queued_bytes) <= 2 * limits.FRAME_BYTES_MAX
    assert served.call(lambda: len(connection._received)) <= 4 * limits.FRAME_BYTES_MAX
    client.connection.socket.settimeout(DEADLINE_S)
    for _ in range(4):
        assert len(client.connection.receive().keep_alive.lost_lease_ids) == 60


def test_a_client_that_is_told_more_than_it_reads_is_closed_and_may_attach_again(served, witness) -> None:
    client = served.open_session()
    connection = stuff(served, client)
    told = session_pb2.ServerFrame(lease_ended=session_pb2.LeaseEnded(lease_id="L1", cause="x" * 1_000))
    for _ in range(limits.FRAMES_QUEUED_BYTES_MAX // 1_000):
        served.call(connection.send, told)
    assert client.connection.is_closed_by_peer()
    assert witness.is_served()
    assert attaching(client, served.connect()).session_opened.session_id == client.id


def test_bytes_that_are_queued_are_counted_as_they_are_sent(served) -> None:
    client = served.open_session()
    connection = stuff(served, client)
    while served.call(lambda: connection.outbox):
        client.connection.receive()
    assert served.call(lambda: connection.outbox.queued_bytes) == 0


def test_many_frames_in_one_piece_leave_the_others_their_turns(served, witness) -> None:
    client = served.open_session()
    connection = served.call(lambda: served.server._session_socket._by_session[client.id])
    frames = framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest()) * 5_000
    client.connection.send(frames[:60_000])
    assert witness.is_served()
    assert served.call(lambda: connection.is_open)


def stuff(served, client):
    """Tells a client that does not read of a lost lease until no more fits; answers its connection in the daemon."""
    lease = served.engine.ledger.leases[client.acquire(streams(), request_id=1).id]
    session_socket = served.server._session_socket
    connection = served.call(lambda: session_socket._by_session[client.id])
    while not served.call(lambda: connection.outbox):
        served.call(served.engine.news.lost, lease, "x" * 1_000)
    return connection


def test_who_fetches_windows_and_never_reads_holds_those_of_one_answer(served, witness) -> None:
    client = served.open_session()
    lease = client.acquire(*[memory(1)] * limits.DESCRIPTORS_PER_FRAME_MAX, request_id=1)
    assert witness.is_served()
    before = descriptor_count()
    connection = served.call(lambda: served.server._session_socket._by_session[client.id])
    fetch = framed(correlation_id=1, fetch_windows=session_pb2.FetchWindows(lease_id=lease.id))
    client.connection.send(fetch * 1_000)
    served.until(lambda: connection.outbox)
    assert witness.is_served()
    assert descriptor_count() <= before + limits.DESCRIPTORS_PER_FRAME_MAX
    for _ in range(1_000):
        frame, descriptors = client.connection.receive_with_descriptors()
        for fd in descriptors:
            os.close(fd)
        assert len(descriptors) == len(frame.windows.windows) == limits.DESCRIPTORS_PER_FRAME_MAX
    served.until(lambda: descriptor_count() == before)


def test_who_has_more_descriptors_queued_than_the_limit_is_closed_and_none_is_kept(served, witness) -> None:
    client = served.open_session()
    connection = stuff(served, client)
    before = descriptor_count()
    batch = [0] * limits.DESCRIPTORS_PER_FRAME_MAX
    for _ in range(limits.DESCRIPTORS_QUEUED_MAX // len(batch)):
        served.call(connection.send, session_pb2.ServerFrame(), batch)
    assert descriptor_count() == before + limits.DESCRIPTORS_QUEUED_MAX
    served.call(connection.send, session_pb2.ServerFrame(), [0])
    assert descriptor_count() < before
    assert client.connection.is_closed_by_peer()


def test_who_reads_late_but_within_the_limit_gets_every_answer(served) -> None:
    client = served.open_session()
    for _ in range(3):
        client.connection.send(big_question())
    answers = [client.connection.receive() for _ in range(3)]
    assert {len(answer.keep_alive.lost_lease_ids) for answer in answers} == {60}


def test_who_was_refused_and_does_not_read_cannot_make_the_daemon_keep_what_it_sends(served, witness) -> None:
    client = served.open_session()
    socket_of = served.server._session_socket
    connection = served.call(lambda: socket_of._by_session[client.id])
    while not served.call(lambda: connection.outbox):  # until an answer does not fit any more
        client.connection.send(big_question())
    client.connection.send(b"\xff" * 4)
    client.connection.socket.settimeout(0.3)
    flood(client.connection, b"\xff" * 60_000, 100)
    assert served.call(lambda: len(connection._received)) <= 2 * limits.FRAME_BYTES_MAX
    assert witness.is_served()


def test_one_connection_above_the_limit_is_closed_and_a_free_place_is_given_on(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)
    second, third = served.open_session(), served.open_session()
    assert served.connect().is_closed_by_peer()
    assert second.is_served()
    third.connection.socket.close()
    served.until(lambda: len(served.server._session_socket._connections) == 2)
    greeting(served.connect())


def test_one_connection_of_a_user_above_its_limit_is_closed_and_one_that_ends_makes_room(
    served, witness, monkeypatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_PER_UID_MAX", 3)
    session_socket = served.server._session_socket
    second, third = served.open_session(), served.open_session()
    before = descriptor_count()
    with served.connect() as fourth:
        assert fourth.is_closed_by_peer()
    served.until(lambda: descriptor_count() == before)  # nothing of the fourth is kept
    assert second.is_served()
    third.connection.socket.close()
    served.until(lambda: session_socket._count_by_uid == {os.getuid(): 2})
    greeting(served.connect())
    assert served.connect().is_closed_by_peer()


def test_a_part_of_a_frame_is_dropped_with_its_descriptors_when_the_rest_does_not_come(served, witness) -> None:
    client = served.open_session()
    session_socket = served.server._session_socket
    connection = served.call(lambda: session_socket._by_session[client.id])
    before = descriptor_count()
    with served.loop_time() as pass_seconds:
        socket.send_fds(client.connection.socket, [framed(keep_alive=rm_pb.KeepAliveRequest())[:3]], [0, 0, 0])
        served.until(lambda: connection._rest is not None)
        pass_seconds(limits.HANDSHAKE_NS_MAX / NS_PER_S)
        fault = client.connection.receive()
    assert (reason_of(fault), "did not come in time" in fault.fault.detail.message) == ("INVALID_REQUEST", True)
    assert client.connection.is_closed_by_peer()
    served.until(lambda: not connection.is_open)
    assert descriptor_count() == before - 2, "its socket and the pidfd of its peer are gone, and nothing is kept"
    assert attaching(client, served.connect()).session_opened.session_id == client.id


def test_a_frame_whose_rest_comes_in_time_is_answered_and_silence_after_it_costs_nothing(
    served, witness, monkeypatch
) -> None:
    client = served.open_session()
    session_socket = served.server._session_socket
    connection = served.call(lambda: session_socket._by_session[client.id])
    frame = framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest())
    client.connection.send(frame[:5])
    served.until(lambda: connection._rest is not None)
    client.connection.send(frame[5:])
    assert client.connection.receive().correlation_id == 1
    served.until(lambda: connection._rest is None)
    assert client.is_served()


def test_descriptors_before_the_greeting_cost_the_connection_and_are_not_kept(served, witness) -> None:
    before = descriptor_count()
    with served.connect() as connection:
        hello = framed(open_session=session_pb2.OpenSession(protocol_version=1))
        socket.send_fds(connection.socket, [hello], [0, 0])
        assert reason_of(connection.receive()) == "INVALID_REQUEST"
        assert connection.is_closed_by_peer()
    served.until(lambda: len(served.server._session_socket._connections) == 1)
    assert descriptor_count() == before


@pytest.mark.parametrize("answered_count", [1, limits.FRAMES_PER_TURN_MAX])
def test_nothing_more_is_awaited_of_a_client_that_is_gone_while_its_frames_are_taken(
    served, witness, monkeypatch, answered_count
) -> None:
    client = served.open_session()
    session_socket = served.server._session_socket
    connection = served.call(lambda: session_socket._by_session[client.id])
    take, taken = connection._on_frame, []

    def last_is_not_read(*frame) -> None:
        taken.append(frame)
        if len(taken) == answered_count:
            client.connection.socket.shutdown(socket.SHUT_RD)  # the answer cannot be sent
        take(*frame)

    monkeypatch.setattr(connection, "_on_frame", last_is_not_read)
    keep_alive = framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest())
    client.connection.send(keep_alive * (answered_count + 2))
    served.until(lambda: not connection.is_open)
    served.call(lambda: None)  # and one turn more
    assert connection._rest is None, "a part of a frame is awaited of a closed connection, for ever"
    assert len(taken) == min(answered_count + 2, limits.FRAMES_PER_TURN_MAX), "the answers of a turn leave together"
    assert not served.call(lambda: connection._is_taking_later)


@pytest.mark.parametrize("frame_count", [limits.FRAMES_PER_TURN_MAX, limits.FRAMES_PER_TURN_MAX + 1])
def test_a_goodbye_that_is_the_last_frame_of_a_turn_ends_the_connection(served, witness, frame_count) -> None:
    client = served.open_session()
    keep_alive = framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest())
    goodbye = framed(correlation_id=2, close_session=session_pb2.CloseSession())
    client.connection.send(keep_alive * (frame_count - 1) + goodbye)
    assert client.connection.is_closed_by_peer()
    served.until(lambda: len(served.server._session_socket._connections) == 1)


def test_one_session_above_the_limit_is_refused_and_told_why(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    second = served.open_session()
    connection = served.connect()
    answer = connection.ask(open_session=session_pb2.OpenSession(protocol_version=1))
    assert reason_of(answer) == "QUOTA_EXCEEDED"
    assert connection.is_closed_by_peer()
    second.connection.ask(close_session=session_pb2.CloseSession())
    greeting(served.connect())


@pytest.mark.parametrize("made_before", [0, 1])
def test_a_host_without_descriptors_refuses_windows_and_keeps_nothing(
    served, witness, monkeypatch, made_before
) -> None:
    client = served.open_session()
    lease = client.acquire(memory(1), memory(1), memory(1), request_id=1)
    before = descriptor_count()
    real, made = os.dup, []

    def dup(fd: int) -> int:
        if len(made) >= made_before:
            raise OSError(24, "Too many open files")
        made.append(real(fd))
        return made[-1]

    monkeypatch.setattr(os, "dup", dup)
    answer = client.connection.ask(fetch_windows=session_pb2.FetchWindows(lease_id=lease.id))
    monkeypatch.undo()
    assert reason_of(answer) == "CARD_FAILED"
    assert descriptor_count() == before
    assert client.is_served()


def test_a_host_without_descriptors_refuses_a_new_session_and_serves_the_others(served, witness, monkeypatch) -> None:
    connection = served.connect()
    served.until(lambda: len(served.server._session_socket._connections) == 2)

    def dup(fd: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", dup)
    answer = connection.ask(open_session=session_pb2.OpenSession(protocol_version=1))
    monkeypatch.undo()
    assert reason_of(answer) == "QUOTA_EXCEEDED"
    assert connection.is_closed_by_peer()


def test_a_host_without_descriptors_accepts_again_when_it_has_some(served, witness) -> None:
    session_socket = served.server._session_socket
    listener = session_socket._listener

    class Exhausted:
        """A listener that cannot accept, once."""

        def fileno(self) -> int:
            return listener.fileno()

        def accept(self) -> None:
            session_socket._listener = listener
            raise OSError(24, "Too many open files")

    session_socket._listener = Exhausted()
    greeting(served.connect())
