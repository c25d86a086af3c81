"""Inference as onnxruntime has it, on a card: the surface of the vendor's ``axengine``.

    from leasehold.axengine import InferenceSession      # or: rmctl run --axcl-python, and import axengine

    session = InferenceSession("model.onnx", providers=[("AXCLRTExecutionProvider", {"device_id": 0})])
    outputs = session.run(None, {"x": x})

Each session sets its device, and uses its engine in the card's own mode: the one it wants where the card is free, else
that which others hold. It has an engine context and a buffer for every input and output. Any thread may run it.
"""

import os
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leasehold.runtime import (
    Code,
    Context,
    Device,
    DeviceMemory,
    Fault,
    LoadedModel,
    MemcpyKind,
    VNpuKind,
    default_runtime,
)
from leasehold.runtime.memory_ops import memcpy
from leasehold.runtime.model_file import ModelFile, ModelSource
from leasehold.runtime.model_io import Tensor
from leasehold.runtime.vnpu import SITE_OF

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

axclrt_provider_name = "AXCLRTExecutionProvider"
axengine_provider_name = "AxEngineExecutionProvider"
_Providers = str | Sequence[str | tuple[str, Mapping[str, Any]]] | None

_AT_ONCE_S = 0.2  # how long the end of a dropped session is waited for: more than it takes, unless it is held up


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output: ``dtype`` is numpy's name of its type."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class SessionOptions:
    """Taken and not read, as the vendor's is."""


def get_available_providers() -> list[str]:
    """What sessions can run on: the cards. Chips of its own, which the vendor's package knows too, are not served."""
    return [axclrt_provider_name]


def get_all_providers() -> list[str]:
    """The names that the vendor's package knows."""
    return [axclrt_provider_name, axengine_provider_name]


class InferenceSession:
    """A model on a card. It ends with ``close``, with its block, or when nothing refers to it any more."""

    def __init__(
        self,
        path_or_bytes: ModelSource,
        sess_options: SessionOptions | None = None,
        providers: _Providers = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,  # noqa: ANN401 - more of onnxruntime's words, none of which matters here
    ) -> None:
        """Loads the model. ``device_id`` among the options counts the cards from 0.

        Raises:
            ValueError: a provider that is not served, or no such card.
            Fault: there is no daemon, no model, or no room for it.
        """
        name, options = _chosen(providers, provider_options)
        devices = default_runtime().devices()
        index = options.get("device_id", 0)
        if type(index) is not int or not 0 <= index < len(devices):
            raise ValueError(f"there are {len(devices)} cards, not a number {index!r}")
        self._provider = name
        self._device: Device = devices[index]
        self._running = threading.Lock()
        before = default_runtime().find_current_context()
        self._device.set()
        self._context: Context = self._device.default_context
        made: list[Any] = [self._device]
        try:
            self._model = self._load(ModelFile(path_or_bytes), made)
            self._execution = self._model.create_execution()
            self._io = self._model.create_io()
            self._inputs = [self._buffer(tensor, made) for tensor in self._model.info.inputs]
            self._outputs = [self._buffer(tensor, made) for tensor in self._model.info.outputs]
        except BaseException:
            _end(made)
            raise
        finally:
            if before is not None:  # whoever made this session has its own context, and keeps it
                before.bind()
        for index, memory in enumerate(self._inputs):
            self._io.set_input(index, memory.address, memory.size)
        for index, memory in enumerate(self._outputs):
            self._io.set_output(index, memory.address, memory.size)
        self._finalizer = weakref.finalize(self, _end_beside, os.getpid(), made)

    def get_inputs(self, shape_group: int = 0) -> list[NodeArg]:
        """What goes in, with the shapes of a group."""
        return self._args(self._model.info.inputs, shape_group)

    def get_outputs(self, shape_group: int = 0) -> list[NodeArg]:
        """What comes out, with the shapes of a group."""
        return self._args(self._model.info.outputs, shape_group)

    def get_providers(self) -> list[str]:
        """What it runs on."""
        return [self._provider]

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, "Array"],
        run_options: object = None,
        shape_group: int = 0,
    ) -> list["Array"]:
        """Runs the model; the outputs in the order of ``output_names``, or all of them.

        Raises:
            ValueError: a missing, unknown or wrong input, or an unknown output.
            Fault: no such group, or the model failed.
        """
        import numpy as np

        info = self._model.info
        info.check_group(shape_group)
        outputs = {tensor.name: number for number, tensor in enumerate(info.outputs)}
        wanted = list(outputs) if output_names is None else list(output_names)
        if unknown := set(wanted) - outputs.keys():
            raise ValueError(f"the model has the outputs {sorted(outputs)}, not {sorted(unknown)}")
        arrays = [_array_of(tensor, input_feed, shape_group) for tensor in info.inputs]
        if unknown := input_feed.keys() - {tensor.name for tensor in info.inputs}:
            raise ValueError(f"the model has no inputs {sorted(unknown)}")
        made = {
            name: np.empty(info.outputs[outputs[name]].shapes[shape_group], info.outputs[outputs[name]].dtype)
            for name in wanted
        }
        with self._running:
            for memory, array in zip(self._inputs, arrays, strict=True):
                if array.nbytes:
                    memcpy(self._context, memory, array, array.nbytes, MemcpyKind.HOST_TO_DEVICE)
            self._context.default_stream.run(self._execution.task(self._io, shape_group))
            for name, array in made.items():
                if array.nbytes:
                    memcpy(self._context, array, self._outputs[outputs[name]], array.nbytes, MemcpyKind.DEVICE_TO_HOST)
        return [made[name] for name in wanted]

    def close(self) -> None:
        """Unloads the model, and uses the device once less. Does nothing a second time."""
        ended = self._finalizer.detach()
        if ended is not None:
            _, _, (pid, made), _ = ended
            _end_in(pid, made)

    def __enter__(self) -> "InferenceSession":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        self.close()

    def _load(self, file: ModelFile, made: list[Any]) -> LoadedModel:
        engine = self._context.activation.engine
        try:
            engine.init(VNpuKind.DISABLE)
        except Fault as fault:
            if fault.code is not Code.ENGINE_FAILED:
                raise
            there = engine.kind()
            warnings.warn(f"the card is in vNPU mode {SITE_OF[there]}, by others: {fault}", stacklevel=4)
            engine.init(there)
        made.append(engine)
        model = engine.load(file)
        made.append(model)
        return model

    def _buffer(self, tensor: Tensor, made: list[Any]) -> DeviceMemory:
        size = max(1, *(tensor.size(group) for group in range(self._model.info.group_count)))
        memory = self._device.malloc(size)
        made.append(memory)
        return memory

    @staticmethod
    def _args(tensors: tuple[Tensor, ...], group: int) -> list[NodeArg]:
        return [NodeArg(tensor.name, tensor.dtype, tensor.shapes[group]) for tensor in tensors]


