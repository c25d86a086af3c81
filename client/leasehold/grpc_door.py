"""The gRPC door of a blocking client. Imported where it is used: gRPC is a large library."""

import threading
from collections.abc import Iterator
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

_graveyard: list[grpc.Channel] = []  # a forked child must not close its parent's channels


class GrpcDoor:
    """A channel, made at the first call; see ``doors.Door``."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._lock = threading.RLock()
        self._channel: grpc.Channel | None = None
        self._stub: pb_grpc.ResourceManagerServiceStub | None = None  # kept: it costs as much as a call

    def call(self, method: str, request: Any, timeout_s: float, link: "SessionLink | None") -> Any:  # noqa: ANN401
        """See ``Door.call``."""
        metadata = link.metadata if link else ()
        try:
            with calls_under_way:
                return getattr(self._opened(), method)(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as fault:
            raise error_of(method, fault) from fault

    def watch(self, request: pb.WatchEventsRequest) -> Iterator[pb.WatchEventsResponse]:
        """See ``Door.watch``."""
        with calls_under_way:
            stream = self._opened().WatchEvents(request)
            try:
                yield from stream
            except grpc.RpcError as fault:
                raise error_of("WatchEvents", fault) from fault
            finally:
                stream.cancel()

    def close(self) -> None:
        """Closes the channel."""
        with self._lock:
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            channel.close()

    def abandon(self) -> None:
        """In a forked child: the channel is the parent's."""
        if self._channel is not None:
            _graveyard.append(self._channel)
            self._channel, self._stub = None, None
        self._lock = threading.RLock()

    def _opened(self) -> pb_grpc.ResourceManagerServiceStub:
        with self._lock:
            if self._stub is None:
                check_trusted(self._run_directory)
                self._channel = grpc.insecure_channel(target(self._run_directory), OPTIONS)
                self._stub = pb_grpc.ResourceManagerServiceStub(self._channel)
            return self._stub
