"""The session door: calls that come as frames, begun at once, answered as they are ready, and given up when told to."""

import asyncio
import re
from contextlib import aclosing
from functools import lru_cache

import structlog

from rm.core import limits
from rm.core.claims import Asker
from rm.core.errors import Refusal
from rm.service import convert
from rm.service.connection import Connection
from rm.service.eager import EagerTask
from rm.service.event_log import Happening
from rm.service.methods import Methods
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb
from rmapi.v1 import types_pb2

INTERNAL = "INTERNAL"  # reason of a fault of our own
_WATCH = "WatchEvents"
_log = structlog.get_logger(__name__)


def _field_of(method: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


# The frame of a call has its request in a field that is named like the method; so has that of its answer.
_SERVICE = rm_pb.DESCRIPTOR.services_by_name["ResourceManagerService"]
METHODS = {_field_of(method.name): method.name for method in _SERVICE.methods}
for _field in METHODS:
    assert _field in pb.ClientFrame.DESCRIPTOR.fields_by_name, f"no frame carries a request {_field}"
    assert _field in pb.ServerFrame.DESCRIPTOR.fields_by_name, f"no frame carries an answer {_field}"


class Calls:
    """Carries out the calls of all connections."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def begin(self, connection: Connection, frame: pb.ClientFrame, field: str, asker: Asker) -> None:
        """Begins the call that ``frame`` has in ``field``; it is answered under the frame's correlation id."""
        request, name = getattr(frame, field), METHODS[field]
        is_waiting = name == _WATCH or (name == "Acquire" and request.HasField("wait_duration"))
        if name == _WATCH:
            answering = self._watch(connection, frame.correlation_id, request)
        elif name in self._methods.reads.table:
            answering = self._read(connection, frame.correlation_id, field, request, asker)
        else:
            answering = self._answer(connection, frame.correlation_id, field, request, asker)
        task = EagerTask(answering, asyncio.get_running_loop())
        if not task.is_done:
            connection.asked(is_waiting=is_waiting)
            connection.calls[task] = frame.correlation_id
            task.on_done = lambda: self._done(connection, task, is_waiting=is_waiting)

    @staticmethod
    def cancel(connection: Connection, correlation_id: int) -> None:
        """Gives up the calls of this id that wait: what was decided stands."""
        for task in [task for task, known in connection.calls.items() if known == correlation_id]:
            task.cancel()

    @staticmethod
    def forget(connection: Connection) -> None:
        """Gives up all calls of a connection that is closed."""
        for task in list(connection.calls):
            task.cancel()

    @staticmethod
    def _done(connection: Connection, task: EagerTask, *, is_waiting: bool) -> None:
        connection.calls.pop(task, None)
        connection.answered(is_waiting=is_waiting)

    async def _answer(
        self, connection: Connection, correlation_id: int, field: str, request: object, asker: Asker
    ) -> None:
        try:
            response = await self._methods.carry_out(METHODS[field], request, asker)
        except Refusal as refusal:
            connection.fault(correlation_id, refusal)
        except Exception as fault:
            _log.exception("fault of our own", method=METHODS[field])
            _tell_mistake(connection, correlation_id, fault)
        else:
            answer = pb.ServerFrame(correlation_id=correlation_id)
            getattr(answer, field).MergeFrom(response)
            connection.send(answer)

    async def _read(
        self, connection: Connection, correlation_id: int, field: str, request: object, asker: Asker
    ) -> None:
        """Answers may be large: of a client that does not read one, no second is made."""
        async with connection.reading_turn:
            await self._answer(connection, correlation_id, field, request, asker)
            await connection.outbox.all_read()

    async def _watch(self, connection: Connection, correlation_id: int, request: rm_pb.WatchEventsRequest) -> None:
        number = pb.ServerFrame(correlation_id=correlation_id).SerializeToString()
        try:
            async with aclosing(self._methods.reads.watch(request)) as events:
                async for happenings in events:
                    connection.send_bodies([number + _event_body(happening) for happening in happenings])
                    await connection.outbox.all_read()
            connection.send(pb.ServerFrame(correlation_id=correlation_id, watch_ended=pb.WatchEnded()))
        except Refusal as refusal:
            connection.fault(correlation_id, refusal)
        except Exception as fault:
            _log.exception("fault of our own", method=_WATCH)
            _tell_mistake(connection, correlation_id, fault)


@lru_cache(limits.EVENTS_TOLD_TOGETHER_MAX)
def _event_body(happening: Happening) -> bytes:
    """The body of a frame, but for its correlation id, which goes in front: two messages in a row are one message."""
    response = rm_pb.WatchEventsResponse(event=convert.event_to(happening))
    return pb.ServerFrame(watch_events=response).SerializeToString()


def _tell_mistake(connection: Connection, correlation_id: int, fault: Exception) -> None:
    text = f"the daemon made a mistake: {type(fault).__name__}"
    detail = types_pb2.ErrorDetail(reason=INTERNAL, message=text)
    connection.send(pb.ServerFrame(correlation_id=correlation_id, fault=pb.Fault(detail=detail)))
