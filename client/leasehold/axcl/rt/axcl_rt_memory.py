"""Memory. Addresses are numbers; where one of the host is meant, anything with a buffer will do as well."""

from typing import Any

from leasehold.axcl.answers import number, ret, value_ret
from leasehold.axcl.constants import MALLOC_POLICIES
from leasehold.axcl.rt.axcl_rt_stream import stream_of
from leasehold.runtime import Code, Fault, MemcpyKind, default_runtime, host_memory, memory_ops

__all__ = [
    "free",
    "free_host",
    "malloc",
    "malloc_cached",
    "malloc_host",
    "mem_flush",
    "mem_invalidate",
    "memcmp",
    "memcpy",
    "memcpy_async",
    "memset",
    "memset_async",
]


@value_ret(0)
def malloc(size: int, policy: int = 0) -> int:
    """Memory of the device of this thread's current context."""
    return _malloc(size, policy)


@value_ret(0)
def malloc_cached(size: int, policy: int = 0) -> int:
    """The same: memory of the embedded card is always coherent."""
    return _malloc(size, policy)


@ret
def free(dev_ptr: int) -> None:
    """Gives back a block of the device of this thread's current context; work under way keeps it until it has ended."""
    address = _pointer(dev_ptr)
    default_runtime().current_context().activation.arena.free(address)


@ret
def mem_flush(dev_ptr: int, size: int) -> None:
    """Checks the block; there is nothing to flush."""
    _check_block(dev_ptr, size)


@ret
def mem_invalidate(dev_ptr: int, size: int) -> None:
    """Checks the block; there is nothing to invalidate."""
    _check_block(dev_ptr, size)


@value_ret(0)
def malloc_host(size: int) -> int:
    """Memory of the host; needs no context."""
    return host_memory.malloc_host(size)


@ret
def free_host(host_ptr: int) -> None:
    """Gives back what ``malloc_host`` gave."""
    host_memory.free_host(_pointer(host_ptr))


@ret
def memset(dev_ptr: int, value: int, size: int) -> None:
    """Fills device memory."""
    memory_ops.memset(default_runtime().find_current_context(), _memory(dev_ptr), value, size)


@ret
def memcpy(dst_ptr: Any, src_ptr: Any, size: int, kind: int) -> None:  # noqa: ANN401 - an address or a buffer
    """Copies; within the host it needs no context."""
    context = None if kind == MemcpyKind.HOST_TO_HOST else default_runtime().find_current_context()
    memory_ops.memcpy(context, _memory(dst_ptr), _memory(src_ptr), size, kind)


@ret
def memcmp(dev_ptr1: int, dev_ptr2: int, size: int) -> None:
    """0 where two stretches of device memory are equal; -1 where they differ."""
    context = default_runtime().find_current_context()
    if not memory_ops.memcmp(context, _memory(dev_ptr1), _memory(dev_ptr2), size):
        raise Fault(Code.FAIL, "they differ")


@ret
def memset_async(dev_ptr: int, value: int, size: int, stream: int) -> None:
    """Fills device memory in order with the other tasks of a stream."""
    context = default_runtime().find_current_context()
    memory_ops.memset_async(context, _memory(dev_ptr), value, size, stream_of(stream))


@ret
def memcpy_async(dst_ptr: Any, src_ptr: Any, size: int, kind: int, stream: int) -> None:  # noqa: ANN401
    """Copies in order with the other tasks of a stream. Memory of the program itself must stay until then."""
    context = default_runtime().find_current_context()
    target, source = _memory(dst_ptr), _memory(src_ptr)
    memory_ops.memcpy_async(context, target, source, size, kind=kind, stream=stream_of(stream))


def _malloc(size: int, policy: int) -> int:
    context = default_runtime().current_context()
    if policy not in MALLOC_POLICIES:
        raise Fault(Code.MEMORY_ILLEGAL, f"there is no policy {policy!r}")
    context.activation.check(Code.MEMORY_LOST)
    return context.activation.arena.malloc(size).address


def _check_block(dev_ptr: int, size: int) -> None:
    address = _pointer(dev_ptr)
    arena = default_runtime().current_context().activation.arena
    if type(size) is not int or size < 1:
        raise Fault(Code.MEMORY_ILLEGAL, f"at least one byte, not {size!r}")
    arena.unpin(arena.pin(address, size))


def _pointer(argument: object) -> int:
    address = number(argument)
    if not address:
        raise Fault(Code.MEMORY_NULL, "a null pointer")
    return address


def _memory(argument: Any) -> Any:  # noqa: ANN401 - an address or a buffer
    """A number where it is one, in whatever way a program holds it; else what has a buffer."""
    try:
        return number(argument)
    except TypeError:
        return argument
