"""The client's end of the session socket, against a server that does what a test tells it to."""

import contextlib
import errno
import os
import queue
import shutil
import socket
import struct
import tempfile
import threading
import types
from pathlib import Path

import pytest

import leasehold
from leasehold.server import connect_to_server
from leasehold.session import SessionLink
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb
from rmapi.v1 import types_pb2
from support.waiting import in_thread, until

DEADLINE_S = 20
QUOTA = pb.ServerFrame(fault=pb.Fault(detail=types_pb2.ErrorDetail(reason="QUOTA_EXCEEDED", message="full")))


def opened(session_id, *, epoch=1):
    told = pb.SessionOpened(session_id=session_id, session_secret="s", pid=1, daemon_epoch=epoch)
    return pb.ServerFrame(session_opened=told)


def frame_bytes(frame):
    body = frame.SerializeToString()
    return struct.pack(">I", len(body)) + body


def next_frame(connection):
    """The next frame that the client sends, and the descriptors that come with it."""
    connection.settimeout(DEADLINE_S)
    head, fds, _, _ = socket.recv_fds(connection, 4, 16)
    return pb.ClientFrame.FromString(connection.recv(struct.unpack(">I", head)[0])), fds


class ScriptedServer:
    """Answers the first frame of each connection as its script says; None: hangs up."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="lh-"))
        self.script = queue.SimpleQueue()
        self.connections = queue.SimpleQueue()
        self.asked = queue.SimpleQueue()
        self._accepted = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.directory / "session.sock"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._accepted.append(connection)
            self._answer(connection)

    def _answer(self, connection):
        with contextlib.suppress(OSError, struct.error, queue.Empty):
            connection.settimeout(DEADLINE_S)
            (length,) = struct.unpack(">I", connection.recv(4))
            self.asked.put(pb.ClientFrame.FromString(connection.recv(length)).WhichOneof("body"))
            answer = self.script.get(timeout=DEADLINE_S)
            if isinstance(answer, pb.ServerFrame):
                connection.sendall(frame_bytes(answer))
                if answer.WhichOneof("body") == "session_opened":
                    self.connections.put(connection)
                    return
            elif answer is not None:
                connection.sendall(answer)
        connection.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)  # or the thread might accept for whoever gets its descriptor next
        self.script.put(None)
        self._thread.join(3 * DEADLINE_S)
        self._listener.close()
        for connection in self._accepted:
            connection.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def server():
    made = ScriptedServer()
    yield made
    made.close()


OUT_OF_DESCRIPTORS = OSError(errno.EMFILE, "Too many open files")


class FailsTwice:
    """A function of which the first two calls find no descriptor left."""

    def __init__(self, function):
        self.function, self.call_count = function, 0

    def __call__(self, *arguments):
        self.call_count += 1
        if self.call_count <= 2:
            raise OUT_OF_DESCRIPTORS
        return self.function(*arguments)


class ScriptedOwner:
    """Notes what it is told; has the leases and windows that a test gives it."""

    def __init__(self):
        self.told = queue.SimpleQueue()
        self.asked_count = 0
        self.lease_ids, self.ttl_s = (), 30.0
        self.windows = {}

    def _on_lost(self, lease_id, cause):
        self.told.put(("lost", lease_id, cause))

    def _on_revoking(self, lease_id, cause):
        self.told.put(("revoking", lease_id, cause))

    def _on_session_lost(self, cause):
        self.told.put(("session lost", cause))

    def _leases_to_renew(self):
        self.asked_count += 1
        return self.lease_ids, self.ttl_s

    def _windows_held(self):
        for lease_id, descriptors in self.windows.items():
            yield lease_id, {index: os.dup(fd) for index, fd in descriptors.items()}


@pytest.fixture
def owner():
    return ScriptedOwner()


@pytest.fixture
def link_to(monkeypatch, owner, server):
    monkeypatch.setattr("leasehold.session.CALL_S", 0.2)  # nobody answers the goodbye
    monkeypatch.setattr("leasehold.session._GOODBYE_S", 0.2)
    monkeypatch.setattr("leasehold.server.HANDSHAKE_S", float(DEADLINE_S))
    links = []

    def make(server):
        links.append(SessionLink(server.directory, owner))
        return links[-1]

    yield make
    for link in links:
        if link._thread.is_alive():
            for _ in range(100):  # whoever connects anew meanwhile is hung up on at once
                server.script.put(None)
            link.close()


def test_a_broken_connection_is_made_anew_with_the_same_session(server, link_to):
    for _ in range(2):
        server.script.put(opened("S1"))
    link = link_to(server)
    server.connections.get(timeout=DEADLINE_S).close()
    server.connections.get(timeout=DEADLINE_S).close()

    assert [server.asked.get(timeout=DEADLINE_S) for _ in range(2)] == ["open_session", "attach_session"]
    assert link.session_id == "S1"


def test_a_refusal_while_reconnecting_is_tried_again(server, link_to, owner):
    for answer in (opened("S1"), QUOTA, None, b"\0\0\0\2\xff\xff", opened("S2")):
        server.script.put(answer)
    link = link_to(server)
    server.connections.get(timeout=DEADLINE_S).close()
    server.connections.get(timeout=DEADLINE_S)

    kind, cause = owner.told.get(timeout=DEADLINE_S)
    assert (kind, "restarted" in cause) == ("session lost", True)
    link.wait_for_other_session("S1", DEADLINE_S)
    assert link.session_id == "S2"


@pytest.mark.parametrize(("epoch", "first_words"), [(2, ["return_windows", "keep_alive"]), (1, ["keep_alive"])])
def test_windows_go_back_to_a_daemon_that_was_restarted_before_anything_else_is_said(
    server, link_to, owner, epoch, first_words
):
    fds = [os.memfd_create(name) for name in ("first", "second")]
    owner.windows = {"L7": {0: fds[0], 3: fds[1]}}
    owner.lease_ids = ("L7",)
    for answer in (opened("S1"), opened("S1", epoch=epoch)):
        server.script.put(answer)
    link_to(server)
    server.connections.get(timeout=DEADLINE_S).close()
    connection = server.connections.get(timeout=DEADLINE_S)
    for kind in first_words:
        frame, received = next_frame(connection)
        assert frame.WhichOneof("body") == kind
        if kind == "return_windows":
            assert (frame.return_windows.lease_id, list(frame.return_windows.allotment_indexes)) == ("L7", [0, 3])
            assert [os.fstat(fd).st_ino for fd in received] == [os.fstat(fd).st_ino for fd in fds]
        for fd in received:
            os.close(fd)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("place", ["leasehold.session.connect_to_server", "leasehold.server.socket"])
def test_a_process_without_descriptors_tries_to_reconnect_until_it_has_one(server, link_to, owner, monkeypatch, place):
    for _ in range(2):
        server.script.put(opened("S1"))
    link = link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)
    if place == "leasehold.server.socket":
        failing = FailsTwice(socket.socket)
        monkeypatch.setattr(place, types.SimpleNamespace(**vars(socket) | {"socket": failing}))
    else:
        failing = FailsTwice(connect_to_server)
        monkeypatch.setattr(place, failing)
    connection.close()
    connection = server.connections.get(timeout=DEADLINE_S)

    assert next_frame(connection)[0].WhichOneof("body") == "keep_alive"
    assert failing.call_count == 3
    assert [server.asked.get_nowait() for _ in range(2)] == ["open_session", "attach_session"]
    assert (link.session_id, owner.told.empty()) == ("S1", True)


def test_a_reading_thread_that_fails_says_that_the_session_is_lost(server, link_to, owner, monkeypatch):
    raised = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.put(told.exc_type))
    monkeypatch.setattr(owner, "_on_revoking", lambda lease_id, cause: 1 // 0)
    server.script.put(opened("S1"))
    link = link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)
    connection.sendall(frame_bytes(pb.ServerFrame(lease_revoking=pb.LeaseRevoking(lease_id="L7", cause="upgrade"))))

    kind, cause = owner.told.get(timeout=DEADLINE_S)
    assert (kind, "division" in cause) == ("session lost", True)
    assert raised.get(timeout=DEADLINE_S) is ZeroDivisionError  # it is not hidden either
    link.close()


@pytest.mark.parametrize(
    "answer",
    [
        pb.ServerFrame(keep_alive=rm_pb.KeepAliveResponse()),
        pb.ServerFrame(fault=pb.Fault(detail=types_pb2.ErrorDetail(reason="INVALID_REQUEST", message="no"))),
    ],
    ids=["an answer", "a refusal"],
)
def test_a_keepalive_follows_only_on_one_that_was_answered(server, link_to, owner, answer):
    owner.lease_ids, owner.ttl_s = ("L7",), 0.01
    server.script.put(opened("S1"))
    link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)
    first, _ = next_frame(connection)
    asked_count = owner.asked_count
    until(lambda: owner.asked_count >= asked_count + 20)  # it was due some ten times again

    connection.setblocking(False)
    with pytest.raises(BlockingIOError):
        connection.recv(1)
    connection.setblocking(True)
    answer.correlation_id = first.correlation_id
    connection.sendall(frame_bytes(answer))
    second, _ = next_frame(connection)
    assert [frame.WhichOneof("body") for frame in (first, second)] == ["keep_alive"] * 2
    assert second.correlation_id > first.correlation_id


def test_a_lease_that_comes_while_others_are_looked_up_is_renewed_in_time(server, link_to, owner, monkeypatch):
    server.script.put(opened("S1"))
    link = link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)

    def next_keepalive():
        asked, _ = next_frame(connection)
        answer = pb.ServerFrame(correlation_id=asked.correlation_id, keep_alive=rm_pb.KeepAliveResponse())
        connection.sendall(frame_bytes(answer))
        return list(asked.keep_alive.lease_ids)

    def look_up():
        monkeypatch.setattr(owner, "_leases_to_renew", lambda: (("L1",), 30.0))
        link.renew_within(1.0)  # as another thread would
        return (), 3_000.0

    assert next_keepalive() == []
    monkeypatch.setattr(owner, "_leases_to_renew", look_up)
    link.renew_within(0.0)
    assert next_keepalive() == []
    assert next_keepalive() == ["L1"]  # the next would be due in a quarter of an hour if that was not heard


def test_windows_of_which_no_copy_could_be_made_go_back_on_the_next_connection(server, link_to, owner, monkeypatch):
    fd = os.memfd_create("window")
    owner.windows = {"L7": {0: fd}, "L8": {2: fd}}
    whole = owner._windows_held

    def only_one():
        monkeypatch.setattr(owner, "_windows_held", whole)
        yield "L7", {0: os.dup(fd)}
        raise OUT_OF_DESCRIPTORS

    monkeypatch.setattr(owner, "_windows_held", only_one)
    for epoch in (1, 2, 2):
        server.script.put(opened("S1", epoch=epoch))
    link_to(server)
    server.connections.get(timeout=DEADLINE_S).close()

    assert returned_on(server.connections.get(timeout=DEADLINE_S)) == ["L7"]
    assert returned_on(server.connections.get(timeout=DEADLINE_S)) == ["L7", "L8"]
    os.close(fd)


def returned_on(connection):
    """The leases whose windows come before anything else is said on a connection, or it is hung up."""
    lease_ids = []
    connection.settimeout(DEADLINE_S)
    while connection.recv(1, socket.MSG_PEEK):
        frame, fds = next_frame(connection)
        for fd in fds:
            os.close(fd)
        if frame.WhichOneof("body") != "return_windows":
            break
        lease_ids.append(frame.return_windows.lease_id)
    return lease_ids


@pytest.mark.parametrize("answer", [None, b"\0\0\0\2\xff\xff", b"\0\0\0"])
def test_a_server_that_speaks_nonsense_is_no_daemon(server, link_to, answer):
    server.script.put(answer)

    with pytest.raises(leasehold.DaemonUnavailable, match="no daemon serves"):
        link_to(server)


def test_a_daemon_that_is_stopping_is_none(server, link_to):
    detail = types_pb2.ErrorDetail(reason="SHUTTING_DOWN", message="the daemon is shutting down")
    server.script.put(pb.ServerFrame(fault=pb.Fault(detail=detail)))

    with pytest.raises(leasehold.DaemonUnavailable, match="shutting down"):
        link_to(server)


def test_a_refused_session_is_told_as_it_is(server, link_to):
    server.script.put(QUOTA)

    with pytest.raises(leasehold.QuotaExceeded, match="full"):
        link_to(server)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (
            pb.ServerFrame(lease_ended=pb.LeaseEnded(lease_id="L7", cause="keepalive missed")),
            ("lost", "L7", "keepalive missed"),
        ),
        (
            pb.ServerFrame(lease_revoking=pb.LeaseRevoking(lease_id="L7", cause="upgrade")),
            ("revoking", "L7", "upgrade"),
        ),
    ],
)
def test_news_of_a_lease_are_passed_on(server, link_to, owner, frame, told):
    server.script.put(opened("S1"))
    link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)
    for byte in frame_bytes(frame):
        connection.send(bytes([byte]))

    assert owner.told.get(timeout=DEADLINE_S) == told
    connection.close()


def test_a_goodbye_that_is_answered_is_the_last_word(server, link_to, monkeypatch):
    monkeypatch.setattr("leasehold.session._GOODBYE_S", float(DEADLINE_S))
    server.script.put(opened("S1"))
    link = link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)
    goodbye = in_thread(link.close)
    while (frame := next_frame(connection)[0]).WhichOneof("body") != "close_session":
        pass
    answer = pb.ServerFrame(correlation_id=frame.correlation_id, session_closed=pb.SessionClosed())
    connection.sendall(frame_bytes(answer))
    connection.close()
    goodbye()

    assert [server.asked.get_nowait()] == ["open_session"]
    assert server.asked.empty()
