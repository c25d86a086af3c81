"""Client processes as the kernel sees them. A pidfd tells that one is dead; nothing else does.

A session is opened on the session socket. Its id and secret go with every gRPC call, because gRPC over a Unix socket
tells the server nothing about who calls. A connection that breaks ends no session: the same process may attach again,
also after a restart of the daemon, which finds the process again by what the kernel says of it.
"""

import asyncio
import errno
import hashlib
import hmac
import os
import secrets
import select
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import structlog

from rm.core import limits
from rm.core.claims import Asker
from rm.core.errors import NotOwner, QuotaExceeded, SessionUnknown
from rm.core.session import ProcessKey, SessionRecord
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
    def process_key(self) -> ProcessKey:
        """Tells processes apart, also where a pid is used again.

        Raises:
            ProcessLookupError: it is dead.
        """
        if pidfd_inodes_differ():
            return ProcessKey(self.pid, os.fstat(self.pidfd).st_ino, 0)
        return ProcessKey(self.pid, 0, start_ticks_of(self.pid))


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
    secret_hash: bytes
    peer: Peer
    command: str
    process_key: ProcessKey
    asker: Asker | None = None  # made when it first asks for something
    secret: str = ""  # known to the daemon that opened it, and to another once it was told; to no disk

    def knows(self, secret: str) -> bool:
        """Whether ``secret`` is its own."""
        if self.secret:
            return hmac.compare_digest(self.secret.encode(), secret.encode())
        is_known = hmac.compare_digest(self.secret_hash, hash_of(secret))
        if is_known:
            self.secret = secret
        return is_known

    def record(self) -> SessionRecord:
        """What a daemon after this one needs to find it again."""
        holder = Holder(self.peer.pid, self.peer.uid, self.command)
        return SessionRecord(self.id, self.secret_hash, holder, self.process_key)

    def kill(self) -> None:
        """Kills its process; nobody else's, should that be dead already."""
        with suppress(ProcessLookupError, PermissionError):  # a daemon that is not root may kill its own user's only
            signal.pidfd_send_signal(self.peer.pidfd, signal.SIGKILL)


