"""AXCL's programming model on leases: devices, contexts, streams, tasks, events, device memory, the engine.

    from leasehold import runtime

    with runtime.device(0) as device, device.create_context() as context:
        stream = context.create_stream()
        memory = device.malloc(4096)
        stream.memcpy(memory, bytes(4096), 4096)
        stream.synchronize()

Setting a device takes a lease for this process, what is created on it extends that, and the last reset ends it. The
functions here are those of AXCL, on one ``Runtime`` for the process; ``leasehold.axcl`` has the vendor's own names.
"""

import atexit

from leasehold.runtime import host_memory, memory_ops
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.context import Context
from leasehold.runtime.device import Device, DeviceProperties
from leasehold.runtime.device_memory import DeviceMemory
from leasehold.runtime.event import Event
from leasehold.runtime.execution import Execution, LoadedModel
from leasehold.runtime.memory_ops import MemcpyKind, Memory
from leasehold.runtime.model_file import ModelFile, ModelSource
from leasehold.runtime.model_io import IO, DataType, IOInfo, Tensor
from leasehold.runtime.runtime import Runtime
from leasehold.runtime.stream import Stream
from leasehold.runtime.task import Task
from leasehold.runtime.vnpu import ModelKind, VNpuKind

__all__ = [
    "IO",
    "Code",
    "Context",
    "DataType",
    "Device",
    "DeviceMemory",
    "DeviceProperties",
    "Event",
    "Execution",
    "Fault",
    "IOInfo",
    "LoadedModel",
    "MemcpyKind",
    "ModelKind",
    "Runtime",
    "Stream",
    "Task",
    "Tensor",
    "VNpuKind",
    "create_context",
    "create_event",
    "create_stream",
    "current_context",
    "current_device",
    "default_runtime",
    "destroy_context",
    "destroy_stream",
    "device",
    "devices",
    "engine_finalize",
    "engine_init",
    "engine_kind",
    "free",
    "free_host",
    "load",
    "malloc",
    "malloc_host",
    "memcmp",
    "memcpy",
    "memset",
    "model_usage",
    "reset_device",
    "set_current_context",
    "set_device",
    "synchronize_device",
]

_runtime = Runtime()
atexit.register(_runtime.close)

malloc_host = host_memory.malloc_host
free_host = host_memory.free_host


def default_runtime() -> Runtime:
    """The runtime of this process, which the functions here use."""
    return _runtime


def devices() -> list[Device]:
    """All devices, in the order of their cards."""
    return _runtime.devices()


def device(device_id: int) -> Device:
    """One device, to be set by its block: ``with runtime.device(0)``."""
    return _runtime.device(device_id)


def set_device(device_id: int) -> None:
    """Uses a device once more, and binds this thread to its default context; see ``Runtime.set_device``."""
    _runtime.set_device(device_id)


def reset_device(device_id: int) -> None:
    """Uses a device once less; see ``Runtime.reset_device``."""
    _runtime.reset_device(device_id)


def current_device() -> Device:
    """The device of this thread's current context."""
    return _runtime.current_device()


def synchronize_device() -> None:
    """Waits for everything on the device of this thread's current context."""
    _runtime.synchronize_device()


def create_context(device_id: int) -> Context:
    """A context of its own, bound to this thread; see ``Runtime.create_context``."""
    return _runtime.create_context(device_id)


def destroy_context(context: Context) -> None:
    """Ends a context when its tasks have ended."""
    context.destroy()


def set_current_context(context: Context) -> None:
    """Binds this thread."""
    _runtime.set_current_context(context)


def current_context() -> Context:
    """What this thread is bound to."""
    return _runtime.current_context()


def create_stream() -> Stream:
    """A stream of this thread's current context."""
    return _runtime.create_stream()


def destroy_stream(stream: Stream, *, is_forced: bool = False) -> None:
    """Ends a stream when its tasks have ended; with ``is_forced`` at once."""
    stream.destroy(is_forced=is_forced)


def create_event() -> Event:
    """An event of the device of this thread's current context."""
    return _runtime.create_event()


def malloc(size: int) -> DeviceMemory:
    """``size`` bytes of the device of this thread's current context."""
    arena = _runtime.current_context().activation.arena
    return DeviceMemory(arena, arena.malloc(size))


def free(memory: DeviceMemory | int) -> None:
    """Gives back a block of the device of this thread's current context.

    Raises:
        Fault: no block of that device begins there.
    """
    _runtime.current_context().activation.arena.free(int(memory))


def memcpy(target: Memory, source: Memory, byte_count: int) -> None:
    """Copies; which way says the kind of the addresses. Within the host it needs no context."""
    kind = memory_ops.kind_of(target, source)
    context = None if kind == MemcpyKind.HOST_TO_HOST else _runtime.current_context()
    memory_ops.memcpy(context, target, source, byte_count, kind)


def memset(target: Memory, value: int, byte_count: int) -> None:
    """Fills device memory."""
    memory_ops.memset(_runtime.current_context(), target, value, byte_count)


def memcmp(one: Memory, other: Memory, byte_count: int) -> bool:
    """Whether two stretches of device memory hold the same bytes."""
    return memory_ops.memcmp(_runtime.current_context(), one, other, byte_count)


def engine_init(kind: int = VNpuKind.DISABLE, *, wait: float = 0.0) -> None:
    """Uses the engine of the current device, in a vNPU mode; see ``Engine.init``."""
    _runtime.current_context().activation.engine.init(kind, wait=wait)


def engine_finalize() -> None:
    """Uses the engine of the current device once less."""
    _runtime.current_context().activation.engine.finalize()


def engine_kind() -> VNpuKind:
    """The vNPU mode of the current device, whichever process holds it."""
    return _runtime.current_context().activation.engine.kind()


def load(model: ModelSource) -> LoadedModel:
    """Loads a model, from a file or its bytes, on the current device; see ``Engine.load``."""
    return _runtime.current_context().activation.engine.load(ModelFile(model))


def model_usage(model: ModelSource) -> int:
    """Bytes of the card that a model will take."""
    with ModelFile(model) as file:
        return _runtime.current_context().activation.engine.usage(file)
