"""The session socket after a restart of the daemon, and while the disk is slow: windows come back, answers wait."""

import os
import socket

import pytest

from rm.core import limits
from rm.core.types import NS_PER_S
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2
from support.books import restored
from support.daemon_parts import GatedStore
from support.descriptors import descriptor_count
from support.served import DEADLINE_S, Client, attaching, framed, memory, seconds, serving, streams
from support.windows import Keeper

OPEN = session_pb2.OpenSession(protocol_version=1)


def reason_of(frame: session_pb2.ServerFrame) -> str:
    assert frame.WhichOneof("body") == "fault", frame
    return frame.fault.detail.reason


def fetched(client: Client, lease_id: str) -> tuple[session_pb2.ServerFrame, list[int]]:
    client.connection.send(framed(fetch_windows=session_pb2.FetchWindows(lease_id=lease_id)))
    return client.connection.receive_with_descriptors()


def returning(client: Client, lease_id: str, indexes: list[int], fds: list[int]) -> session_pb2.ServerFrame:
    frame = framed(
        correlation_id=4,
        return_windows=session_pb2.ReturnWindows(lease_id=lease_id, allotment_indexes=indexes),
    )
    socket.send_fds(client.connection.socket, [frame], fds)
    return client.connection.receive()


class Restarted:
    """A client over a restart of the daemon, with the windows of its lease in its hands."""

    def __init__(self, tmp_path) -> None:
        with serving(tmp_path) as before:
            client = before.open_session()
            self.lease = client.acquire(memory(1), streams(), memory(2), request_id=1)
            _, self.fds = fetched(client, self.lease.id)
            ledger = before.call(restored, before.engine.ledger)
        self.client = client
        self._serving = serving(tmp_path, ledger=ledger)

    def __enter__(self) -> "Restarted":
        self.served = self._serving.__enter__()
        self.client = Client(self.served.connect(), self.client.id, self.client.secret, self.served.stub())
        self.opened = attaching(self.client, self.client.connection).session_opened
        return self

    def __exit__(self, *fault: object) -> None:
        for fd in self.fds:
            os.close(fd)
        self._serving.__exit__(*fault)


@pytest.fixture
def restarted(tmp_path):
    with Restarted(tmp_path) as made:
        yield made
        assert made.client.is_served()


# Windows come back.


def test_the_same_process_attaches_after_a_restart_and_sees_that_there_was_one(restarted) -> None:
    assert (restarted.opened.session_id, restarted.opened.daemon_epoch) == (restarted.client.id, 2)
    keepalive = rm_pb.KeepAliveRequest(lease_ids=[restarted.lease.id])
    assert list(restarted.client.call("KeepAlive", keepalive).lost_lease_ids) == []


def test_windows_that_are_returned_are_the_daemons_again_and_can_be_fenced(restarted) -> None:
    answer = returning(restarted.client, restarted.lease.id, [0, 2], restarted.fds)
    assert (answer.correlation_id, answer.windows_returned.lease_id) == (4, restarted.lease.id)
    _, again = fetched(restarted.client, restarted.lease.id)
    assert [os.fstat(fd).st_ino for fd in again] == [os.fstat(fd).st_ino for fd in restarted.fds]
    for fd in again:
        os.close(fd)
    engine = restarted.served.engine
    restarted.served.call(lambda: engine.end_session(restarted.client.id, "process died", is_violent=True))
    assert [os.fstat(fd).st_size for fd in restarted.fds] == [0, 0]
    assert engine.ledger.quarantine == {}


def test_returning_again_or_one_by_one_is_fine_and_keeps_no_descriptor_twice(restarted) -> None:
    before = descriptor_count()
    for index, fd in ((2, restarted.fds[1]), (0, restarted.fds[0]), (0, restarted.fds[0])):
        assert returning(restarted.client, restarted.lease.id, [index], [fd]).WhichOneof("body") == "windows_returned"
    assert descriptor_count() == before + 2


