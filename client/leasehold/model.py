"""ONNX models under a lease, run by onnxruntime.

Each model has an arena of its own for weights and activations together, capped when it is loaded and charged to the
lease; so allocations in the window and all models stay within what was leased. Inputs and outputs that lie in the
window are bound where they lie: nothing is copied.
"""

import ctypes
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from leasehold.artifacts.packing import read_fresh
from leasehold.errors import Exhausted, Invalid
from leasehold.onnx_file import NotAModel, weight_bytes
from leasehold.quantity import parse_size, size_text
from leasehold.stream import Stream, Task
from leasehold.window import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

# Loading reserves up to 1.9 times the weights without asking the cap, and a cap below what is reserved is none at all
# (seen with onnxruntime 1.31.1): so no cap below this is given.
_FLOOR_FACTOR, _FLOOR_BYTES = 2, 1 << 20
_SLOT_BYTES = 1 << 20
_registering = threading.Lock()  # the allocator that a session takes over is one slot of the process


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model. A dimension is a number, or a name where the model leaves it open."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def floor_bytes(path: Path) -> int:
    """The least memory that a model can be loaded with: about twice its weights.

    Raises:
        Invalid: the file is no model.
        OSError: it cannot be read.
    """
    try:
        return _FLOOR_FACTOR * weight_bytes(path) + _FLOOR_BYTES
    except NotAModel as fault:
        raise Invalid(f"{path}: {fault}", facts={"path": str(path)}) from fault


