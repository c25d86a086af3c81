"""The second socket: where a process becomes a session, and where descriptors and news of its leases travel.

Frames are a 4-byte big-endian length and a protobuf message. Nothing that a client sends, or fails to send, may hold up
the others: reads never block, a silent or slow client is closed, one that does not read its descriptors is not heard
either, and garbage costs only the connection that sent it.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from rm.core import limits
from rm.core.errors import CardFailed, InvalidRequest, QuotaExceeded, Refusal, SessionUnknown
from rm.core.types import NS_PER_S, LeaseId, SessionId
from rm.service.engine import Engine
from rm.service.sessions import Peer, Session, Sessions, peer_of
from rm.service.status import detail_of
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb

PROTOCOL_VERSION = 1
_LENGTH = struct.Struct(">I")
_ACCEPT_PAUSE_S = 0.1  # after the host ran out of descriptors
_log = structlog.get_logger(__name__)


class SessionSocket:
    """Listens, and keeps the connections."""

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self.engine = engine
        self.sessions = sessions
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()
        self._by_session: dict[SessionId, _Connection] = {}
        engine.on_lost = self.tell_lost

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

    def tell_lost(self, session_id: SessionId, lease_id: LeaseId, cause: str) -> None:
        """Tells a session that it has lost a lease."""
        connection = self._by_session.get(session_id)
        if connection is not None:
            connection.send(pb.ServerFrame(lease_ended=pb.LeaseEnded(lease_id=lease_id, cause=cause)))

    def bind(self, connection: "_Connection", session: Session) -> None:
        """Notes which connection a session is reached by; an older one is closed."""
        older = self._by_session.get(session.id)
        self._by_session[session.id] = connection
        if older is not None and older is not connection:
            older.close()

    def forget(self, connection: "_Connection", session: Session | None) -> None:
        """Notes that a connection is closed."""
        self._connections.discard(connection)
        if session is not None and self._by_session.get(session.id) is connection:
            del self._by_session[session.id]

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
        self._connections.add(_Connection(self, accepted, peer))

    def _accept_again(self) -> None:
        if self._listener is not None and self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)


class _Connection:
    """One connection: bytes in, frames out."""

    def __init__(self, owner: SessionSocket, connection: socket.socket, peer: Peer) -> None:
        self._owner = owner
        self._socket = connection
        self._peer = peer
        self._session: Session | None = None
        self._received = bytearray()
        self._queued: deque[tuple[bytes, Sequence[int]]] = deque()
        self._queued_bytes = self._queued_descriptor_count = 0
        self._closes_when_sent = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._on_readable)
        self._handshake = self._loop.call_later(limits.HANDSHAKE_NS_MAX / NS_PER_S, self.close)
        self._tasks: set[asyncio.Task[None]] = set()

    # Bytes in.

    def _on_readable(self) -> None:
        try:
            chunk = self._socket.recv(limits.FRAME_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.close()
            return
        self._received += chunk
        self._take_frames()

    @property
    def _may_take(self) -> bool:
        """Whether it is open and has read its descriptors: who has not is heard no further until it has."""
        return self._socket.fileno() >= 0 and not self._closes_when_sent and not self._queued_descriptor_count

    def _take_frames(self) -> None:
        try:
            while self._may_take and (frame := self._next_frame()):
                self._take(frame)
        except (Refusal, DecodeError) as fault:
            refusal = fault if isinstance(fault, Refusal) else InvalidRequest("these bytes are no frame")
            self._refuse_and_close(refusal)

    def _next_frame(self) -> pb.ClientFrame | None:
        if len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        if not 1 <= length <= limits.FRAME_BYTES_MAX:
            raise InvalidRequest(f"a frame has 1 to {limits.FRAME_BYTES_MAX} bytes, not {length}", length=length)
        if len(self._received) < _LENGTH.size + length:
            return None
        frame = pb.ClientFrame.FromString(bytes(self._received[_LENGTH.size : _LENGTH.size + length]))
        del self._received[: _LENGTH.size + length]
        return frame

    # Frames in.

    def _take(self, frame: pb.ClientFrame) -> None:
        kind = frame.WhichOneof("body")
        if self._session is None:
            self._greet(frame, kind)
            return
        try:
            match kind:
                case "keep_alive":
                    self._keep_alive(frame, self._session)
                case "fetch_windows":
                    self._send_windows(frame, self._session)
                case "close_session":
                    task = self._loop.create_task(self._close_session(frame.correlation_id, self._session))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case _:
                    raise InvalidRequest("this frame is unknown, or not possible in an open session")
        except Refusal as refusal:  # the frame was understood: the connection goes on
            self._fault(frame.correlation_id, refusal)

    def _greet(self, frame: pb.ClientFrame, kind: str | None) -> None:
        version = frame.open_session.protocol_version or frame.attach_session.protocol_version
        if kind not in {"open_session", "attach_session"}:
            raise InvalidRequest("the first frame must open or attach a session")
        if version != PROTOCOL_VERSION:
            text = f"this daemon speaks version {PROTOCOL_VERSION} of the session frames, the client {version}"
            raise InvalidRequest(text, version=version)
        if kind == "open_session":
            session = self._owner.sessions.open(self._peer, command=frame.open_session.command)
        else:
            asked = frame.attach_session
            try:
                session = self._owner.sessions.attach(self._peer, asked.session_id, asked.session_secret)
            except SessionUnknown as refusal:  # the client may go on and open one
                self._fault(frame.correlation_id, refusal)
                return
        self._session = session
        self._handshake.cancel()
        self._owner.bind(self, session)
        opened = pb.SessionOpened(session_id=session.id, session_secret=session.secret, pid=session.peer.pid)
        self.send(pb.ServerFrame(correlation_id=frame.correlation_id, session_opened=opened))

    def _keep_alive(self, frame: pb.ClientFrame, session: Session) -> None:
        lease_ids = [LeaseId(lease_id) for lease_id in frame.keep_alive.lease_ids]
        engine = self._owner.engine
        lost = engine.keep_alive(session.id, lease_ids)
        answer = rm_pb.KeepAliveResponse(lost_lease_ids=lost, revision=engine.ledger.revision)
        self.send(pb.ServerFrame(correlation_id=frame.correlation_id, keep_alive=answer))

    def _send_windows(self, frame: pb.ClientFrame, session: Session) -> None:
        lease = self._owner.engine.ledger.lease_of(LeaseId(frame.fetch_windows.lease_id), session.id)
        windows = self._owner.engine.backend.windows(lease.id)
        if len(windows) > limits.DESCRIPTORS_PER_FRAME_MAX:
            most = limits.DESCRIPTORS_PER_FRAME_MAX
            raise QuotaExceeded(f"{lease.id} has {len(windows)} windows, {most} can be handed over", most=most)
        answer = pb.Windows(
            windows=[
                pb.Window(allotment_index=window.allotment_index, size_bytes=window.size_bytes, lease_id=lease.id)
                for window in windows
            ]
        )
        descriptors = [window.fd for window in windows]
        self.send(pb.ServerFrame(correlation_id=frame.correlation_id, windows=answer), descriptors)

    async def _close_session(self, correlation_id: int, session: Session) -> None:
        self._owner.sessions.close(session)
        self._owner.engine.end_session(session.id, "session closed", is_violent=False)
        await self._owner.engine.synced()
        self.send(pb.ServerFrame(correlation_id=correlation_id, session_closed=pb.SessionClosed()))
        self._close_when_sent()

    # Frames out.

    def send(self, frame: pb.ServerFrame, descriptors: Sequence[int] = ()) -> None:
        """Sends a frame, now or when the client reads. A client that reads too slowly is closed.

        Raises:
            CardFailed: the host has no descriptors left for copies of ``descriptors``.
        """
        if self._socket.fileno() < 0:
            return
        body = frame.SerializeToString()
        owned = _own_copies(descriptors)
        self._queued.append((_LENGTH.pack(len(body)) + body, owned))
        self._queued_bytes += len(body)
        self._queued_descriptor_count += len(owned)
        too_many = self._queued_descriptor_count > limits.DESCRIPTORS_QUEUED_MAX
        if too_many or self._queued_bytes > limits.FRAMES_QUEUED_BYTES_MAX:
            _log.warning("client reads too slowly", pid=self._peer.pid)
            self.close()
            return
        self._flush()

    def _on_writable(self) -> None:
        self._flush()
        if self._may_take:  # listens again, first to what had come before
            self._loop.add_reader(self._socket, self._on_readable)
            self._take_frames()

    def _flush(self) -> None:
        while self._queued:
            data, descriptors = self._queued.popleft()
            try:
                sent = (
                    socket.send_fds(self._socket, [data], list(descriptors)) if descriptors else self._socket.send(data)
                )
            except BlockingIOError:
                self._queued.appendleft((data, descriptors))
                if self._queued_descriptor_count:
                    self._loop.remove_reader(self._socket)
                self._loop.add_writer(self._socket, self._on_writable)
                return
            except OSError:
                self._queued.appendleft((data, descriptors))
                self.close()
                return
            _close_all(descriptors)
            self._queued_descriptor_count -= len(descriptors)
            self._queued_bytes -= sent
            if sent < len(data):
                self._queued.appendleft((data[sent:], ()))
        self._queued_bytes = 0
        self._loop.remove_writer(self._socket)
        if self._closes_when_sent:
            self.close()

    def _fault(self, correlation_id: int, refusal: Refusal) -> None:
        self.send(pb.ServerFrame(correlation_id=correlation_id, fault=pb.Fault(detail=detail_of(refusal))))

    def _refuse_and_close(self, refusal: Refusal) -> None:
        _log.info("connection refused", pid=self._peer.pid, uid=self._peer.uid, reason=refusal.reason)
        self._fault(0, refusal)
        self._close_when_sent()

    def _close_when_sent(self) -> None:
        """Closes once the last word is read, or not read in time; what the client says until then is not kept."""
        self._closes_when_sent = True
        if not self._queued:
            self.close()
            return
        self._loop.remove_reader(self._socket)
        self._handshake.cancel()
        self._handshake = self._loop.call_later(limits.HANDSHAKE_NS_MAX / NS_PER_S, self.close)

    def close(self) -> None:
        """Closes the connection. The session stays: only the death of its process, or its own word, ends it."""
        if self._socket.fileno() < 0:
            return
        self._handshake.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        os.close(self._peer.pidfd)
        for _, descriptors in self._queued:
            _close_all(descriptors)
        self._queued.clear()
        self._owner.forget(self, self._session)


def _own_copies(descriptors: Sequence[int]) -> list[int]:
    """Copies of descriptors: the lease may end before they are sent."""
    owned: list[int] = []
    try:
        for fd in descriptors:
            owned.append(os.dup(fd))  # noqa: PERF401 - what was made before a fault must be closed
    except OSError as fault:
        _close_all(owned)
        raise CardFailed(f"the windows cannot be handed over: {fault.strerror}") from fault
    return owned


def _close_all(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        with suppress(OSError):
            os.close(fd)
