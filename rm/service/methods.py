"""What can be asked of the daemon, through whichever door: each method of the contract, and what carries it out.

A door finds out who asks, hands the request over, and tells the answer or the refusal in its own way. No rules live
here: the engine has them.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from rm.core import limits
from rm.core.asks import check_range
from rm.core.claims import Asker, Wish
from rm.core.errors import InvalidRequest, Refusal, SessionUnknown
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, SiteName
from rm.service import convert, requests
from rm.service.engine import Engine
from rm.service.reads import Reads
from rm.service.sessions import Sessions
from rm.service.status import detail_of
from rm.service.views import Views
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

NOBODY = Asker(SessionId(""), Holder(0, -1, ""))  # who has no session, and may only read

Method = Callable[[Any, Asker], Awaitable[Any]]


class Methods:
    """The methods of the service but WatchEvents, which is not one answer: ``reads.watch``."""

    @classmethod
    def of(cls, engine: Engine, sessions: Sessions) -> "Methods":
        """The methods of this process."""
        views = Views(engine, sessions.connected)
        return cls(engine, views, Reads(engine, sessions, views, pid=os.getpid()))

    def __init__(self, engine: Engine, views: Views, reads: Reads) -> None:
        self.engine = engine
        self.reads = reads
        self._views = views
        self._changing: dict[str, Method] = {
            "Acquire": self._acquire,
            "Extend": self._extend,
            "GiveBack": self._give_back,
            "Release": self._release,
            "KeepAlive": self._keep_alive,
            "Revoke": self._revoke,
            "Reserve": self._reserve,
            "Unreserve": self._unreserve,
            "GateSites": self._gate_sites,
            "Batch": self._batch,
        }
        self.names = frozenset({*self._changing, *reads.table})

    def needs_session(self, name: str) -> bool:
        """Whether a method is for those only who have a session."""
        return name in self._changing

    async def carry_out(self, name: str, request: Any, asker: Asker) -> Any:  # noqa: ANN401 - one of many messages
        """The answer of the method ``name``, which leaves at once: all it has seen is safe.

        Raises:
            Refusal: why not; it has seen nothing that is not safe either.
        """
        method = self._changing.get(name)
        try:
            if method is None:
                return await self.reads.table[name](request, asker)
            if asker is NOBODY:
                raise SessionUnknown("there is no such session; open one on the session socket")
            return await method(request, asker)
        except Refusal as refusal:
            raise await self.engine.commits.told(refusal) from None

    async def _acquire(self, request: pb.AcquireRequest, asker: Asker) -> pb.AcquireResponse:
        wish = Wish(
            asker=asker,
            claims=convert.claims_from(request.claims),
            request_id=convert.request_id_from(request.request_id),
            fingerprint=requests.fingerprint(request),
            card=CardId(request.card) if request.card else None,
            ttl_ns=requests.ttl_ns(request),
            label=request.label,
        )
        lease = await self.engine.acquire(wish, wait_ns=convert.duration_ns(request.wait_duration))
        return pb.AcquireResponse(lease=self._views.lease(lease), revision=self._revision)

    async def _extend(self, request: pb.ExtendRequest, asker: Asker) -> pb.ExtendResponse:
        claims = convert.claims_from(request.claims)
        asked = requests.request_of(asker, request)
        lease = await self.engine.extend(LeaseId(request.lease_id), claims, asker, asked)
        return pb.ExtendResponse(lease=self._views.lease(lease), revision=self._revision)

    async def _give_back(self, request: pb.GiveBackRequest, asker: Asker) -> pb.GiveBackResponse:
        lease = await self.engine.give_back(
            LeaseId(request.lease_id),
            asker,
            requests.request_of(asker, request),
            pool=PoolName(request.pool),
            ids=convert.ids_from(request.ranges),
            at=tuple(SiteName(site) for site in request.sites),
            to_pool=request.to_pool,
        )
        message = self._views.lease(lease) if lease else types_pb2.Lease(id=request.lease_id)
        return pb.GiveBackResponse(lease=message, revision=self._revision)

    async def _release(self, request: pb.ReleaseRequest, asker: Asker) -> pb.ReleaseResponse:
        return await requests.release(self.engine, asker, request)

    async def _keep_alive(self, request: pb.KeepAliveRequest, asker: Asker) -> pb.KeepAliveResponse:
        return requests.keep_alive(self.engine, asker.session, request)

    async def _revoke(self, request: pb.RevokeRequest, asker: Asker) -> pb.RevokeResponse:
        notice_ns = limits.NOTICE_NS_DEFAULT
        if request.HasField("notice_duration"):
            notice_ns = convert.duration_ns(request.notice_duration)
        cause = request.cause or "revoked"
        revoked = await self.engine.revoke(LeaseId(request.lease_id), asker, cause, notice_ns=notice_ns)
        return pb.RevokeResponse(revoked=revoked, revision=self._revision)

    async def _reserve(self, request: pb.ReserveRequest, asker: Asker) -> pb.ReserveResponse:
        found, existed = self.engine.reservations.reserve(requests.reserve_wish(request, asker))
        message = convert.reservation_to(found, self.engine.ledger.cards[found.spec.card])
        return pb.ReserveResponse(reservation=message, existed=existed, revision=await self.engine.synced())

    async def _unreserve(self, request: pb.UnreserveRequest, asker: Asker) -> pb.UnreserveResponse:
        await self.engine.reservations.unreserve(request.name, asker)
        return pb.UnreserveResponse(revision=self._revision)

    async def _gate_sites(self, request: pb.GateSitesRequest, asker: Asker) -> pb.GateSitesResponse:
        card, sites = self.engine.ledger.card_named(request.card), [SiteName(site) for site in request.sites]
        await self.engine.reservations.gate(card.id, sites, asker)
        return pb.GateSitesResponse(revision=self._revision)

    # Several at once.

    async def _batch(self, request: pb.BatchRequest, asker: Asker) -> pb.BatchResponse:
        """Each task takes its first step, in which all is decided, in the order in which they are made."""
        check_range("operations in a batch", len(request.operations), limits.OPERATIONS_PER_BATCH_MAX)
        outcomes = await asyncio.gather(*(self._outcome(operation, asker) for operation in request.operations))
        return pb.BatchResponse(outcomes=outcomes, revision=self._revision)

    async def _outcome(self, operation: pb.Operation, asker: Asker) -> pb.Outcome:
        try:
            match operation.WhichOneof("kind"):
                case "acquire":
                    if operation.acquire.HasField("wait_duration"):
                        raise InvalidRequest("nothing waits in a batch: leave out the time to wait")
                    return pb.Outcome(acquire=await self._acquire(operation.acquire, asker))
                case "extend":
                    return pb.Outcome(extend=await self._extend(operation.extend, asker))
                case "give_back":
                    return pb.Outcome(give_back=await self._give_back(operation.give_back, asker))
                case "release":
                    return pb.Outcome(release=await self._release(operation.release, asker))
                case _:
                    raise InvalidRequest("an operation of a batch says nothing")
        except Refusal as refusal:
            return pb.Outcome(refusal=detail_of(await self.engine.commits.told(refusal)))

    @property
    def _revision(self) -> int:
        return self.engine.store.synced.revision
