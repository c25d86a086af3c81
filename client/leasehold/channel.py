"""The gRPC channel to the daemon: its options, what its errors mean, and when a call is tried again."""

import random
import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from leasehold.address import GRPC_SOCKET
from leasehold.errors import DaemonUnavailable, LeaseholdError, refused
from rmapi.v1 import types_pb2 as pb

RETRY_S = 30.0  # how long a call outlives a daemon that restarts
CALL_S = 10.0  # how long the daemon may take for an answer that waits for nothing
FORGO_S = 2.0  # how long to try to give back what may have been granted and was not told
ERROR_TRAILER = "rmapi-error-bin"
SESSION_UNKNOWN = "SESSION_UNKNOWN"
SHUTTING_DOWN = "SHUTTING_DOWN"

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
_NOT_THERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


class SessionUnknown(LeaseholdError):
    """The daemon does not know the session: it was restarted. Never leaves the library."""


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


def refusal_of(detail: pb.ErrorDetail) -> LeaseholdError:
    """The error that a user gets for a refusal."""
    if detail.reason == SESSION_UNKNOWN:
        return SessionUnknown(detail.message)
    if detail.reason == SHUTTING_DOWN:  # as good as gone: another daemon will answer
        return DaemonUnavailable(detail.message)
    return refused(detail.reason, detail.message, _facts(MessageToDict(detail.facts)))


class Attempts:
    """The tries of one call. ``after`` is asked after each fault whether there is another."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._give_up_at = time.monotonic() + RETRY_S
        self._pause_s = 0.05

    def after(self, fault: grpc.RpcError) -> float:
        """How long to pause before the next try.

        Raises:
            Refused, SessionUnknown: the daemon's own answer.
            DaemonUnavailable: there was no answer for 30 s.
        """
        if _code_of(fault) not in _NOT_THERE:
            raise self.told(self._what, fault) from fault
        self.check_time_left(fault)
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(self._pause_s * 2, 0.25)
        return pause_s

    def check_time_left(self, fault: grpc.RpcError) -> None:
        """Gives up where the call was tried for long enough.

        Raises:
            DaemonUnavailable: it was.
        """
        if time.monotonic() >= self._give_up_at:
            raise DaemonUnavailable(f"no daemon answered {self._what} for {RETRY_S:g} s") from fault

    @staticmethod
    def told(what: str, fault: grpc.RpcError) -> LeaseholdError:
        """The error that a user gets for a fault of a call that is not tried again."""
        detail = detail_of(fault)
        if detail is not None:
            return refusal_of(detail)
        if _code_of(fault) is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DaemonUnavailable(f"the daemon gave no answer to {what} in time")
        if _code_of(fault) is grpc.StatusCode.UNAVAILABLE:
            return DaemonUnavailable(f"the daemon went away in the middle of {what}")
        text = fault.details() if isinstance(fault, grpc.Call | grpc.aio.AioRpcError) else str(fault)
        return DaemonUnavailable(f"the daemon failed at {what}: {text}")


def _code_of(fault: grpc.RpcError) -> grpc.StatusCode:
    return fault.code() if isinstance(fault, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN


def _facts(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Numbers that are whole as ``int``: the wire knows only doubles."""
    if isinstance(value, dict):
        return {key: _facts(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_facts(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
