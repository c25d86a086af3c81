"""One connection of the session socket: bytes and descriptors in, frames out. What frames mean is not its affair.

Frames are a 4-byte big-endian length and a protobuf message. Nothing that a client sends, or fails to send, may hold up
the others: reads never block, a silent or slow client is closed, one that does not read its descriptors is not heard
either, and garbage costs only the connection that sent it.
"""

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from google.protobuf.message import DecodeError

from rm.core import limits
from rm.core.errors import CardFailed, InvalidRequest, QuotaExceeded, Refusal
from rm.service.eager import EagerTask
from rm.service.outbox import Outbox, TooSlow, close_all
from rm.service.patience import Patience
from rm.service.sessions import Peer, Session
from rm.service.status import detail_of
from rmapi.v1 import session_pb2 as pb

_LENGTH = struct.Struct(">I")
_CUT_OFF, _CLOSE_ON_EXEC = int(socket.MSG_CTRUNC), int(socket.MSG_CMSG_CLOEXEC)  # enums are slow to reckon with
_ANCILLARY_BYTES = socket.CMSG_SPACE(limits.DESCRIPTORS_PER_FRAME_MAX * array.array("i").itemsize)
_log = structlog.get_logger(__name__)


class LargeFrames:
    """How many frames that are larger than FRAME_BYTES_MAX are on their way, over all connections."""

    def __init__(self) -> None:
        self.count = 0


