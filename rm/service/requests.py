"""What requests mean to the engine, and the two that the session socket has always carried."""

import hashlib
from typing import cast

from rm.core import limits
from rm.core.claims import Asker
from rm.core.errors import InvalidRequest
from rm.core.events import Request
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, LeaseId, SessionId
from rm.service import convert
from rm.service.engine import Engine
from rmapi.v1 import resource_manager_pb2 as pb


async def release(engine: Engine, asker: Asker, request: pb.ReleaseRequest) -> pb.ReleaseResponse:
    """Ends a lease politely, or whatever a request got.

    Raises:
        Refusal: as ``Engine.release`` and ``Engine.forgo``.
    """
    match request.WhichOneof("target"):
        case "lease_id":
            released = await engine.release(LeaseId(request.lease_id), asker, to_pool=request.to_pool)
        case "request_id":
            released = await engine.forgo(asker.session, convert.request_id_from(request.request_id))
        case _:
            raise InvalidRequest("a release names a lease or a request")
    return pb.ReleaseResponse(released=released, revision=engine.store.synced.revision)


def keep_alive(engine: Engine, session: SessionId, request: pb.KeepAliveRequest) -> pb.KeepAliveResponse:
    """Renews leases. Waits for nothing.

    Raises:
        Refusal: as ``Engine.keep_alive``.
    """
    lost = engine.keep_alive(session, cast(list[LeaseId], list(request.lease_ids)))
    return pb.KeepAliveResponse(lost_lease_ids=lost, revision=engine.store.synced.revision)


def reserve_wish(request: pb.ReserveRequest, asker: Asker) -> ReserveWish:
    """What a request to reserve wishes. Without a content hash its name and claims stand for themselves.

    Raises:
        InvalidRequest: a claim that says nothing, or what no claim may say.
    """
    bare = pb.ReserveRequest(name=request.name, claims=request.claims, card=request.card, profile=request.profile)
    digest = hashlib.blake2b(bare.SerializeToString(deterministic=True), digest_size=16).hexdigest()
    return ReserveWish(
        name=request.name,
        claims=convert.claims_from(request.claims),
        asker=asker,
        content_hash=request.content_hash or f"claims:{digest}",
        card=CardId(request.card) if request.card else None,
        profile=request.profile,
        is_shared=request.shared,
        replaces=request.replace,
    )


def request_of(asker: Asker, message: pb.ExtendRequest | pb.GiveBackRequest) -> Request:
    """A request that changes a lease, as it is remembered.

    Raises:
        InvalidRequest: its id is none.
    """
    return Request(asker.session, convert.request_id_from(message.request_id), fingerprint(message))


def fingerprint(message: pb.AcquireRequest | pb.ExtendRequest | pb.GiveBackRequest) -> bytes:
    """Stands for the parameters of a request, but for how long it waits: a client that asks again waits less."""
    if isinstance(message, pb.AcquireRequest) and message.HasField("wait_duration"):
        bare = pb.AcquireRequest()
        bare.CopyFrom(message)
        bare.ClearField("wait_duration")
        message = bare
    return hashlib.blake2b(message.SerializeToString(deterministic=True), digest_size=16).digest()


def ttl_ns(request: pb.AcquireRequest) -> int | None:
    """The ttl that a request asks for; None where no keepalive is expected."""
    if not request.HasField("ttl_duration"):
        return limits.TTL_NS_DEFAULT
    return convert.duration_ns(request.ttl_duration) or None
