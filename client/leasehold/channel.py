"""The gRPC channel to the daemon: its options, and what its errors mean."""

from pathlib import Path
from typing import Any

import grpc

from leasehold.address import GRPC_SOCKET
from leasehold.errors import DaemonUnavailable, LeaseholdError
from leasehold.retries import NotThere, refusal_of
from rmapi.v1 import types_pb2 as pb

ERROR_TRAILER = "rmapi-error-bin"

# Without these a client shares its connection with others of the process (and with a forked child), and takes up to
# 14 s to notice that the daemon is back.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 << 20),
)


# A daemon that stops cancels calls that reach it too late, and one that stands still lets them run out of time.
_NOT_THERE = {
    grpc.StatusCode.UNAVAILABLE: "the daemon went away in the middle of {}",
    grpc.StatusCode.CANCELLED: "the daemon gave up {}",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the daemon gave no answer to {} in time",
}


def target(run_directory: Path) -> str:
    """The gRPC address in a run directory."""
    return f"unix:{run_directory / GRPC_SOCKET}"


def detail_of(fault: grpc.RpcError) -> pb.ErrorDetail | None:
    """Why the daemon refused a call, in its own words; None where it said nothing."""
    trailers: Any = fault.trailing_metadata() if hasattr(fault, "trailing_metadata") else None
    for key, value in trailers or ():
        if key == ERROR_TRAILER:
            return pb.ErrorDetail.FromString(value)
    return None


def error_of(what: str, fault: grpc.RpcError) -> LeaseholdError:
    """The error of the library for a fault of a call ``what``; ``NotThere`` where it may be tried again."""
    code = fault.code() if isinstance(fault, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    detail = detail_of(fault)
    if detail is not None:
        return refusal_of(detail)
    if code in _NOT_THERE:
        return NotThere(_NOT_THERE[code].format(what))
    text = fault.details() if isinstance(fault, grpc.Call | grpc.aio.AioRpcError) else str(fault)
    return DaemonUnavailable(f"the daemon failed at {what}: {text}")