class Connection:
    """A connection, and the session it belongs to once it was greeted."""

    def __init__(
        self,
        connection: socket.socket,
        peer: Peer,
        *,
        on_frame: "Callable[[Connection, pb.ClientFrame, list[int]], None]",
        on_closed: "Callable[[Connection], None]",
        large_frames: LargeFrames,
    ) -> None:
        """Takes over the socket and the peer's pidfd.

        ``on_frame`` gets each frame with the descriptors that came with it, which it then owns; a refusal that it
        raises closes the connection.
        """
        self.peer = peer
        self.session: Session | None = None
        self.is_guest = False  # it was greeted, and has no session
        self.calls: dict[EagerTask, int] = {}  # that wait, each with its correlation id
        self._large_frames = large_frames
        self._is_large = False  # the frame that has begun
        self._socket = connection
        self._on_frame, self._on_closed = on_frame, on_closed
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self.outbox = Outbox(connection, on_broken=self.close, on_full=self._on_full, on_room=self._on_room)
        self._unanswered_count = self._waiting_count = 0
        self._is_on_hold = self._closes_when_sent = self._is_listening = self._is_taking_later = False
        self._is_taking = self._is_sending_later = self._is_closed = False
        self.windows_turn, self.reading_turn = asyncio.Lock(), asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._listen()
        self._handshake = Patience(self.close)
        self._rest: Patience | None = None

    def greeted(self, session: Session) -> None:
        """Belongs to ``session`` from now on, and may stay silent."""
        self.session = session
        self._handshake.cancel()

    def visited(self) -> None:
        """Has no session, reads only, and may stay silent."""
        self.is_guest = True
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
        return not self._is_closed

    def asked(self, *, is_waiting: bool = False) -> None:
        """Owes an answer that comes later; one that owes too many hears no further frame.

        One that ``is_waiting``, for units or for events, may come very late: of these it may owe many more.
        """
        if is_waiting:
            self._waiting_count += 1
        else:
            self._unanswered_count += 1

    def answered(self, *, is_waiting: bool = False) -> None:
        """Has given an answer that was owed, or owes it no longer."""
        if is_waiting:
            self._waiting_count -= 1
        else:
            self._unanswered_count -= 1
        self._take_frames()

    # Bytes in.

    def _on_readable(self) -> None:
        try:
            chunk, ancillary, flags, _ = self._socket.recvmsg(limits.FRAME_BYTES_MAX, _ANCILLARY_BYTES, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        descriptors = _descriptors_in(ancillary) if ancillary else ()
        if descriptors:
            self._descriptors.extend(descriptors)
        if not chunk:
            self.close()
            return
        if self._closes_when_sent:  # it was refused: what it says now is not kept
            self._drop_descriptors()
            return
        if flags & _CUT_OFF or len(self._descriptors) > limits.DESCRIPTORS_PER_FRAME_MAX:
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
        return (
            not (self._is_closed or self._closes_when_sent or self._is_on_hold)
            and self._unanswered_count < limits.FRAMES_UNANSWERED_MAX
            and self._unanswered_count + self._waiting_count < limits.CALLS_WAITING_MAX
            and self.outbox.is_read
        )

    def _take_frames(self) -> None:
        """Takes what has come, a few frames a turn of the loop: the others have their turns between."""
        if self._is_taking_later or self._is_taking:
            return
        self._is_taking = True
        try:
            self._take_some()
        except (Refusal, DecodeError) as fault:
            refusal = fault if isinstance(fault, Refusal) else InvalidRequest("these bytes are no frame")
            self.refuse_and_close(refusal)
        finally:
            self._is_taking = False
            self._send_answers()

    def _send_answers(self) -> None:
        """Sends all that was answered in this turn; what was not heard for want of that is heard in the next."""
        if self.outbox:
            self._flush()
            has_more = bool(self._received) or not self._is_listening
            if has_more and not self._is_taking_later and self._may_take:
                self._take_later()

    def _take_some(self) -> None:
        for _ in range(limits.FRAMES_PER_TURN_MAX):
            if not self._may_take or not (frame := self._next_frame()):
                break
            if self._rest is not None:
                self._await_rest(is_begun=False)
            count = len(frame.return_windows.allotment_indexes) if frame.HasField("return_windows") else 0
            self._on_frame(self, frame, self._take_descriptors(count) if count else [])
        else:
            self._take_later()
            return
        if self._is_closed:  # an answer could not be sent
            return
        if self._is_listening and not self._received and not self._descriptors:
            return  # all is said, and more may come
        self._await_rest(is_begun=bool(self._received or self._descriptors))
        if self._may_take:
            if self._descriptors and not self._received:
                raise InvalidRequest("these descriptors belong to no frame")
            self._listen()

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
            self._rest = Patience(self._rest_is_late)

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
        most = limits.FRAME_BYTES_MAX if self.session is None else limits.MESSAGE_BYTES_MAX
        if not 1 <= length <= most:
            raise InvalidRequest(f"a frame has 1 to {most} bytes, not {length}", length=length)
        end = _LENGTH.size + length
        if len(self._received) < end:
            if length > limits.FRAME_BYTES_MAX and not self._is_large:
                self._begin_large()
            return None
        if self._is_large:
            self._end_large()
        frame = pb.ClientFrame.FromString(bytes(self._received[_LENGTH.size : end]))
        del self._received[:end]
        return frame

    def _begin_large(self) -> None:
        if self._large_frames.count >= limits.LARGE_FRAMES_MAX:
            raise QuotaExceeded(f"{limits.LARGE_FRAMES_MAX} large requests are on their way, the most there may be")
        self._is_large = True
        self._large_frames.count += 1

    def _end_large(self) -> None:
        self._is_large = False
        self._large_frames.count -= 1

    def _take_descriptors(self, count: int) -> list[int]:
        if count > len(self._descriptors):
            raise InvalidRequest(f"{count} windows are returned, and {len(self._descriptors)} descriptors came")
        return [self._descriptors.popleft() for _ in range(count)]

    # Frames out.

    def send(self, frame: pb.ServerFrame, descriptors: Sequence[int] = ()) -> None:
        """Sends a frame, now or when the client reads. A client that reads too slowly is closed.

        Raises:
            CardFailed: the host has no descriptors left for copies of ``descriptors``.
        """
        body = frame.SerializeToString()
        self._send(_LENGTH.pack(len(body)) + body, descriptors)

    def send_bodies(self, bodies: Sequence[bytes]) -> None:
        """As ``send``, of several frames that are written down already."""
        self._send(b"".join([part for body in bodies for part in (_LENGTH.pack(len(body)), body)]), ())

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        if not self.is_open:
            return
        try:
            self.outbox.put(data, descriptors)
        except TooSlow:
            _log.warning("client reads too slowly", pid=self.peer.pid)
            self.close()
            return
        if self._is_taking:
            return  # it goes with the answers to the other frames of this turn
        if len(self.calls) <= 1:
            self._flush()
        elif not self._is_sending_later:  # a commit that answers one call may answer the others too
            self._is_sending_later = True
            self._loop.call_soon(self._send_later)

    def fault(self, correlation_id: int, refusal: Refusal) -> None:
        """Tells why a frame was refused."""
        self.send(pb.ServerFrame(correlation_id=correlation_id, fault=pb.Fault(detail=detail_of(refusal))))

    def _send_later(self) -> None:
        self._is_sending_later = False
        self._flush()

    def _flush(self) -> None:
        if self.is_open:
            self.outbox.flush()
        if self._closes_when_sent and not self.outbox:
            self.close()

    def _on_room(self) -> None:
        if self._closes_when_sent and not self.outbox:
            self.close()
        elif self._may_take:  # listens again, first to what had come before
            self._take_frames()

    def _on_full(self) -> None:
        if not self._may_take:
            self._listen(False)

    # The end.

    def refuse_and_close(self, refusal: Refusal) -> None:
        """Says why, and closes."""
        _log.info("connection refused", pid=self.peer.pid, uid=self.peer.uid, reason=refusal.reason)
        self.fault(0, refusal)
        self.close_when_sent()

    def close_when_sent(self) -> None:
        """Closes once the last word is read, or not read in time; what the client says until then is not kept."""
        self._closes_when_sent = True
        if not self.outbox:
            self.close()
            return
        self._listen(False)
        self._handshake.cancel()
        self._handshake = Patience(self.close)

    def close(self) -> None:
        """Closes the connection. The session stays: only the death of its process, or its own word, ends it."""
        if not self.is_open:
            return
        self._handshake.cancel()
        self._await_rest(is_begun=False)
        self._listen(False)
        self._is_closed = True
        self.outbox.drop()
        self._socket.close()
        os.close(self.peer.pidfd)
        if self._is_large:
            self._end_large()
        self._drop_descriptors()
        self._on_closed(self)

    def _drop_descriptors(self) -> None:
        close_all(self._descriptors)
        self._descriptors.clear()


def _descriptors_in(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with some bytes."""
    received = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
    return list(received)