def test_as_many_windows_as_one_frame_may_carry_are_returned_together(served, witness) -> None:
    lease = witness.acquire(*[memory(1)] * limits.DESCRIPTORS_PER_FRAME_MAX, request_id=1)
    frame, fds = fetched(witness, lease.id)
    assert witness.is_served()  # and so the daemon has closed its copies
    before = descriptor_count()
    indexes = [window.allotment_index for window in frame.windows.windows]
    assert returning(witness, lease.id, indexes, fds).WhichOneof("body") == "windows_returned"
    assert descriptor_count() == before
    for fd in fds:
        os.close(fd)


def test_a_frame_with_windows_may_come_in_pieces_and_behind_others(restarted) -> None:
    connection, lease_id = restarted.client.connection, restarted.lease.id
    connection.send(framed(correlation_id=1, keep_alive=rm_pb.KeepAliveRequest(lease_ids=[lease_id])))
    asked = session_pb2.ReturnWindows(lease_id=lease_id, allotment_indexes=[0, 2])
    first, *rest = framed(correlation_id=2, return_windows=asked)
    socket.send_fds(connection.socket, [bytes([first])], restarted.fds)
    for byte in rest:
        connection.send(bytes([byte]))
    connection.send(framed(correlation_id=3, keep_alive=rm_pb.KeepAliveRequest(lease_ids=[lease_id])))
    assert [connection.receive().correlation_id for _ in range(3)] == [1, 2, 3]
    assert len(restarted.served.engine.backend.windows(lease_id)) == 2


def another_file(fds: list[int]) -> int:
    fd = os.memfd_create("leasehold-L1-0")
    os.ftruncate(fd, os.fstat(fds[0]).st_size)
    return fd


def one_that_has_shrunk(fds: list[int]) -> int:
    os.ftruncate(fds[0], 1)
    return os.dup(fds[0])


def one_that_is_open_for_reading_only(fds: list[int]) -> int:
    return os.open(f"/proc/self/fd/{fds[0]}", os.O_RDONLY)


def the_other_window(fds: list[int]) -> int:
    return os.dup(fds[1])


@pytest.mark.parametrize(
    "make_wrong", [another_file, one_that_has_shrunk, one_that_is_open_for_reading_only, the_other_window]
)
def test_what_is_not_the_window_is_refused_and_the_connection_goes_on(restarted, make_wrong) -> None:
    before = descriptor_count()
    wrong = make_wrong(restarted.fds)
    assert reason_of(returning(restarted.client, restarted.lease.id, [0], [wrong])) == "INVALID_REQUEST"
    os.close(wrong)
    assert descriptor_count() == before
    assert restarted.served.engine.backend.windows(restarted.lease.id) == []


def test_after_a_wrong_one_the_rest_of_the_frame_is_not_kept(restarted) -> None:
    before = descriptor_count()
    assert reason_of(returning(restarted.client, restarted.lease.id, [2, 0], restarted.fds)) == "INVALID_REQUEST"
    assert descriptor_count() == before


@pytest.mark.parametrize(("indexes", "count"), [([0, 2], 1), ([0], 2), ([], 1), ([0] * 65, 64), ([0], 0)])
def test_too_few_or_too_many_descriptors_cost_the_connection_and_none_is_kept(restarted, indexes, count) -> None:
    before = descriptor_count()
    own = restarted.served.connect()
    other = Client(own, restarted.client.id, restarted.client.secret, restarted.client.stub)
    attaching(other, own)
    fds = [restarted.fds[0]] * count
    frame = framed(return_windows=session_pb2.ReturnWindows(lease_id=restarted.lease.id, allotment_indexes=indexes))
    socket.send_fds(own.socket, [frame], fds)
    answer = own.receive()
    if answer.WhichOneof("body") == "windows_returned":  # those that belong to it were right
        answer = own.receive()
    assert reason_of(answer) == "INVALID_REQUEST"
    assert own.is_closed_by_peer()
    own.socket.close()
    restarted.client.connection = restarted.served.connect()
    attaching(restarted.client, restarted.client.connection)
    kept = len(restarted.served.engine.backend.windows(restarted.lease.id))
    restarted.served.until(lambda: descriptor_count() == before + kept)


