"""A bare gRPC echo: a unary call of a ``grpc.aio`` server with the daemon's own options, called by blocking stubs.

Two of its calls are what a pair over gRPC costs at the least.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers.base import Server as BaseServer
from bench.peers.base import can_connect
from rmapi.v1 import resource_manager_pb2 as pb

_SERVICE, _METHOD = "bench.Echo", "Echo"
NEEDS = ("grpc", "leasehold.channel")  # what a client imports


class Server(BaseServer):
    """A process of this project's own."""

    name = "bare gRPC echo"
    module = "bench.peers.echo"

    @property
    def address(self) -> str:
        """The socket's path."""
        return str(self.root / "echo.sock")

    def prepare(self) -> None:
        """Says which gRPC it is."""
        import grpc

        self.version = f"grpcio {grpc.__version__}"

    def command(self) -> Sequence[str]:
        """This file as a program."""
        return [sys.executable, "-m", self.module, self.address]

    def is_ready(self) -> bool:
        """Whether the socket is there."""
        return can_connect(self.address)

    def popen(self) -> dict[str, Any]:
        """It is run from where ``bench`` is."""
        return {"cwd": Path(__file__).resolve().parents[2]}


class Client:
    """One channel; a pair is two echoes."""

    def __init__(self, address: str, _: int) -> None:
        import grpc

        from leasehold.channel import OPTIONS

        self._channel = grpc.insecure_channel(f"unix:{address}", OPTIONS)
        self._echo = self._channel.unary_unary(
            f"/{_SERVICE}/{_METHOD}", pb.AcquireRequest.SerializeToString, pb.AcquireRequest.FromString
        )
        self._request = pb.AcquireRequest(request_id=1, label="a label of some length")

    def acquire(self) -> None:
        """One echo."""
        self._echo(self._request, wait_for_ready=True, timeout=10)

    def release(self, _: None) -> None:
        """Another."""
        self._echo(self._request, wait_for_ready=True, timeout=10)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()


async def _serve(path: str) -> None:
    import grpc

    from rm.service.server import SERVER_OPTIONS

    async def echo(request: pb.AcquireRequest, _: object) -> pb.AcquireRequest:
        return request

    server = grpc.aio.server(options=SERVER_OPTIONS)
    method = grpc.unary_unary_rpc_method_handler(
        echo, pb.AcquireRequest.FromString, pb.AcquireRequest.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method}),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
