"""What a connection is to be sent, and has not read yet: bounded, in order, as many frames a call as there are."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rm.core import limits
from rm.core.errors import CardFailed

_FRAME_OVERHEAD_BYTES = 150  # what keeping a frame costs besides its bytes


class TooSlow(Exception):
    """The client does not read what it is sent: no more is kept for it."""


@dataclass(slots=True)
class _Item:
    """A frame, or the rest of one. ``counted_bytes`` is what it counts for while it waits."""

    data: bytes | memoryview
    descriptors: Sequence[int]
    counted_bytes: int


class Outbox:
    """Sends frames over a socket that does not block."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        on_broken: Callable[[], None],
        on_full: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        """``on_full`` is called when the client has to read first, ``on_room`` when it has read some."""
        self._socket = connection
        self._on_broken, self._on_full, self._on_room = on_broken, on_full, on_room
        self._loop = asyncio.get_running_loop()
        self._items: deque[_Item] = deque()
        self._is_waiting_for_room = False
        self._has_read = asyncio.Event()
        self.queued_bytes = self.descriptor_count = 0

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._items)

    @property
    def is_read(self) -> bool:
        """Whether the client has read enough to be heard."""
        return not self.descriptor_count and self.queued_bytes <= limits.FRAME_BYTES_MAX

    def put(self, frame: bytes, descriptors: Sequence[int] = ()) -> None:
        """Queues a frame, and copies of ``descriptors`` with it.

        Raises:
            TooSlow: too much waits already.
            CardFailed: the host has no descriptors left for the copies.
        """
        owned = _own_copies(descriptors) if descriptors else ()
        too_many = self.descriptor_count + len(owned) > limits.DESCRIPTORS_QUEUED_MAX
        if too_many or self.queued_bytes > limits.FRAMES_QUEUED_BYTES_MAX:
            close_all(owned)
            raise TooSlow
        # Of large answers there is one at a time (see Calls): it counts for little, or it could never be sent.
        counted_bytes = min(len(frame), limits.FRAME_BYTES_MAX) + _FRAME_OVERHEAD_BYTES
        self._items.append(_Item(frame, owned, counted_bytes))
        self.queued_bytes += counted_bytes
        self.descriptor_count += len(owned)

    def flush(self) -> None:
        """Sends what can be sent now; the rest when the client has read."""
        while self._items:
            item = self._next_to_send()
            try:
                if item.descriptors:
                    sent = socket.send_fds(self._socket, [item.data], list(item.descriptors))
                else:
                    sent = self._socket.send(item.data)
            except BlockingIOError:
                self._items.appendleft(item)
                self._wait_for_room()
                return
            except OSError:
                self._items.appendleft(item)
                self._on_broken()
                return
            if item.descriptors:
                close_all(item.descriptors)
                self.descriptor_count -= len(item.descriptors)
            if sent < len(item.data):
                self._items.appendleft(_Item(memoryview(item.data)[sent:], (), item.counted_bytes))
            else:
                self.queued_bytes -= item.counted_bytes
        assert not self.queued_bytes, f"{self.queued_bytes} bytes of no frame are counted as queued"
        self._wait_no_longer()
        self._has_read.set()

    async def all_read(self) -> None:
        """Returns once the client has read all that was sent to it, or the outbox is dropped."""
        while self._items:
            self._has_read.clear()
            await self._has_read.wait()

    def drop(self) -> None:
        """Keeps nothing any more: the connection is to be closed."""
        self._wait_no_longer()
        for item in self._items:
            close_all(item.descriptors)
        self._items.clear()
        self.queued_bytes = self.descriptor_count = 0
        self._has_read.set()

    def _next_to_send(self) -> _Item:
        """The first frame, and with it those behind it that fit into one call."""
        first = self._items.popleft()
        if first.descriptors or not self._items:
            return first
        together, size = [first.data], len(first.data)
        while self._items and not self._items[0].descriptors:
            if (size := size + len(self._items[0].data)) > limits.FRAME_BYTES_MAX:
                break
            more = self._items.popleft()
            together.append(more.data)
            first.counted_bytes += more.counted_bytes
        first.data = b"".join(together)
        return first

    def _wait_for_room(self) -> None:
        if not self._is_waiting_for_room:
            self._is_waiting_for_room = True
            self._loop.add_writer(self._socket, self._on_writable)
        self._on_full()

    def _wait_no_longer(self) -> None:
        if self._is_waiting_for_room:
            self._is_waiting_for_room = False
            self._loop.remove_writer(self._socket)

    def _on_writable(self) -> None:
        self.flush()
        self._on_room()


def _own_copies(descriptors: Sequence[int]) -> list[int]:
    """Copies of descriptors: the lease may end before they are sent."""
    owned: list[int] = []
    try:
        for fd in descriptors:
            owned.append(os.dup(fd))  # noqa: PERF401 - what was made before a fault must be closed
    except OSError as fault:
        close_all(owned)
        raise CardFailed(f"the windows cannot be handed over: {fault.strerror}") from fault
    return owned


def close_all(descriptors: Sequence[int]) -> None:
    """Closes descriptors, whatever becomes of each."""
    for fd in descriptors:
        with suppress(OSError):
            os.close(fd)
