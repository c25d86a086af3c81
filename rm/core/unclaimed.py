"""Grants that nobody claims: their answer was lost, and no keepalive of their session names them.

A keepalive carries every lease that its client believes in. So a lease that is left out of them for two periods came
to nobody, and is to be given back. A retry of the lost call comes within a second, finds the lease, and starts anew.
"""

from collections.abc import Collection, Iterable

from rm.core import limits
from rm.core.lease import Lease
from rm.core.types import LeaseId, SessionId

PERIODS_PER_TTL = 3  # a keepalive comes every third of a ttl
PERIODS_UNCLAIMED = 2


class Unclaimed:
    """Since when each lease was left out of the keepalives of its session."""

    __slots__ = ("_looked_ns", "_since_ns")

    def __init__(self) -> None:
        self._since_ns: dict[SessionId, dict[LeaseId, int]] = {}
        self._looked_ns: dict[SessionId, int] = {}

    def named(self, session: SessionId, lease_ids: Iterable[LeaseId]) -> None:
        """Takes note of leases that a keepalive named: none of them is left out any more."""
        known = self._since_ns.get(session)
        if known:
            for lease_id in lease_ids:
                known.pop(lease_id, None)

    def is_due(self, session: SessionId, *, now_ns: int) -> bool:
        """Whether it is time to look at a session's leases again, however often it sends keepalives."""
        looked_ns = self._looked_ns.get(session)
        if looked_ns is not None and now_ns - looked_ns < limits.UNCLAIMED_LOOKS_NS:
            return False
        self._looked_ns[session] = now_ns
        return True

    def heard(
        self, session: SessionId, leases: Iterable[Lease], named: Collection[LeaseId], *, now_ns: int
    ) -> list[Lease]:
        """Takes note of a keepalive that named ``named`` of its session's ``leases``; answers those nobody claims."""
        left_out = [lease for lease in leases if lease.id not in named]
        known = self._since_ns.pop(session, {})
        if left_out:
            self._since_ns[session] = {lease.id: known.get(lease.id, now_ns) for lease in left_out}
        return [lease for lease in left_out if now_ns - known.get(lease.id, now_ns) >= patience_ns(lease)]

    def asked_again(self, lease: Lease) -> None:
        """Begins anew with a lease whose acquire was sent once more."""
        self._since_ns.get(lease.session, {}).pop(lease.id, None)

    def forget(self, session: SessionId) -> None:
        """Is done with a session that has ended."""
        self._since_ns.pop(session, None)
        self._looked_ns.pop(session, None)


def patience_ns(lease: Lease) -> int:
    """How long a lease may be left out: two periods of its keepalive, and long enough for a retry."""
    ttl_ns = limits.TTL_NS_DEFAULT if lease.ttl_ns is None else lease.ttl_ns
    return max(ttl_ns * PERIODS_UNCLAIMED // PERIODS_PER_TTL, limits.UNCLAIMED_NS_MIN)
