"""The memory of a lease: a sealed memory file, mapped, with a page behind it that nobody may touch.

The kernel keeps the bounds: past the end lies the guard page, and a write there ends the process by SIGSEGV, alone.
When the daemon has taken the memory back, any touch is SIGBUS; the methods here refuse first where they can.
"""

import ctypes
import mmap
import os
import weakref
from bisect import insort
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from leasehold.errors import Exhausted, WindowInUse
from leasehold.quantity import parse_size, size_text

if TYPE_CHECKING:
    import numpy as np

ALIGN_BYTES = 64  # a cache line, and what vector units like
W = TypeVar("W", bound=mmap.mmap)
_GUARD_TRIES = 16
_PROT_NONE, _MAP_PRIVATE_ANONYMOUS, _MAP_FIXED = 0, 0x22, 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Budget:
    """How much of a lease's memory is spoken for: by allocations in windows, and by models outside of them."""

    def __init__(self, lease_id: str, total_bytes: int) -> None:
        self._lease_id = lease_id
        self.total_bytes = total_bytes
        self.charged_bytes = 0

    @property
    def left_bytes(self) -> int:
        """What can still be charged."""
        return self.total_bytes - self.charged_bytes

    def charge(self, byte_count: int, what: str) -> None:
        """Speaks for ``byte_count`` bytes.

        Raises:
            Exhausted: the lease has not so much left; nothing is charged.
        """
        if byte_count > self.left_bytes:
            asked, left, total = (size_text(count) for count in (byte_count, self.left_bytes, self.total_bytes))
            text = f"{what} needs {asked}; lease {self._lease_id} has {left} of its {total} left"
            facts = {"asked_bytes": byte_count, "left_bytes": self.left_bytes, "total_bytes": self.total_bytes}
            raise Exhausted(text, facts=facts)
        self.charged_bytes += byte_count

    def refund(self, byte_count: int) -> None:
        """Gives back what was charged."""
        self.charged_bytes -= byte_count


class Window(mmap.mmap):
    """The memory of one allotment, as a buffer of ``size`` bytes.

    ``allocate`` and ``array`` hand out parts of it and take them back when nothing refers to them any more; a buffer of
    the whole window (``memoryview(window)``) sees those parts too.
    """

    budget: Budget
    _check_lease: Callable[[], None]
    _used: list[tuple[int, int]]

    @classmethod
    def map(cls, fd: int, size_bytes: int, *, budget: Budget, check_lease: Callable[[], None]) -> Self:
        """Maps ``size_bytes`` of ``fd``, which it takes over. ``check_lease`` raises where the lease is lost."""
        try:
            window, guard = _map_below_a_guard(cls, fd, size_bytes)
        finally:
            os.close(fd)
        window.budget = budget
        window._check_lease = check_lease
        window._used = []
        if guard:
            weakref.finalize(window, _libc.munmap, guard, mmap.PAGESIZE)
        return window

    @property
    def size(self) -> int:  # type: ignore[override]  # mmap's asks the file; here it is fixed
        """Its size in bytes."""
        return len(self)

    @property
    def address(self) -> int:
        """Where it is mapped in this process."""
        return _address_of(self)

    def allocate(self, size: str | int) -> memoryview:
        """A part of the window for as long as the answer, or a view of it, lives; aligned to 64 bytes.

        Raises:
            Exhausted: no room, in a row or at all.
            LeaseLost: the lease is lost.
        """
        return memoryview(self._allocate(parse_size(size))).cast("B")

    def array(self, dtype: "np.typing.DTypeLike", shape: int | Sequence[int]) -> "np.ndarray[Any, Any]":
        """An array of zeros or old data in the window, for as long as it, or a view of it, lives.

        Raises:
            Exhausted: no room, in a row or at all.
            LeaseLost: the lease is lost.
        """
        import numpy as np

        kind = np.dtype(dtype)
        wanted = (shape,) if isinstance(shape, int) else tuple(shape)
        count = int(np.prod(wanted, dtype=np.int64))
        if count * kind.itemsize == 0:
            return np.empty(wanted, kind)
        block = self._allocate(count * kind.itemsize)
        flat: np.ndarray[Any, Any] = np.frombuffer(memoryview(block), kind, count)
        return flat.reshape(wanted)

    def close(self) -> None:
        """Unmaps it.

        Raises:
            WindowInUse: an array or buffer of it lives; drop it first.
        """
        try:
            super().close()
        except BufferError as fault:
            count = len(getattr(self, "_used", ()))
            text = f"{count} arrays or buffers still use this window; drop them before the lease ends"
            raise WindowInUse(text) from fault

    def abandon(self) -> None:
        """Lets the memory go though arrays of it live: they see zeros of this process from now on."""
        flags = _MAP_PRIVATE_ANONYMOUS | _MAP_FIXED
        placed = _libc.mmap(self.address, len(self), mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        if placed == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), "cannot put other memory in the place of a window")

    def __repr__(self) -> str:
        return f"<Window: {'closed' if self.closed else size_text(len(self))}>"

    def _allocate(self, byte_count: int) -> "ctypes.Array[ctypes.c_ubyte]":
        self._check_lease()
        start = self._gap(byte_count)
        self.budget.charge(byte_count, "this allocation")
        block = (ctypes.c_ubyte * byte_count).from_buffer(self, start)
        insort(self._used, (start, start + byte_count))
        weakref.finalize(block, _free, self._used, self.budget, (start, start + byte_count))
        return block

    def _gap(self, byte_count: int) -> int:
        """Where the lowest gap of ``byte_count`` bytes begins."""
        start = 0
        for used_start, used_stop in self._used:
            if start + byte_count <= used_start:
                return start
            start = -(-used_stop // ALIGN_BYTES) * ALIGN_BYTES
        if start + byte_count > len(self):
            free = len(self) - sum(stop - begin for begin, stop in self._used)
            text = f"the window of {size_text(len(self))} has no gap of {size_text(byte_count)}; {size_text(free)} free"
            raise Exhausted(text, facts={"asked_bytes": byte_count, "free_bytes": free, "total_bytes": len(self)})
        return start


def _free(used: list[tuple[int, int]], budget: Budget, part: tuple[int, int]) -> None:
    with suppress(ValueError):
        used.remove(part)
    budget.refund(part[1] - part[0])


def _map_below_a_guard(cls: type[W], fd: int, size_bytes: int) -> tuple[W, int]:
    """Maps ``fd`` so that a page without any access lies right behind it; answers the page's address too.

    mmap takes no address from Python, so a hole of just the right size is made below a guard page, and the kernel,
    which fills the highest hole that fits, is asked until it takes that one.
    """
    page = mmap.PAGESIZE
    span = -(-size_bytes // page) * page
    misfits = []
    try:
        for _ in range(_GUARD_TRIES):
            hole = _libc.mmap(None, span + page, _PROT_NONE, _MAP_PRIVATE_ANONYMOUS, -1, 0)
            if hole in {None, _MAP_FAILED}:
                break
            _libc.munmap(hole, span)
            window = cls(fd, size_bytes)
            if _address_of(window) == hole:
                return window, hole + span
            _libc.munmap(hole + span, page)
            misfits.append(window)
    finally:
        for misfit in misfits:
            misfit.close()
    raise OSError("no room for a window with a guard page behind it")


def _address_of(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))
