"""One connection of the session socket: bytes and descriptors in, frames out. What frames mean is not its affair.

Frames are a 4-byte big-endian length and a protobuf message. Nothing that a client sends, or fails to send, may hold up
the others: reads never block, a silent or slow client is closed, one that does not read its descriptors is not heard
either, and garbage costs only the connection that sent it.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from google.protobuf.message import DecodeError

from rm.core import limits
from rm.core.errors import CardFailed, InvalidRequest, Refusal
from rm.core.types import NS_PER_S
from rm.service.sessions import Peer, Session
from rm.service.status import detail_of
from rmapi.v1 import session_pb2 as pb

_LENGTH = struct.Struct(">I")
_FRAME_OVERHEAD_BYTES = 150  # what keeping a frame costs besides its bytes
_log = structlog.get_logger(__name__)


class Connection:
    """A connection, and the session it belongs to once it was greeted."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        *,
        on_frame: "Callable[[Connection, pb.ClientFrame, list[int]], None]",
        on_closed: "Callable[[Connection], None]",
    ) -> None:
        """Takes over the socket and the peer's pidfd.

        ``on_frame`` gets each frame with the descriptors that came with it, which it then owns; a refusal that it
        raises closes the connection.
        """
        self.peer = peer
        self.session: Session | None = None
        self._socket = connection
        self._on_frame, self._on_closed = on_frame, on_closed
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._queued: deque[tuple[bytes, Sequence[int]]] = deque()
        self._queued_bytes = self._queued_descriptor_count = 0
        self._unanswered_count = 0
        self._is_on_hold = self._closes_when_sent = self._is_listening = self._is_taking_later = False
        self.windows_turn = asyncio.Lock()
        self._descriptors_read = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listen()
        self._handshake = self._loop.call_later(limits.HANDSHAKE_NS_MAX / NS_PER_S, self.close)
        self._rest: asyncio.TimerHandle | None = None

    def greeted(self, session: Session) -> None:
        """Belongs to ``session`` from now on, and may stay silent."""
        self.session = session
        self._handshake.cancel()

    def hold(self) -> None:
        """Hears no further frame until ``go_on``: the answer to the last one decides what they mean."""
        self._is_on_hold = True
        self._handshake.cancel()

    def go_on(self) -> None:
        """Hears on, first what came meanwhile."""
        self._is_on_hold = False
        self._take_frames()

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self._socket.fileno() >= 0

    def asked(self) -> None:
        """Owes an answer that comes later; one that owes too many hears no further frame."""
        self._unanswered_count += 1

    def answered(self) -> None:
        """Has given an answer that was owed."""
        self._unanswered_count -= 1
        self._take_frames()

    # Bytes in.

    def _on_readable(self) -> None:
        try:
            chunk, descriptors, flags, _ = socket.recv_fds(
                self._socket, limits.FRAME_BYTES_MAX, limits.DESCRIPTORS_PER_FRAME_MAX, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._descriptors.extend(descriptors)
        if not chunk:
            self.close()
            return
        if self._closes_when_sent:  # it was refused: what it says now is not kept
            self._drop_descriptors()
            return
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > limits.DESCRIPTORS_PER_FRAME_MAX:
            self.refuse_and_close(CardFailed("this host has no room for so many descriptors at once"))
            return
        self._received += chunk
        if descriptors and self.session is None and not self._is_on_hold:
            self.refuse_and_close(InvalidRequest("descriptors belong into an open session"))
            return
        if len(self._received) > _LENGTH.size + 2 * limits.FRAME_BYTES_MAX:
            self._listen(False)  # on hold, and sending on: it is heard again when it goes on
        self._take_frames()

    def _listen(self, is_listening: bool = True) -> None:
        if is_listening and not self._is_listening:
            self._loop.add_reader(self._socket, self._on_readable)
        elif not is_listening:
            self._loop.remove_reader(self._socket)
        self._is_listening = is_listening

    @property
    def _may_take(self) -> bool:
        """Whether it is open, is owed few answers, and has read what it was sent: else it is heard when that is so."""
        is_heard = self.is_open and not self._closes_when_sent and not self._is_on_hold
        owes_little = self._unanswered_count < limits.FRAMES_UNANSWERED_MAX
        has_read = not self._queued_descriptor_count and self._queued_bytes <= limits.FRAME_BYTES_MAX
        return is_heard and owes_little and has_read

    def _take_frames(self) -> None:
        """Takes what has come, a few frames a turn of the loop: the others have their turns between."""
        if self._is_taking_later:
            return
        try:
            for _ in range(limits.FRAMES_PER_TURN_MAX):
                if not self._may_take or not (frame := self._next_frame()):
                    break
                self._await_rest(is_begun=False)
                self._on_frame(self, frame, self._descriptors_of(frame))
            else:
                self._take_later()
                return
            if not self.is_open:  # an answer could not be sent
                return
            self._await_rest(is_begun=bool(self._received or self._descriptors))
            if self._may_take:
                if self._descriptors and not self._received:
                    raise InvalidRequest("these descriptors belong to no frame")
                self._listen()
        except (Refusal, DecodeError) as fault:
            refusal = fault if isinstance(fault, Refusal) else InvalidRequest("these bytes are no frame")
            self.refuse_and_close(refusal)

    def _take_later(self) -> None:
        if self.is_open:
            self._is_taking_later = True
            self._listen(False)
            self._loop.call_soon(self._take_on)

    def _take_on(self) -> None:
        self._is_taking_later = False
        self._take_frames()

    def _await_rest(self, *, is_begun: bool) -> None:
        """A frame that has begun must be whole in time: a part of one, and its descriptors, are not kept for ever."""
        if not is_begun and self._rest is not None:
            self._rest.cancel()
            self._rest = None
        elif is_begun and self._rest is None:
            self._rest = self._loop.call_later(limits.HANDSHAKE_NS_MAX / NS_PER_S, self._rest_is_late)

    def _rest_is_late(self) -> None:
        self._rest = None
        if self._may_take:
            self.refuse_and_close(InvalidRequest("the rest of a frame did not come in time"))
        else:  # it is not heard at the moment
            self._await_rest(is_begun=True)

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

    def _descriptors_of(self, frame: pb.ClientFrame) -> list[int]:
        count = len(frame.return_windows.allotment_indexes)
        if count > len(self._descriptors):
            raise InvalidRequest(f"{count} windows are returned, and {len(self._descriptors)} descriptors came")
        return [self._descriptors.popleft() for _ in range(count)]

    # Frames out.

    def send(self, frame: pb.ServerFrame, descriptors: Sequence[int] = ()) -> None:
        """Sends a frame, now or when the client reads. A client that reads too slowly is closed.

        Raises:
            CardFailed: the host has no descriptors left for copies of ``descriptors``.
        """
        if not self.is_open:
            return
        body = frame.SerializeToString()
        owned = _own_copies(descriptors)
        self._queued.append((_LENGTH.pack(len(body)) + body, owned))
        self._queued_bytes += _LENGTH.size + len(body) + _FRAME_OVERHEAD_BYTES
        self._queued_descriptor_count += len(owned)
        too_many = self._queued_descriptor_count > limits.DESCRIPTORS_QUEUED_MAX
        if too_many or self._queued_bytes > limits.FRAMES_QUEUED_BYTES_MAX:
            _log.warning("client reads too slowly", pid=self.peer.pid)
            self.close()
            return
        self._flush()

    async def descriptors_read(self) -> None:
        """Returns once the client has read all descriptors that were sent to it, or the connection is closed."""
        while self.is_open and self._queued_descriptor_count:
            self._descriptors_read.clear()
            await self._descriptors_read.wait()

    def fault(self, correlation_id: int, refusal: Refusal) -> None:
        """Tells why a frame was refused."""
        self.send(pb.ServerFrame(correlation_id=correlation_id, fault=pb.Fault(detail=detail_of(refusal))))

    def _on_writable(self) -> None:
        self._flush()
        if self._may_take:  # listens again, first to what had come before
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
                if not self._may_take:
                    self._listen(False)
                self._loop.add_writer(self._socket, self._on_writable)
                return
            except OSError:
                self._queued.appendleft((data, descriptors))
                self.close()
                return
            close_all(descriptors)
            self._queued_descriptor_count -= len(descriptors)
            self._descriptors_read.set()
            self._queued_bytes -= sent
            if sent < len(data):
                self._queued.appendleft((data[sent:], ()))
            else:
                self._queued_bytes -= _FRAME_OVERHEAD_BYTES
        assert not self._queued_bytes, f"{self._queued_bytes} bytes of no frame are counted as queued"
        self._loop.remove_writer(self._socket)
        if self._closes_when_sent:
            self.close()

    # The end.

    def refuse_and_close(self, refusal: Refusal) -> None:
        """Says why, and closes."""
        _log.info("connection refused", pid=self.peer.pid, uid=self.peer.uid, reason=refusal.reason)
        self.fault(0, refusal)
        self.close_when_sent()

    def close_when_sent(self) -> None:
        """Closes once the last word is read, or not read in time; what the client says until then is not kept."""
        self._closes_when_sent = True
        if not self._queued:
            self.close()
            return
        self._listen(False)
        self._handshake.cancel()
        self._handshake = self._loop.call_later(limits.HANDSHAKE_NS_MAX / NS_PER_S, self.close)

    def close(self) -> None:
        """Closes the connection. The session stays: only the death of its process, or its own word, ends it."""
        if not self.is_open:
            return
        self._handshake.cancel()
        self._await_rest(is_begun=False)
        self._listen(False)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        os.close(self.peer.pidfd)
        for _, descriptors in self._queued:
            close_all(descriptors)
        self._queued.clear()
        self._descriptors_read.set()
        self._drop_descriptors()
        self._on_closed(self)

    def _drop_descriptors(self) -> None:
        close_all(self._descriptors)
        self._descriptors.clear()


def _own_copies(descriptors: Sequence[int]) -> list[int]:
    """Copies of descriptors: the lease may end before they are sent."""
    owned: list[int] = []
    try:
        for fd in descriptors:
            owned.append(os.dup(fd))  # noqa: PERF401 - what was made before a fault must be closed
    except OSError as fault:
        close_all(owned)
        raise CardFailed(f"the windows cannot be handed over: {fault.strerror}") from fault
    return owned


def close_all(descriptors: Sequence[int]) -> None:
    """Closes descriptors, whatever becomes of each."""
    for fd in descriptors:
        with suppress(OSError):
            os.close(fd)
