"""Modes and models: what the engine of a device is told before anything runs."""

from leasehold.axcl.answers import Name, number, ret, text, value, value_ret, values_ret
from leasehold.runtime import Code, Fault, LoadedModel, MemcpyKind, ModelKind, default_runtime, memory_ops
from leasehold.runtime.engine import Engine
from leasehold.runtime.memory import SIZE_MAX
from leasehold.runtime.model_file import ModelFile

__all__ = [
    "engine_finalize",
    "engine_get_affinity",
    "engine_get_context_affinity",
    "engine_get_model_compiler_version",
    "engine_get_model_type",
    "engine_get_model_type_from_mem",
    "engine_get_model_type_from_model_id",
    "engine_get_usage",
    "engine_get_usage_from_mem",
    "engine_get_usage_from_model_id",
    "engine_get_vnpu_kind",
    "engine_init",
    "engine_load_from_file",
    "engine_load_from_mem",
    "engine_set_affinity",
    "engine_set_context_affinity",
    "engine_unload",
]


@ret
def engine_init(npu_kind: int) -> None:
    """Uses the engine of the current device once more, in a vNPU mode; refused while the card is in another."""
    engine_of_thread().init(npu_kind)


@value_ret(0)
def engine_get_vnpu_kind() -> int:
    """The mode that this process uses; else that of the card, whoever holds it; else 0."""
    return int(engine_of_thread().kind())


@ret
def engine_finalize() -> None:
    """Uses the engine of the current device once less; after the last time its models are unloaded."""
    engine_of_thread().finalize()


@value_ret(0)
def engine_load_from_file(model_path: str | bytes) -> int:
    """Loads a model from a file of the host."""
    file = _model_file(model_path)
    return engine_of_thread().load(file).id


@value_ret(0)
def engine_load_from_mem(model: int, model_size: int) -> int:
    """Loads a model from device memory."""
    return engine_of_thread().load(ModelFile(_bytes_at(model, model_size))).id


@ret
def engine_unload(model_id: int) -> None:
    """Ends a model; what was submitted ends first."""
    if not number(model_id):
        raise Fault(Code.ENGINE_ILLEGAL, "there is no model 0")
    model_of(engine_of_thread(), model_id).unload()


@value(None)
def engine_get_model_compiler_version(model_id: int) -> Name | None:
    """What made a model, as it says itself; None where there is no such model."""
    told = model_of(engine_of_thread(), model_id).file.metadata
    return Name(told.get("compiler_version", "onnx"))


# Where models run.


@ret
def engine_set_affinity(model_id: int, npu_set: int) -> None:
    """Names the parts of the split NPU that may run a model, a bit each."""
    if not number(npu_set):
        raise Fault(Code.ENGINE_ILLEGAL, "an affinity names at least one part")
    model_of(engine_of_thread(), model_id).set_affinity(number(npu_set))


@value_ret(0)
def engine_get_affinity(model_id: int) -> int:
    """The parts of the split NPU that may run a model."""
    return model_of(engine_of_thread(), model_id).affinity


@ret
def engine_set_context_affinity(model_id: int, context_id: int, npu_set: int) -> None:
    """Refused: an engine context has its model's affinity."""
    raise Fault(Code.ENGINE_UNSUPPORTED, "an engine context has its model's affinity")


@value_ret(0)
def engine_get_context_affinity(model_id: int, context_id: int) -> int:
    """Refused: an engine context has its model's affinity."""
    raise Fault(Code.ENGINE_UNSUPPORTED, "an engine context has its model's affinity")


# What models need.


@values_ret(0, 0)
def engine_get_usage(model_path: str | bytes) -> tuple[int, int]:
    """Bytes of system and of device memory that a model will take. It is loaded and unloaded for that."""
    with _model_file(model_path) as file:
        return 0, engine_of_thread().usage(file)


@values_ret(0, 0)
def engine_get_usage_from_mem(model: int, model_size: int) -> tuple[int, int]:
    """The same of a model in device memory."""
    with ModelFile(_bytes_at(model, model_size)) as file:
        return 0, engine_of_thread().usage(file)


@values_ret(0, 0)
def engine_get_usage_from_model_id(model_id: int) -> tuple[int, int]:
    """Bytes of system and of device memory that a loaded model takes, with all its engine contexts."""
    return 0, model_of(engine_of_thread(), model_id).memory_bytes


@value_ret(0)
def engine_get_model_type(model_path: str | bytes) -> int:
    """How many cores a model is for, less one."""
    with _model_file(model_path) as file:
        engine_of_thread()
        return int(file.kind)


@value_ret(0)
def engine_get_model_type_from_mem(model: int, model_size: int) -> int:
    """The same of a model in device memory."""
    with ModelFile(_bytes_at(model, model_size)) as file:
        return int(file.kind)


@value_ret(int(ModelKind.ONE_CORE))
def engine_get_model_type_from_model_id(model_id: int) -> int:
    """The same of a loaded model."""
    return int(model_of(engine_of_thread(), model_id).kind)


def engine_of_thread() -> Engine:
    """The engine of the device of this thread's current context.

    Raises:
        Fault: the thread has none.
    """
    return default_runtime().current_context().activation.engine


def model_of(engine: Engine, model_id: object) -> LoadedModel:
    """A loaded model of a device.

    Raises:
        Fault: it has none of this id, or not any more.
    """
    return engine.model(number(model_id))


def _model_file(path: str | bytes | None) -> ModelFile:
    """A file of the host. What is wrong with it is said before anything is said of the thread, as in the library."""
    if not path:
        raise Fault(Code.ENGINE_NULL, "no path is given")
    return ModelFile(text(path))


def _bytes_at(address: object, size: int) -> bytes:
    """The bytes of a model in device memory.

    Raises:
        Fault: a null pointer, or no such device memory.
    """
    if not number(address):
        raise Fault(Code.ENGINE_NULL, "a null pointer")
    if type(size) is not int or size < 1:
        raise Fault(Code.ENGINE_ILLEGAL, f"a model has at least one byte, not {size!r}")
    context = default_runtime().current_context()
    copied = bytearray(min(size, SIZE_MAX))
    try:
        memory_ops.memcpy(context, copied, number(address), size, MemcpyKind.DEVICE_TO_HOST)
    except Fault as fault:
        code = Code.ENGINE_LOST if fault.code is Code.MEMORY_LOST else Code.ENGINE_ILLEGAL
        raise Fault(code, f"the model must be in device memory: {fault}") from fault
    return bytes(copied)
