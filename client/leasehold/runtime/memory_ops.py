"""Copies, fills and comparisons: which way, within which bounds, at once or on a stream.

Every address is looked up before anything is queued, and what it lies in is kept until the work has ended. At once
means on the context's default stream, behind what is there, as AXCL has it.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from leasehold.runtime import copying
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.host_memory import pin_host, unpin_host
from leasehold.runtime.memory import is_device_address
from leasehold.runtime.task import Task, nothing

if TYPE_CHECKING:
    from leasehold.runtime.context import Context
    from leasehold.runtime.stream import Stream

ADDRESS_MAX = (1 << 64) - 1

Memory = Any  # an address of the device or of the host, a ``DeviceMemory``, or anything of the host that has a buffer


class MemcpyKind(IntEnum):
    """Which way a copy goes (axcl_rt_type header)."""

    HOST_TO_HOST = 0
    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    DEVICE_TO_DEVICE = 3
    HOST_PHY_TO_DEVICE = 4
    DEVICE_TO_HOST_PHY = 5


_KINDS = {
    (False, False): MemcpyKind.HOST_TO_HOST,
    (True, False): MemcpyKind.HOST_TO_DEVICE,
    (False, True): MemcpyKind.DEVICE_TO_HOST,
    (True, True): MemcpyKind.DEVICE_TO_DEVICE,
}
_SIDES_OF = {kind: sides for sides, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a copy: where it lies in this process, and how to let go of it."""

    mapped: int
    release: Callable[[], None]


def kind_of(target: Memory, source: Memory) -> MemcpyKind:
    """Which way a copy between these goes."""
    return _KINDS[_is_of_device(target), _is_of_device(source)]


def memcpy(context: "Context | None", target: Memory, source: Memory, byte_count: int, kind: int) -> None:
    """Copies, and returns when that is done. Within the host it needs no context.

    Raises:
        Fault: a null or wrong address, a copy past the end or between devices, or the lease is lost.
    """
    work = _copy_task(context, target, source, byte_count, kind)
    if context is None:
        fault = work.carry_out()
        if fault is not None:
            raise fault
    else:
        context.default_stream.run(work)


def memcpy_async(
    context: "Context | None", target: Memory, source: Memory, byte_count: int, *, kind: int, stream: "Stream"
) -> Task:
    """Copies in order with the other tasks of ``stream``. Memory of the program itself must stay until then.

    Raises:
        Fault: as for ``memcpy``, and where both sides are of the host.
    """
    if kind == MemcpyKind.HOST_TO_HOST:
        raise Fault(Code.MEMORY_UNSUPPORTED, "a copy within the host is none of a stream")
    _check_same_device(context, stream)
    return stream.put(_copy_task(context, target, source, byte_count, kind))


def memset(context: "Context | None", target: Memory, value: int, byte_count: int) -> None:
    """Fills device memory, and returns when that is done.

    Raises:
        Fault: as for ``memcpy``, or no byte.
    """
    work = _fill_task(context, target, value, byte_count)
    _bound(context).default_stream.run(work)


def memset_async(context: "Context | None", target: Memory, value: int, byte_count: int, stream: "Stream") -> Task:
    """Fills device memory in order with the other tasks of ``stream``.

    Raises:
        Fault: as for ``memset``.
    """
    _check_same_device(context, stream)
    return stream.put(_fill_task(context, target, value, byte_count))


def memcmp(context: "Context | None", one: Memory, other: Memory, byte_count: int) -> bool:
    """Whether two stretches of device memory hold the same bytes.

    Raises:
        Fault: as for ``memcpy``.
    """
    bound, found = _bound(context), [False]
    _check_count(byte_count)
    sides = [_device_side(bound, one, byte_count)]
    try:
        sides.append(_device_side(bound, other, byte_count))
    except Fault:
        _release(sides)
        raise

    def compare() -> None:
        found[0] = copying.are_equal(sides[0].mapped, sides[1].mapped, byte_count)

    bound.default_stream.run(Task(partial(_guarded, bound, compare), partial(_release, sides)))
    return found[0]


def _copy_task(context: "Context | None", target: Memory, source: Memory, byte_count: int, kind: int) -> Task:
    if kind not in set(MemcpyKind):
        raise Fault(Code.MEMORY_ILLEGAL, f"there is no kind of copy {kind!r}")
    if kind in {MemcpyKind.HOST_PHY_TO_DEVICE, MemcpyKind.DEVICE_TO_HOST_PHY}:
        raise Fault(Code.MEMORY_UNSUPPORTED, "physical memory of the host cannot be reached")
    bound = None if kind == MemcpyKind.HOST_TO_HOST else _bound(context)
    _check_count(byte_count)
    sides: list[Side] = []
    try:
        for memory, is_device, is_written in zip(
            (target, source), _SIDES_OF[MemcpyKind(kind)], (True, False), strict=True
        ):
            if is_device:
                sides.append(_device_side(_bound(bound), memory, byte_count))
            else:
                sides.append(_host_side(memory, byte_count, is_written=is_written))
    except Fault:
        _release(sides)
        raise
    work = partial(copying.copy, sides[0].mapped, sides[1].mapped, byte_count)
    return Task(partial(_guarded, bound, work), partial(_release, sides))


