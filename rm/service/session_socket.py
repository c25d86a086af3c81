"""The second socket: where a process becomes a session, and where descriptors and news of its leases travel."""

import asyncio
import os
import socket
from collections.abc import Coroutine
from pathlib import Path

import structlog

from rm.core import limits
from rm.core.errors import CardFailed, InvalidRequest, Refusal, SessionUnknown
from rm.core.lease import Lease, WindowMark
from rm.core.types import LeaseId, SessionId
from rm.service import convert
from rm.service.calls import METHODS, Calls
from rm.service.connection import Connection, LargeFrames
from rm.service.engine import Engine
from rm.service.methods import NOBODY
from rm.service.outbox import close_all
from rm.service.sessions import Peer, Session, Sessions, count, peer_of
from rmapi.v1 import session_pb2 as pb

PROTOCOL_VERSION = 1
_ACCEPT_PAUSE_S = 0.1  # after the host ran out of descriptors
_log = structlog.get_logger(__name__)


class SessionSocket:
    """Listens, keeps the connections, and answers their frames."""

    def __init__(self, engine: Engine, sessions: Sessions, calls: Calls) -> None:
        self.engine = engine
        self.sessions = sessions
        self._calls = calls
        self._large_frames = LargeFrames()
        self._listener: socket.socket | None = None
        self._connections: set[Connection] = set()
        self._count_by_uid: dict[int, int] = {}
        self._by_session: dict[SessionId, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        engine.news.lost = self._tell_lost
        engine.news.revoking = self._tell_revoking

    def listen(self, path: Path) -> None:
        """Begins to accept connections on ``path``. A socket file that is there is stale: the directory is locked."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
        listener.listen(1024)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def close(self) -> None:
        """Closes the listener and every connection; sessions and leases stay."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for connection in list(self._connections):
            connection.close()

    # Connections.

    def _accept(self) -> None:
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as fault:  # out of descriptors: those who are served stay served
            _log.warning("cannot accept a connection", fault=fault.strerror)
            loop.remove_reader(self._listener)
            loop.call_later(_ACCEPT_PAUSE_S, self._accept_again)
            return
        accepted.setblocking(False)
        if len(self._connections) >= limits.CONNECTIONS_MAX:
            accepted.close()
            return
        try:
            peer = peer_of(accepted)
        except OSError:  # dead before it was greeted
            accepted.close()
            return
        if self._count_by_uid.get(peer.uid, 0) >= limits.CONNECTIONS_PER_UID_MAX:
            accepted.close()
            os.close(peer.pidfd)
            return
        count(self._count_by_uid, peer.uid, 1)
        self._connections.add(self.connection_of(accepted, peer))

    def connection_of(self, accepted: socket.socket, peer: Peer) -> Connection:
        """The connection over a socket of the process ``peer``."""
        return Connection(accepted, peer, on_frame=self._take, on_closed=self._forget, large_frames=self._large_frames)

    def _accept_again(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _bind(self, connection: Connection, session: Session) -> None:
        """Notes which connection a session is reached by; an older one is closed."""
        older = self._by_session.get(session.id)
        self._by_session[session.id] = connection
        self.sessions.connected.add(session.id)
        if older is not None and older is not connection:
            older.close()

    def _forget(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.discard(connection)
            count(self._count_by_uid, connection.peer.uid, -1)
        session = connection.session
        if session is not None and self._by_session.get(session.id) is connection:
            del self._by_session[session.id]
            self.sessions.connected.discard(session.id)
        self._calls.forget(connection)

    # Frames in.

    def _take(self, connection: Connection, frame: pb.ClientFrame, descriptors: list[int]) -> None:
        session, kind = connection.session, frame.WhichOneof("body")
        if session is None and not connection.is_guest:
            close_all(descriptors)
            self._greet(connection, frame)
        elif kind in METHODS:
            asker = NOBODY if session is None else self.sessions.asker(session)
            self._calls.begin(connection, frame, kind, asker)
        elif kind == "cancel":
            self._calls.cancel(connection, frame.cancel.called_id)
        else:
            self._take_of_session(connection, frame, kind, descriptors)

    def _take_of_session(
        self, connection: Connection, frame: pb.ClientFrame, kind: str | None, descriptors: list[int]
    ) -> None:
        """What only this door has."""
        session = connection.session
        try:
            if session is None:
                close_all(descriptors)
                raise SessionUnknown("this connection has no session; open one first")
            match kind:
                case "fetch_windows":
                    self._later(connection, frame, self._send_windows(connection, frame, session))
                case "return_windows":
                    self._take_windows(connection, frame, session, descriptors)
                case "close_session":
                    self._later(connection, frame, self._close_session(connection, frame, session))
                case _:
                    raise InvalidRequest("this frame is unknown, or not possible in an open session")
        except Refusal as refusal:  # the frame was understood: the connection goes on
            self._later(connection, frame, _refused(refusal))

    def _greet(self, connection: Connection, frame: pb.ClientFrame) -> None:
        kind = frame.WhichOneof("body")
        if kind not in {"open_session", "attach_session", "visit"}:
            raise InvalidRequest("the first frame must open or attach a session, or visit")
        version = getattr(frame, kind).protocol_version
        if version != PROTOCOL_VERSION:
            text = f"this daemon speaks version {PROTOCOL_VERSION} of the session frames, the client {version}"
            raise InvalidRequest(text, version=version)
        if kind == "visit":
            connection.visited()
            connection.send(pb.ServerFrame(correlation_id=frame.correlation_id, visited=pb.Visited()))
            return
        if kind == "attach_session":
            asked = frame.attach_session
            try:
                session = self.sessions.attach(connection.peer, asked.session_id, asked.session_secret)
            except SessionUnknown as refusal:  # the client may go on and open one
                self._later(connection, frame, _refused(refusal))
                return
            self._welcome(connection, frame, session, asked.session_secret)
            self._tell_again(session)
            return
        session = self.sessions.open(connection.peer, command=frame.open_session.command)
        try:
            self.engine.open_session(session.record())
        except Refusal:
            self.sessions.close(session)
            raise
        connection.hold()  # until it is safe who this is
        self._later(connection, frame, self._opened(connection, frame, session))

    async def _opened(self, connection: Connection, frame: pb.ClientFrame, session: Session) -> None:
        await self.engine.synced()
        if connection.is_open:
            self._welcome(connection, frame, session, session.secret)
            connection.go_on()
        else:  # it gave up before it knew who it is: nobody will come back as this session
            self.sessions.close(session)
            self.engine.end_session(session.id, "session closed", is_violent=False)

    def _welcome(self, connection: Connection, frame: pb.ClientFrame, session: Session, secret: str) -> None:
        connection.greeted(session)
        self._bind(connection, session)
        opened = pb.SessionOpened(
            session_id=session.id,
            session_secret=secret,
            pid=session.peer.pid,
            daemon_epoch=self.engine.ledger.epoch,
        )
        connection.send(pb.ServerFrame(correlation_id=frame.correlation_id, session_opened=opened))

    def _take_windows(
        self, connection: Connection, frame: pb.ClientFrame, session: Session, descriptors: list[int]
    ) -> None:
        returned = frame.return_windows
        try:
            lease = self.engine.ledger.lease_of(LeaseId(returned.lease_id), session.id)
            for index in returned.allotment_indexes:
                self.engine.backend.hand_back(lease, index, descriptors.pop(0))
        finally:
            close_all(descriptors)
        answer = pb.WindowsReturned(lease_id=lease.id)
        connection.send(pb.ServerFrame(correlation_id=frame.correlation_id, windows_returned=answer))

    # Frames in whose answer waits for the disk.

    def _later(self, connection: Connection, frame: pb.ClientFrame, answering: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(connection, frame.correlation_id, answering))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection.asked()

    async def _answer(
        self, connection: Connection, correlation_id: int, answering: Coroutine[None, None, None]
    ) -> None:
        try:
            await answering
        except Refusal as refusal:
            connection.fault(correlation_id, await self.engine.commits.told(refusal))
        except Exception as fault:
            _log.exception("fault of our own", pid=connection.peer.pid)
            connection.refuse_and_close(CardFailed(f"the daemon made a mistake: {type(fault).__name__}"))
        connection.answered()

    async def _send_windows(self, connection: Connection, frame: pb.ClientFrame, session: Session) -> None:
        engine = self.engine
        lease = engine.ledger.lease_of(LeaseId(frame.fetch_windows.lease_id), session.id)
        assert len(lease.windows) <= limits.DESCRIPTORS_PER_FRAME_MAX, "a frame carries all windows of a lease"
        if len(engine.backend.windows(lease.id)) < len(lease.windows):
            engine.remake_windows(lease)
        await engine.synced()
        async with connection.windows_turn:  # so that a client that reads none costs the copies of one answer
            engine.ledger.lease_of(lease.id, session.id)  # it may have ended meanwhile
            windows = engine.backend.windows(lease.id)
            answer = pb.Windows(windows=[_window_to(window.mark, lease.id) for window in windows])
            descriptors = [window.fd for window in windows]
            connection.send(pb.ServerFrame(correlation_id=frame.correlation_id, windows=answer), descriptors)
            await connection.outbox.all_read()

    async def _close_session(self, connection: Connection, frame: pb.ClientFrame, session: Session) -> None:
        self.sessions.close(session)
        self.engine.end_session(session.id, "session closed", is_violent=False)
        await self.engine.synced()
        connection.send(pb.ServerFrame(correlation_id=frame.correlation_id, session_closed=pb.SessionClosed()))
        connection.close_when_sent()

    # News.

    def _tell_again(self, session: Session) -> None:
        """What a session that comes back may have missed: which of its leases are to end."""
        ledger, now_ns = self.engine.ledger, self.engine.clock.monotonic_ns()
        for lease_id in ledger.leases_by_session.get(session.id, ()):
            if lease_id in ledger.revoking and self.engine.commits.may_tell_end(lease_id):
                left_ns = (ledger.deadlines.get(lease_id) or now_ns) - now_ns
                self._tell_revoking(ledger.leases[lease_id], ledger.revoking[lease_id].cause, notice_ns=max(0, left_ns))

    def _tell_lost(self, lease: Lease, cause: str) -> None:
        if connection := self._by_session.get(lease.session):
            connection.send(pb.ServerFrame(lease_ended=pb.LeaseEnded(lease_id=lease.id, cause=cause)))

    def _tell_revoking(self, lease: Lease, cause: str, *, notice_ns: int) -> None:
        if connection := self._by_session.get(lease.session):
            told = pb.LeaseRevoking(lease_id=lease.id, cause=cause, notice_duration=convert.duration_to(notice_ns))
            connection.send(pb.ServerFrame(lease_revoking=told))


def _window_to(mark: WindowMark, lease_id: LeaseId) -> pb.Window:
    return pb.Window(allotment_index=mark.allotment_index, size_bytes=mark.size_bytes, lease_id=lease_id)


async def _refused(refusal: Refusal) -> None:
    raise refusal
