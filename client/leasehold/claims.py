"""What can be asked for: five kinds of claim, freely mixed in one request."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from leasehold.errors import Invalid
from leasehold.quantity import parse_size
from rmapi.v1 import types_pb2 as pb

# A site: a tile as (column, row, module), or its name.
Site = str | tuple[int | str, ...]

_INT64_MAX = (1 << 63) - 1
_DENOMINATOR_MAX = 1024


@dataclass(frozen=True, slots=True)
class Units:
    """Any ``count`` units at every site of ``at``, lowest ids first; a fraction below one where the pool has slices."""

    pool: str
    count: float = 1
    at: Sequence[Site] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Units in a row, first fit: ``count`` of them, or ``size`` (``"512MiB"`` or bytes) where units have bytes.

    The first unit is a multiple of ``align``. It may come in up to ``max_extents`` pieces. It never crosses a site's
    border.
    """

    pool: str
    count: int = 0
    align: int = 1
    at: Sequence[Site] = ()
    reservation: str = ""
    size: str | int = 0
    max_extents: int = 1


@dataclass(frozen=True, slots=True)
class Ids:
    """Exactly these units, at every site of ``at``."""

    pool: str
    ids: Sequence[int]
    at: Sequence[Site] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Common:
    """One unit whose id is free at every site of ``at`` (none means all of the pool's)."""

    pool: str
    at: Sequence[Site] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True, init=False)
class FirstOf:
    """Ordered alternatives: the first that fits together with the rest of the request."""

    alternatives: "tuple[Units | Run | Ids | Common, ...]"

    def __init__(self, *alternatives: "Units | Run | Ids | Common") -> None:
        object.__setattr__(self, "alternatives", alternatives)


Claim = Units | Run | Ids | Common | FirstOf


def claims_to(
    claims: Iterable[Claim],
    memory: str | int | None,
    counts: Mapping[str, float | None],
    reservation: str = "",
    reserved_pools: Iterable[str] = (),
) -> list[pb.Claim]:
    """The claims of a request as they are sent: those given in full, then memory, then counts by pool.

    Memory and counts come from ``reservation`` where there is one; where nothing else is claimed, all that it has of
    ``reserved_pools`` is.

    Raises:
        Invalid: a value that no claim can have; a reservation from which nothing is to come.
    """
    messages = [_claim_to(claim) for claim in claims]
    if messages and reservation and memory is None and all(count is None for count in counts.values()):
        raise Invalid(f"nothing comes from reservation {reservation!r}: name it in the claims, or leave them out")
    if memory is not None:
        messages.append(_claim_to(Run("memory", size=memory, reservation=reservation)))
    for pool, count in counts.items():
        if count is not None:
            messages.append(_claim_to(Units(pool, count, reservation=reservation)))
    if not messages and reservation:
        messages = [pb.Claim(pool=pool, reservation=reservation, whole=pb.WholeClaim()) for pool in reserved_pools]
        if not messages:
            raise Invalid(f"there is no reservation {reservation!r} with units left")
    if not messages:
        raise Invalid("nothing is claimed; name memory, cores, streams or a claim")
    return messages


def site_text(site: Site) -> str:
    """A site as the daemon names it: ``(3, 1, "core")`` is ``3,1,core``."""
    return site if isinstance(site, str) else ",".join(str(part) for part in site)


def site_from(text: str) -> Site:
    """A site as it was asked for: a tuple where its name has commas."""
    if "," not in text:
        return text
    return tuple(int(part) if part.lstrip("-").isdigit() else part for part in text.split(","))


def _claim_to(claim: Claim) -> pb.Claim:
    if isinstance(claim, FirstOf):
        alternatives = [_claim_to(alternative) for alternative in claim.alternatives]
        return pb.Claim(first_of=pb.FirstOfClaim(alternatives=alternatives))
    if not isinstance(claim, Units | Run | Ids | Common):
        raise Invalid(f"{claim!r} is no claim; use Units, Run, Ids, Common or FirstOf")
    if not isinstance(claim.pool, str) or not isinstance(claim.reservation, str):
        raise Invalid(f"a pool and a reservation are named by texts, not {claim.pool!r} and {claim.reservation!r}")
    message = pb.Claim(pool=claim.pool, sites=[site_text(site) for site in claim.at], reservation=claim.reservation)
    match claim:
        case Units():
            message.units.CopyFrom(_units_to(claim))
        case Run():
            message.run.CopyFrom(_run_to(claim))
        case Ids():
            message.ids.SetInParent()
            message.ids.ids.extend(_whole(unit, f"an id of pool {claim.pool}") for unit in claim.ids)
        case Common():
            message.common.SetInParent()
    return message


def _units_to(claim: Units) -> pb.UnitsClaim:
    is_number = isinstance(claim.count, int | float | Fraction) and not isinstance(claim.count, bool)
    if not is_number or not math.isfinite(claim.count):
        raise Invalid(f"a count of pool {claim.pool} must be a number, not {claim.count!r}")
    if claim.count == claim.count // 1:
        return pb.UnitsClaim(unit_count=_whole(int(claim.count), f"a count of pool {claim.pool}"))
    part = Fraction(claim.count).limit_denominator(_DENOMINATOR_MAX)
    if not 0 < part < 1:
        raise Invalid(f"a count of pool {claim.pool} must be whole, or a fraction of one unit, not {claim.count}")
    return pb.UnitsClaim(fraction=pb.Fraction(numerator=part.numerator, denominator=part.denominator))


def _run_to(claim: Run) -> pb.RunClaim:
    what = f"pool {claim.pool}"
    message = pb.RunClaim(
        align_count=_whole(claim.align, f"an alignment in {what}", least=1),
        extent_count_max=min(_whole(claim.max_extents, f"extents in {what}", least=1), (1 << 31) - 1),
    )
    if claim.size != 0:
        try:
            message.size_bytes = parse_size(claim.size)
        except ValueError as fault:
            raise Invalid(f"{what}: {fault}") from fault
    else:
        message.unit_count = _whole(claim.count, f"a count of {what}")
    return message


def _whole(value: int, what: str, least: int = -_INT64_MAX - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{what} must be a whole number, not {value!r}")
    if not least <= value <= _INT64_MAX:
        raise Invalid(f"{what} must be from {max(least, 0)} to 2^63 - 1, not {value}")
    return value
