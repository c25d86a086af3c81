"""The gRPC door: each method checks who calls, asks the engine, and converts. No rules live here."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from importlib.metadata import version
from itertools import islice
from typing import Any, NoReturn, TypeVar

import grpc
import structlog

from rm.core import limits, report, snapshot
from rm.core.asks import check_range
from rm.core.claims import Asker, Wish, pools_of
from rm.core.errors import InvalidRequest, LeaseNotFound, Refusal, SessionUnknown
from rm.core.events import Request
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, SiteName
from rm.service import convert, requests
from rm.service.engine import Engine
from rm.service.event_log import Watcher
from rm.service.sessions import Sessions
from rm.service.status import ERROR_TRAILER, code_of, detail_of, text_of
from rm.service.views import Views
from rm.store.damage import StoreDamaged
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc
from rmapi.v1 import types_pb2

SESSION_ID_KEY = "rmapi-session-id"
SESSION_SECRET_KEY = "rmapi-session-secret"
_NOBODY = Asker(SessionId(""), Holder(0, -1, ""))

Context = grpc.aio.ServicerContext[Any, Any]
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
Method = Callable[[Any, RequestT, Context], Awaitable[ResponseT]]
_log = structlog.get_logger(__name__)


def _refusals_told(method: Method[RequestT, ResponseT]) -> Method[RequestT, ResponseT]:
    """Round every method: a refusal becomes its status, a fault of our own becomes INTERNAL without a traceback."""

    @wraps(method)
    async def told(self: "Servicer", request: RequestT, context: Context) -> ResponseT:
        try:
            return await method(self, request, context)
        except Refusal as refusal:
            await _abort(context, await self.engine.commits.told(refusal))
        except Exception as fault:
            _log.exception("fault of our own", method=method.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, f"the daemon made a mistake: {type(fault).__name__}")
        raise AssertionError("abort raises")

    return told


def _reads(build: Callable[[Any, RequestT, Context], Any]) -> Method[RequestT, Any]:
    """Round methods that only read: an answer is put together in one turn, and leaves once all it has seen is safe."""

    @wraps(build)
    async def read(self: "Servicer", request: RequestT, context: Context) -> Any:  # noqa: ANN401 - one of many messages
        response = build(self, request, context)
        response.revision = await self.engine.synced()
        return response

    return _refusals_told(read)


async def _abort(context: Context, refusal: Refusal) -> NoReturn:
    trailer = ((ERROR_TRAILER, detail_of(refusal).SerializeToString()),)
    await context.abort(code_of(refusal), text_of(refusal), trailer)
    raise AssertionError("abort raises")


class Servicer(pb_grpc.ResourceManagerServiceServicer):
    """The service. ``is_connected`` tells whether a session's process can be reached."""

    def __init__(
        self, engine: Engine, sessions: Sessions, *, is_connected: Callable[[SessionId], bool], pid: int
    ) -> None:
        self.engine = engine
        self._sessions = sessions
        self._views = Views(engine, is_connected)
        self._pid = pid
        self._started_ns = engine.clock.monotonic_ns()
        self._reading_back = asyncio.Lock()

    # What changes something.

    @_refusals_told
    async def Acquire(self, request: pb.AcquireRequest, context: Context) -> pb.AcquireResponse:
        """Grants every claim of the request, or none of them."""
        wish = Wish(
            asker=self._asker(context),
            claims=convert.claims_from(request.claims),
            request_id=convert.request_id_from(request.request_id),
            fingerprint=_fingerprint(request),
            card=CardId(request.card) if request.card else None,
            ttl_ns=_ttl_ns(request),
            label=request.label,
        )
        lease = await self.engine.acquire(wish, wait_ns=convert.duration_ns(request.wait_duration))
        return pb.AcquireResponse(lease=self._views.lease(lease), revision=self.engine.store.synced.revision)

    @_refusals_told
    async def Extend(self, request: pb.ExtendRequest, context: Context) -> pb.ExtendResponse:
        """Adds claims to a live lease."""
        asker = self._asker(context)
        lease = await self.engine.extend(
            LeaseId(request.lease_id), convert.claims_from(request.claims), asker, _request(asker, request)
        )
        return pb.ExtendResponse(lease=self._views.lease(lease), revision=self.engine.store.synced.revision)

    @_refusals_told
    async def GiveBack(self, request: pb.GiveBackRequest, context: Context) -> pb.GiveBackResponse:
        """Gives back some units of a lease."""
        asker = self._asker(context)
        lease = await self.engine.give_back(
            LeaseId(request.lease_id),
            asker,
            _request(asker, request),
            pool=PoolName(request.pool),
            ids=convert.ids_from(request.ranges),
            at=tuple(SiteName(site) for site in request.sites),
            to_pool=request.to_pool,
        )
        message = self._views.lease(lease) if lease else types_pb2.Lease(id=request.lease_id)
        return pb.GiveBackResponse(lease=message, revision=self.engine.store.synced.revision)

    @_refusals_told
    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """Ends a lease politely."""
        return await requests.release(self.engine, self._asker(context), request)

    @_refusals_told
    async def KeepAlive(self, request: pb.KeepAliveRequest, context: Context) -> pb.KeepAliveResponse:
        """Renews leases."""
        return requests.keep_alive(self.engine, self._asker(context).session, request)

    @_refusals_told
    async def Revoke(self, request: pb.RevokeRequest, context: Context) -> pb.RevokeResponse:
        """Has an admin end somebody's lease."""
        asker, cause = self._asker(context), request.cause or "revoked"
        notice_ns = limits.NOTICE_NS_DEFAULT
        if request.HasField("notice_duration"):
            notice_ns = convert.duration_ns(request.notice_duration)
        revoked = await self.engine.revoke(LeaseId(request.lease_id), asker, cause, notice_ns=notice_ns)
        return pb.RevokeResponse(revoked=revoked, revision=self.engine.store.synced.revision)

    @_refusals_told
    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> pb.ReserveResponse:
        """Sets units aside under a name."""
        asker = self._asker(context)
        found, existed = self.engine.reservations.reserve(requests.reserve_wish(request, asker))
        message = convert.reservation_to(found, self.engine.ledger.cards[found.spec.card])
        return pb.ReserveResponse(reservation=message, existed=existed, revision=await self.engine.synced())

    @_refusals_told
    async def Unreserve(self, request: pb.UnreserveRequest, context: Context) -> pb.UnreserveResponse:
        """Takes a reservation away."""
        await self.engine.reservations.unreserve(request.name, self._asker(context))
        return pb.UnreserveResponse(revision=self.engine.store.synced.revision)

    @_refusals_told
    async def GateSites(self, request: pb.GateSitesRequest, context: Context) -> pb.GateSitesResponse:
        """Says which sites have their clock off."""
        asker, card = self._asker(context), self._views.card_named(request.card)
        await self.engine.reservations.gate(card.id, [SiteName(site) for site in request.sites], asker)
        return pb.GateSitesResponse(revision=self.engine.store.synced.revision)

    # What only reads.

    @_reads
    def GetLease(self, request: pb.GetLeaseRequest, context: Context) -> pb.GetLeaseResponse:
        """Returns one live lease."""
        lease = self.engine.ledger.leases.get(LeaseId(request.lease_id))
        if lease is None:
            raise LeaseNotFound(f"there is no live lease {request.lease_id!r}", lease=request.lease_id)
        return pb.GetLeaseResponse(lease=self._views.lease(lease, with_use=True))

    @_reads
    def ListLeases(self, request: pb.ListLeasesRequest, context: Context) -> pb.ListLeasesResponse:
        """Lists live leases, oldest first, in pages."""
        size = request.page_size or limits.LEASES_PER_PAGE_MAX
        check_range("leases in a page", size, limits.LEASES_PER_PAGE_MAX)
        token = request.page_token
        if token and not (token.isascii() and token.isdigit() and len(token) < 20):
            raise InvalidRequest(f"{token!r} is no page token")
        after = int(token or 0)
        leases = self.engine.ledger.leases.values()  # in the order of their tokens, as they were granted
        wanted = (
            lease for lease in leases if lease.token > after and (not request.pool or request.pool in lease.pools)
        )
        page = list(islice(wanted, size + 1))
        response = pb.ListLeasesResponse()
        response.leases.extend(self._views.lease(lease, with_use=True) for lease in page[:size])
        if len(page) > size:
            response.next_page_token = str(page[size - 1].token)
        return response

    @_reads
    def ListCards(self, request: pb.ListCardsRequest, context: Context) -> pb.ListCardsResponse:
        """Lists the cards with the state of their pools."""
        cards = [self._views.card(card) for card in self.engine.ledger.cards.values()]
        return pb.ListCardsResponse(cards=cards)

    @_reads
    def GetBitmap(self, request: pb.GetBitmapRequest, context: Context) -> pb.GetBitmapResponse:
        """Returns the bitmaps of one pool."""
        card = self._views.card_named(request.card)
        return pb.GetBitmapResponse(bitmap=self._views.bitmap(card, PoolName(request.pool)))

    @_reads
    def ListReservations(self, request: pb.ListReservationsRequest, context: Context) -> pb.ListReservationsResponse:
        """Lists reservations."""
        return pb.ListReservationsResponse(reservations=self._views.reservations(request))

    @_reads
    def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:
        """Returns what an operator wants to know at a glance."""
        durability = pb.GetStatusResponse.Durability
        is_durable = self.engine.store.is_durable
        uptime_ns = self.engine.clock.monotonic_ns() - self._started_ns
        return pb.GetStatusResponse(
            version=version("leasehold"),
            durability=durability.DURABILITY_FULL if is_durable else durability.DURABILITY_NONE,
            session_count=len(self._sessions),
            lease_count=len(self.engine.ledger.leases),
            waiter_count=len(self.engine.waitlist),
            uptime_duration=convert.duration_to(uptime_ns),
            pid=self._pid,
            warnings=self._views.warnings(),
            epoch=self.engine.ledger.epoch,
        )

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Streams what happens to leases."""
        watcher: Watcher | None = None
        try:
            check_range("past events", request.past_count, limits.EVENTS_REMEMBERED, least=0)
            watcher = self.engine.log.watch()
            past = self.engine.log.past(request.past_count)
            for happening in past:
                yield pb.WatchEventsResponse(event=convert.event_to(happening))
            while request.follow:
                happening = await watcher.next()
                yield pb.WatchEventsResponse(event=convert.event_to(happening))
        except Refusal as refusal:
            await _abort(context, refusal)
        finally:
            if watcher is not None:
                self.engine.log.unwatch(watcher)

    @_reads
    def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Says what would happen to a request now."""
        ledger = self.engine.ledger
        card = CardId(request.card) if request.card else None
        asker = self._asker(context, may_be_nobody=True)
        wish = Wish(asker, convert.claims_from(request.claims), card=card)
        outcome, waiter_count = self._explain(wish)
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

    @_refusals_told
    async def CheckConsistency(
        self, request: pb.CheckConsistencyRequest, context: Context
    ) -> pb.CheckConsistencyResponse:
        """Compares the bitmaps with the leases, and both with what is on disk."""
        ledger = self.engine.ledger
        differences = report.differences(ledger)
        response = pb.CheckConsistencyResponse(
            unit_count=report.unit_count(ledger), lease_count=len(ledger.leases), revision=ledger.revision
        )
        try:
            async with self._reading_back:  # one at a time: commits go on between two of them
                mine = snapshot.take(ledger)
                kept = await self.engine.store.read_back()  # as all that was queued until now makes it
        except StoreDamaged as damage:
            differences.append(f"what is on disk cannot be read back: {damage}")
        else:
            response.compared_store = kept is not None
            differences += snapshot.differences(mine, snapshot.take(kept)) if kept is not None else []
        response.differences.extend(differences)
        return response

    # What the methods share.

    def _explain(self, wish: Wish) -> tuple[report.Explanation, int]:
        """What would happen to ``wish``, and how many would go first; on a card where nobody waits, nobody would."""
        ledger, waitlist, pools = self.engine.ledger, self.engine.waitlist, pools_of(wish.claims)
        cards = tuple(card for card in ledger.cards if wish.card in {None, card})
        if open_cards := waitlist.open_cards(cards, pools):
            outcome = report.explain(ledger, wish, cards=open_cards)
            if outcome.refusal is None:
                return outcome, 0
        waiter_count = max((waitlist.count((card, pool)) for card in cards for pool in pools), default=0)
        return report.explain(ledger, wish), waiter_count

    def _asker(self, context: Context, *, may_be_nobody: bool = False) -> Asker:
        metadata = dict(context.invocation_metadata() or ())
        session_id, secret = metadata.get(SESSION_ID_KEY, ""), metadata.get(SESSION_SECRET_KEY, "")
        if may_be_nobody and not session_id:
            return _NOBODY
        if not isinstance(session_id, str) or not isinstance(secret, str):
            raise SessionUnknown("the session's id and secret must be text")
        return self._sessions.asker(self._sessions.authenticate(session_id, secret))


def _request(asker: Asker, message: pb.ExtendRequest | pb.GiveBackRequest) -> Request:
    return Request(asker.session, convert.request_id_from(message.request_id), _fingerprint(message))


def _fingerprint(message: pb.AcquireRequest | pb.ExtendRequest | pb.GiveBackRequest) -> bytes:
    """Stands for the parameters of a request, but for how long it waits: a client that asks again waits less."""
    if isinstance(message, pb.AcquireRequest) and message.HasField("wait_duration"):
        bare = pb.AcquireRequest()
        bare.CopyFrom(message)
        bare.ClearField("wait_duration")
        message = bare
    return hashlib.blake2b(message.SerializeToString(deterministic=True), digest_size=16).digest()


def _ttl_ns(request: pb.AcquireRequest) -> int | None:
    if not request.HasField("ttl_duration"):
        return limits.TTL_NS_DEFAULT
    return convert.duration_ns(request.ttl_duration) or None