def _end_beside(pid: int, made: list[Any]) -> None:
    """Ends what nobody closed, in a thread: the garbage collector comes in the middle of anything, also of a call."""
    ending = threading.Thread(target=_end_in, args=(pid, made), name="leasehold-dropped")
    try:
        ending.start()
    except RuntimeError:  # the interpreter is about to end
        _end_in(pid, made)
    else:
        ending.join(_AT_ONCE_S)


def _end_in(pid: int, made: list[Any]) -> None:
    """Ends it in the process that made it: a forked child has nothing of it."""
    if os.getpid() == pid:
        _end(made)


def _end(made: list[Any]) -> None:
    """Ends what a session has made, the last first. What is gone already, because its device is, is gone."""
    while made:
        one = made.pop()
        try:
            match one:
                case DeviceMemory():
                    one.free()
                case LoadedModel():
                    one.unload()
                case Device():
                    one.reset()
                case _:
                    one.finalize()
        except Fault:
            continue


def _chosen(providers: _Providers, options: Sequence[Mapping[str, Any]] | None) -> tuple[str, Mapping[str, Any]]:
    """The first provider that is served, and its options."""
    listed = [providers] if isinstance(providers, str) else list(providers or [axclrt_provider_name])
    for index, one in enumerate(listed):
        name, own = (one, {}) if isinstance(one, str) else one
        if name == axclrt_provider_name:
            return name, own or (options[index] if options and index < len(options) else {})
    raise ValueError(f"only {axclrt_provider_name} is served here, not {listed}")


def _array_of(tensor: Tensor, feed: Mapping[str, "Array"], group: int) -> "Array":
    """An input as it is copied to the card."""
    import numpy as np

    if tensor.name not in feed:
        raise ValueError(f"the input {tensor.name} is missing")
    array = np.ascontiguousarray(feed[tensor.name])
    if array.dtype != np.dtype(tensor.dtype) or array.shape != tensor.shapes[group]:
        have, want = f"{array.dtype} {array.shape}", f"{tensor.dtype} {tensor.shapes[group]}"
        raise ValueError(f"the input {tensor.name} is {want}, not {have}")
    return array
