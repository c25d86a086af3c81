"""Memory of the host, as a program asks AXCL for it. Other memory of the process may be one side of a copy too."""

import ctypes
import mmap

from leasehold.runtime.blocks import Block, Blocks
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.memory import SIZE_MAX

_blocks = Blocks()
_mappings: dict[int, mmap.mmap] = {}


def malloc_host(size: int) -> int:
    """The address of ``size`` bytes of zeros. Needs no device.

    Raises:
        Fault: no size, or no memory.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_MAX:
        raise Fault(Code.MEMORY_ILLEGAL, f"a block has 1 to {SIZE_MAX} bytes, not {size!r}")
    try:
        mapping = mmap.mmap(-1, size)
    except OSError as fault:
        raise Fault(Code.MEMORY_FAILED, f"the host has no {size} bytes: {fault.strerror}") from fault
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    _mappings[address] = mapping
    _blocks.add(Block(address, size, address, _unmap))
    return address


def free_host(address: int) -> None:
    """Gives back what ``malloc_host`` gave; work under way keeps it until it has ended.

    Raises:
        Fault: that is no such address, or not any more.
    """
    if _blocks.free(address) is None:
        raise Fault(Code.MEMORY_ILLEGAL, f"{address:#x} is no host memory of this runtime")


def pin_host(address: int, byte_count: int) -> Block | None:
    """Keeps a block of the runtime's own for work that uses it; None where the memory is the program's.

    Raises:
        Fault: the bytes go past the end of the block.
    """
    block = _blocks.find(address)
    if block is None or not _blocks.pin(block):
        return None
    if address + byte_count > block.address + block.size:
        _blocks.unpin(block)
        left = block.address + block.size - address
        raise Fault(Code.MEMORY_ILLEGAL, f"{byte_count} bytes at {address:#x}, where the block has {left}")
    return block


def unpin_host(block: Block) -> None:
    """Ends one use of a block."""
    _blocks.unpin(block)


def _unmap(block: Block) -> None:
    try:
        _mappings.pop(block.address).close()
    except BufferError:  # the program has a view of it: it goes when that goes
        return
