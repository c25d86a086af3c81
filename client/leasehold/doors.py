"""The ways to the daemon of a blocking client. Both carry the same messages, and calls are tried again alike.

The session door is the session's own connection: no second one, no other library, and a fraction of the time.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.message import DecodeError

from leasehold.address import SESSION_SOCKET, check_trusted
from leasehold.errors import DaemonUnavailable, Invalid
from leasehold.frames import Reader, exchange, send
from leasehold.retries import NotThere, refusal_of
from leasehold.server import connect_to_server
from leasehold.wire import Answer, Wire
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from leasehold.session import SessionLink

PROTOCOL_VERSION = 1
SESSION, GRPC = "session", "grpc"


class Door(Protocol):
    """A way to the daemon."""

    def call(self, method: str, request: Any, timeout_s: float, link: "SessionLink | None") -> Any:  # noqa: ANN401
        """The answer to one call of ``method``, as the session of ``link``, or as nobody.

        Raises:
            NotThere: there was none, and may be one a little later.
            SessionUnknown: the daemon knows another session, or none; ``link`` is about to learn of it.
            Refused, DaemonUnavailable: the daemon's own answer.
        """

    def watch(self, request: rm_pb.WatchEventsRequest) -> Iterator[rm_pb.WatchEventsResponse]:
        """What happens from now on.

        Raises:
            DaemonUnavailable: the daemon went away.
        """

    def close(self) -> None:
        """Lets go of connections of its own."""

    def abandon(self) -> None:
        """The same in a forked child, without a word: they are its parent's."""


def chosen_door(door: str | None) -> str:
    """The door that was asked for, here or by ``$LEASEHOLD_DOOR``; else the quicker one.

    Raises:
        Invalid: there is no such door.
    """
    chosen = door or os.environ.get("LEASEHOLD_DOOR") or SESSION
    if chosen not in {SESSION, GRPC}:
        raise Invalid(f"there is no door {chosen!r}; there are {SESSION!r} and {GRPC!r}")
    return chosen


def make_door(door: str, run_directory: Path) -> Door:
    """The door of that name."""
    if door == SESSION:
        return SessionDoor(run_directory)
    from leasehold.grpc_door import GrpcDoor

    return GrpcDoor(run_directory)


@cache
def field_of(method: str) -> str:
    """The field of a frame in which the request and the answer of a method travel."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()


def call_frame(field: str, request: Any) -> pb.ClientFrame:  # noqa: ANN401 - one of many messages
    """The frame of a call, still without a number."""
    return pb.ClientFrame(**{field: request})


def answer_in(answer: Answer, field: str) -> Any:  # noqa: ANN401 - one of many messages
    """The message that a call was answered with.

    Raises:
        NotThere, Refused, SessionUnknown, DaemonUnavailable: there is none.
    """
    frame = answer.told()
    if not frame.HasField(field):
        raise DaemonUnavailable(f"the daemon answered with {frame.WhichOneof('body')}, not with {field}")
    return getattr(frame, field)


def news_in(frame: pb.ServerFrame) -> rm_pb.WatchEventsResponse | None:
    """What a frame of ``watch`` says; None where it is the last.

    Raises:
        Refused: the daemon's refusal to tell more.
    """
    if frame.HasField("fault"):
        raise refusal_of(frame.fault.detail)
    return None if frame.HasField("watch_ended") else frame.watch_events


def visit(run_directory: Path) -> socket.socket:
    """A connection without a session: the methods that only read can be called over it.

    Raises:
        NotThere: no daemon is there now.
        DaemonUnavailable: none that is trusted.
    """
    check_trusted(run_directory)
    try:
        connection = connect_to_server(run_directory / SESSION_SOCKET)
    except DaemonUnavailable as fault:
        raise NotThere(str(fault)) from fault
    try:
        answer = exchange(connection, pb.ClientFrame(visit=pb.Visit(protocol_version=PROTOCOL_VERSION)))
        if answer.HasField("fault"):
            raise refusal_of(answer.fault.detail)
        connection.settimeout(None)
    except (OSError, DecodeError) as fault:
        connection.close()
        raise NotThere(f"the daemon in {run_directory} does not answer") from fault
    except BaseException:
        connection.close()
        raise
    return connection


class SessionDoor:
    """Calls over the session's connection; those of nobody over one of their own, on which others go as well."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._guest: Wire | None = None

    def call(self, method: str, request: Any, timeout_s: float, link: "SessionLink | None") -> Any:  # noqa: ANN401
        """See ``Door.call``."""
        field = field_of(method)
        frame = call_frame(field, request)
        answer = self._guest_wire().ask(frame, timeout_s) if link is None else link.ask(frame, timeout_s)
        return answer_in(answer, field)

    def watch(self, request: rm_pb.WatchEventsRequest) -> Iterator[rm_pb.WatchEventsResponse]:
        """See ``Door.watch``. It has a connection of its own: who reads it slowly holds up nobody else."""
        with visit(self._run_directory) as connection:
            try:
                send(connection, pb.ClientFrame(correlation_id=1, watch_events=request))
                reader = Reader(connection)
                while True:
                    for frame, _ in reader.read():
                        news = news_in(frame)
                        if news is None:
                            return
                        yield news
            except (OSError, EOFError, DecodeError) as fault:
                raise DaemonUnavailable("the daemon went away in the middle of WatchEvents") from fault

    def close(self) -> None:
        """Lets go of the connection without a session."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.close()

    def abandon(self) -> None:
        """The same in a forked child, without a word."""
        guest, self._guest = self._guest, None
        if guest is not None:
            with suppress(OSError):
                os.close(guest.detach())

    def _guest_wire(self) -> Wire:
        guest = self._guest
        if guest is None or guest.is_broken:
            made = Wire(visit(self._run_directory))
            made.forget_news()
            self._guest, guest = made, made
        return guest
