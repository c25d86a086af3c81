"""Bare frames on a Unix socket: a length and the contract's own messages, answered without being looked into.

The server is one event loop with ``add_reader`` and plain ``recv`` and ``send``; what it does beside is to parse each
request and to build its answer. It is what the session door could cost at the least.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import Server as BaseServer
from bench.peers.base import can_connect
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2 as types

_HEAD = struct.Struct(">IB")  # of the message, and what it is
_ACQUIRE, _RELEASE = 1, 2
_CHUNK_BYTES = 65_536


class Server(BaseServer):
    """A process of this project's own."""

    name = "bare frames"
    module = "bench.peers.frames"
    version = "this project's"

    @property
    def address(self) -> str:
        """The socket's path."""
        return str(self.root / "frames.sock")

    def command(self) -> Sequence[str]:
        """This file as a program."""
        return [sys.executable, "-m", self.module, self.address]

    def is_ready(self) -> bool:
        """Whether the socket is there."""
        return can_connect(self.address)

    def popen(self) -> dict[str, str]:
        """It is run from where ``bench`` is."""
        return {"cwd": str(Path(__file__).resolve().parents[2])}


class Client:
    """One connection, one frame under way."""

    def __init__(self, address: str, _: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(address)
        self._request_id = 0

    def acquire(self) -> str:
        """The id of the lease that was not really granted."""
        self._request_id += 1
        claim = types.Claim(pool="streams", units=types.UnitsClaim(unit_count=1))
        request = pb.AcquireRequest(request_id=self._request_id, claims=[claim])
        return pb.AcquireResponse.FromString(self._call(_ACQUIRE, request.SerializeToString())).lease.id

    def release(self, held: str) -> None:
        """Sends the other frame."""
        request = pb.ReleaseRequest(lease_id=held)
        pb.ReleaseResponse.FromString(self._call(_RELEASE, request.SerializeToString()))

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _call(self, kind: int, body: bytes) -> bytes:
        self._socket.sendall(_HEAD.pack(len(body), kind) + body)
        data = self._socket.recv(_CHUNK_BYTES)
        while len(data) < _HEAD.size or len(data) < _HEAD.size + _HEAD.unpack_from(data)[0]:
            chunk = self._socket.recv(_CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("the server of bare frames has ended")
            data += chunk
        return data[_HEAD.size :]


def _answers(received: bytearray) -> bytes:
    """The answers to the frames that are complete, which are taken off ``received``."""
    out = bytearray()
    while len(received) >= _HEAD.size:
        length, kind = _HEAD.unpack_from(received)
        end = _HEAD.size + length
        if len(received) < end:
            break
        body = bytes(received[_HEAD.size : end])
        del received[:end]
        if kind == _ACQUIRE:
            asked = pb.AcquireRequest.FromString(body)
            allotment = types.Allotment(pool=asked.claims[0].pool)
            lease = types.Lease(id=f"L{asked.request_id}", token=asked.request_id, card="0", allotments=[allotment])
            answer = pb.AcquireResponse(lease=lease).SerializeToString()
        else:
            pb.ReleaseRequest.FromString(body)
            answer = pb.ReleaseResponse().SerializeToString()
        out += _HEAD.pack(len(answer), kind) + answer
    return bytes(out)


async def _serve(path: str) -> None:
    loop = asyncio.get_running_loop()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen(128)
    listening.setblocking(False)

    def accept() -> None:
        connection, _ = listening.accept()
        received = bytearray()

        def read() -> None:
            chunk = connection.recv(_CHUNK_BYTES)
            if not chunk:
                loop.remove_reader(connection)
                connection.close()
                return
            received.extend(chunk)
            connection.sendall(_answers(received))  # small enough for the socket's own buffer

        loop.add_reader(connection, read)

    loop.add_reader(listening, accept)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
