"""When each lease's keepalive is due. The one place that says what live means: now < deadline."""

import heapq

from rm.core.types import LeaseId

_STALE_ENTRIES_MAX = 1_024  # beside as many as there are live ones: with a ttl of a day they would stay that long


def is_live(deadline_ns: int | None, now_ns: int) -> bool:
    """Whether a lease with this deadline (None: without one) lives at ``now_ns``."""
    return deadline_ns is None or now_ns < deadline_ns


class Deadlines:
    """The deadlines of all leases that have one; the earliest is found without a scan.

    The heap may hold a lease's earlier deadline: renewing only writes the new one down, and the old entry is corrected
    when it comes up.
    """

    __slots__ = ("_by_lease", "_heap")

    def __init__(self) -> None:
        self._by_lease: dict[LeaseId, int] = {}
        self._heap: list[tuple[int, LeaseId]] = []

    def get(self, lease_id: LeaseId) -> int | None:
        """The deadline of a lease; None where it has none."""
        return self._by_lease.get(lease_id)

    def set(self, lease_id: LeaseId, deadline_ns: int) -> None:
        """Gives a lease its deadline, or a later one. A renewal never shortens."""
        known = self._by_lease.get(lease_id)
        if known is None:
            heapq.heappush(self._heap, (deadline_ns, lease_id))
        self._by_lease[lease_id] = deadline_ns if known is None else max(known, deadline_ns)

    def replace(self, lease_id: LeaseId, deadline_ns: int) -> None:
        """Gives a lease another deadline, be it an earlier one: it is no longer the keepalive's."""
        self._by_lease[lease_id] = deadline_ns
        heapq.heappush(self._heap, (deadline_ns, lease_id))

    def drop(self, lease_id: LeaseId) -> None:
        """Forgets a lease that has ended; its entry in the heap stays until it comes up, or until most are such."""
        self._by_lease.pop(lease_id, None)
        if len(self._heap) > 2 * len(self._by_lease) + _STALE_ENTRIES_MAX:
            self._heap = [(deadline, lease) for lease, deadline in self._by_lease.items()]
            heapq.heapify(self._heap)

    def postpone(self, gap_ns: int) -> None:
        """Moves every deadline by ``gap_ns``: the time in which the daemon itself did not run."""
        assert gap_ns > 0
        self._by_lease = {lease_id: deadline + gap_ns for lease_id, deadline in self._by_lease.items()}

    def expired(self, now_ns: int) -> list[LeaseId]:
        """Leases that are no longer live, earliest first and then by id; they stay until they are dropped."""
        found: dict[LeaseId, int] = {}
        while self._heap and not is_live(self._heap[0][0], now_ns):
            _, lease_id = heapq.heappop(self._heap)
            deadline = self._by_lease.get(lease_id)
            if deadline is None:
                continue
            if is_live(deadline, now_ns):
                heapq.heappush(self._heap, (deadline, lease_id))
            else:
                found[lease_id] = deadline  # once, though it may stand in the heap with an earlier deadline too
        due = sorted((deadline, lease_id) for lease_id, deadline in found.items())
        for entry in due:
            heapq.heappush(self._heap, entry)
        return [lease_id for _, lease_id in due]