@pytest.mark.parametrize(("lease_id", "reason"), [("", "NOT_OWNER"), ("L77", "LEASE_NOT_FOUND")])
def test_windows_of_a_lease_of_somebody_else_or_of_nobody_are_not_taken(restarted, lease_id, reason) -> None:
    stranger = restarted.served.open_session(restarted.client.stub)
    before = descriptor_count()
    answer = returning(stranger, lease_id or restarted.lease.id, [0, 2], restarted.fds)
    assert reason_of(answer) == reason
    assert descriptor_count() == before
    assert stranger.is_served()


def test_windows_come_from_nobody_before_the_greeting(restarted) -> None:
    connection = restarted.served.connect()
    frame = framed(return_windows=session_pb2.ReturnWindows(lease_id=restarted.lease.id, allotment_indexes=[0]))
    socket.send_fds(connection.socket, [frame], restarted.fds[:1])
    assert reason_of(connection.receive()) == "INVALID_REQUEST"
    assert connection.is_closed_by_peer()


def test_windows_that_were_lost_before_anybody_had_them_are_made_anew(restarted) -> None:
    frame, fds = fetched(restarted.client, restarted.lease.id)
    assert [one.allotment_index for one in frame.windows.windows] == [0, 2]
    assert {os.fstat(fd).st_ino for fd in fds}.isdisjoint({os.fstat(fd).st_ino for fd in restarted.fds})
    marks = restarted.served.engine.ledger.leases[restarted.lease.id].windows
    assert [mark.inode for mark in marks] == [os.fstat(fd).st_ino for fd in fds]
    for fd in fds:
        os.close(fd)


def test_windows_that_somebody_has_are_not_made_anew(restarted) -> None:
    revision = restarted.served.engine.ledger.revision
    with Keeper("maps", restarted.fds[1]):
        answer, fds = fetched(restarted.client, restarted.lease.id)
    assert (reason_of(answer), fds) == ("CARD_FAILED", [])
    assert restarted.served.engine.ledger.revision == revision


# A lease that is to end.


def test_who_comes_back_is_told_again_which_leases_are_to_end_and_how_long_they_have(served) -> None:
    client = served.open_session()
    leases = [client.acquire(streams(), request_id=1 + index, ttl_duration=seconds(2 + index)) for index in range(3)]
    served.pass_time(s=2)
    assert client.connection.receive().lease_revoking.lease_id == leases[0].id
    client.connection.socket.close()
    served.pass_time(s=1)
    newer = served.connect()
    assert attaching(client, newer).WhichOneof("body") == "session_opened"
    told = [newer.receive().lease_revoking for _ in range(2)]
    notice_s = limits.NOTICE_NS_DEFAULT / NS_PER_S
    assert [one.lease_id for one in told] == [leases[0].id, leases[1].id]
    assert [one.notice_duration for one in told] == [seconds(notice_s - 1), seconds(notice_s)]
    assert {one.cause for one in told} == {"keepalive missed"}


# Releases.


def release(client: Client, **target) -> session_pb2.ServerFrame:
    return client.connection.ask(release=rm_pb.ReleaseRequest(**target))


def test_a_lease_is_released_on_the_session_socket_as_through_the_other_door(served) -> None:
    client = served.open_session()
    first = client.acquire(streams(), request_id=1)
    client.acquire(streams(), request_id=2)
    assert release(client, lease_id=first.id).release.released is True
    assert release(client, lease_id=first.id).release.released is False
    answer = release(client, request_id=2)
    assert answer.release.released is True
    assert answer.release.revision == served.engine.ledger.revision
    assert served.engine.ledger.leases == {}


