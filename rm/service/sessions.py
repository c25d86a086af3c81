"""Client processes as the kernel sees them. A pidfd tells that one is dead; nothing else does.

A session is opened on the session socket. Its id and secret go with every gRPC call, because gRPC over a Unix socket
tells the server nothing about who calls. A connection that breaks ends no session: the same process may attach again.
"""

import asyncio
import hmac
import os
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from rm.core import limits
from rm.core.claims import Asker
from rm.core.errors import NotOwner, QuotaExceeded, SessionUnknown
from rm.core.types import Holder, SessionId

_SO_PEERPIDFD = 77  # linux/socket.h, Linux 6.5
_log = structlog.get_logger(__name__)
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a connection. Whoever gets one closes ``pidfd``."""

    pid: int
    uid: int
    pidfd: int

    @property
    def process_key(self) -> tuple[int, int]:
        """Tells processes apart, also where a pid is used again: the pidfd's inode, unique since Linux 6.9."""
        status = os.fstat(self.pidfd)
        return (self.pid, status.st_ino)


def peer_of(connection: socket.socket) -> Peer:
    """Asks the kernel who connected.

    Raises:
        ProcessLookupError: it is dead already.
    """
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        (pidfd,) = struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))
    except ProcessLookupError:
        raise
    except OSError:  # a kernel before 6.5: a race with the reuse of the pid, which the handshake makes harmless
        pidfd = os.pidfd_open(pid)
    return Peer(pid, uid, pidfd)


@dataclass(slots=True)
class Session:
    """One client process, for as long as it lives or until it says goodbye."""

    id: SessionId
    secret: str
    peer: Peer
    command: str
    process_key: tuple[int, int]

    def asker(self, *, is_admin: bool) -> Asker:
        """The session as the core knows it."""
        return Asker(self.id, Holder(self.peer.pid, self.peer.uid, self.command), is_admin)


class Sessions:
    """All open sessions. ``on_death`` is told when the process of one is dead."""

    def __init__(self, on_death: Callable[[Session], None]) -> None:
        self._by_id: dict[str, Session] = {}
        self._count_by_process: dict[tuple[int, int], int] = {}
        self._count_by_uid: dict[int, int] = {}
        self._on_death = on_death

    def __len__(self) -> int:
        return len(self._by_id)

    def open(self, peer: Peer, *, command: str = "") -> Session:
        """Opens a session for ``peer``, and watches its process. ``command`` is shown for it; empty means its own.

        Raises:
            QuotaExceeded: there are as many as may be, or the host has no descriptor left.
        """
        self._check_room(peer)
        try:
            own = Peer(peer.pid, peer.uid, os.dup(peer.pidfd))
        except OSError as fault:
            raise QuotaExceeded(f"the host has no descriptor for another session: {fault.strerror}") from fault
        session = Session(
            id=SessionId(f"S{secrets.token_hex(5)}"),
            secret=secrets.token_hex(32),
            peer=own,
            command=shown_command(command) or command_of(peer.pid),
            process_key=own.process_key,
        )
        self._by_id[session.id] = session
        _count(self._count_by_process, session.process_key, 1)
        _count(self._count_by_uid, own.uid, 1)
        asyncio.get_running_loop().add_reader(own.pidfd, self._died, session)
        _log.debug("session opened", session=session.id, pid=peer.pid, uid=peer.uid)
        return session

    def authenticate(self, session_id: str, secret: str) -> Session:
        """The session that a caller says it belongs to.

        Raises:
            SessionUnknown: there is none, or the secret is wrong; the two are not told apart.
        """
        session = self._by_id.get(session_id)
        if session is None or not hmac.compare_digest(session.secret.encode(), secret.encode()):
            raise SessionUnknown("there is no such session; open one on the session socket")
        return session

    def attach(self, peer: Peer, session_id: str, secret: str) -> Session:
        """The session that the process behind a new connection had before.

        Raises:
            SessionUnknown: there is none, or the secret is wrong.
            NotOwner: it belongs to another process; a forked child opens one of its own.
        """
        session = self.authenticate(session_id, secret)
        if (peer.uid, peer.process_key) != (session.peer.uid, session.process_key):
            text = f"session {session.id} belongs to pid {session.peer.pid}, not to pid {peer.pid}"
            raise NotOwner(text, pid=session.peer.pid)
        session.command = command_of(peer.pid)
        return session

    def close(self, session: Session) -> None:
        """Forgets a session, and watches its process no longer."""
        if self._by_id.pop(session.id, None) is not None:
            _count(self._count_by_process, session.process_key, -1)
            _count(self._count_by_uid, session.peer.uid, -1)
            asyncio.get_running_loop().remove_reader(session.peer.pidfd)
            os.close(session.peer.pidfd)

    def close_all(self) -> None:
        """Forgets every session; their leases are the ledger's affair."""
        for session in list(self._by_id.values()):
            self.close(session)

    def _check_room(self, peer: Peer) -> None:
        most = limits.SESSIONS_PER_PROCESS_MAX
        if self._count_by_process.get(peer.process_key, 0) >= most:
            text = f"pid {peer.pid} has {most} sessions, the most one process may have"
            raise QuotaExceeded(text, most=most, pid=peer.pid)
        most = limits.SESSIONS_PER_UID_MAX
        if self._count_by_uid.get(peer.uid, 0) >= most:
            raise QuotaExceeded(
                f"uid {peer.uid} has {most} sessions, the most one user may have", most=most, uid=peer.uid
            )
        most = limits.SESSIONS_MAX
        if len(self._by_id) >= most:
            raise QuotaExceeded(f"{most} sessions are the most there may be", most=most)

    def _died(self, session: Session) -> None:
        _log.info("process died", session=session.id, pid=session.peer.pid)
        self.close(session)
        self._on_death(session)


def command_of(pid: int) -> str:
    """The command line of a process: its own word, for people to recognise it by. Empty where it cannot be read."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return shown_command(" ".join(word.decode(errors="replace") for word in words).strip())
    return ""


def shown_command(text: str) -> str:
    """A command line as others may be shown it: printable, and cut."""
    return "".join(char if char.isprintable() else "?" for char in text[: limits.COMMAND_CHARS_MAX])


def _count(counts: dict[_Key, int], key: _Key, step: int) -> None:
    """Counts up or down; what counts 0 is forgotten."""
    counts[key] = counts.get(key, 0) + step
    assert counts[key] >= 0, f"{key} was counted down more often than up"
    if not counts[key]:
        del counts[key]
