"""labgrid's coordinator: places acquired and released over its gRPC, the stack that Leasehold has too.

It runs, with its clients, in an environment of its own, ``.venv/labgrid``, as it pins protobuf. It switches asyncio's
debug mode on by itself, which costs it some; that is how it is delivered. A place needs no resources here, and each
client has a place of its own. What it says is not on disk when it says it, and who holds a place is lost by a restart.
"""

import queue
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bench.peers.base import Absent, can_connect, free_port
from bench.peers.base import Server as BaseServer

_BIN = Path(sys.prefix) / "labgrid" / "bin"
NEEDS = ("grpc", "labgrid.remote.generated.labgrid_coordinator_pb2_grpc")  # what a client imports


class Server(BaseServer):
    """``labgrid-coordinator`` of PyPI."""

    name = "labgrid"
    module = "bench.peers.labgrid"
    python = _BIN / "python"

    @property
    def address(self) -> str:
        """The port on the loopback."""
        return f"127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Finds it, and a port."""
        self._program = _BIN / "labgrid-coordinator"
        if not self._program.exists():
            raise Absent(
                "labgrid is not installed: python3 -m venv .venv/labgrid && .venv/labgrid/bin/pip install labgrid"
            )
        asked = "import importlib.metadata as m; print(m.version('labgrid'))"
        told = subprocess.run([self.python, "-c", asked], capture_output=True, text=True, check=False)
        self.version = f"{told.stdout.strip()}, asyncio debug mode on as delivered"
        self._port = free_port()

    def command(self) -> Sequence[str]:
        """Its files are in the directory that it is started in."""
        return [str(self._program), "-l", self.address]

    def is_ready(self) -> bool:
        """Whether it listens."""
        return can_connect(("127.0.0.1", self._port))


class Client:
    """One channel with a session stream, and a place."""

    def __init__(self, address: str, number: int) -> None:
        import grpc
        from labgrid.remote.generated import labgrid_coordinator_pb2 as pb
        from labgrid.remote.generated import labgrid_coordinator_pb2_grpc as pb_grpc

        self._pb = pb
        self._channel = grpc.insecure_channel(address)
        self._stub = pb_grpc.CoordinatorStub(self._channel)
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._said.put(pb.ClientInMessage(startup=pb.StartupDone(version="bench", name=f"bench/client-{number}")))
        self._said.put(pb.ClientInMessage(sync=pb.Sync(id=1)))
        self._stream = self._stub.ClientStream(iter(self._said.get, None))
        while next(self._stream).sync.id != 1:
            pass
        self._places = (f"place-{number}-{index}" for index in count())
        self._place = self._new_place()

    def acquire(self) -> str:
        """This client's place."""
        self._stub.AcquirePlace(self._pb.AcquirePlaceRequest(placename=self._place), timeout=10)
        return self._place

    def acquire_another(self) -> None:
        """A place that is made for it, and stays held."""
        self._stub.AcquirePlace(self._pb.AcquirePlaceRequest(placename=self._new_place()), timeout=10)

    def release(self, held: str) -> None:
        """Gives it back."""
        self._stub.ReleasePlace(self._pb.ReleasePlaceRequest(placename=held), timeout=10)

    def close(self) -> None:
        """Takes the place away, and ends the stream."""
        self._stub.DeletePlace(self._pb.DeletePlaceRequest(name=self._place), timeout=10)
        self._said.put(None)
        self._channel.close()

    def _new_place(self) -> str:
        import grpc

        while True:  # after a restart the coordinator still knows the places of those who are gone
            place = next(self._places)
            try:
                self._stub.AddPlace(self._pb.AddPlaceRequest(name=place), timeout=10)
            except grpc.RpcError as fault:
                if fault.code() != grpc.StatusCode.ALREADY_EXISTS:
                    raise
            else:
                return place
