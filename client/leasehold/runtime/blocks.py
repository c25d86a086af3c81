"""Stretches of memory by address: which of them an address lies in, and how long they must stay for work under way.

Device memory and host memory are both kept so. A block that is freed while queued work uses it is gone for everybody
else at once; what it is made of goes when the last of that work has ended.
"""

import threading
from bisect import bisect_right, insort
from collections.abc import Callable


class Block:
    """``size`` bytes, called ``address`` by programs, that lie at ``mapped`` in this process."""

    __slots__ = ("address", "is_freed", "mapped", "on_gone", "pin_count", "size")

    def __init__(self, address: int, size: int, mapped: int, on_gone: Callable[["Block"], None]) -> None:
        self.address, self.size, self.mapped = address, size, mapped
        self.on_gone = on_gone
        self.pin_count = 0
        self.is_freed = False

    def mapped_at(self, address: int) -> int:
        """Where in this process ``address`` lies."""
        return self.mapped + (address - self.address)


class Blocks:
    """The blocks of one kind of memory. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_address: dict[int, Block] = {}
        self._addresses: list[int] = []
        self._pin_count = 0
        self._on_unused: Callable[[], None] | None = None
        self.is_closed = False

    def add(self, block: Block) -> None:
        """Notes a block; none that is there may overlap it."""
        with self._lock:
            assert block.address not in self._by_address, f"two blocks at {block.address:#x}"
            self._by_address[block.address] = block
            insort(self._addresses, block.address)

    def find(self, address: int) -> Block | None:
        """The block that ``address`` lies in."""
        with self._lock:
            index = bisect_right(self._addresses, address) - 1
            block = self._by_address[self._addresses[index]] if index >= 0 else None
        return block if block is not None and address < block.address + block.size else None

    def pin(self, block: Block) -> bool:
        """Keeps what a block is made of until ``unpin``; False where it was freed meanwhile."""
        with self._lock:
            if block.is_freed or self.is_closed:
                return False
            block.pin_count += 1
            self._pin_count += 1
            return True

    def unpin(self, block: Block) -> None:
        """Ends one use of a block."""
        with self._lock:
            block.pin_count -= 1
            self._pin_count -= 1
            is_gone = block.is_freed and not block.pin_count
            on_unused = self._take_on_unused()
        if is_gone:
            block.on_gone(block)
        on_unused()

    def close(self, then: Callable[[], None]) -> None:
        """Takes all blocks away, and calls ``then`` when no work uses any: at once, or from the last that did."""
        with self._lock:
            was_closed, self.is_closed = self.is_closed, True
            self._by_address.clear()
            self._addresses.clear()
            if not was_closed:
                self._on_unused = then
            on_unused = self._take_on_unused()
        on_unused()

    def free(self, address: int) -> Block | None:
        """Takes away the block that begins at ``address``; None where none does."""
        with self._lock:
            block = self._by_address.pop(address, None)
            if block is None:
                return None
            self._addresses.remove(address)
            block.is_freed = True
            is_gone = not block.pin_count
        if is_gone:
            block.on_gone(block)
        return block

    def _take_on_unused(self) -> Callable[[], None]:
        """What is to be called now that nothing is in use, once."""
        if self._pin_count or self._on_unused is None:
            return lambda: None
        then, self._on_unused = self._on_unused, None
        return then
