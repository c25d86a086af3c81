"""The client's end of the session socket, against a server that does what a test tells it to."""

import contextlib
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

DEADLINE_S = 20
QUOTA = pb.ServerFrame(fault=pb.Fault(detail=types_pb2.ErrorDetail(reason="QUOTA_EXCEEDED", message="full")))


def opened(session_id):
    return pb.ServerFrame(session_opened=pb.SessionOpened(session_id=session_id, session_secret="s", pid=1))


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
                body = answer.SerializeToString()
                connection.sendall(struct.pack(">I", len(body)) + body)
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


@pytest.fixture
def link_to(monkeypatch):
    monkeypatch.setattr("leasehold.session.CALL_S", 0.2)  # nobody answers the goodbye
    links = []

    def make(server, **callbacks):
        told = {
            "on_lost": lambda lease_id, cause: None,
            "on_session_lost": lambda cause: None,
            "leases_to_renew": lambda: ((), 30.0),
        }
        links.append(SessionLink(server.directory, **(told | callbacks)))
        return links[-1]

    yield make
    for link in links:
        link.close()


def test_a_broken_connection_is_made_anew_with_the_same_session(server, link_to):
    for _ in range(2):
        server.script.put(opened("S1"))
    link = link_to(server)
    server.connections.get(timeout=DEADLINE_S).close()
    server.connections.get(timeout=DEADLINE_S).close()

    assert [server.asked.get(timeout=DEADLINE_S) for _ in range(2)] == ["open_session", "attach_session"]
    assert link.session_id == "S1"


def test_a_refusal_while_reconnecting_is_tried_again(server, link_to):
    lost = queue.SimpleQueue()
    for answer in (opened("S1"), QUOTA, None, b"\0\0\0\2\xff\xff", opened("S2")):
        server.script.put(answer)
    link = link_to(server, on_session_lost=lost.put)
    server.connections.get(timeout=DEADLINE_S).close()
    server.connections.get(timeout=DEADLINE_S)

    assert "restarted" in lost.get(timeout=DEADLINE_S)
    link.wait_for_other_session("S1", DEADLINE_S)
    assert link.session_id == "S2"


@pytest.mark.parametrize("answer", [None, b"\0\0\0\2\xff\xff", b"\0\0\0"])
def test_a_server_that_speaks_nonsense_is_no_daemon(server, link_to, answer):
    server.script.put(answer)

    with pytest.raises(leasehold.DaemonUnavailable, match="no daemon serves"):
        link_to(server)


def test_a_refused_session_is_told_as_it_is(server, link_to):
    server.script.put(QUOTA)

    with pytest.raises(leasehold.QuotaExceeded, match="full"):
        link_to(server)


def test_news_of_a_lost_lease_are_passed_on(server, link_to):
    lost = queue.SimpleQueue()
    server.script.put(opened("S1"))
    link_to(server, on_lost=lambda *what: lost.put(what))
    connection = server.connections.get(timeout=DEADLINE_S)
    frame = pb.ServerFrame(lease_ended=pb.LeaseEnded(lease_id="L7", cause="keepalive missed")).SerializeToString()
    for byte in struct.pack(">I", len(frame)) + frame:
        connection.send(bytes([byte]))

    assert lost.get(timeout=DEADLINE_S) == ("L7", "keepalive missed")
    connection.close()
