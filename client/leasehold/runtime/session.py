"""A model in memory of a lease, ready to run: one of these for each engine context.

How much it takes is found out by running it: it is loaded into what its weights need, run with zeros in every group of
shapes, and loaded into twice as much where that was too little. What it took is remembered by its bytes, so that the
question comes before the answer: usage can be asked before a load, and is then what the load takes.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from leasehold.claims import Run
from leasehold.errors import Exhausted, Invalid, LeaseholdError
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.holding import ALONE_BYTES, Held, Holding, refused_as
from leasehold.runtime.model_file import ModelFile, Shapes
from leasehold.runtime.model_io import Tensor, item_bytes, type_of

if TYPE_CHECKING:
    from leasehold.model import Model

_ROUNDS = 2  # runs a group: the second meets what the first left behind
_TRIES = 16
_IN_OUT_FACTOR = 8  # of the inputs, for what lies between them and the outputs: a first guess

_known_bytes: dict[str, int] = {}  # by a digest of the model: what it took in this process
_KNOWN_MAX = 1_024


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A loaded model. One run at a time: the next waits."""

    model: "Model"
    held: Held
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    running: threading.Lock

    @property
    def memory_bytes(self) -> int:
        """What it takes of the card."""
        return self.model.memory_bytes

    def run(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Runs in this thread; ``outputs`` are written in place.

        Raises:
            Fault: the model failed, or needs more memory than it took so far.
        """
        with self.running:
            try:
                self.model.run_here(inputs, outputs)
            except (ValueError, Exhausted, Invalid) as fault:
                raise Fault(Code.ENGINE_FAILED, str(fault)) from fault
            except LeaseholdError as fault:
                raise Fault(Code.ENGINE_LOST, str(fault)) from fault

    def close(self, holding: Holding) -> None:
        """Unloads it, and gives back its memory."""
        with self.running:
            self.model.close()
        holding.drop(self.held)


def load(file: ModelFile, holding: Holding, cpus: tuple[int, ...]) -> Session:
    """Loads a model into memory that it takes for it; its kernels may use ``cpus``, none means one thread anywhere.

    Raises:
        Fault: no model, no room on the card, or the lease is lost.
    """
    asked = _known_bytes.get(file.digest, 0)
    for _ in range(_TRIES):
        with refused_as(Code.ENGINE_FAILED, lost=Code.ENGINE_LOST):
            asked = asked or _first_guess(file)
            (held,) = holding.hold(Run("memory", size=asked), is_alone=asked >= ALONE_BYTES)
        try:
            session = _load_into(held, file, cpus)
        except Exhausted:
            asked = 2 * len(held.ids) * held.unit_bytes
            holding.drop(held)
            continue
        except BaseException:
            holding.drop(held)
            raise
        if len(_known_bytes) >= _KNOWN_MAX:
            _known_bytes.clear()
        _known_bytes[file.digest] = session.memory_bytes
        return session
    raise Fault(Code.ENGINE_FAILED, f"{file.name} does not run within {asked} bytes")


class _Here:
    """Loads a model in the calling thread, where the library would have a stream."""

    class _Done:
        def __init__(self, value: Any) -> None:  # noqa: ANN401 - whatever loading answers
            self._value = value

        def result(self) -> Any:  # noqa: ANN401
            return self._value

    def submit(self, fn: Callable[..., Any], *args: Any) -> "_Here._Done":  # noqa: ANN401
        return self._Done(fn(*args))


def _first_guess(file: ModelFile) -> int:
    from leasehold.model import floor_bytes

    known = sum(8 * prod(shape) for group in file.groups for shape in group.values())
    return floor_bytes(file.path) + _IN_OUT_FACTOR * known


def _load_into(held: Held, file: ModelFile, cpus: tuple[int, ...]) -> Session:
    """Loads a model into what is held, and runs it.

    Raises:
        Exhausted: it needs more.
        Fault: it is no model, or none that can be run here.
    """
    from leasehold.model import Model

    lease = held.lease
    try:
        model = Model(
            file.path,
            memory_bytes=held.window.size,
            budget=lease._budget,
            cpus=cpus,
            default_stream=_Here(),  # type: ignore[arg-type]  # it is asked for no more than this
            check_lease=lease.check,
        )
    except Invalid as fault:
        raise Fault(Code.ENGINE_FAILED, str(fault)) from fault
    except LeaseholdError as fault:
        if isinstance(fault, Exhausted):
            raise
        raise Fault(Code.ENGINE_LOST, str(fault)) from fault
    try:
        inputs, outputs = _measure(model, file.groups)
    except BaseException:
        model.close()
        raise
    return Session(model, held, inputs, outputs, threading.Lock())


def _measure(model: "Model", groups: tuple[Shapes, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Runs a model with zeros in each group; answers the shapes that its inputs and outputs have there."""
    import numpy as np

    types = {port.name: type_of(port.type) for port in (*model.inputs, *model.outputs)}
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in types}
    for group in groups:
        here = {port.name: _closed(port.shape, group.get(port.name)) for port in model.inputs}
        zeros = {name: np.zeros(shape, types[name][1]) for name, shape in here.items()}
        try:
            made = [model.run_here(zeros, {}) for _ in range(_ROUNDS)][-1]
        except ValueError as fault:
            raise Fault(Code.ENGINE_FAILED, f"it cannot be run with shapes {here}: {fault}") from fault
        here |= {name: array.shape for name, array in made.items()}
        for name, shape in here.items():
            shapes[name].append(shape)
    tensors = {name: Tensor(name, *types[name], tuple(shapes[name])) for name in types}
    assert all(item_bytes(tensor.dtype) for tensor in tensors.values())
    return tuple(tensors[port.name] for port in model.inputs), tuple(tensors[port.name] for port in model.outputs)


def _closed(shape: tuple[int | str | None, ...], wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    return wanted if wanted is not None else tuple(dim if isinstance(dim, int) else 1 for dim in shape)