def _fill_task(context: "Context | None", target: Memory, value: int, byte_count: int) -> Task:
    bound = _bound(context)
    _check_count(byte_count)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise Fault(Code.MEMORY_ILLEGAL, f"{value!r} is no byte")
    side = _device_side(bound, target, byte_count)
    work = partial(copying.fill, side.mapped, value, byte_count)
    return Task(partial(_guarded, bound, work), side.release)


def _guarded(context: "Context | None", work: Callable[[], None]) -> None:
    """Does ``work`` while the lease stands; a bad address is a fault."""
    if context is not None:
        context.activation.check(Code.MEMORY_LOST)
    try:
        work()
    except copying.BadAddress as fault:
        if context is not None:
            context.activation.check(Code.MEMORY_LOST, is_thorough=True)
        raise Fault(Code.MEMORY_FAILED, f"an address of the host is not mapped: {fault}") from fault


def _bound(context: "Context | None") -> "Context":
    if context is None:
        raise Fault(Code.NO_CONTEXT, "this thread has no current context")
    return context


def _check_count(byte_count: int) -> None:
    if isinstance(byte_count, bool) or not isinstance(byte_count, int) or byte_count < 1:
        raise Fault(Code.MEMORY_ILLEGAL, f"at least one byte, not {byte_count!r}")


def _check_same_device(context: "Context | None", stream: "Stream") -> None:
    if stream.context.activation is not _bound(context).activation:
        raise Fault(Code.STREAM_ILLEGAL, "the stream belongs to another device than the current context")


def _device_side(context: "Context", memory: Memory, byte_count: int) -> Side:
    address = _address(memory)
    context.activation.check(Code.MEMORY_LOST)  # its memory goes a moment after that is known
    arena = context.activation.arena
    block = arena.pin(address, byte_count)
    return Side(block.mapped_at(address), partial(arena.unpin, block))


def _host_side(memory: Memory, byte_count: int, *, is_written: bool) -> Side:
    if not isinstance(memory, int):
        return _buffer_side(memory, byte_count, is_written=is_written)
    address = _address(memory)
    if is_device_address(address):
        raise Fault(Code.MEMORY_ILLEGAL, f"{address:#x} is memory of a device, where one of the host is meant")
    block = pin_host(address, byte_count)
    return Side(address, nothing if block is None else partial(unpin_host, block))


def _buffer_side(memory: Any, byte_count: int, *, is_written: bool) -> Side:  # noqa: ANN401 - anything with a buffer
    try:
        view = memoryview(memory).cast("B")
    except (TypeError, BufferError) as fault:
        raise Fault(Code.MEMORY_ILLEGAL, f"{type(memory).__name__} is no memory: {fault}") from fault
    if len(view) < byte_count:
        raise Fault(Code.MEMORY_ILLEGAL, f"{byte_count} bytes, where the buffer has {len(view)}")
    if is_written and view.readonly:
        raise Fault(Code.MEMORY_ILLEGAL, f"{type(memory).__name__} cannot be written")
    if view.readonly:
        kept = ctypes.create_string_buffer(view[:byte_count].tobytes(), byte_count)
        return Side(ctypes.addressof(kept), partial(_keep, kept))
    return Side(ctypes.addressof(ctypes.c_char.from_buffer(view)), view.release)


def _keep(kept: object) -> None:
    """Refers to ``kept`` for as long as this is going to be called."""


def _address(memory: Memory) -> int:
    address = memory if isinstance(memory, int) else getattr(memory, "address", None)
    if address is None or address == 0:
        raise Fault(Code.MEMORY_NULL, "a null pointer")
    if isinstance(address, bool) or not isinstance(address, int) or not 0 < address <= ADDRESS_MAX:
        raise Fault(Code.MEMORY_ILLEGAL, f"{memory!r} is no address")
    return address


def _is_of_device(memory: Memory) -> bool:
    address = memory if isinstance(memory, int) else getattr(memory, "address", 0)
    return isinstance(address, int) and is_device_address(address)


def _release(sides: list[Side]) -> None:
    for side in sides:
        side.release()
