"""The gRPC door of an ``await`` client. Imported where it is used: gRPC is a large library."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from leasehold.address import check_trusted
from leasehold.channel import OPTIONS, error_of, target
from leasehold.forks import calls_under_way
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from leasehold.session import SessionLink


class GrpcDoor:
    """A channel, made at the first call; see ``leasehold.doors.Door``."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._channel: grpc.aio.Channel | None = None
        self._stub: pb_grpc.ResourceManagerServiceAsyncStub | None = None  # kept: it costs as much as a call

    async def call(self, method: str, request: Any, timeout_s: float, link: "SessionLink | None") -> Any:  # noqa: ANN401
        """See ``Door.call``."""
        metadata = link.metadata if link else ()
        try:
            with calls_under_way:
                return await getattr(self._opened(), method)(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as fault:
            raise error_of(method, fault) from fault

    async def watch(self, request: pb.WatchEventsRequest) -> AsyncIterator[pb.WatchEventsResponse]:
        """See ``Door.watch``."""
        with calls_under_way:
            stream = self._opened().WatchEvents(request)
            try:
                async for response in stream:
                    yield response
            except grpc.RpcError as fault:
                raise error_of("WatchEvents", fault) from fault
            finally:
                stream.cancel()

    async def close(self) -> None:
        """Closes the channel."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    def abandon(self) -> None:
        """In a forked child: the channel is the parent's."""
        self._channel, self._stub = None, None

    def _opened(self) -> "pb_grpc.ResourceManagerServiceAsyncStub":
        if self._stub is None:
            check_trusted(self._run_directory)
            self._channel = grpc.aio.insecure_channel(target(self._run_directory), options=OPTIONS)
            self._stub = pb_grpc.ResourceManagerServiceStub(self._channel)
        return self._stub
