"""The ways to the daemon of an ``await`` client; see ``leasehold.doors``."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.message import DecodeError

from leasehold.doors import SESSION, answer_in, call_frame, field_of, news_in, visit
from leasehold.errors import DaemonUnavailable
from leasehold.frames import Reader, send
from leasehold.retries import NotThere
from leasehold.wire import Answer, Wire
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from leasehold.session import SessionLink


class Door(Protocol):
    """A way to the daemon; each method is that of ``leasehold.doors.Door``, to be awaited."""

    async def call(self, method: str, request: Any, timeout_s: float, link: "SessionLink | None") -> Any:  # noqa: ANN401
        """The answer to one call."""

    def watch(self, request: rm_pb.WatchEventsRequest) -> AsyncIterator[rm_pb.WatchEventsResponse]:
        """What happens from now on."""

    async def close(self) -> None:
        """Lets go of connections of its own."""

    def abandon(self) -> None:
        """The same in a forked child, without a word."""


def make_door(door: str, run_directory: Path) -> Door:
    """The door of that name."""
    if door == SESSION:
        return SessionDoor(run_directory)
    from leasehold.aio.grpc_door import GrpcDoor

    return GrpcDoor(run_directory)


class _Led:
    """A wire that the loop reads: over a descriptor of its own, for the wire may be closed by another thread."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self.wire = wire
        self._loop = loop
        self._fd = os.dup(wire.fileno())
        self._unsent: list[bytes] = []
        self.is_over = False
        wire.is_led_by_loop = True
        loop.add_reader(self._fd, self._read)

    def send_soon(self, data: bytes) -> None:
        """Sends a frame with all others of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def stop(self) -> None:
        """Leads no longer."""
        if not self.is_over:
            self.is_over = True
            self.wire.is_led_by_loop = False
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
                self._loop.remove_writer(self._fd)
            os.close(self._fd)

    def abandon(self) -> None:
        """In a forked child: lets go of the descriptor; the loop is the parent's."""
        self.is_over = True
        with suppress(OSError):
            os.close(self._fd)

    def _read(self) -> None:
        self.wire.read()
        if self.wire.is_broken:
            self.stop()

    def _send(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not self.wire.send_now(data) and not self.is_over:
            self._loop.add_writer(self._fd, self._send_rest)

    def _send_rest(self) -> None:
        if self.wire.send_now(b""):
            self._loop.remove_writer(self._fd)


class SessionDoor:
    """Calls over the session's connection, which the loop reads; concurrent ones leave together."""

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._led: dict[bool, _Led] = {}  # the session's wire, and that of who has none
        self._guest: Wire | None = None

    async def call(self, method: str, request: Any, timeout_s: float, link: "SessionLink | None") -> Any:  # noqa: ANN401
        """See ``Door.call``."""
        field, loop = field_of(method), asyncio.get_running_loop()
        wire = link.wire if link is not None else await self._guest_wire()
        arrived, answer, frame = loop.create_future(), Answer(), call_frame(field, request)
        thread = threading.get_ident()

        def tell() -> None:
            if threading.get_ident() == thread:
                _set(arrived)
            else:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(_set, arrived)

        answer.tell = tell
        self._lead(wire, loop, has_session=link is not None).send_soon(wire.begin(frame, answer))
        too_late = loop.call_later(timeout_s, _set, arrived)
        try:
            await arrived
        finally:
            too_late.cancel()
            if not answer.is_done:
                wire.give_up(frame)
        if not answer.is_done:
            raise NotThere(f"the daemon gave no answer to {method} in time")
        return answer_in(answer, field)

    async def watch(self, request: rm_pb.WatchEventsRequest) -> AsyncIterator[rm_pb.WatchEventsResponse]:
        """See ``Door.watch``. It has a connection of its own."""
        connection, loop = await asyncio.to_thread(visit, self._run_directory), asyncio.get_running_loop()
        with connection:
            try:
                send(connection, pb.ClientFrame(correlation_id=1, watch_events=request))
                connection.setblocking(False)
                reader = Reader(connection)
                while True:
                    await _readable(loop, connection.fileno())
                    for frame, _ in reader.read():
                        news = news_in(frame)
                        if news is None:
                            return
                        yield news
            except (OSError, EOFError, DecodeError) as fault:
                raise DaemonUnavailable("the daemon went away in the middle of WatchEvents") from fault

    async def close(self) -> None:
        """Reads no longer, and lets go of the connection without a session."""
        for led in self._led.values():
            led.stop()
        self._led.clear()
        if self._guest is not None:
            self._guest.close()
            self._guest = None

    def abandon(self) -> None:
        """In a forked child: the loop, and what it reads, are the parent's."""
        guest, self._guest = self._guest, None
        for led in self._led.values():
            led.abandon()
        self._led.clear()
        if guest is not None:
            with suppress(OSError):
                os.close(guest.detach())

    def _lead(self, wire: Wire, loop: asyncio.AbstractEventLoop, *, has_session: bool) -> _Led:
        led = self._led.get(has_session)
        if led is None or led.wire is not wire or led.is_over:
            if led is not None:
                led.stop()
            led = self._led[has_session] = _Led(wire, loop)
        return led

    async def _guest_wire(self) -> Wire:
        if self._guest is None or self._guest.is_broken:
            made = Wire(await asyncio.to_thread(visit, self._run_directory))
            made.forget_news()
            self._guest = made
        return self._guest


async def _readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Waits until there is something to read."""
    ready = loop.create_future()
    loop.add_reader(fd, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
