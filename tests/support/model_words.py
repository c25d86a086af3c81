"""The words of the model: spots, parts, refusals, and what a lease and a reservation are there."""

from dataclasses import dataclass, field

from rm.core.pool import PoolSpec
from support.books import Spots

Spot = tuple[str, str, int, int]
Part = tuple[str, Spots]

INVALID, EXHAUSTED, HELD, NOT_OWNER = "INVALID_REQUEST", "POOL_EXHAUSTED", "UNIT_HELD", "NOT_OWNER"
NOT_FOUND, GONE = "LEASE_NOT_FOUND", "LEASE_GONE"
MODES = "vnpu"  # the pool whose sites are modes: no two of them at a time


class Refused(Exception):
    """What the model answers where the ledger must refuse; holds the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class ModelLease:
    session: str
    card: str
    parts: list[Part]
    ttl_ns: int | None
    deadline_ns: int | None


@dataclass
class ModelReservation:
    """``made`` are the spots that it was made of, some of which it may have lost to the pool."""

    card: str
    content_hash: str
    owner_uid: int | None
    is_shared: bool = False
    made: set[Spot] = field(default_factory=set)


def units_at(spec: PoolSpec, site: int) -> int:
    return spec.site_unit_counts[site] if spec.site_unit_counts else spec.unit_count


def sites_of(spec: PoolSpec, names: list[str]) -> list[int]:
    if not names and len(spec.sites) <= 1:
        return [0]
    if not names or any(name not in spec.sites for name in names):
        raise Refused(INVALID)
    return [spec.sites.index(name) for name in names]
