"""Loaded models and the contexts that run them.

A run keeps its model and its buffers until it has ended; a model that is unloaded meanwhile goes when the last of its
runs has. Each engine context has the model in memory once more, so that two of them run at the same time; the first
takes that with which the model came.
"""

import ctypes
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from leasehold.runtime.blocks import Block
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.model_file import ModelFile
from leasehold.runtime.model_io import IO, IOInfo, Tensor, item_bytes
from leasehold.runtime.session import Session
from leasehold.runtime.task import Task

if TYPE_CHECKING:
    from leasehold.runtime.engine import Engine
    from leasehold.runtime.holding import Held
    from leasehold.runtime.stream import Stream


_Place = tuple[Tensor, tuple[int, ...], int]  # a tensor, its shape, and where it lies in this process


class LoadedModel:
    """A model of one device. A context manager: unloaded at the end of its block."""

    def __init__(
        self,
        engine: "Engine",
        model_id: int,
        file: ModelFile,
        session: Session,
        cores: "list[Held]",
        *,
        affinity: int,
    ) -> None:
        """Takes over ``file``, the session it was loaded into, and the cores that were taken for it."""
        self.engine = engine
        self.id = model_id
        self.file = file
        self.kind = file.kind
        self.affinity = affinity
        self.info = IOInfo(model_id, session.inputs, session.outputs, len(file.groups))
        self._lock = threading.Lock()
        self._sessions = [session]
        self._cores = list(cores)
        self._unused: Session | None = session
        self._run_count = 0
        self.is_live = True

    @property
    def memory_bytes(self) -> int:
        """What it takes of the card, with all its contexts."""
        with self._lock:
            return sum(session.memory_bytes for session in self._sessions)

    def set_affinity(self, affinity: int) -> None:
        """Names the parts of the split NPU that may run it."""
        self.engine.set_affinity(self, affinity)

    def create_execution(self) -> "Execution":
        """An engine context: runs of one wait for one another, those of two do not. It ends with the model.

        Raises:
            Fault: the model was unloaded, or the card has no memory for another.
        """
        return self.engine.create_execution(self)

    def create_io(self) -> IO:
        """An empty set of buffers."""
        return IO(self.info)

    def unload(self) -> None:
        """Ends it, once what was submitted has ended; see ``Engine.unload``."""
        self.engine.unload(self)

    def __enter__(self) -> "LoadedModel":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if self.is_live:
            self.unload()

    # What the engine and its runs do with it.

    def take_unused(self) -> Session | None:
        """The session that came with the model, for the first who asks."""
        with self._lock:
            session, self._unused = self._unused, None
            return session

    def add(self, session: Session, cores: "list[Held]") -> bool:
        """Notes a further session and its cores; False where the model was unloaded meanwhile."""
        with self._lock:
            if self.is_live:
                self._sessions.append(session)
                self._cores += cores
            return self.is_live

    def begin_run(self) -> None:
        """Keeps it for one run.

        Raises:
            Fault: it was unloaded.
        """
        with self._lock:
            if not self.is_live:
                raise Fault(Code.ENGINE_ILLEGAL, f"model {self.id} was unloaded")
            self._run_count += 1

    def end_run(self) -> None:
        """Ends one run."""
        with self._lock:
            self._run_count -= 1
            is_over = not self.is_live and not self._run_count
        if is_over:
            self._give_back()

    def end(self) -> None:
        """Takes no more runs; gives everything back when the last has ended."""
        with self._lock:
            was_live, self.is_live = self.is_live, False
            is_over = was_live and not self._run_count
        if is_over:
            self._give_back()

    def _give_back(self) -> None:
        sessions, self._sessions = self._sessions, []
        try:
            for session in sessions:
                session.close(self.engine.activation.holding)
            self.engine.drop_cores(self._cores)
        finally:
            self.file.close()
            self.engine.forget(self)


class Execution:
    """An engine context of a model."""

    def __init__(self, execution_id: int, model: LoadedModel, session: Session) -> None:
        self.id = execution_id
        self.model = model
        self._session = session

    def run(self, io: IO, *, group: int = 0) -> None:
        """Runs the model on the default stream of this thread's current context, and waits for it.

        Raises:
            Fault: a group that is none, a buffer that is missing or short, or the model failed.
        """
        context = self.model.engine.current_context()
        context.default_stream.run(self.task(io, group))

    def submit(self, io: IO, *, group: int = 0, stream: "Stream") -> Task:
        """Runs the model in order with the other tasks of ``stream``.

        Raises:
            Fault: as for ``run``, or the stream is another device's.
        """
        if stream.context.activation is not self.model.engine.activation:
            raise Fault(Code.ENGINE_ILLEGAL, "the stream belongs to another device than the model")
        return stream.put(self.task(io, group))

    def task(self, io: IO, group: int) -> Task:
        """One run as a task: everything it needs is looked up and kept.

        Raises:
            Fault: as for ``run``.
        """
        model, info = self.model, self.model.info
        info.check_group(group)
        if io.info is not info:
            raise Fault(Code.ENGINE_ILLEGAL, "these buffers were made for another model")
        model.engine.activation.check(Code.ENGINE_LOST)
        model.begin_run()
        pinned: list[Block] = []
        arena = model.engine.activation.arena

        def release() -> None:
            for block in pinned:
                arena.unpin(block)
            model.end_run()

        try:
            inputs = self._places(io, group, pinned, is_input=True)
            outputs = self._places(io, group, pinned, is_input=False)
        except Fault:
            release()
            raise
        return Task(partial(self._run, inputs, outputs), release)

    def _places(self, io: IO, group: int, pinned: list[Block], *, is_input: bool) -> list[_Place]:
        """Where each tensor lies in this process; each block is pinned."""
        arena, places = self.model.engine.activation.arena, []
        tensors, buffers = (io.info.inputs, io.inputs) if is_input else (io.info.outputs, io.outputs)
        for tensor, buffer in zip(tensors, buffers, strict=True):
            shape = io.shape(tensor, group)
            byte_count = item_bytes(tensor.dtype)
            for dim in shape:
                byte_count *= dim
            if buffer is None or buffer[1] < byte_count:
                have = "none" if buffer is None else f"{buffer[1]} bytes"
                raise Fault(Code.ENGINE_FAILED, f"{tensor.name} needs a buffer of {byte_count} bytes, it has {have}")
            if buffer[0] % item_bytes(tensor.dtype):
                raise Fault(Code.ENGINE_FAILED, f"the buffer of {tensor.name} is not aligned to {tensor.dtype}")
            try:
                block = arena.pin(buffer[0], buffer[1])
            except Fault as fault:
                raise Fault(Code.ENGINE_FAILED, f"the buffer of {tensor.name}: {fault}") from fault
            pinned.append(block)
            places.append((tensor, shape, block.mapped_at(buffer[0])))
        return places

    def _run(self, inputs: list[_Place], outputs: list[_Place]) -> None:
        self.model.engine.activation.check(Code.ENGINE_LOST, is_thorough=True)
        self._session.run(
            {tensor.name: _array(tensor, shape, mapped) for tensor, shape, mapped in inputs},
            {tensor.name: _array(tensor, shape, mapped) for tensor, shape, mapped in outputs},
        )


def _array(tensor: Tensor, shape: tuple[int, ...], mapped: int) -> Any:  # noqa: ANN401 - an array
    import numpy as np

    count = 1
    for dim in shape:
        count *= dim
    memory = (ctypes.c_ubyte * (count * item_bytes(tensor.dtype))).from_address(mapped)
    return np.frombuffer(memoryview(memory), tensor.dtype).reshape(shape)
