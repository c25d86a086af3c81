"""Grants that nobody claims: their answer was lost, and no keepalive of their session names them.

A keepalive carries every lease that its client believes in. So a lease that is left out of them for two periods came to
nobody, and is to be given back. A retry of the lost call comes within a second and finds the lease; it starts anew here.
"""

from collections.abc import Collection, Iterable

from rm.core import limits
from rm.core.lease import Lease
from rm.core.types import LeaseId

PERIODS_PER_TTL = 3  # a keepalive comes every third of a ttl
PERIODS_UNCLAIMED = 2


class Unclaimed:
    """When each lease was first left out of a keepalive of its session."""

    __slots__ = ("_since_ns",)

    def __init__(self) -> None:
        self._since_ns: dict[LeaseId, int] = {}

    def heard(self, leases: Iterable[Lease], named: Collection[LeaseId], *, now_ns: int) -> list[Lease]:
        """Takes note of a keepalive that named ``named`` of its session's ``leases``; answers those nobody claims."""
        given_up = []
        for lease in leases:
            if lease.id in named:
                self._since_ns.pop(lease.id, None)
            elif now_ns - self._since_ns.setdefault(lease.id, now_ns) >= patience_ns(lease):
                given_up.append(lease)
        return given_up

    def forget(self, lease_id: LeaseId) -> None:
        """Begins anew with a lease that was asked for again, or is done with one that has ended."""
        self._since_ns.pop(lease_id, None)


def patience_ns(lease: Lease) -> int:
    """How long a lease may be left out: two periods of its keepalive, and long enough for a retry."""
    ttl_ns = limits.TTL_NS_DEFAULT if lease.ttl_ns is None else lease.ttl_ns
    return max(ttl_ns * PERIODS_UNCLAIMED // PERIODS_PER_TTL, limits.UNCLAIMED_NS_MIN)
