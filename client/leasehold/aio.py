"""The same names with ``await``: for programs that live on an event loop.

    async with await leasehold.aio.connect() as client:
        async with await client.acquire(memory="512MiB", cores=1, streams=2, wait=30.0) as lease:
            model = await lease.load("model.onnx")
            out = await model.run({"x": x}, stream=lease.stream(0))

Work on streams and models runs in the threads of their streams, as with the blocking client; only waiting differs.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import grpc

from leasehold import calls
from leasehold import stream as blocking
from leasehold.address import check_trusted
from leasehold.base_client import BaseClient
from leasehold.card import Card, LeaseInfo, card_from, lease_info_from
from leasehold.channel import CALL_S, FORGO_S, OPTIONS, Attempts, SessionUnknown, target
from leasehold.claims import Claim, Site
from leasehold.errors import Closed, LeaseholdError, LeaseLost, NotFound, NotOwner, Refused
from leasehold.forks import calls_under_way
from leasehold.held_lease import HeldLease
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc
from rmapi.v1 import types_pb2

if TYPE_CHECKING:
    from leasehold.model import Array
    from leasehold.model import Model as BlockingModel

P = ParamSpec("P")
T = TypeVar("T")


async def connect(address: str | os.PathLike[str] | None = None, *, door: str | None = None) -> "Client":
    """Opens a session with the daemon, as ``leasehold.connect`` does.

    Raises:
        DaemonUnavailable: no daemon is there; the text says how to start one.
    """
    client = Client(address, door=door)
    await asyncio.to_thread(client._session)
    return client


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
        self._check_can_spare(indexes)
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


class Client(BaseClient):
    """A connection to the daemon, for the tasks of one event loop; see ``leasehold.Client``."""

    def __init__(self, address: str | os.PathLike[str] | None = None, *, door: str | None = None) -> None:
        """Connects at the first call; ``connect`` does so at once."""
        self._channel: grpc.aio.Channel | None = None
        super().__init__(address, door=door)

    async def acquire(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        card: str | None = None,
        wait: str | float = 0.0,
        priority: int = 0,
        ttl: str | float | None = None,
        label: str = "",
        **counts: float | None,
    ) -> Lease:
        """Takes everything that is claimed, from one card, or nothing; see ``leasehold.Client.acquire``.

        A task that is cancelled meanwhile leaves the queue, and gives back what it was granted.
        """
        wait_s = calls.wait_seconds(wait)
        request = calls.acquire_request(
            next(self._request_ids),
            claims,
            memory=memory,
            counts={"cores": cores, "streams": streams, **counts},
            card=card,
            priority=priority,
            ttl=ttl,
            label=label,
        )
        try:
            response: pb.AcquireResponse = await self._call("Acquire", request, wait_s=wait_s)
        except Refused:
            raise
        except BaseException:  # in doubt, also when cancelled: it may have been granted
            await asyncio.shield(self._forgo(request.request_id))
            raise
        try:
            return await self._take(response.lease)
        except BaseException as fault:
            await asyncio.shield(self._forgo(request.request_id))
            if isinstance(fault, NotFound | NotOwner):
                raise LeaseLost(response.lease.id, "the daemon was restarted meanwhile") from fault
            raise

    async def cards(self) -> list[Card]:
        """The cards, with the state of their pools."""
        response: pb.ListCardsResponse = await self._call("ListCards", pb.ListCardsRequest(), needs_session=False)
        return [card_from(card) for card in response.cards]

    async def leases(self, pool: str = "") -> list[LeaseInfo]:
        """All live leases of all processes, oldest first; only those with units of ``pool`` where it is given."""
        request, leases = pb.ListLeasesRequest(pool=pool), []
        while True:
            page: pb.ListLeasesResponse = await self._call("ListLeases", request, needs_session=False)
            leases += [lease_info_from(message) for message in page.leases]
            if not page.next_page_token:
                return leases
            request.page_token = page.next_page_token

    async def events(self, *, past: int = 0, follow: bool = True) -> AsyncIterator[types_pb2.Event]:
        """What happens to leases: up to ``past`` events that were, then, with ``follow``, new ones without end."""
        with calls_under_way:
            stream = self._stub().WatchEvents(pb.WatchEventsRequest(past_count=past, follow=follow))
            try:
                async for response in stream:
                    yield response.event
            except grpc.RpcError as fault:
                raise Attempts.told("WatchEvents", fault) from fault
            finally:
                stream.cancel()

    async def close(self) -> None:
        """Ends the session: every lease of it is released, every wait withdrawn. Does nothing a second time.

        Raises:
            WindowInUse: arrays of a lease's memory live; the session goes on.
        """
        if self._is_closed or self._pid != os.getpid():
            return
        await asyncio.to_thread(self._let_go_of_leases)
        self._is_closed = True
        if self._link is not None:
            await asyncio.to_thread(self._link.close)
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            self._abandon_windows()
        await self.close()

    # Calling.

    async def _take(self, message: types_pb2.Lease) -> Lease:
        with self._arriving(message):
            cpus = await self._cpus_of(message)
            windows = await asyncio.to_thread(self._fetch_windows, message)
            lease = Lease(self, message, core_cpus=cpus, windows=windows, confirm=self._confirm)
            self._keep(lease)
        return lease

    async def _cpus_of(self, message: types_pb2.Lease) -> tuple[int, ...]:
        """CPU numbers of the cores of a lease's card, where the lease has some."""
        if self._needs_cpus(message):
            self._core_cpus.update({card.id: card.core_cpus for card in await self.cards()})
        return self._core_cpus.get(message.card, ())

    async def _forgo(self, request_id: int) -> None:
        with suppress(LeaseholdError, grpc.RpcError):
            request = pb.ReleaseRequest(request_id=request_id)
            with calls_under_way:
                await self._stub().Release(
                    request, timeout=FORGO_S, metadata=self._session().metadata, wait_for_ready=True
                )

    async def _call(self, method: str, request: Any, *, wait_s: float = 0.0, needs_session: bool = True) -> Any:  # noqa: ANN401
        """Sends a request until it is answered, for 30 s of a daemon that is not there."""
        calls.check_size(request)
        attempts = Attempts(method)
        wait_until = time.monotonic() + wait_s
        while True:
            link = (self._link or await asyncio.to_thread(self._session)) if needs_session else None
            metadata = link.metadata if link else ()
            try:
                left_s = max(0.0, wait_until - time.monotonic())
                if wait_s:
                    calls.set_wait(request, left_s)
                with calls_under_way:
                    return await getattr(self._stub(), method)(request, timeout=left_s + CALL_S, metadata=metadata)
            except grpc.RpcError as fault:
                try:
                    pause_s = attempts.after(fault)
                except SessionUnknown:
                    if link is None:
                        raise
                    attempts.check_time_left(fault)
                    await asyncio.to_thread(link.wait_for_other_session, metadata[0][1], CALL_S)
                    continue
            await asyncio.sleep(pause_s)

    def _stub(self) -> "pb_grpc.ResourceManagerServiceAsyncStub":
        if self._is_closed:
            raise Closed("the client is closed")
        if self._channel is None:
            check_trusted(self.run_directory)
            self._channel = grpc.aio.insecure_channel(target(self.run_directory), options=OPTIONS)
        return pb_grpc.ResourceManagerServiceStub(self._channel)

    def _forget_parent(self) -> None:
        self._channel = None
        super()._forget_parent()