def memory_to_load(path: Path, memory: str | int | None, *, left_bytes: int) -> int:
    """Bytes to load a model into: ``memory``, else what a reservation in its file says, else half of what is left.

    Raises:
        Invalid: the file is no model, carries a reservation that is stale or none, or ``memory`` is no size.
        Exhausted: its weights alone need more than ``memory``.
        OSError: it cannot be read.
    """
    floor, packed = floor_bytes(path), read_fresh(path)
    try:
        asked = None if memory is None else parse_size(memory)
    except ValueError as fault:
        raise Invalid(str(fault)) from fault
    if asked is None:
        measured = packed.memory_bytes if packed else 0
        return max(floor, measured or left_bytes // 2)
    if asked < floor:
        text = f"{path.name} needs {size_text(floor)} at least to be loaded, {size_text(asked)} are given"
        raise Exhausted(text, facts={"asked_bytes": floor, "memory_bytes": asked})
    return asked


class Model:
    """A loaded model. Made by ``lease.load``; it ends with its lease."""

    def __init__(
        self,
        path: Path,
        *,
        memory_bytes: int,
        budget: Budget,
        cpus: Sequence[int],
        default_stream: Stream,
        check_lease: "Callable[[], None]",
    ) -> None:
        """Loads the model into ``memory_bytes``, which are charged to ``budget`` first.

        Raises:
            Exhausted: the lease has not so much left, or the model needs more.
            Invalid: the file is no model.
        """
        self.path = path
        self.memory_bytes = memory_bytes
        self._budget = budget
        self._default_stream = default_stream
        self._check_lease = check_lease
        budget.charge(memory_bytes, f"model {path.name}")
        try:
            loaded = default_stream.submit(_load, path, memory_bytes, cpus)
            self._session: ort.InferenceSession | None = loaded.result()
        except BaseException:
            budget.refund(memory_bytes)
            raise
        self.inputs = tuple(Port(one.name, one.type, tuple(one.shape)) for one in self._session.get_inputs())
        self.outputs = tuple(Port(one.name, one.type, tuple(one.shape)) for one in self._session.get_outputs())
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(
        self, inputs: Mapping[str, Array], *, stream: Stream | None = None, outputs: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Runs the model on ``stream`` (else on the lease's own), and waits for its outputs.

        Those given in ``outputs`` are written in place and returned; the others are new arrays outside the window.

        Raises:
            ValueError: a missing, unknown or wrong input or output.
            Exhausted: it needs more memory than it was loaded with.
            LeaseLost: the lease is lost.
        """
        target = stream or self._default_stream
        if target.is_inside:
            self._check_names(inputs, outputs or {})
            return self._execute(dict(inputs), dict(outputs or {}))
        return self.submit(inputs, stream=target, outputs=outputs).result()

    def submit(
        self, inputs: Mapping[str, Array], *, stream: Stream | None = None, outputs: Mapping[str, Array] | None = None
    ) -> Task[dict[str, Array]]:
        """Puts a run at the end of ``stream``; its ``result()`` is what ``run`` returns."""
        self._check_lease()
        self._check_names(inputs, outputs or {})
        return (stream or self._default_stream).submit(self._execute, dict(inputs), dict(outputs or {}))

    def run_here(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model in the calling thread; as ``run`` otherwise."""
        self._check_lease()
        self._check_names(inputs, outputs)
        return self._execute(dict(inputs), dict(outputs))

    def close(self) -> None:
        """Unloads the model, and gives its memory back to the lease."""
        if self._session is not None:
            self._session = None
            self._budget.refund(self.memory_bytes)

    def _check_names(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        wanted, there = {port.name for port in self.inputs}, {port.name for port in self.outputs}
        if inputs.keys() != wanted:
            raise ValueError(f"{self.path.name} takes the inputs {sorted(wanted)}, not {sorted(inputs)}")
        if unknown := outputs.keys() - there:
            raise ValueError(f"{self.path.name} has the outputs {sorted(there)}, not {sorted(unknown)}")
        for name, array in outputs.items():
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise ValueError(f"output {name} must be a contiguous array that can be written")

    def _execute(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> dict[str, Array]:
        if self._session is None:
            raise Invalid(f"{self.path.name} was unloaded")
        bound = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        names = [port.name for port in self.outputs]
        try:
            made = _run_bound(self._session, bound, names, outputs) if outputs else self._session.run(names, bound)
        except (RuntimeError, ort_errors.Fail, ort_errors.InvalidArgument) as fault:
            raise self._fault(fault) from fault
        # What onnxruntime made lies in the arena, and counts against its cap for as long as it is referred to.
        return {
            name: outputs[name] if name in outputs else array.copy() for name, array in zip(names, made, strict=True)
        }

    def _fault(self, fault: Exception) -> Exception:
        if _is_over_cap(fault):
            have = size_text(self.memory_bytes)
            text = f"{self.path.name} needs more than the {have} it was loaded with; 'rmctl plan' tells how much"
            return Exhausted(text, facts={"memory_bytes": self.memory_bytes, "path": str(self.path)})
        return ValueError(f"{self.path.name}: {fault}")

    def __repr__(self) -> str:
        return f"<Model {self.path.name}: {size_text(self.memory_bytes)}>"


def _run_bound(
    session: ort.InferenceSession, inputs: dict[str, Array], names: list[str], outputs: dict[str, Array]
) -> list[Array]:
    """Runs with some outputs written where they are wanted; a plain run binds inputs alone, and is quicker."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for name in names:
        if name in outputs:
            array = outputs[name]
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        else:
            binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding)
    return [value.numpy() for value in binding.get_outputs()]


def _load(path: Path, memory_bytes: int, cpus: Sequence[int]) -> ort.InferenceSession:
    """Makes a session whose arena is its own and capped. Runs on a stream's thread, so that it is pinned as that is."""
    try:
        with _registering:
            _register_arena(memory_bytes)
            try:
                return ort.InferenceSession(str(path), _options(cpus), providers=["CPUExecutionProvider"])
            finally:
                _register_arena(_SLOT_BYTES)  # or the slot would keep this model's arena alive after it
    except (ort_errors.InvalidProtobuf, ort_errors.InvalidGraph, ort_errors.InvalidArgument) as fault:
        raise Invalid(f"{path} is no model: {fault}", facts={"path": str(path)}) from fault
    except (ort_errors.Fail, ort_errors.RuntimeException, RuntimeError) as fault:
        if _is_over_cap(fault):
            text = f"{path.name} cannot be loaded into {size_text(memory_bytes)}"
            raise Exhausted(text, facts={"memory_bytes": memory_bytes, "path": str(path)}) from fault
        raise Invalid(f"{path} cannot be loaded: {fault}", facts={"path": str(path)}) from fault
    finally:
        ctypes.CDLL(None).malloc_trim(0)  # loading leaves up to three times the weights free, but not given back


def _options(cpus: Sequence[int]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, len(cpus))
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # faults come as exceptions; standard error is the user's
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.disable_prepacking", "1")  # puts the weights under the cap as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle lease must not burn its cores
    if len(cpus) > 1:  # the stream's own thread is the first; CPUs count from 1 here
        affinities = ";".join(str(cpu + 1) for cpu in cpus[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    return options


def _register_arena(cap_bytes: int) -> None:
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg({"max_mem": cap_bytes, "arena_extend_strategy": 1})
    ort.create_and_register_allocator(place, arena)


def _is_over_cap(fault: Exception) -> bool:
    return "Available memory of" in str(fault) or "Failed to allocate memory" in str(fault)
