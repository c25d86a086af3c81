"""A lease, its streams, models and tasks, to be awaited."""

import asyncio
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from leasehold import calls
from leasehold import stream as blocking
from leasehold.claims import Claim, Site
from leasehold.held_lease import HeldLease
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

if TYPE_CHECKING:
    from leasehold.aio.client import Client
    from leasehold.model import Array
    from leasehold.model import Model as BlockingModel

P = ParamSpec("P")
T = TypeVar("T")


class Task(Generic[T]):
    """One piece of work on a stream: await it for its result."""

    def __init__(self, task: blocking.Task[T]) -> None:
        self._task = task

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._task.done()

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.wrap_future(self._task._future).__await__()


class Stream:
    """An ordered queue of work with a thread of its own; see ``leasehold.Stream``."""

    def __init__(self, stream: blocking.Stream) -> None:
        self.id = stream.id
        self.blocking = stream

    def submit(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Puts ``fn(*args, **kwargs)`` at the end of the queue."""
        return Task(self.blocking.submit(fn, *args, **kwargs))

    async def synchronize(self, timeout: float | None = None) -> None:
        """Waits until everything submitted so far has ended; raises the first error since the last call."""
        await asyncio.to_thread(self.blocking.synchronize, timeout)


class Model:
    """A loaded model; see ``leasehold.model.Model``."""

    def __init__(self, model: "BlockingModel") -> None:
        self.blocking = model
        self.inputs, self.outputs, self.metadata = model.inputs, model.outputs, model.metadata

    async def run(
        self,
        inputs: "Mapping[str, Array]",
        *,
        stream: Stream | None = None,
        outputs: "Mapping[str, Array] | None" = None,
    ) -> "dict[str, Array]":
        """Runs the model on ``stream`` (else on the lease's own)."""
        return await Task(self.blocking.submit(inputs, stream=stream.blocking if stream else None, outputs=outputs))


class Lease(HeldLease):
    """A lease of an ``await`` client. An asynchronous context manager."""

    def __init__(
        self,
        client: "Client",
        message: types_pb2.Lease,
        *,
        core_cpus: Sequence[int],
        windows: dict[int, int],
        confirm: Callable[[float], None],
    ) -> None:
        super().__init__(message, core_cpus=core_cpus, windows=windows, confirm=confirm)
        self._client = client
        self._changing = asyncio.Lock()  # one change at a time: each answer tells of the whole lease

    def stream(self, index: int = 0) -> Stream:  # type: ignore[override]  # the same stream, to be awaited
        """Its stream number ``index``, counted among those that it leased."""
        return Stream(super().stream(index))

    async def load(  # type: ignore[override]  # the same, to be awaited
        self, path: str | os.PathLike[str], *, memory: str | int | None = None
    ) -> Model:
        """Loads an ONNX model into ``memory`` bytes of the lease."""
        return Model(await asyncio.to_thread(lambda: HeldLease.load(self, path, memory=memory)))

    async def release(self, *, to_pool: bool = False) -> None:
        """Gives everything back. Does nothing a second time.

        Raises:
            WindowInUse: arrays of its memory live; the lease holds on until they are dropped.
        """
        if not self._begin_ending():
            return
        is_released = False
        try:
            await asyncio.to_thread(self._let_go)
            if self._lost_cause:
                self._client._say_let_go(self)
            else:
                await self._client._call("Release", pb.ReleaseRequest(lease_id=self.id, to_pool=to_pool))
            is_released = True
        finally:
            self._end_ending(is_released=is_released)
        self._client._drop(self)

    async def extend(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        **counts: float | None,
    ) -> None:
        """Adds claims, from the same card, at once or not at all."""
        self.check()
        all_counts = {"cores": cores, "streams": streams, **counts}
        request = calls.extend_request(next(self._client._request_ids), self.id, claims, memory, all_counts)
        async with self._changing:
            response: pb.ExtendResponse = await self._client._call("Extend", request)
            with self._client._arriving(response.lease):
                cpus = await self._client._cpus_of(response.lease)
                self._grow(response.lease, await asyncio.to_thread(self._client._fetch_windows, response.lease), cpus)

    async def give_back(self, pool: str, ids: Sequence[int], *, at: Sequence[Site] = (), to_pool: bool = False) -> None:
        """Gives back some units; memory by whole allotments only. The lease ends with its last unit."""
        self.check()
        indexes = self._memory_indexes_of(ids) if pool == "memory" else []
        self._check_can_spare(pool, indexes)
        request = calls.give_back_request(next(self._client._request_ids), self.id, pool, ids, at, to_pool=to_pool)
        async with self._changing:
            response: pb.GiveBackResponse = await self._client._call("GiveBack", request)
            self._shrink(response.lease, indexes)
        if self._is_released:
            self._client._drop(self)

    async def __aenter__(self) -> "Lease":
        self.check()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            self._abandon_windows()
        await self.release()
