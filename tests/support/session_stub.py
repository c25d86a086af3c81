"""The session door as a gRPC stub: so that a test that calls methods says nothing of the door they go through."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import grpc

from rm.core.errors import Refusal
from rm.service.calls import METHODS
from rm.service.status import _CODES
from rmapi.v1 import session_pb2, types_pb2

_FIELDS = {name: field for field, name in METHODS.items()}
_WAIT_S = 60.0


def _codes() -> dict[str, grpc.StatusCode]:
    return {kind.reason: code for kind, code in _CODES.items() if issubclass(kind, Refusal)}


class SessionDoorError(grpc.RpcError):
    """What a call was refused with, told as gRPC tells it."""

    def __init__(self, code: grpc.StatusCode, detail: types_pb2.ErrorDetail | None = None) -> None:
        super().__init__(detail.message if detail else code.name)
        self._code, self._detail = code, detail

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return str(self)

    def trailing_metadata(self) -> Any:
        return (("rmapi-error-bin", self._detail.SerializeToString()),) if self._detail else ()


class SessionStub:
    """The methods of the service over one connection of the session socket, greeted already."""

    def __init__(self, connection: Any) -> None:
        self.wire = _Wire(connection)

    def __getattr__(self, method: str) -> "_Method":
        if method not in _FIELDS:
            raise AttributeError(method)
        return _Method(self.wire, method)


class _Wire:
    """Tells the answers of calls from other frames, which are left for the connection's own ``receive``."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lock = threading.RLock()
        self.answers: dict[int, deque[session_pb2.ServerFrame]] = connection.answers
        self.last_id = 1_000_000  # other frames of tests have lower ones

    def send(self, field: str, request: Any) -> int:
        with self.lock:
            self.last_id += 1
            self.answers[self.last_id] = deque()
            frame = session_pb2.ClientFrame(correlation_id=self.last_id, **{field: request})
            self.connection.send_frame(frame)
            return self.last_id

    def next_answer(self, called_id: int, timeout_s: float) -> session_pb2.ServerFrame | None:
        """The next answer of a call; None where there is none in time."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            with self.lock:
                if self.answers[called_id]:
                    return self.answers[called_id].popleft()
                frame = self.connection.receive_within(min(0.02, max(0.0, give_up_at - time.monotonic())))
                if frame is not None and frame.correlation_id in self.answers:
                    self.answers[frame.correlation_id].append(frame)
                elif frame is not None:
                    self.connection.others.append(frame)
            if frame is None and time.monotonic() >= give_up_at:
                return None


class _Method:
    def __init__(self, wire: _Wire, method: str) -> None:
        self._wire, self._method = wire, method

    def __call__(self, request: Any, *, timeout: float = _WAIT_S, **_: Any) -> Any:
        call = _Call(self._wire, self._method, request, timeout)
        return call if self._method == "WatchEvents" else call.result()

    def future(self, request: Any, *, timeout: float = _WAIT_S, **_: Any) -> "_Call":
        return _Call(self._wire, self._method, request, timeout)


class _Call:
    """A call that was made: its answer, or, of a watch, its answers."""

    def __init__(self, wire: _Wire, method: str, request: Any, timeout_s: float) -> None:
        self._wire, self._field = wire, _FIELDS[method]
        self._give_up_at = time.monotonic() + timeout_s
        self._answer: session_pb2.ServerFrame | None = None
        self._is_cancelled = False
        self._id = wire.send(self._field, request)

    def done(self) -> bool:
        if self._answer is None and not self._is_cancelled:
            self._answer = self._wire.next_answer(self._id, 0.0)
        return self._is_cancelled or self._answer is not None

    def cancel(self) -> bool:
        if self.done():
            return False
        self._is_cancelled = True
        self._wire.connection.send_frame(session_pb2.ClientFrame(cancel=session_pb2.Cancel(called_id=self._id)))
        return True

    def cancelled(self) -> bool:
        return self._is_cancelled

    def exception(self, timeout: float | None = None) -> BaseException | None:
        try:
            self.result(timeout)
        except grpc.RpcError as fault:
            return fault
        return None

    def code(self) -> grpc.StatusCode:
        fault = self.exception()
        return fault.code() if isinstance(fault, SessionDoorError) else grpc.StatusCode.OK

    def result(self, timeout: float | None = None) -> Any:
        if self._answer is None:
            self._answer = self._next(timeout)
        return self._told(self._answer)

    def __iter__(self) -> Iterator[Any]:
        while (answer := self._next(None)).WhichOneof("body") != "watch_ended":
            yield self._told(answer)

    def __next__(self) -> Any:
        return self._told(self._next(None))

    def _next(self, timeout_s: float | None) -> session_pb2.ServerFrame:
        if self._is_cancelled:
            raise SessionDoorError(grpc.StatusCode.CANCELLED)
        left_s = max(0.0, self._give_up_at - time.monotonic())
        answer = self._wire.next_answer(self._id, left_s if timeout_s is None else min(left_s, timeout_s))
        if answer is None:
            self.cancel()
            raise SessionDoorError(grpc.StatusCode.DEADLINE_EXCEEDED)
        return answer

    def _told(self, answer: session_pb2.ServerFrame) -> Any:
        if answer.WhichOneof("body") == "fault":
            detail = answer.fault.detail
            raise SessionDoorError(_codes().get(detail.reason, grpc.StatusCode.INTERNAL), detail)
        return getattr(answer, self._field)
