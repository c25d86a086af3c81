"""A lease in the hands of its process: what it got, and what runs on it. Talks to nobody; its client does."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from leasehold.card import allotment_from, memory_bytes_of
from leasehold.errors import Closed, Invalid, LeaseLost, WindowInUse
from leasehold.frames import copies_of
from leasehold.granted import GrantedLease
from leasehold.parted import Parted
from leasehold.quantity import size_text
from leasehold.stream import Stream
from leasehold.window import Budget, Window
from rmapi.v1 import types_pb2 as pb

if TYPE_CHECKING:
    from leasehold.model import Model
    from leasehold.partition import Partition


class HeldLease(GrantedLease):
    """What the lease of a blocking and of an ``await`` client have in common."""

    def __init__(
        self,
        message: pb.Lease,
        *,
        core_cpus: Sequence[int],
        windows: dict[int, int],
        confirm: Callable[[float], None] = lambda ttl_s: None,
    ) -> None:
        """Takes over ``windows``: descriptors by the index of their allotment.

        ``confirm`` makes sure that whether it is lost is known as of less than so many seconds ago.
        """
        super().__init__(message, core_cpus)
        self._confirm = confirm
        self._is_wanted_back = False  # lost, but not fenced before the daemon hears that it is let go of
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._streams: dict[int, Stream] = {}
        self._default_stream: Stream | None = None
        self._models: list[Model] = []
        self._windows: dict[int, Window] = {}
        self._parted = Parted(self)
        self._lost_cause = ""
        self._is_released = self._is_ending = False
        self._on_lost: list[Callable[[HeldLease], object]] = []
        self._budget = Budget(message.id, 0)
        self._take_windows(windows)

    # Whether it holds, and what runs on it.

    @property
    def valid(self) -> bool:
        """Whether it still holds, as far as is known here."""
        return not (self._lost_cause or self._is_released) and self._pid == os.getpid()

    def on_lost(self, callback: "Callable[[Any], object]") -> None:
        """Has ``callback(lease)`` called when the lease is lost, from another thread; at once where it is already."""
        with self._lock:
            if not self._lost_cause:
                self._on_lost.append(callback)
                return
        callback(self)

    @property
    def memory(self) -> Window | None:
        """Its memory; the first window where it has several, None where no memory was claimed."""
        return next(iter(self._windows.values()), None)

    @property
    def windows(self) -> tuple[Window, ...]:
        """All its memory, one window an allotment."""
        return tuple(self._windows.values())

    def window(self, index: int) -> Window:
        """The memory of one of its allotments.

        Raises:
            KeyError: that is no memory, or was given back.
        """
        return self._windows[index]

    @property
    def memory_left(self) -> int:
        """Bytes of its memory that neither an allocation nor a model has spoken for."""
        return self._budget.left_bytes

    def stream(self, index: int = 0) -> Stream:
        """Its stream number ``index``, counted among those that it leased.

        Raises:
            IndexError: it leased fewer streams.
            LeaseLost: the lease is lost.
        """
        self.check()
        ids = self.units("streams")
        if not 0 <= index < len(ids):
            raise IndexError(f"lease {self.id} has {len(ids)} streams, not a number {index}")
        with self._lock:
            if index not in self._streams:
                self._streams[index] = Stream(ids[index], cpus=self._cpus(), check_lease=self.check)
            return self._streams[index]

    def load(self, path: str | os.PathLike[str], *, memory: str | int | None = None) -> "Model":
        """Loads an ONNX model into ``memory`` bytes of the lease, for its weights and activations together.

        Unless given, that is what the reservation in its file says (``rmctl plan`` measures it, ``rmctl pack`` puts it
        there); where it carries none, half of what is left, and at least what the weights need.

        Raises:
            Exhausted: it cannot fit; nothing was loaded.
            Invalid: the file is no model, or carries a reservation that was made for another content.
            FileNotFoundError: there is no file.
            LeaseLost: the lease is lost.
        """
        from leasehold.model import Model, memory_to_load

        self.check()
        file = Path(path)
        memory_bytes = memory_to_load(file, memory, left_bytes=self._budget.left_bytes)
        model = Model(
            file,
            memory_bytes=memory_bytes,
            budget=self._budget,
            cpus=self._cpus(),
            default_stream=self._own_stream(),
            check_lease=self.check,
        )
        self._models.append(model)
        return model

    def partition(self, *pools: str, window: int = 0) -> "Partition":
        """Its units of ``pools`` (none means all), to be handed out in this process, without a call to the daemon.

        Of its memory, that is window number ``window``, for as long as the partition is not closed.

        Raises:
            Invalid: it has no units of one of them, or they are in a partition already.
            Exhausted: arrays or models have some of that memory.
            LeaseLost: the lease is lost.
            ModuleNotFoundError: the extra ``daemon`` is not installed.
        """
        self.check()
        with self._lock:
            return self._parted.make(pools, window)

    def check(self) -> None:
        """Does nothing while the lease holds.

        Raises:
            LeaseLost: it was lost, or this is a forked child and the lease is its parent's.
            Closed: it was released.
        """
        if self._is_released:
            raise Closed(f"lease {self.id} was released")
        if self._pid != os.getpid():
            cause = f"it belongs to process {self._pid}, of which this one was forked; acquire one here"
            raise LeaseLost(self.id, cause)
        if not self._lost_cause and self.ttl_s:
            self._confirm(self.ttl_s)
        if not self._lost_cause and any(window.is_fenced for window in self.windows[:1]):
            self._lose("its memory was taken back")
        if self._lost_cause:
            raise LeaseLost(self.id, self._lost_cause)

    # What its client does with it.

    def _lose(self, cause: str) -> None:
        """Notes that it is lost, and tells whoever wants to know. Windows stay mapped: arrays may refer to them.

        Each callback has a thread of its own: it may call the client, whose thread this may be.
        """
        with self._lock:
            if self._lost_cause or self._is_released:
                return
            self._lost_cause = cause
            self._parted.look_again()
            callbacks, self._on_lost = self._on_lost, []
        for callback in callbacks:
            threading.Thread(target=callback, args=(self,), name="leasehold-lost", daemon=True).start()

    def _begin_ending(self) -> bool:
        """Whether the caller is the one that ends it; it then says so with ``_end_ending``."""
        with self._lock:
            if self._is_released or self._is_ending or self._pid != os.getpid():
                return False
            self._is_ending = True
            return True

    def _end_ending(self, *, is_released: bool) -> None:
        with self._lock:
            self._is_ending, self._is_released = False, is_released

    def _let_go(self) -> None:
        """Ends what runs on it, before it is released.

        Raises:
            WindowInUse: arrays of its memory live; it holds on, with its models.
        """
        self._close_streams()
        if self._lost_cause:
            self._abandon_windows()
        self._check_unused()
        self._parted.end(is_forced=False)
        for index in list(self._windows):
            self._windows[index].close()
            del self._windows[index]
        for model in self._models:
            model.close()
        self._models.clear()

    def _yield_up(self) -> None:
        """Lets go of everything though its user did not ask, unless something uses it.

        Raises:
            WindowInUse: arrays of its memory live.
        """
        self._close_streams()
        with self._lock:
            self._check_unused()
            self._parted.end(is_forced=False)
            for window in self.windows:  # they stay its windows: who asks one for memory hears that the lease is lost
                window.close()

    def _window_copies(self) -> dict[int, int]:
        """Copies of the descriptors of its windows, by the index of their allotment."""
        with self._lock:
            return copies_of({index: window.fd for index, window in self._windows.items() if window.fd >= 0})

    def _close_streams(self) -> None:
        """Lets the streams end what they have; they are made anew where they are asked for."""
        with self._lock:
            streams = [*self._streams.values(), *([self._default_stream] if self._default_stream else [])]
            self._streams.clear()
            self._default_stream = None
        for stream in streams:
            stream.close()

    def _check_unused(self) -> None:
        """Refuses to let go of the lease while an array of its memory lives, or a part is out: ``WindowInUse``."""
        self._parted.check_none_out()
        self._check_windows_unused(self._windows.keys() - self._parted.window_indexes)

    def _check_windows_unused(self, indexes: Iterable[int]) -> None:
        """Refuses to let go of memory that something uses.

        Raises:
            WindowInUse: an array lives there.
        """
        if in_use := [index for index in indexes if self._windows[index].is_in_use]:
            text = f"arrays still use {len(in_use)} windows of lease {self.id}; drop them before it ends"
            raise WindowInUse(text)

    def _abandon_windows(self) -> None:
        """Lets windows go though arrays live, as those do that the frames of a traceback hold on to."""
        self._parted.end(is_forced=True)
        for index in list(self._windows):
            window = self._windows.pop(index)
            try:
                window.close()
            except WindowInUse:
                window.abandon()

    def _grow(self, message: pb.Lease, windows: dict[int, int], core_cpus: Sequence[int]) -> None:
        """Notes what was added; ``windows`` may repeat those it has."""
        self._message, self._core_cpus = message, tuple(core_cpus)
        for index in self._windows.keys() & windows.keys():
            os.close(windows.pop(index))
        self._take_windows(windows)

    def _shrink(self, message: pb.Lease, given_back: Sequence[int]) -> None:
        """Lets go of the windows that were given back, and notes what is left; without allotments it has ended."""
        self._unmap(given_back)
        if message.allotments:
            self._message = message
            return
        self._is_released = True
        self._abandon_windows()
        self._let_go()

    def _memory_indexes_of(self, ids: Sequence[int]) -> list[int]:
        """Indices of the allotments of memory that ``ids`` make up.

        Raises:
            Invalid: they are not whole allotments.
        """
        wanted, indexes = set(ids), []
        for index in self._windows:
            mine = set(allotment_from(self._message.allotments[index]).ids)
            if mine <= wanted:
                indexes.append(index)
                wanted -= mine
        if wanted:
            raise Invalid(f"memory goes back by whole allotments; {len(wanted)} ids belong to a part, or to none")
        return indexes

    def _check_can_spare(self, pool: str, indexes: Sequence[int]) -> None:
        """Refuses to give back what something needs: memory, or units that a partition hands out.

        Raises:
            WindowInUse: arrays live there, or allocations elsewhere and models need its bytes; or a partition has them.
        """
        if pool != "memory" and self._parted.has(pool):
            raise WindowInUse(f"a partition of lease {self.id} hands out its units of pool {pool}; close it first")
        self._check_windows_unused(indexes)
        size_bytes = sum(self._windows[index].size for index in indexes)
        if size_bytes > self._budget.left_bytes:
            raise WindowInUse(f"allocations and models of lease {self.id} need these {size_text(size_bytes)}")

    def _unmap(self, indexes: Sequence[int]) -> None:
        """Lets go of windows that were given back; a view that nobody knew of sees zeros from now on."""
        for index in indexes:
            window = self._windows.pop(index)
            self._budget.total_bytes -= window.size
            try:
                window.close()
            except WindowInUse:
                window.abandon()

    def _take_windows(self, descriptors: dict[int, int]) -> None:
        left = dict(descriptors)
        try:
            for index in descriptors:
                size_bytes = memory_bytes_of(self._message.allotments[index])
                fd = left.pop(index)
                self._windows[index] = Window.map(fd, size_bytes, budget=self._budget, check_lease=self.check)
                self._budget.total_bytes += size_bytes
        finally:
            for fd in left.values():
                os.close(fd)

    def _own_stream(self) -> Stream:
        """The stream that loads models, and runs them where no other is named. No unit of the card."""
        with self._lock:
            if self._default_stream is None:
                self._default_stream = Stream(-1, cpus=self._cpus(), check_lease=self.check)
            return self._default_stream

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lease belongs to its process: it cannot be copied or pickled")

    def __repr__(self) -> str:
        state = "released" if self._is_released else self._units_text()
        state = f"lost: {self._lost_cause}" if self._lost_cause else state
        return f"<Lease {self.id}: {state}>"
