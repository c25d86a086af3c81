"""The gRPC door: each method finds out who calls, has the request carried out, and tells the answer or the refusal."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import lru_cache
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import Message

from rm.core import limits
from rm.core.claims import Asker
from rm.core.errors import Refusal, SessionUnknown
from rm.service import convert
from rm.service.event_log import Happening
from rm.service.methods import NOBODY, Methods
from rm.service.sessions import Sessions
from rm.service.status import ERROR_TRAILER, code_of, detail_of, text_of
from rmapi.v1 import resource_manager_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ResourceManagerService"].full_name
SESSION_ID_KEY = "rmapi-session-id"
SESSION_SECRET_KEY = "rmapi-session-secret"
_USES_ITS_ASKER = frozenset({"Explain"})  # the one read that asks who asks, where somebody does

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger(__name__)


class Servicer:
    """The service on gRPC: its methods are made from the table of ``methods``, one like the other."""

    def __init__(self, methods: Methods, sessions: Sessions) -> None:
        self._methods = methods
        self._sessions = sessions

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given to serve."""
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._method(name), getattr(pb, f"{name}Request").FromString, _serialized
            )
            for name in self._methods.names
        }
        handlers["WatchEvents"] = grpc.unary_stream_rpc_method_handler(
            self._watch_events, pb.WatchEventsRequest.FromString, _serialized
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _method(self, name: str) -> Callable[[Any, Context], Any]:
        """What gRPC calls: a refusal becomes its status, a fault of our own INTERNAL without a traceback."""
        methods, needs_session = self._methods, self._methods.needs_session(name)
        asks = needs_session or name in _USES_ITS_ASKER

        async def called(request: Any, context: Context) -> Any:  # noqa: ANN401 - one of many messages
            try:
                asker = self._asker(context, may_be_nobody=not needs_session) if asks else NOBODY
                return await methods.carry_out(name, request, asker)
            except SessionUnknown as refusal:
                await _abort(context, await methods.engine.commits.told(refusal))
            except Refusal as refusal:
                await _abort(context, refusal)
            except Exception as fault:
                _log.exception("fault of our own", method=name)
                await context.abort(grpc.StatusCode.INTERNAL, f"the daemon made a mistake: {type(fault).__name__}")
            raise AssertionError("abort raises")

        return called

    async def _watch_events(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Streams what happens to leases."""
        try:
            async with aclosing(self._methods.reads.watch(request)) as events:
                async for happenings in events:
                    for happening in happenings:
                        yield _event_response(happening)
        except Refusal as refusal:
            await _abort(context, refusal)

    def _asker(self, context: Context, *, may_be_nobody: bool = False) -> Asker:
        session_id = secret = ""
        for key, value in context.invocation_metadata() or ():
            if key == SESSION_ID_KEY and isinstance(value, str):
                session_id = value
            elif key == SESSION_SECRET_KEY and isinstance(value, str):
                secret = value
        if may_be_nobody and not session_id:
            return NOBODY
        return self._sessions.asker(self._sessions.authenticate(session_id, secret))


async def _abort(context: Context, refusal: Refusal) -> NoReturn:
    trailer = ((ERROR_TRAILER, detail_of(refusal).SerializeToString()),)
    await context.abort(code_of(refusal), text_of(refusal), trailer)
    raise AssertionError("abort raises")


@lru_cache(limits.EVENTS_TOLD_TOGETHER_MAX)
def _event_response(happening: Happening) -> pb.WatchEventsResponse:
    """One message for all watchers, which nobody changes."""
    return pb.WatchEventsResponse(event=convert.event_to(happening))


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
