"""The memory of a lease: a sealed memory file, mapped, with a page behind it that nobody may touch.

The kernel keeps the bounds: past the end lies the guard page, and a write there ends the process by SIGSEGV, alone.
When the daemon has taken the memory back, any touch is SIGBUS; the methods here refuse first where they can.
"""

import ctypes
import math
import mmap
import operator
import os
import threading
import weakref
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar

from leasehold.errors import Exhausted, LeaseholdError, WindowInUse
from leasehold.quantity import parse_size, size_text

if TYPE_CHECKING:
    import numpy as np

ALIGN_BYTES = 64  # a cache line, and what vector units like
W = TypeVar("W", bound=mmap.mmap)
_GUARD_TRIES = 16
_PROT_NONE = 0
_MAP_PRIVATE_ANONYMOUS, _MAP_SHARED_ANONYMOUS = 0x22, 0x21
_MAP_FIXED, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x10, 0x4000, 0x100000
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Budget:
    """How much of a lease's memory is spoken for: by allocations in windows, and by models outside of them.

    Thread-safe. A finalizer may run anywhere, also inside of the lock: so it only puts down what comes back.
    """

    def __init__(self, lease_id: str, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._lease_id = lease_id
        self._lock = threading.RLock()
        self._charged_bytes = 0
        self._refunds: deque[int] = deque()

    @property
    def charged_bytes(self) -> int:
        """What is spoken for."""
        with self._lock:
            while self._refunds:
                self._charged_bytes -= self._refunds.popleft()
            return self._charged_bytes

    @property
    def left_bytes(self) -> int:
        """What can still be charged."""
        return self.total_bytes - self.charged_bytes

    def charge(self, byte_count: int, what: str) -> None:
        """Speaks for ``byte_count`` bytes, at least one.

        Raises:
            Exhausted: the lease has not so much left; nothing is charged.
        """
        assert byte_count > 0, f"{byte_count} bytes are charged"
        with self._lock:
            left_bytes = self.left_bytes
            if byte_count > left_bytes:
                asked, left, total = (size_text(count) for count in (byte_count, left_bytes, self.total_bytes))
                text = f"{what} needs {asked}; lease {self._lease_id} has {left} of its {total} left"
                facts = {"asked_bytes": byte_count, "left_bytes": left_bytes, "total_bytes": self.total_bytes}
                raise Exhausted(text, facts=facts)
            self._charged_bytes += byte_count

    def refund(self, byte_count: int) -> None:
        """Gives back what was charged."""
        self._refunds.append(byte_count)


class Window(mmap.mmap):
    """The memory of one allotment, as a buffer of ``size`` bytes.

    ``allocate`` and ``array`` hand out parts of it and take them back when nothing refers to them any more; a buffer of
    the whole window (``memoryview(window)``) sees those parts too.
    """

    budget: Budget
    fd: int  # its own, for as long as it is mapped
    _close_fd: Callable[[], object]
    _drop_guard: Callable[[], object]
    _check_lease: Callable[[], None]
    _lock: threading.RLock
    _used: list[tuple[int, int]]
    _freed: deque[tuple[int, int]]

    @classmethod
    def map(cls, fd: int, size_bytes: int, *, budget: Budget, check_lease: Callable[[], None]) -> Self:
        """Maps ``size_bytes`` of ``fd``, which it takes over. ``check_lease`` raises where the lease is lost."""
        try:
            window, guard = _map_below_a_guard(cls, fd, size_bytes)
        except BaseException:
            os.close(fd)
            raise
        window.fd = fd
        window._close_fd = weakref.finalize(window, os.close, fd)
        window.budget = budget
        window._check_lease = check_lease
        window._lock = threading.RLock()
        window._used, window._freed = [], deque()
        window._drop_guard = weakref.finalize(window, _libc.munmap, guard, mmap.PAGESIZE)
        return window

    @property
    def size(self) -> int:  # type: ignore[override]  # mmap's asks the file; here it is fixed
        """Its size in bytes."""
        return len(self)

    @property
    def is_fenced(self) -> bool:
        """Whether the daemon has taken its memory back: any touch of it would be SIGBUS."""
        with self._lock:
            return self.fd >= 0 and not os.fstat(self.fd).st_size

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

    def array(self, dtype: "np.typing.DTypeLike", shape: SupportsIndex | Sequence[int]) -> "np.ndarray[Any, Any]":
        """An array of zeros or old data in the window, for as long as it, or a view of it, lives.

        Raises:
            Exhausted: no room, in a row or at all.
            LeaseLost: the lease is lost.
        """
        import numpy as np

        kind = np.dtype(dtype)
        dims = (shape,) if isinstance(shape, SupportsIndex) else tuple(shape)
        wanted = tuple(operator.index(dim) for dim in dims)
        if any(dim < 0 for dim in wanted):
            raise ValueError(f"an array has no shape {wanted}")
        byte_count = math.prod(wanted) * kind.itemsize
        if not byte_count:
            return np.empty(wanted, kind)
        block = self._allocate(byte_count)
        flat: np.ndarray[Any, Any] = np.frombuffer(memoryview(block), kind)
        return flat.reshape(wanted)

    @property
    def is_in_use(self) -> bool:
        """Whether an allocation or array of it lives. Views that were made without ``allocate`` are not counted."""
        with self._lock:
            self._settle()
            return bool(self._used)

    def resize(self, newsize: int) -> None:
        """Refuses: its size is that of its allotment; ``lease.extend`` adds memory."""
        raise TypeError("a window has the size of its allotment; lease.extend(memory=...) adds another")

    def close(self) -> None:
        """Unmaps it.

        Raises:
            WindowInUse: an array or buffer of it lives; drop it first.
        """
        try:
            super().close()
        except BufferError as fault:
            with self._lock:
                self._settle()
                count = max(1, len(self._used))
            text = f"{count} arrays or buffers still use this window; drop them before the lease ends"
            raise WindowInUse(text) from fault
        self._drop_guard()
        self._let_go_of_file()

    def abandon(self) -> None:
        """Lets the memory go though arrays of it live: they see zeros of this process from now on."""
        flags = _MAP_PRIVATE_ANONYMOUS | _MAP_FIXED
        if not _map_at(self.address, len(self), mmap.PROT_READ | mmap.PROT_WRITE, flags):
            raise OSError(ctypes.get_errno(), "cannot put other memory in the place of a window")
        self._let_go_of_file()

    def _let_go_of_file(self) -> None:
        with self._lock:
            self.fd = -1
            self._close_fd()

    def __repr__(self) -> str:
        return f"<Window: {'closed' if self.closed else size_text(len(self))}>"

    def _allocate(self, byte_count: int) -> "ctypes.Array[ctypes.c_ubyte]":
        self._check_lease()
        with self._lock:
            self._settle()
            start = self._gap(byte_count)
            self.budget.charge(byte_count, "this allocation")
            try:
                block = (ctypes.c_ubyte * byte_count).from_buffer(self, start)
            except BaseException:
                self.budget.refund(byte_count)
                raise
            insort(self._used, (start, start + byte_count))
        weakref.finalize(block, _free, self._freed, self.budget, (start, start + byte_count))
        return block

    def _settle(self) -> None:
        """Strikes out the parts that nothing refers to any more. Finalizers only put them down."""
        while self._freed:
            self._used.remove(self._freed.popleft())

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


def _free(freed: deque[tuple[int, int]], budget: Budget, part: tuple[int, int]) -> None:
    freed.append(part)
    budget.refund(part[1] - part[0])


def _map_below_a_guard(cls: type[W], fd: int, size_bytes: int) -> tuple[W, int]:
    """Maps ``fd`` so that a page without any access lies right behind it; answers the page's address too.

    mmap takes no address from Python. So the place is first mapped empty and a page too long; cut to its size it leaves
    that page to the guard, and then the file is laid over it.
    """
    page = mmap.PAGESIZE
    span = -(-size_bytes // page) * page
    try:
        for _ in range(_GUARD_TRIES):
            window = cls(-1, span + page, flags=_MAP_SHARED_ANONYMOUS | _MAP_NORESERVE)  # which no RLIMIT_DATA counts
            mmap.mmap.resize(window, size_bytes)
            guard = _address_of(window) + span
            if _map_at(guard, page, _PROT_NONE, _MAP_PRIVATE_ANONYMOUS | _MAP_FIXED_NOREPLACE):
                break
            mmap.mmap.close(window)  # another thread has just mapped something there
        else:
            raise LeaseholdError("other threads map memory all the time: no guard page can be put behind a window")
        if not _map_at(_address_of(window), span, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED, fd):
            _libc.munmap(guard, page)
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as fault:
        raise LeaseholdError(f"{size_text(size_bytes)} of a lease cannot be mapped in this process: {fault}") from fault
    return window, guard


def _map_at(address: int, byte_count: int, protection: int, flags: int, fd: int = -1) -> bool:
    """Maps at just this address; answers False where that cannot be."""
    placed = _libc.mmap(address, byte_count, protection, flags, fd, 0)
    if placed == address:
        return True
    if placed != _MAP_FAILED:  # a kernel before 4.17 takes the address for a hint where it must replace nothing
        _libc.munmap(placed, byte_count)
    return False


def _address_of(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))