class Sessions:
    """All open sessions. ``on_death`` is told when the process of one is dead; ``admin_uids`` may do everything.

    With ``ids_need_reserved`` a claim by id must name reserved units.
    """

    def __init__(
        self,
        on_death: Callable[[Session], None],
        *,
        admin_uids: frozenset[int] = frozenset(),
        ids_need_reserved: bool = False,
    ) -> None:
        self.connected: set[SessionId] = set()
        """Those that can be told anything now."""
        self._by_id: dict[str, Session] = {}
        self._count_by_process: dict[ProcessKey, int] = {}
        self._count_by_uid: dict[int, int] = {}
        self._on_death = on_death
        self._admin_uids = admin_uids
        self._ids_need_reserved = ids_need_reserved

    def __len__(self) -> int:
        return len(self._by_id)

    def open(self, peer: Peer, *, command: str = "") -> Session:
        """Opens a session for ``peer``, and watches its process. ``command`` is shown for it; empty means its own.

        Raises:
            QuotaExceeded: there are as many as may be, or the host has no descriptor left.
        """
        try:
            process_key = peer.process_key
        except ProcessLookupError as fault:
            raise SessionUnknown("a process that is dead opens no session") from fault
        self._check_room(peer, process_key)
        try:
            own = Peer(peer.pid, peer.uid, os.dup(peer.pidfd))
        except OSError as fault:
            raise QuotaExceeded(f"the host has no descriptor for another session: {fault.strerror}") from fault
        secret = secrets.token_hex(32)
        session = Session(
            id=SessionId(f"S{secrets.token_hex(5)}"),
            secret_hash=hash_of(secret),
            peer=own,
            command=shown_command(command) or command_of(peer.pid),
            process_key=process_key,
            secret=secret,
        )
        self._add(session)
        _log.debug("session opened", session=session.id, pid=peer.pid, uid=peer.uid)
        return session

    def resume(self, record: SessionRecord) -> bool:
        """Takes up a session of the daemon before this one, where its process still lives; answers whether it does.

        Raises:
            OSError: the host does not tell, for want of descriptors or memory. Nobody is taken for dead then.
        """
        pid, known = record.process.pid, record.process
        if pid <= 0:  # of another pid namespace
            return False
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as fault:
            if fault.errno not in {errno.ESRCH, errno.ENOENT, errno.EINVAL}:
                raise
            return False  # nobody, or a thread of somebody else
        peer = Peer(pid, record.holder.uid, pidfd)
        with suppress(ProcessLookupError):
            if not is_dead(pidfd) and peer.process_key == known:
                self._add(Session(record.id, record.secret_hash, peer, record.holder.command, known))
                return True
        os.close(pidfd)
        return False

    def authenticate(self, session_id: str, secret: str) -> Session:
        """The session that a caller says it belongs to.

        Raises:
            SessionUnknown: there is none, or the secret is wrong; the two are not told apart.
        """
        session = self._by_id.get(session_id)
        if session is None or not session.knows(secret):
            raise SessionUnknown("there is no such session; open one on the session socket")
        return session

    def attach(self, peer: Peer, session_id: str, secret: str) -> Session:
        """The session that the process behind a new connection had before.

        Raises:
            SessionUnknown: there is none, or the secret is wrong.
            NotOwner: it belongs to another process; a forked child opens one of its own.
        """
        session = self.authenticate(session_id, secret)
        try:
            is_same = (peer.uid, peer.process_key) == (session.peer.uid, session.process_key)
        except ProcessLookupError:
            is_same = False
        if not is_same:
            text = f"session {session.id} belongs to pid {session.peer.pid}, not to pid {peer.pid}"
            raise NotOwner(text, pid=session.peer.pid)
        session.command, session.asker = command_of(peer.pid), None
        return session

    def asker(self, session: Session) -> Asker:
        """A session as the core knows it."""
        if session.asker is None:
            holder = Holder(session.peer.pid, session.peer.uid, session.command)
            is_admin = session.peer.uid in self._admin_uids
            session.asker = Asker(session.id, holder, is_admin, self._ids_need_reserved)
        return session.asker

    def get(self, session_id: SessionId) -> Session | None:
        """The open session of this id."""
        return self._by_id.get(session_id)

    def close(self, session: Session) -> None:
        """Forgets a session, and watches its process no longer."""
        if self._by_id.pop(session.id, None) is not None:
            count(self._count_by_process, session.process_key, -1)
            count(self._count_by_uid, session.peer.uid, -1)
            asyncio.get_running_loop().remove_reader(session.peer.pidfd)
            os.close(session.peer.pidfd)

    def close_all(self) -> None:
        """Forgets every session; their leases are the ledger's affair."""
        for session in list(self._by_id.values()):
            self.close(session)

    def _add(self, session: Session) -> None:
        self._by_id[session.id] = session
        count(self._count_by_process, session.process_key, 1)
        count(self._count_by_uid, session.peer.uid, 1)
        asyncio.get_running_loop().add_reader(session.peer.pidfd, self._died, session)

    def _check_room(self, peer: Peer, process_key: ProcessKey) -> None:
        most = limits.SESSIONS_PER_PROCESS_MAX
        if self._count_by_process.get(process_key, 0) >= most:
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


def hash_of(secret: str) -> bytes:
    """What is kept of a secret of 256 random bits: enough to know it again, no use to whoever reads the disk."""
    return hashlib.sha256(secret.encode()).digest()


@cache
def pidfd_inodes_differ() -> bool:
    """Whether each process has a pidfd inode of its own, as since Linux 6.9."""
    pidfd, eventfd = os.pidfd_open(os.getpid()), os.eventfd(0)
    devices = {os.fstat(fd).st_dev for fd in (pidfd, eventfd)}
    os.close(pidfd)
    os.close(eventfd)
    return len(devices) == 2  # pidfds have a file system of their own; before they shared one inode with all of these


def start_ticks_of(pid: int) -> int:
    """When a process began, in ticks of 10 ms since the host booted.

    Raises:
        ProcessLookupError: there is none.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError as fault:
        raise ProcessLookupError(f"there is no process {pid}") from fault
    return int(status.rpartition(")")[2].split()[19])  # the name in brackets may hold anything


def is_dead(pidfd: int) -> bool:
    """Whether the process of a pidfd is dead, be it a zombie."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def command_of(pid: int) -> str:
    """The command line of a process: its own word, for people to recognise it by. Empty where it cannot be read."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return shown_command(" ".join(word.decode(errors="replace") for word in words).strip())
    return ""


def shown_command(text: str) -> str:
    """A command line as others may be shown it: printable, and cut."""
    return "".join(char if char.isprintable() else "?" for char in text[: limits.COMMAND_CHARS_MAX])


def count(counts: dict[_Key, int], key: _Key, step: int) -> None:
    """Counts up or down; what counts 0 is forgotten."""
    counts[key] = counts.get(key, 0) + step
    assert counts[key] >= 0, f"{key} was counted down more often than up"
    if not counts[key]:
        del counts[key]
