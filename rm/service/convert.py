"""Between the contract and the core, both ways. What comes from outside is checked here for its form only."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rm.core import claims as core
from rm.core import limits
from rm.core.asks import check_range
from rm.core.card import Allotment, Card
from rm.core.errors import InvalidRequest
from rm.core.lease import Lease
from rm.core.pool import Pool
from rm.core.reservation import Reservation
from rm.core.types import NS_PER_S, Holder, PoolName, SiteName
from rm.service.event_log import Happening
from rmapi.v1 import types_pb2 as pb

# From the wire.


def claims_from(messages: Sequence[pb.Claim]) -> tuple[core.Claim, ...]:
    """The claims of a request.

    Raises:
        InvalidRequest: one of them says nothing, or what no claim may say.
    """
    check_range("claims in a request", len(messages), limits.CLAIMS_PER_REQUEST_MAX)
    return tuple(_claim_from(message) for message in messages)


def duration_ns(duration: Duration) -> int:
    """A duration in nanoseconds."""
    return duration.seconds * NS_PER_S + duration.nanos


def request_id_from(request_id: int) -> int:
    """The id of a request.

    Raises:
        InvalidRequest: it is none.
    """
    if request_id < 1:
        raise InvalidRequest(f"request ids count up from 1, {request_id} is none", request_id=request_id)
    return request_id


def ids_from(ranges: Iterable[pb.UnitRange]) -> list[int]:
    """Unit ids out of ranges of them.

    Raises:
        InvalidRequest: a range that is none, or too many ids.
    """
    ids: list[int] = []
    for one in ranges:
        if not 0 <= one.start < one.stop:
            raise InvalidRequest(f"[{one.start}, {one.stop}) is no range of units")
        check_range("ids", len(ids) + one.stop - one.start, limits.IDS_PER_CLAIM_MAX)  # before they are counted out
        ids.extend(range(one.start, one.stop))
    return ids


def _claim_from(message: pb.Claim) -> core.Claim:
    if message.WhichOneof("kind") != "first_of":
        return _plain_claim_from(message)
    alternatives = message.first_of.alternatives
    check_range("alternatives in a claim", len(alternatives), limits.ALTERNATIVES_PER_CLAIM_MAX)
    return core.FirstOf(tuple(_plain_claim_from(alternative) for alternative in alternatives))


def _plain_claim_from(message: pb.Claim) -> core.PlainClaim:
    check_range("sites in a claim", len(message.sites), limits.SITES_PER_CLAIM_MAX, least=0)
    pool, at = PoolName(message.pool), tuple(SiteName(site) for site in message.sites)
    match message.WhichOneof("kind"):
        case "units":
            return core.Units(pool, _count_from(message.units), at, message.reservation)
        case "run":
            run = message.run
            return core.Run(
                pool,
                unit_count=run.unit_count,
                size_bytes=run.size_bytes,
                align_count=run.align_count or 1,
                extent_count_max=run.extent_count_max or 1,
                at=at,
                reservation=message.reservation,
            )
        case "ids":
            check_range("ids in a claim", len(message.ids.ids), limits.IDS_PER_CLAIM_MAX)
            return core.Ids(pool, tuple(message.ids.ids), at, message.reservation)
        case "common":
            return core.Common(pool, at, message.reservation)
        case "whole":
            if at or not message.reservation:
                raise InvalidRequest("all of a pool is claimed from a reservation, and without sites", pool=pool)
            return core.Whole(pool, message.reservation)
        case "first_of":
            raise InvalidRequest("an alternative of a claim must not have alternatives itself")
        case _:
            raise InvalidRequest(f"a claim on pool {pool!r} does not say what it wishes", pool=pool)


def _count_from(units: pb.UnitsClaim) -> int | Fraction:
    if units.WhichOneof("amount") != "fraction":
        return units.unit_count
    part = units.fraction
    if not 1 <= part.numerator < part.denominator <= limits.SLICES_PER_UNIT_MAX:
        raise InvalidRequest(f"{part.numerator}/{part.denominator} is no fraction of a unit")
    return Fraction(part.numerator, part.denominator)


# To the wire.


def lease_to(lease: Lease, card: Card, *, used_bytes: int = 0) -> pb.Lease:
    """A lease as it is told to clients. Its parts are written in place: to make and copy them takes twice as long."""
    message = pb.Lease(
        id=lease.id,
        token=lease.token,
        card=lease.card,
        session_id=lease.session,
        label=lease.label,
        used_bytes=used_bytes,
    )
    for allotment in lease.allotments:
        _write_allotment(allotment, card, message.allotments.add())
    holder, granted = message.holder, message.grant_time
    holder.pid, holder.uid, holder.command = lease.holder.pid, lease.holder.uid, lease.holder.command
    granted.seconds, granted.nanos = divmod(lease.granted_wall_ns, NS_PER_S)
    if lease.ttl_ns is not None:
        ttl = message.ttl_duration
        ttl.seconds, ttl.nanos = divmod(lease.ttl_ns, NS_PER_S)
    return message


def allotment_to(allotment: Allotment, card: Card) -> pb.Allotment:
    """An allotment as it is told to clients."""
    message = pb.Allotment()
    _write_allotment(allotment, card, message)
    return message


def _write_allotment(allotment: Allotment, card: Card, message: pb.Allotment) -> None:
    spec, units = card.pools[allotment.pool].spec, allotment.units
    message.pool, message.slices_per_unit, message.unit_bytes = allotment.pool, spec.slices_per_unit, spec.unit_bytes
    if spec.sites:
        message.sites.extend(spec.sites[site] for site in units.sites)
    for runs in units.runs:
        ranges = message.units.add().ranges
        for run in runs:
            ranges.add(start=run.start, stop=run.stop)


def holder_to(holder: Holder) -> pb.Holder:
    """A holder as it is told to clients."""
    return pb.Holder(pid=holder.pid, uid=holder.uid, command=holder.command)


def card_to(card: Card, pools: list[pb.PoolStatus]) -> pb.Card:
    """A card as it is told to clients."""
    spec = card.spec
    return pb.Card(
        id=card.id,
        profile=spec.profile,
        pools=pools,
        core_cpus=spec.core_cpus,
        backend=spec.backend,
        gated_sites=card.gated_sites,
    )


def reservation_to(reservation: Reservation, card: Card, *, with_units: bool = False) -> pb.Reservation:
    """A reservation as it is told to clients."""
    spec = reservation.spec
    message = pb.Reservation(
        name=spec.name,
        content_hash=spec.content_hash,
        card=spec.card,
        owner_uid=-1 if spec.owner_uid is None else spec.owner_uid,
        shared=spec.is_shared,
    )
    for name, mine in reservation.units.items():
        pool = card.pools[name]
        message.pools.add(
            pool=name,
            unit_count=mine.count(),
            held_count=(mine.bits & pool.held.bits).count(),
            quarantined_count=(mine.bits & pool.quarantined.bits).count(),
            slices_per_unit=pool.spec.slices_per_unit,
            unit_bytes=pool.spec.unit_bytes,
        )
        if with_units:
            message.units.append(allotment_to(Allotment(name, mine.all_set()), card))
    return message


def pool_to(pool: Pool, *, waiter_count: int, used_bytes: int) -> pb.PoolStatus:
    """The counts of a pool as they are told to clients."""
    spec, counts = pool.spec, pool.counts()
    return pb.PoolStatus(
        name=spec.name,
        unit_count=spec.unit_count,
        site_count=spec.site_count,
        unit_bytes=spec.unit_bytes,
        slices_per_unit=spec.slices_per_unit,
        total_count=counts.total,
        free_count=counts.free,
        held_count=counts.held,
        reserved_count=counts.reserved,
        quarantined_count=counts.quarantined,
        largest_run_count=counts.largest_run,
        waiter_count=waiter_count,
        used_bytes=used_bytes,
    )


def bitmap_to(card: Card, pool: Pool, status: pb.PoolStatus) -> pb.PoolBitmap:
    """The bits of a pool as they are told to clients."""
    return pb.PoolBitmap(
        pool=status,
        card=card.id,
        held_bits=pool.held.bits.tobytes(),
        reserved_bits=pool.reserved.bits.tobytes(),
        quarantined_bits=pool.quarantined.bits.tobytes(),
        sites=pool.spec.sites,
        site_unit_counts=pool.spec.site_unit_counts,
    )


def event_to(happening: Happening) -> pb.Event:
    """An event as it is told to clients."""
    message = pb.Event(
        revision=happening.revision,
        kind=f"KIND_{happening.kind.upper()}",
        lease_id=happening.lease_id,
        card=happening.card,
        cause=happening.cause,
        text=happening.text,
        event_time=timestamp_to(happening.wall_ns),
    )
    if happening.holder is not None:
        message.holder.CopyFrom(holder_to(happening.holder))
    return message


def duration_to(ns: int) -> Duration:
    """Nanoseconds as a duration."""
    return Duration(seconds=ns // NS_PER_S, nanos=ns % NS_PER_S)


def timestamp_to(wall_ns: int) -> Timestamp:
    """Nanoseconds since 1970 as a timestamp."""
    return Timestamp(seconds=wall_ns // NS_PER_S, nanos=wall_ns % NS_PER_S)
