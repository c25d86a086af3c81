"""The memory of one device for one process: blocks in windows that its leases get and give back.

An address is the device's own, as a physical one is on a card. Its low 40 bits are the place on the card; the next 16
count the blocks, so that one that was freed is not met again where another lies now; the rest names the device, and
lies where no address of a process can. So an address belongs to one block of one device, is never taken for memory of
the host, and is not to be dereferenced.
"""

import ctypes
import itertools
import mmap
import threading
from bisect import insort
from collections.abc import Callable

from leasehold.claims import Run
from leasehold.errors import Refused
from leasehold.runtime.blocks import Block, Blocks
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.holding import ALONE_BYTES, Held, Holding, refused_as
from leasehold.runtime.task import nothing

GRAIN_BYTES = 4_096  # of the card's own allocator
_DEVICE_SHIFT = 56  # above every address of a process
_COUNT_SHIFT, _COUNTS = 40, 1 << 16
SIZE_MAX = (1 << 32) - 1  # a block; AXCL's next generation says so


def base_of(device_index: int) -> int:
    """The lowest address of a device, which counts from 0."""
    return (device_index + 1) << _DEVICE_SHIFT


def is_device_address(address: int) -> bool:
    """Whether ``address`` can only be one of a device."""
    return address >= 1 << _DEVICE_SHIFT


class _Region:
    """One window, and which parts of it are blocks."""

    def __init__(self, base: int, size: int, window: mmap.mmap, held: Held | None) -> None:
        self.base, self.size, self.held = base, size, held
        self._view: memoryview | None = memoryview(window)  # while it lives, nobody unmaps the window
        self.mapped = ctypes.addressof(ctypes.c_char.from_buffer(self._view))
        self._used: list[tuple[int, int]] = []

    def take(self, byte_count: int) -> int | None:
        """The offset of the lowest gap of so many bytes, which is then used; None where there is none."""
        start = 0
        for used_start, used_stop in self._used:
            if start + byte_count <= used_start:
                break
            start = -(-used_stop // GRAIN_BYTES) * GRAIN_BYTES
        if start + byte_count > self.size:
            return None
        insort(self._used, (start, start + byte_count))
        return start

    def give(self, start: int, byte_count: int) -> None:
        """Ends the use of a part."""
        self._used.remove((start, start + byte_count))

    @property
    def is_empty(self) -> bool:
        """Whether no block lies in it."""
        return not self._used

    def close(self) -> None:
        """Lets go of the window."""
        if self._view is not None:
            self._view.release()
            self._view = None


class Arena:
    """All blocks of one device. Thread-safe."""

    def __init__(self, holding: Holding, base: int) -> None:
        self._holding = holding
        self._base = base
        self._blocks = Blocks()
        self._lock = threading.Lock()
        self._growing = threading.Lock()  # one at a time asks the daemon, so that it asks for no more than is needed
        self._regions: list[_Region] = []
        self._region_of: dict[Block, _Region] = {}
        self._counts = itertools.cycle(range(_COUNTS))

    def add_window(self, held: Held, *, is_kept: bool = False) -> None:
        """Has blocks lie in a window as well; one that ``is_kept`` is not given back when it is empty."""
        region = self._region(held, is_kept=is_kept)
        with self._lock:
            is_late = self._blocks.is_closed
            if not is_late:
                self._regions.append(region)
        if is_late:
            region.close()
            self._check_open()

    def malloc(self, size: int) -> Block:
        """A block of ``size`` bytes, with whatever is in them.

        Raises:
            Fault: no size, no room, or the lease is lost.
        """
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_MAX:
            raise Fault(Code.MEMORY_ILLEGAL, f"a block has 1 to {SIZE_MAX} bytes, not {size!r}")
        self._check_open()
        with self._growing:
            block = self._take(size)
            if block is None:
                with refused_as(Code.MEMORY_FAILED, lost=Code.MEMORY_LOST):
                    (held,) = self._holding.hold(Run("memory", size=size), is_alone=size >= ALONE_BYTES)
                self.add_window(held)
                block = self._take(size)
                if block is None:
                    self._check_open()
                assert block is not None, f"a new window has no room for {size} bytes"
        return block

    def free(self, address: int) -> None:
        """Frees the block that begins at ``address``; work under way keeps what it is made of until it has ended.

        Raises:
            Fault: no block of this device does.
        """
        if self._blocks.free(address) is None:
            self._check_open()
            raise Fault(Code.NOT_DEVICE_MEMORY, f"no block of this device begins at {address:#x}")

    def pin(self, address: int, byte_count: int) -> Block:
        """Keeps the block in which so many bytes lie; the caller ends that with ``unpin``.

        Raises:
            Fault: they do not lie in one block of this device.
        """
        block = self._blocks.find(address)
        if block is None or not self._blocks.pin(block):
            self._check_open()
            raise Fault(Code.NOT_DEVICE_MEMORY, f"{address:#x} is no memory of this device")
        if address + byte_count > block.address + block.size:
            self._blocks.unpin(block)
            left = block.address + block.size - address
            raise Fault(Code.MEMORY_ILLEGAL, f"{byte_count} bytes at {address:#x}, where the block has {left}")
        return block

    def unpin(self, block: Block) -> None:
        """Ends one use of a block."""
        self._blocks.unpin(block)

    def close(self, then: Callable[[], None] = nothing) -> None:
        """Lets go of all windows once no work uses them, and calls ``then``. Their leases are the holding's to end."""

        def let_go() -> None:
            with self._lock:
                regions, self._regions = self._regions, []
            for region in regions:
                region.close()
            then()

        self._blocks.close(let_go)

    def _check_open(self) -> None:
        if self._blocks.is_closed:
            raise Fault(Code.MEMORY_LOST, "the device was reset, or its lease is lost: all its memory is gone")

    def _take(self, size: int) -> Block | None:
        with self._lock:
            for region in self._regions:
                start = region.take(size)
                if start is not None:
                    address = region.base + start + (next(self._counts) << _COUNT_SHIFT)
                    block = Block(address, size, region.mapped + start, self._gone)
                    self._region_of[block] = region
                    break
            else:
                return None
        self._blocks.add(block)
        return block

    def _gone(self, block: Block) -> None:
        """Nothing uses a freed block any more: its window goes back where it was the last in it."""
        with self._lock:
            region = self._region_of.pop(block)
            region.give(block.mapped - region.mapped, block.size)
            is_over = region.is_empty and region.held is not None and region in self._regions
            if is_over:
                self._regions.remove(region)
        if is_over and region.held is not None:
            region.close()
            try:
                self._holding.drop(region.held)
            except Refused as refusal:  # by a daemon that sees things otherwise: it has them back with the lease
                raise Fault(Code.MEMORY_FAILED, str(refusal)) from refusal

    def _region(self, held: Held, *, is_kept: bool) -> _Region:
        try:
            window = held.window
            memoryview(window).release()
        except (KeyError, ValueError) as fault:  # it was taken back while it was on its way
            raise Fault(Code.MEMORY_LOST, "the lease of the device is lost") from fault
        base = self._base + held.ids[0] * held.unit_bytes
        assert base - self._base + window.size <= 1 << _COUNT_SHIFT, "a card of more than a TiB"
        return _Region(base, window.size, window, None if is_kept else held)