def test_a_release_that_is_refused_says_why_and_the_connection_goes_on(served, witness) -> None:
    lease = witness.acquire(streams(), request_id=1)
    client = served.open_session()
    assert reason_of(release(client, lease_id=lease.id)) == "NOT_OWNER"
    assert reason_of(release(client, lease_id="L77")) == "LEASE_NOT_FOUND"
    assert reason_of(release(client, request_id=-1)) == "INVALID_REQUEST"
    assert reason_of(release(client)) == "INVALID_REQUEST"
    assert client.is_served()


# A slow disk.


@pytest.fixture
def store():
    return GatedStore(is_held=False)


@pytest.fixture
def slow(tmp_path, store):
    with serving(tmp_path, store=store) as running:
        yield running


def test_frames_behind_an_open_session_are_heard_when_it_is_safe_who_sends_them(slow, store) -> None:
    store.is_held = True
    connection = slow.connect()
    frames = [framed(correlation_id=2 + index, keep_alive=rm_pb.KeepAliveRequest()) for index in range(20)]
    connection.send(framed(correlation_id=1, open_session=OPEN) + b"".join(frames))
    slow.until(lambda: len(slow.server._sessions) == 1)
    connection.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        connection.receive()
    connection.socket.settimeout(DEADLINE_S)
    slow.call(store.sync)
    assert [connection.receive().correlation_id for _ in range(21)] == list(range(1, 22))


def test_a_client_that_hangs_up_before_it_is_safe_who_it_is_leaves_nothing_behind(slow, store) -> None:
    store.is_held = True
    connection = slow.connect()
    connection.send(framed(correlation_id=1, open_session=OPEN))
    slow.until(lambda: len(slow.server._sessions) == 1)
    connection.socket.close()
    slow.until(lambda: not slow.server._session_socket._connections)
    slow.call(store.sync)
    slow.until(lambda: len(slow.server._sessions) == 0)
    assert (slow.engine.ledger.sessions, slow.server._session_socket._by_session) == ({}, {})
    slow.call(store.sync)


def test_a_keepalive_on_the_session_socket_is_answered_while_a_release_waits_for_the_disk(slow, store) -> None:
    client = slow.open_session()
    lease = client.acquire(streams(), request_id=1)
    store.is_held = True
    client.connection.send(framed(correlation_id=8, release=rm_pb.ReleaseRequest(lease_id=lease.id)))
    assert client.connection.ask(keep_alive=rm_pb.KeepAliveRequest()).correlation_id == 7
    slow.call(store.sync)
    assert client.connection.receive().correlation_id == 8


def test_who_asks_for_more_than_the_disk_answers_is_heard_no_further_until_it_has(slow, store, monkeypatch) -> None:
    monkeypatch.setattr(limits, "FRAMES_UNANSWERED_MAX", 5)
    client, other = slow.open_session(), slow.open_session()
    store.is_held = True
    client.connection.send(framed(correlation_id=99, release=rm_pb.ReleaseRequest(request_id=1)) * 50)
    connection = slow.call(lambda: slow.server._session_socket._by_session[client.id])
    slow.until(lambda: len(connection.calls) == 5)
    assert other.is_served()
    assert len(connection.calls) == 5
    store.is_held = False
    slow.call(store.sync)
    assert {client.connection.receive().correlation_id for _ in range(50)} == {99}
    assert client.is_served()


def test_a_lease_that_ends_while_its_windows_are_on_their_way_has_none_any_more(slow, store) -> None:
    client = slow.open_session()
    lease = client.acquire(memory(1), request_id=1)
    store.is_held = True
    for frame in (
        framed(correlation_id=1, release=rm_pb.ReleaseRequest(request_id=77)),  # something for the disk to do
        framed(correlation_id=2, fetch_windows=session_pb2.FetchWindows(lease_id=lease.id)),
        framed(correlation_id=3, release=rm_pb.ReleaseRequest(lease_id=lease.id)),
    ):
        client.connection.send(frame)
    slow.until(lambda: not slow.engine.ledger.leases)
    slow.call(store.sync)
    answers = {(answer := client.connection.receive()).correlation_id: answer for _ in range(3)}
    assert reason_of(answers[2]) == "LEASE_NOT_FOUND"
    assert answers[3].release.released is True
