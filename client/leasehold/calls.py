"""Requests out of what users say. Shared by the blocking and the ``await`` client."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from leasehold.claims import Claim, Site, claims_to, site_text
from leasehold.errors import Invalid
from leasehold.quantity import parse_duration
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

REQUEST_BYTES_MAX = 1_000_000  # the daemon takes a little more
_SECONDS_MAX = 10**9


def wait_seconds(wait: str | float) -> float:
    """How long to queue for, in seconds.

    Raises:
        Invalid: it is no duration.
    """
    return _seconds(wait, "a wait")


def acquire_request(
    request_id: int,
    claims: Sequence[Claim],
    *,
    memory: str | int | None,
    counts: Mapping[str, float | None],
    card: str | None,
    priority: int,
    ttl: str | float | None,
    label: str,
    reservation: str = "",
    reserved_pools: Iterable[str] = (),
) -> pb.AcquireRequest:
    """The request to acquire, without its wait. ``ttl`` may be ``math.inf``: no keepalive is expected.

    What is given by keyword comes from ``reservation``; where nothing is, all that it has of ``reserved_pools``.

    Raises:
        Invalid: a value that no request can have.
    """
    if priority:
        raise Invalid(f"priorities are not served yet: leave out priority={priority}")
    request = pb.AcquireRequest(
        request_id=request_id,
        claims=claims_to(claims, memory, counts, _text(reservation, "a reservation", least=0), reserved_pools),
        card="" if card is None else _text(card, "a card"),
        label=_text(label, "a label", least=0),
    )
    if ttl is not None:
        request.ttl_duration.CopyFrom(_duration(0 if ttl == math.inf else _ttl_seconds(ttl)))
    return request


def extend_request(
    request_id: int,
    lease_id: str,
    claims: Sequence[Claim],
    memory: str | int | None,
    counts: Mapping[str, float | None],
) -> pb.ExtendRequest:
    """The request to extend a lease."""
    return pb.ExtendRequest(request_id=request_id, lease_id=lease_id, claims=claims_to(claims, memory, counts))


def give_back_request(
    request_id: int, lease_id: str, pool: str, ids: Sequence[int], at: Sequence[Site], *, to_pool: bool
) -> pb.GiveBackRequest:
    """The request to give back units.

    Raises:
        Invalid: an id that none can be.
    """
    request = pb.GiveBackRequest(request_id=request_id, lease_id=lease_id, pool=pool, to_pool=to_pool)
    request.sites.extend(site_text(site) for site in at)
    for unit in sorted(set(ids)):
        if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < 1 << 62:
            raise Invalid(f"{unit!r} is no unit of pool {pool}")
        if request.ranges and request.ranges[-1].stop == unit:
            request.ranges[-1].stop += 1
        else:
            request.ranges.append(types_pb2.UnitRange(start=unit, stop=unit + 1))
    return request


def revoke_request(lease_id: str, notice: str | float, why: str) -> pb.RevokeRequest:
    """The request to revoke a lease.

    Raises:
        Invalid: a notice that none can be.
    """
    notice_duration = _duration(_seconds(notice, "a notice"))
    return pb.RevokeRequest(lease_id=lease_id, notice_duration=notice_duration, cause=_text(why, "a cause"))


def reserve_request(
    name: str,
    claims: Sequence[Claim],
    *,
    memory: str | int | None,
    counts: Mapping[str, float | None],
    content_hash: str,
    card: str | None,
    profile: str,
    shared: bool,
    replace: bool,
) -> pb.ReserveRequest:
    """The request to set units aside.

    Raises:
        Invalid: a value that no request can have.
    """
    return pb.ReserveRequest(
        name=_text(name, "a reservation"),
        claims=claims_to(claims, memory, counts),
        content_hash=_text(content_hash, "a content hash", least=0),
        card="" if card is None else _text(card, "a card"),
        profile=_text(profile, "a profile", least=0),
        shared=shared,
        replace=replace,
    )


def whole_pools(found: Sequence[types_pb2.Reservation], key: str, card: str | None) -> list[str]:
    """The pools of a reservation that is to be claimed whole, which the daemon will choose as this does.

    It is this user's own rather than another's, and of the name ``key`` rather than of that content hash.
    """
    uid = os.geteuid()
    here = [one for one in found if card in {None, one.card}]
    if not here:
        return []
    chosen = min(here, key=lambda one: (one.owner_uid != uid, not (one.shared or one.owner_uid < 0), one.name != key))
    return [pool.pool for pool in chosen.pools if pool.unit_count]


def is_whole(
    reservation: str, claims: Sequence[Claim], memory: str | int | None, counts: Mapping[str, float | None]
) -> bool:
    """Whether a request names a reservation and nothing else: it then wants all of it.

    Raises:
        Invalid: the reservation is named by no text.
    """
    is_named = bool(_text(reservation, "a reservation", least=0))
    return is_named and not claims and memory is None and all(count is None for count in counts.values())


def explain_request(
    claims: Sequence[Claim], *, memory: str | int | None, counts: Mapping[str, float | None], card: str | None
) -> pb.ExplainRequest:
    """The request to explain."""
    named = "" if card is None else _text(card, "a card")
    return pb.ExplainRequest(claims=claims_to(claims, memory, counts), card=named)


def check_size(request: Message) -> None:
    """Refuses a request that the daemon would not even read.

    Raises:
        Invalid: it is too large.
    """
    if request.ByteSize() > REQUEST_BYTES_MAX:
        raise Invalid(f"the request has {request.ByteSize()} bytes, {REQUEST_BYTES_MAX} are possible")


def set_wait(request: pb.AcquireRequest, wait_s: float) -> None:
    """Says how long to queue for from now on: something, where it is asked again after its time."""
    request.wait_duration.CopyFrom(_duration(max(wait_s, 0.001)))


def _text(value: str, what: str, least: int = 1) -> str:
    if not isinstance(value, str) or len(value) < least:
        raise Invalid(f"{what} is named by a text, not {value!r}")
    return value


def _ttl_seconds(ttl: str | float) -> float:
    seconds = _seconds(ttl, "a ttl")
    if seconds == 0:
        raise Invalid("a ttl of 0 s would never hold; use math.inf for a lease without a keepalive")
    return seconds


def _seconds(value: str | float, what: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as fault:
        raise Invalid(f"{what}: {fault}") from fault
    if seconds > _SECONDS_MAX:
        raise Invalid(f"{what} of {seconds:g} s is too long")
    return seconds


def _duration(seconds: float) -> Duration:
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
