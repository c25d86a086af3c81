"""Sessions, as the kernel sees their processes: real sockets, real forks, real kills."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import pytest

from rm.core import limits
from rm.core.errors import NotOwner, QuotaExceeded, SessionUnknown
from rm.service.sessions import Peer, Session, Sessions, command_of, peer_of
from support.daemon_parts import run_async
from support.descriptors import descriptor_count

DEADLINE_S = 30.0
CONNECT = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
if "nobody" in sys.argv:
    os.setuid(65534)
connection.connect(sys.argv[1])
if "fork" in sys.argv and not os.fork():
    again = socket.socket(socket.AF_UNIX)
    again.connect(sys.argv[1])
sys.stdin.read()
"""


class Listener:
    """A listening socket, and the peers that were met on it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._socket.bind(path)
        self._socket.listen()
        os.chmod(path, 0o666)
        self._peers: list[Peer] = []

    def meet(self) -> Peer:
        """Who connects next."""
        connection, _ = self._socket.accept()
        with connection:
            self._peers.append(peer_of(connection))
        return self._peers[-1]

    def meet_myself(self) -> Peer:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            return self.meet()

    def close(self) -> None:
        self._socket.close()
        for peer in self._peers:
            os.close(peer.pidfd)


@pytest.fixture
def listener(tmp_path):
    tmp_path.chmod(0o755)
    made = Listener(str(tmp_path / "s"))
    yield made
    made.close()


@contextmanager
def process(listener: Listener, *words: str):
    """A child that has connected, and is dead at the end."""
    child = subprocess.Popen([sys.executable, "-c", CONNECT, listener.path, *words], stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=DEADLINE_S)


def kept(sessions: Sessions) -> set[str]:
    return set(sessions._by_id)


def nobody_dies(session: Session) -> None:
    raise AssertionError(f"{session.id} is not dead")


# Who is there.


def test_the_kernel_names_pid_and_user_of_the_peer(listener) -> None:
    with process(listener) as child:
        peer = listener.meet()
        assert (peer.pid, peer.uid) == (child.pid, os.geteuid())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes a second user")
def test_a_peer_of_another_user_is_told_apart(tmp_path) -> None:
    with tempfile.TemporaryDirectory() as directory:  # below that of pytest nobody else may look
        os.chmod(directory, 0o755)
        listener = Listener(f"{directory}/peer")
        try:
            with process(listener, "nobody") as child:
                peer = listener.meet()
                assert (peer.pid, peer.uid) == (child.pid, 65534)
        finally:
            listener.close()


def test_two_connections_of_one_process_are_one_process_and_two_processes_are_two(listener) -> None:
    first, second = listener.meet_myself(), listener.meet_myself()
    assert first.process_key == second.process_key
    with process(listener):
        assert listener.meet().process_key != first.process_key


def test_a_kernel_that_hands_out_no_pidfd_of_a_peer_is_asked_for_one_by_pid(listener, monkeypatch) -> None:
    monkeypatch.setattr("rm.service.sessions._SO_PEERPIDFD", 9_999)
    assert listener.meet_myself().process_key.pid == os.getpid()


def test_the_command_of_a_process_is_its_command_line_in_one_readable_line(listener) -> None:
    with process(listener, "\x1b[31m", "two words") as child:
        listener.meet()
        said = command_of(child.pid)
    assert said.startswith(f"{sys.executable} -c ?import os")
    assert said.isprintable()


def test_a_long_command_is_cut_and_that_of_nobody_is_empty(listener) -> None:
    with process(listener, "x" * 5_000) as child:
        listener.meet()
        assert len(command_of(child.pid)) == limits.COMMAND_CHARS_MAX
    assert command_of(2**22 + 1) == ""


# Opening, authenticating, attaching.


@run_async
async def test_a_session_is_known_by_its_id_and_secret_together(listener) -> None:
    sessions = Sessions(nobody_dies)
    first, second = (sessions.open(listener.meet_myself()) for _ in range(2))
    assert sessions.authenticate(first.id, first.secret) is first
    for session_id, secret in [
        (first.id, second.secret),
        (first.id, ""),
        (first.id, first.secret[:-1]),
        (first.id, first.secret + "0"),
        (first.id, "\N{SNOWMAN}"),
        ("", ""),
        ("S0", first.secret),
    ]:
        with pytest.raises(SessionUnknown):
            sessions.authenticate(session_id, secret)
    sessions.close_all()


@run_async
async def test_what_an_unknown_session_and_a_wrong_secret_are_told_is_the_same(listener) -> None:
    sessions = Sessions(nobody_dies)
    session = sessions.open(listener.meet_myself())
    texts = set()
    for session_id in (session.id, "S0"):
        with pytest.raises(SessionUnknown) as refused:
            sessions.authenticate(session_id, "wrong")
        texts.add((str(refused.value), str(refused.value.facts)))
    assert len(texts) == 1
    sessions.close_all()


@run_async
async def test_the_same_process_attaches_again(listener) -> None:
    sessions = Sessions(nobody_dies)
    session = sessions.open(listener.meet_myself())
    assert sessions.attach(listener.meet_myself(), session.id, session.secret) is session
    sessions.close_all()


@run_async
async def test_another_process_that_has_stolen_the_secret_is_refused(listener) -> None:
    sessions = Sessions(nobody_dies)
    session = sessions.open(listener.meet_myself())
    with process(listener) as child:
        with pytest.raises(NotOwner, match=str(os.getpid())):
            sessions.attach(listener.meet(), session.id, session.secret)
        assert child.poll() is None
    sessions.close_all()


@run_async
async def test_a_forked_child_that_inherits_everything_is_refused(listener) -> None:
    sessions = Sessions(nobody_dies)
    with process(listener, "fork") as parent:
        mine = listener.meet()
        session = sessions.open(mine)
        child = listener.meet()
        assert (mine.pid, child.uid) == (parent.pid, mine.uid)
        with pytest.raises(NotOwner, match=str(parent.pid)):
            sessions.attach(child, session.id, session.secret)
        sessions.close(session)


@run_async
async def test_the_same_pid_is_not_enough_it_must_be_the_same_process_and_user(listener) -> None:
    sessions = Sessions(nobody_dies)
    mine = listener.meet_myself()
    session = sessions.open(mine)
    with process(listener):
        other = listener.meet()
        with pytest.raises(NotOwner):
            sessions.attach(Peer(mine.pid, mine.uid, other.pidfd), session.id, session.secret)
    with pytest.raises(NotOwner):
        sessions.attach(Peer(mine.pid, mine.uid + 1, mine.pidfd), session.id, session.secret)
    sessions.close_all()


@run_async
async def test_there_are_no_more_sessions_than_the_limit_and_a_place_is_given_on(listener, monkeypatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 2)
    sessions = Sessions(nobody_dies)
    peer = listener.meet_myself()
    first, _ = sessions.open(peer), sessions.open(peer)
    with pytest.raises(QuotaExceeded):
        sessions.open(peer)
    sessions.close(first)
    sessions.close(first)
    sessions.open(peer)
    assert len(sessions) == 2
    sessions.close_all()


@run_async
async def test_one_process_gets_its_share_of_the_sessions_and_others_get_theirs(listener, monkeypatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_PER_PROCESS_MAX", 2)
    sessions = Sessions(nobody_dies)
    peer = listener.meet_myself()
    first, _ = sessions.open(peer), sessions.open(peer)
    with pytest.raises(QuotaExceeded, match=f"pid {os.getpid()} has 2 sessions, the most one process may have"):
        sessions.open(listener.meet_myself())
    with process(listener):
        sessions.close(sessions.open(listener.meet()))
    sessions.close(first)
    sessions.open(peer)
    assert len(sessions) == 2
    sessions.close_all()


@run_async
async def test_one_user_gets_its_share_of_the_sessions_and_others_get_theirs(listener, monkeypatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_PER_UID_MAX", 2)
    sessions = Sessions(nobody_dies)
    peer = listener.meet_myself()
    first, _ = sessions.open(peer), sessions.open(peer)
    with process(listener):
        with pytest.raises(QuotaExceeded, match=f"uid {peer.uid} has 2 sessions, the most one user may have"):
            sessions.open(listener.meet())
        sessions.close(first)
        sessions.close(sessions.open(listener.meet_myself()))
    sessions.open(Peer(peer.pid, peer.uid + 1, peer.pidfd))
    sessions.close_all()


@run_async
async def test_what_is_counted_of_sessions_is_forgotten_with_them(listener) -> None:
    sessions = Sessions(nobody_dies)
    for _ in range(2 * limits.SESSIONS_PER_PROCESS_MAX):
        sessions.close(sessions.open(listener.meet_myself()))
    assert sessions._count_by_process == sessions._count_by_uid == {}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("./transcode in.mp4", "./transcode in.mp4"),
        ("a\x1b[31mb\nc", "a?[31mb?c"),
        ("x" * 5_000, "x" * limits.COMMAND_CHARS_MAX),
    ],
)
@run_async
async def test_a_process_may_say_which_command_it_becomes(listener, told, shown) -> None:
    sessions = Sessions(nobody_dies)
    session = sessions.open(listener.meet_myself(), command=told)
    assert sessions.asker(session).holder.command == shown
    assert sessions.open(listener.meet_myself()).command == command_of(os.getpid())
    sessions.close_all()


# Dying.


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "by itself"])
@run_async
async def test_the_death_of_a_process_is_told_once_and_ends_its_session(listener, number) -> None:
    deaths: asyncio.Queue[Session] = asyncio.Queue()
    sessions = Sessions(deaths.put_nowait)
    mine = sessions.open(listener.meet_myself())
    with process(listener) as child:
        session = sessions.open(listener.meet())
        if number is None:
            child.stdin.close()
            child.stdin = None
        else:
            child.send_signal(number)
        assert await asyncio.wait_for(deaths.get(), DEADLINE_S) is session
        assert kept(sessions) == {mine.id}
        assert deaths.empty()
    sessions.close_all()


@run_async
async def test_every_session_of_a_dead_process_ends(listener) -> None:
    deaths: asyncio.Queue[Session] = asyncio.Queue()
    sessions = Sessions(deaths.put_nowait)
    with process(listener) as child:
        peer = listener.meet()
        opened = {sessions.open(peer).id for _ in range(5)}
        child.kill()
        assert {(await asyncio.wait_for(deaths.get(), DEADLINE_S)).id for _ in range(5)} == opened
    assert len(sessions) == 0


@run_async
async def test_a_process_that_stands_still_is_not_dead(listener) -> None:
    sessions = Sessions(nobody_dies)
    with process(listener) as child:
        session = sessions.open(listener.meet())
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)  # noqa: ASYNC222 - nothing else is to go on meanwhile
        await asyncio.sleep(0)
        assert kept(sessions) == {session.id}
        sessions.close(session)


@run_async
async def test_a_closed_session_leaves_no_descriptor_and_its_death_is_not_told(listener) -> None:
    sessions = Sessions(nobody_dies)
    with process(listener) as child:
        peer = listener.meet()
        before = descriptor_count()
        sessions.close(sessions.open(peer))
        assert descriptor_count() == before
        child.kill()
        child.wait(DEADLINE_S)
        await asyncio.sleep(0)
