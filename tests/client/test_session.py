"""The client's end of the session socket, against a server that does what a test tells it to."""

import contextlib
import os
import queue
import shutil
import socket
import struct
import tempfile
import threading
from pathlib import Path

import pytest

import leasehold
from leasehold.session import SessionLink
from rmapi.v1 import session_pb2 as pb
from rmapi.v1 import types_pb2
from support.waiting import in_thread

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
        threading.Thread(target=self._serve, daemon=True).start()

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
        self._listener.close()
        self.script.put(None)
        for connection in self._accepted:
            connection.close()
        shutil.rmtree(self.directory)


@pytest.fixture
def server():
    made = ScriptedServer()
    yield made
    made.close()


class ScriptedOwner:
    """Notes what it is told; has the leases and windows that a test gives it."""

    def __init__(self):
        self.told = queue.SimpleQueue()
        self.lease_ids, self.ttl_s = (), 30.0
        self.windows = {}

    def _on_lost(self, lease_id, cause):
        self.told.put(("lost", lease_id, cause))

    def _on_revoking(self, lease_id, cause):
        self.told.put(("revoking", lease_id, cause))

    def _on_session_lost(self, cause):
        self.told.put(("session lost", cause))

    def _leases_to_renew(self):
        return self.lease_ids, self.ttl_s

    def _windows_held(self):
        for lease_id, descriptors in self.windows.items():
            yield lease_id, {index: os.dup(fd) for index, fd in descriptors.items()}


@pytest.fixture
def owner():
    return ScriptedOwner()


@pytest.fixture
def link_to(monkeypatch, owner):
    monkeypatch.setattr("leasehold.session.CALL_S", 0.2)  # nobody answers the goodbye
    monkeypatch.setattr("leasehold.session._GOODBYE_S", 0.2)
    monkeypatch.setattr("leasehold.server.HANDSHAKE_S", 1.0)
    links = []

    def make(server):
        links.append(SessionLink(server.directory, owner))
        return links[-1]

    yield make
    for link in links:
        if link._thread.is_alive():
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


def test_a_goodbye_that_is_answered_is_the_last_word(server, link_to):
    server.script.put(opened("S1"))
    link = link_to(server)
    connection = server.connections.get(timeout=DEADLINE_S)
    goodbye = in_thread(link.close)
    frame = pb.ClientFrame()
    while frame.WhichOneof("body") != "close_session":
        frame, _ = next_frame(connection)
    connection.sendall(
        frame_bytes(pb.ServerFrame(correlation_id=frame.correlation_id, session_closed=pb.SessionClosed()))
    )
    connection.close()
    goodbye()

    assert [server.asked.get_nowait()] == ["open_session"]
    assert server.asked.empty()
