"""What a request may wish for: six kinds of claim, and the wish that carries them."""

from dataclasses import dataclass
from fractions import Fraction

from rm.core.types import CardId, Holder, PoolName, SessionId, SiteName


@dataclass(frozen=True, slots=True)
class Units:
    """Any ``count`` units at every site of ``at``, lowest ids first; a fraction below one where the pool has slices."""

    pool: PoolName
    count: int | Fraction
    at: tuple[SiteName, ...] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Units in a row at every site of ``at``, first fit by address; never across a site's border.

    Either ``unit_count`` or ``size_bytes`` is given. It may come in up to ``extent_count_max`` pieces.
    """

    pool: PoolName
    unit_count: int = 0
    size_bytes: int = 0
    align_count: int = 1
    extent_count_max: int = 1
    at: tuple[SiteName, ...] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Ids:
    """Exactly these units, at every site of ``at``. Takes reserved units too, from those who may."""

    pool: PoolName
    ids: tuple[int, ...]
    at: tuple[SiteName, ...] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Common:
    """One unit whose id is free at every site of ``at`` (none means all), lowest id first."""

    pool: PoolName
    at: tuple[SiteName, ...] = ()
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Whole:
    """All units of a pool that a reservation names: what was compiled, as it was compiled."""

    pool: PoolName
    reservation: str


PlainClaim = Units | Run | Ids | Common | Whole


@dataclass(frozen=True, slots=True)
class FirstOf:
    """Ordered alternatives: the first that fits together with the rest of the request."""

    alternatives: tuple[PlainClaim, ...]


Claim = PlainClaim | FirstOf


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks. ``is_admin`` lifts the checks of reservations, never those of leases.

    ``needs_reserved`` is the strict rule: who claims by id must name units that are reserved.
    """

    session: SessionId
    holder: Holder
    is_admin: bool = False
    needs_reserved: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """A request to acquire. ``request_id`` counts up within the session; 0 is not remembered.

    ``fingerprint`` stands for the parameters, so that the same id with other parameters is refused. ``ttl_ns`` None
    means that no keepalive is expected. ``card`` None means the first that fits.
    """

    asker: Asker
    claims: tuple[Claim, ...]
    request_id: int = 0
    fingerprint: bytes = b""
    card: CardId | None = None
    ttl_ns: int | None = None
    label: str = ""


def pools_of(claims: tuple[Claim, ...]) -> frozenset[PoolName]:
    """Every pool that one of ``claims`` may take units from."""
    plain = [alternative for claim in claims for alternative in alternatives_of(claim)]
    return frozenset(claim.pool for claim in plain)


def alternatives_of(claim: Claim) -> tuple[PlainClaim, ...]:
    """The ways in which ``claim`` can be met, the best liked first."""
    return claim.alternatives if isinstance(claim, FirstOf) else (claim,)
