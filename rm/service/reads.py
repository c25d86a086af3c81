"""The methods that only read. An answer is put together in one turn, and leaves once all that it has seen is safe."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from importlib.metadata import version
from itertools import islice
from typing import Any

from rm.core import limits, report, snapshot
from rm.core.asks import check_range
from rm.core.claims import Asker, Wish, pools_of
from rm.core.errors import InvalidRequest, LeaseNotFound
from rm.core.types import CardId, LeaseId, PoolName
from rm.service import convert
from rm.service.engine import Engine
from rm.service.event_log import Happening
from rm.service.sessions import Sessions
from rm.service.status import detail_of
from rm.service.views import Views
from rm.store.damage import StoreDamaged
from rmapi.v1 import resource_manager_pb2 as pb

_Build = Callable[[Any, Asker], Any]
_VERSION = version("leasehold")


class Reads:
    """What anybody may know. ``table`` leads from the name of a method to what answers it."""

    def __init__(self, engine: Engine, sessions: Sessions, views: Views, *, pid: int) -> None:
        self._engine = engine
        self._sessions = sessions
        self._views = views
        self._pid = pid
        self._started_ns = engine.clock.monotonic_ns()
        self._reading_back = asyncio.Lock()
        self.table: dict[str, Callable[[Any, Asker], Awaitable[Any]]] = {
            "GetLease": self._safely(self._get_lease),
            "ListLeases": self._safely(self._list_leases),
            "ListCards": self._safely(self._list_cards),
            "GetBitmap": self._safely(self._get_bitmap),
            "ListReservations": self._safely(self._list_reservations),
            "GetStatus": self._safely(self._get_status),
            "Explain": self._safely(self._explain),
            "CheckConsistency": self._check_consistency,
        }

    async def watch(self, request: pb.WatchEventsRequest) -> AsyncGenerator[list[Happening], None]:
        """What happens to leases, several events at a time; it is told once that is safe.

        Raises:
            InvalidRequest: more past events than are kept.
            QuotaExceeded, ShuttingDown: as ``EventLog.watch``.
        """
        check_range("past events", request.past_count, limits.EVENTS_REMEMBERED, least=0)
        log = self._engine.log
        watcher = log.watch()
        try:
            past, together = log.past(request.past_count), limits.EVENTS_TOLD_TOGETHER_MAX
            for start in range(0, len(past), together):
                yield past[start : start + together]
            while request.follow:
                yield await watcher.next()
        finally:
            log.unwatch(watcher)

    def _safely(self, build: _Build) -> Callable[[Any, Asker], Awaitable[Any]]:
        async def read(request: Any, asker: Asker) -> Any:  # noqa: ANN401 - one of many messages
            response = build(request, asker)
            response.revision = await self._engine.synced()
            return response

        return read

    def _get_lease(self, request: pb.GetLeaseRequest, _: Asker) -> pb.GetLeaseResponse:
        lease = self._engine.ledger.leases.get(LeaseId(request.lease_id))
        if lease is None:
            raise LeaseNotFound(f"there is no live lease {request.lease_id!r}", lease=request.lease_id)
        return pb.GetLeaseResponse(lease=self._views.lease(lease, with_use=True))

    def _list_leases(self, request: pb.ListLeasesRequest, _: Asker) -> pb.ListLeasesResponse:
        """Oldest first, in pages."""
        size = request.page_size or limits.LEASES_PER_PAGE_MAX
        check_range("leases in a page", size, limits.LEASES_PER_PAGE_MAX)
        token = request.page_token
        if token and not (token.isascii() and token.isdigit() and len(token) < 20):
            raise InvalidRequest(f"{token!r} is no page token")
        after = int(token or 0)
        leases = self._engine.ledger.leases.values()  # in the order of their tokens, as they were granted
        wanted = (
            lease for lease in leases if lease.token > after and (not request.pool or request.pool in lease.pools)
        )
        page = list(islice(wanted, size + 1))
        response = pb.ListLeasesResponse()
        response.leases.extend(self._views.lease(lease, with_use=True) for lease in page[:size])
        if len(page) > size:
            response.next_page_token = str(page[size - 1].token)
        return response

    def _list_cards(self, _: pb.ListCardsRequest, __: Asker) -> pb.ListCardsResponse:
        cards = [self._views.card(card) for card in self._engine.ledger.cards.values()]
        return pb.ListCardsResponse(cards=cards)

    def _get_bitmap(self, request: pb.GetBitmapRequest, _: Asker) -> pb.GetBitmapResponse:
        card = self._engine.ledger.card_named(request.card)
        return pb.GetBitmapResponse(bitmap=self._views.bitmap(card, PoolName(request.pool)))

    def _list_reservations(self, request: pb.ListReservationsRequest, _: Asker) -> pb.ListReservationsResponse:
        return pb.ListReservationsResponse(reservations=self._views.reservations(request))

    def _get_status(self, _: pb.GetStatusRequest, __: Asker) -> pb.GetStatusResponse:
        engine, durability = self._engine, pb.GetStatusResponse.Durability
        is_durable = engine.store.is_durable
        return pb.GetStatusResponse(
            version=_VERSION,
            durability=durability.DURABILITY_FULL if is_durable else durability.DURABILITY_NONE,
            session_count=len(self._sessions),
            lease_count=len(engine.ledger.leases),
            waiter_count=len(engine.waitlist),
            uptime_duration=convert.duration_to(engine.clock.monotonic_ns() - self._started_ns),
            pid=self._pid,
            warnings=self._views.warnings(),
            epoch=engine.ledger.epoch,
        )

    def _explain(self, request: pb.ExplainRequest, asker: Asker) -> pb.ExplainResponse:
        """What would happen to a request now."""
        ledger = self._engine.ledger
        card = CardId(request.card) if request.card else None
        wish = Wish(asker, convert.claims_from(request.claims), card=card)
        outcome, waiter_count = self._outcome(wish)
        pools = pools_of(wish.claims)
        response = pb.ExplainResponse(
            grantable=outcome.refusal is None and not waiter_count,
            card=outcome.card or "",
            waiter_count=waiter_count,
            cards=[self._views.card(one, only=pools) for one in ledger.cards.values() if card in {None, one.id}],
        )
        if outcome.refusal is not None:
            response.refusal.CopyFrom(detail_of(outcome.refusal))
        elif outcome.card is not None:
            granted = [convert.allotment_to(one, ledger.cards[outcome.card]) for one in outcome.allotments]
            response.allotments.extend(granted)
        return response

    def _outcome(self, wish: Wish) -> tuple[report.Explanation, int]:
        """What would happen to ``wish``, and how many would go first; on a card where nobody waits, nobody would."""
        ledger, waitlist, pools = self._engine.ledger, self._engine.waitlist, pools_of(wish.claims)
        cards = tuple(card for card in ledger.cards if wish.card in {None, card})
        if open_cards := waitlist.open_cards(cards, pools):
            outcome = report.explain(ledger, wish, cards=open_cards)
            if outcome.refusal is None:
                return outcome, 0
        waiter_count = max((waitlist.count((card, pool)) for card in cards for pool in pools), default=0)
        return report.explain(ledger, wish), waiter_count

    async def _check_consistency(self, _: pb.CheckConsistencyRequest, __: Asker) -> pb.CheckConsistencyResponse:
        """Compares the bitmaps with the leases, and both with what is on disk."""
        ledger = self._engine.ledger
        differences = report.differences(ledger)
        response = pb.CheckConsistencyResponse(
            unit_count=report.unit_count(ledger), lease_count=len(ledger.leases), revision=ledger.revision
        )
        try:
            async with self._reading_back:  # one at a time: commits go on between two of them
                mine = snapshot.take(ledger)
                kept = await self._engine.store.read_back()  # as all that was queued until now makes it
        except StoreDamaged as damage:
            differences.append(f"what is on disk cannot be read back: {damage}")
        else:
            response.compared_store = kept is not None
            differences += snapshot.differences(mine, snapshot.take(kept)) if kept is not None else []
        response.differences.extend(differences)
        return response
