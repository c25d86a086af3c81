"""Frames of the session socket as bytes: a 4-byte big-endian length, and a protobuf message."""

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence

from rmapi.v1 import session_pb2 as pb

_LENGTH = struct.Struct(">I")
_CHUNK_BYTES = 65_536
_DESCRIPTORS_MAX = 64
_CUT_OFF, _CLOSE_ON_EXEC = int(socket.MSG_CTRUNC), int(socket.MSG_CMSG_CLOEXEC)  # enums are slow to reckon with
_ANCILLARY_BYTES = socket.CMSG_SPACE(_DESCRIPTORS_MAX * array.array("i").itemsize)


class Reader:
    """Turns the bytes of one connection into frames, each with the descriptors that came with it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()
        self._descriptors: deque[int] = deque()

    def read(self) -> list[tuple[pb.ServerFrame, list[int]]]:
        """Reads once, and answers the frames that are complete.

        Raises:
            EOFError, OSError: the connection is broken; BlockingIOError: nothing has come.
        """
        chunk, ancillary, flags, _ = self._socket.recvmsg(_CHUNK_BYTES, _ANCILLARY_BYTES, _CLOSE_ON_EXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                received = array.array("i")
                received.frombytes(data[: len(data) - len(data) % received.itemsize])
                self._descriptors.extend(received)
        if not chunk:
            raise EOFError
        if flags & _CUT_OFF:
            raise OSError("this process has no descriptor left for a window")
        self._received += chunk
        frames = []
        while (frame := self._next_frame()) is not None:
            count = len(frame.windows.windows) if frame.HasField("windows") else 0
            frames.append((frame, [self._descriptors.popleft() for _ in range(count)]))
        return frames

    def close(self) -> None:
        """Closes descriptors that no frame claimed."""
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _next_frame(self) -> pb.ServerFrame | None:
        if len(self._received) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        if len(self._received) < _LENGTH.size + length:
            return None
        frame = pb.ServerFrame.FromString(bytes(self._received[_LENGTH.size : _LENGTH.size + length]))
        del self._received[: _LENGTH.size + length]
        return frame


def framed(frame: pb.ClientFrame) -> bytes:
    """The bytes of a frame."""
    body = frame.SerializeToString()
    return _LENGTH.pack(len(body)) + body


def send(connection: socket.socket, frame: pb.ClientFrame, descriptors: Sequence[int] = ()) -> None:
    """Sends a frame, and copies of ``descriptors`` with its first bytes."""
    data = framed(frame)
    if descriptors:
        data = data[socket.send_fds(connection, [data], list(descriptors)) :]
    connection.sendall(data)


def exchange(connection: socket.socket, frame: pb.ClientFrame) -> pb.ServerFrame:
    """Sends a frame and waits for its answer, before anybody else uses the connection."""
    send(connection, frame)
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    return pb.ServerFrame.FromString(_receive(connection, length))


def _receive(connection: socket.socket, byte_count: int) -> bytes:
    data = b""
    while len(data) < byte_count:
        chunk = connection.recv(byte_count - len(data))
        if not chunk:
            raise ConnectionResetError("the daemon closed the connection")
        data += chunk
    return data


def copies_of(descriptors: Mapping[int, int]) -> dict[int, int]:
    """Copies of descriptors under the same keys; all of them or none.

    Raises:
        OSError: this process has no descriptor left.
    """
    copies: dict[int, int] = {}
    try:
        for key, fd in descriptors.items():
            copies[key] = os.dup(fd)
    except OSError:
        for fd in copies.values():
            os.close(fd)
        raise
    return copies
