"""The client to be awaited: one session with the daemon, for one event loop."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from leasehold import calls
from leasehold.aio.doors import Door, make_door
from leasehold.aio.lease import Lease
from leasehold.base_client import BaseClient, has_windows
from leasehold.card import (
    Card,
    LeaseInfo,
    ReservationInfo,
    card_from,
    card_named,
    lease_info_from,
    reservation_info_from,
)
from leasehold.claims import Claim
from leasehold.errors import Closed, LeaseholdError, LeaseLost, NotFound, NotOwner, Refused
from leasehold.retries import CALL_S, FORGO_S, Attempts, NotThere, SessionUnknown
from leasehold.statistics import SiteCounts, count_sites, names_with
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

if TYPE_CHECKING:
    from leasehold.aie.array import ArrayShape

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


class Client(BaseClient):
    """A connection to the daemon, for the tasks of one event loop; see ``leasehold.Client``."""

    def __init__(self, address: str | os.PathLike[str] | None = None, *, door: str | None = None) -> None:
        """Connects at the first call; ``connect`` does so at once."""
        super().__init__(address, door=door)
        self._door: Door = make_door(self.door, self.run_directory)

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
        reservation: str = "",
        **counts: float | None,
    ) -> Lease:
        """Takes everything that is claimed, from one card, or nothing; see ``leasehold.Client.acquire``.

        A task that is cancelled meanwhile leaves the queue, and gives back what it was granted.
        """
        wait_s = calls.wait_seconds(wait)
        all_counts = {"cores": cores, "streams": streams, **counts}
        reserved_pools: list[str] = []
        if calls.is_whole(reservation, claims, memory, all_counts):
            reserved_pools = calls.whole_pools(await self._reservation_messages(reservation), reservation, card)
        request = calls.acquire_request(
            next(self._request_ids),
            claims,
            memory=memory,
            counts=all_counts,
            card=card,
            priority=priority,
            ttl=ttl,
            label=label,
            reservation=reservation,
            reserved_pools=reserved_pools,
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
        return [lease_info_from(message) for message in await self._lease_messages(pool)]

    async def _lease_messages(self, pool: str) -> list[types_pb2.Lease]:
        request, found = pb.ListLeasesRequest(pool=pool), list[types_pb2.Lease]()
        while True:
            page: pb.ListLeasesResponse = await self._call("ListLeases", request, needs_session=False)
            found += page.leases
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def reserve(
        self,
        artifact: str | os.PathLike[str],
        *,
        name: str | None = None,
        card: str | None = None,
        shared: bool = False,
        replace: bool = False,
    ) -> ReservationInfo:
        """Sets aside what a file says; see ``leasehold.Client.reserve``."""
        from leasehold.artifacts.reservable import manifest_of

        manifest = await asyncio.to_thread(manifest_of, Path(artifact))
        shape = await self._array_shape(card) if manifest.resources else None
        return await self.reserve_claims(
            name or manifest.name,
            *manifest.claims(shape),
            content_hash=manifest.content_hash,
            card=card,
            profile=manifest.profile,
            shared=shared,
            replace=replace,
        )

    async def reserve_claims(
        self,
        name: str,
        *claims: Claim,
        memory: str | int | None = None,
        content_hash: str = "",
        card: str | None = None,
        profile: str = "",
        shared: bool = False,
        replace: bool = False,
        **counts: float | None,
    ) -> ReservationInfo:
        """Sets units aside under ``name``; see ``leasehold.Client.reserve_claims``."""
        request = calls.reserve_request(
            name,
            claims,
            memory=memory,
            counts=counts,
            content_hash=content_hash,
            card=card,
            profile=profile,
            shared=shared,
            replace=replace,
        )
        response: pb.ReserveResponse = await self._call("Reserve", request)
        return reservation_info_from(response.reservation)

    async def unreserve(self, name: str) -> None:
        """Takes a reservation away; see ``leasehold.Client.unreserve``."""
        await self._call("Unreserve", pb.UnreserveRequest(name=name))

    async def reservations(self, key: str = "") -> list[ReservationInfo]:
        """The reservations of a name or content hash, or all, in the order of their names."""
        return [reservation_info_from(one) for one in await self._reservation_messages(key)]

    async def statistics(self, pool: str, card: str | None = None) -> list[SiteCounts]:
        """How much of a pool is free, held and reserved at each of its sites; see ``leasehold.Client.statistics``."""
        request = pb.GetBitmapRequest(card=card or "", pool=pool)
        bitmap: pb.GetBitmapResponse = await self._call("GetBitmap", request, needs_session=False)
        found: list[types_pb2.Reservation] = []
        for name in names_with(await self._reservation_messages(), pool):
            found += [one for one in await self._reservation_messages(name, with_units=True) if one.name == name]
        return count_sites(bitmap.bitmap, await self._lease_messages(pool), found)

    async def _array_shape(self, card: str | None) -> "ArrayShape":
        from leasehold.aie.array import RESOURCE_TYPES
        from leasehold.aie.bitmaps import shape_of

        first = card_named(await self.cards(), card)
        requests = [
            pb.GetBitmapRequest(card=first.id, pool=pool.name) for pool in first.pools if pool.name in RESOURCE_TYPES
        ]
        bitmaps = [await self._call("GetBitmap", request, needs_session=False) for request in requests]
        return shape_of(one.bitmap for one in bitmaps)

    async def _reservation_messages(
        self, key: str = "", *, with_units: bool = False
    ) -> Sequence[types_pb2.Reservation]:
        request = pb.ListReservationsRequest(key=key, with_units=with_units)
        response: pb.ListReservationsResponse = await self._call("ListReservations", request, needs_session=False)
        return response.reservations

    async def events(self, *, past: int = 0, follow: bool = True) -> AsyncIterator[types_pb2.Event]:
        """What happens to leases: up to ``past`` events that were, then, with ``follow``, new ones without end."""
        if self._is_closed:
            raise Closed("the client is closed")
        async for response in self._door.watch(pb.WatchEventsRequest(past_count=past, follow=follow)):
            yield response.event

    async def close(self) -> None:
        """Ends the session: every lease of it is released, every wait withdrawn. Does nothing a second time.

        Raises:
            WindowInUse: arrays of a lease's memory live; the session goes on.
        """
        if self._is_closed or self._pid != os.getpid():
            return
        await asyncio.to_thread(self._let_go_of_leases)
        self._is_closed = True
        await self._door.close()
        if self._link is not None:
            await asyncio.to_thread(self._link.close)

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
            windows = await asyncio.to_thread(self._fetch_windows, message) if has_windows(message) else {}
            lease = Lease(self, message, core_cpus=cpus, windows=windows, confirm=self._confirm)
            self._keep(lease)
        return lease

    async def _cpus_of(self, message: types_pb2.Lease) -> tuple[int, ...]:
        """CPU numbers of the cores of a lease's card, where the lease has some."""
        if self._needs_cpus(message):
            self._core_cpus.update({card.id: card.core_cpus for card in await self.cards()})
        return self._core_cpus.get(message.card, ())

    async def _forgo(self, request_id: int) -> None:
        give_up_at = time.monotonic() + FORGO_S
        request = pb.ReleaseRequest(request_id=request_id)
        with suppress(LeaseholdError):
            while (left_s := give_up_at - time.monotonic()) > 0:
                try:
                    await self._door.call("Release", request, left_s, self._session())
                    return
                except NotThere:
                    await asyncio.sleep(min(0.05, left_s))

    async def _call(self, method: str, request: Any, *, wait_s: float = 0.0, needs_session: bool = True) -> Any:  # noqa: ANN401
        """Sends a request until it is answered, for 30 s of a daemon that is not there."""
        calls.check_size(request)
        attempts = Attempts(method)
        wait_until = time.monotonic() + wait_s
        while True:
            if self._is_closed:
                raise Closed("the client is closed")
            link = self._door_link()
            if needs_session:
                link = self._link or await asyncio.to_thread(self._session)
            known_id = link.session_id if link else ""
            left_s = 0.0
            if wait_s:
                left_s = max(0.0, wait_until - time.monotonic())
                calls.set_wait(request, left_s)
            try:
                return await self._door.call(method, request, left_s + CALL_S, link)
            except SessionUnknown as fault:
                if link is None:
                    raise
                attempts.check_time_left(fault)
                await asyncio.to_thread(link.wait_for_other_session, known_id, CALL_S)
            except NotThere as fault:
                await asyncio.sleep(attempts.after(fault))

    def _forget_parent(self) -> None:
        self._door.abandon()
        super()._forget_parent()
