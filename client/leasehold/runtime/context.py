"""Contexts: what the threads of a program are bound to. Each belongs to one device and has one default stream."""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from leasehold.runtime import memory_ops
from leasehold.runtime.codes import Fault
from leasehold.runtime.holding import Held
from leasehold.runtime.memory_ops import Memory
from leasehold.runtime.stream import Stream

if TYPE_CHECKING:
    from leasehold.runtime.activation import Activation
    from leasehold.runtime.device import Device
    from leasehold.runtime.runtime import Runtime


class Context:
    """A context. A context manager: bound to this thread in its block, and destroyed at the end of it.

    Threads may share it; the order between them is theirs to keep. One context a thread is simpler.
    """

    def __init__(self, activation: "Activation", held: Held, stream_unit: Held, *, is_default: bool) -> None:
        self.activation = activation
        self.held = held
        self.is_default = is_default
        self.handle = 0
        self._lock = threading.Lock()
        self._is_live = True
        self.default_stream = Stream(self, stream_unit, is_default=True)
        self._streams = {self.default_stream}

    @property
    def id(self) -> int:
        """Its unit of the card."""
        return self.held.ids[0]

    @property
    def device(self) -> "Device":
        """Its device."""
        return self.activation.device

    @property
    def runtime(self) -> "Runtime":
        """The runtime of its process."""
        return self.activation.runtime

    @property
    def is_live(self) -> bool:
        """Whether it may be bound: neither it was destroyed nor its device reset."""
        return self._is_live

    # What programs do with it.

    def bind(self) -> None:
        """Makes it the current context of this thread.

        Raises:
            Fault: it was destroyed.
        """
        self.runtime.set_current_context(self)

    def create_stream(self) -> Stream:
        """A stream of its own.

        Raises:
            Fault: it was destroyed, or the card has no stream left.
        """
        return self.runtime.create_stream(self)

    def memcpy(self, target: Memory, source: Memory, byte_count: int) -> None:
        """Copies on the default stream, and waits for it; which way says the kind of the addresses.

        Raises:
            Fault: a null or wrong address, a copy past the end or between devices, or the lease is lost.
        """
        memory_ops.memcpy(self, target, source, byte_count, memory_ops.kind_of(target, source))

    def memset(self, target: Memory, value: int, byte_count: int) -> None:
        """Fills device memory on the default stream, and waits for it."""
        memory_ops.memset(self, target, value, byte_count)

    def synchronize(self) -> None:
        """Waits for everything on all of its streams; raises the first error of one of them."""
        for stream in self.streams:
            stream.synchronize()

    def destroy(self) -> None:
        """Ends it when its tasks have ended; no thread is bound to it any more.

        Raises:
            Fault: it is a default context, or was destroyed already.
        """
        self.runtime.destroy_context(self)

    def __enter__(self) -> "Context":
        self.bind()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        with suppress(Fault):  # it may have been destroyed inside
            self.destroy()

    # What the runtime does with it.

    @property
    def streams(self) -> list[Stream]:
        """Its streams, the default one first."""
        with self._lock:
            return sorted(self._streams, key=lambda stream: not stream.is_default)

    def add(self, stream: Stream) -> bool:
        """Notes a stream; False where the context has ended meanwhile."""
        with self._lock:
            if self._is_live:
                self._streams.add(stream)
            return self._is_live

    def remove(self, stream: Stream) -> bool:
        """Forgets a stream; False where it is none of its own any more."""
        with self._lock:
            if not self._is_live or stream not in self._streams:
                return False
            self._streams.remove(stream)
            return True

    def end(self) -> list[Stream]:
        """Takes no more streams nor tasks; answers the streams it had."""
        with self._lock:
            self._is_live = False
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        return streams

    def __repr__(self) -> str:
        kind = "default context" if self.is_default else "context"
        return f"<{kind} {self.id} of device {self.device.id}{'' if self.is_live else ', destroyed'}>"
