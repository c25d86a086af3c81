"""What this process holds of one card: a lease that grows and shrinks, and further ones where that cannot.

The daemon keeps a place for every allotment that a lease ever had, so a lease that has had many is left to shrink and
end, and the next units come with a new one. Large memory has a lease of its own: it comes back by its end, whole, and
need not be named block by block. None of this shows: whoever holds something has a ``Held``, and drops it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from leasehold.card import Allotment, Card, LeaseInfo
from leasehold.claims import Claim
from leasehold.errors import LeaseholdError, LeaseLost, NotFound, NotOwner, Refused, WindowInUse
from leasehold.lease import Lease
from leasehold.runtime.codes import Code, Fault
from leasehold.window import Window

ALLOTMENTS_PER_LEASE = 48  # then the next lease begins: the daemon answers with all of them each time
ALONE_BYTES = 64 << 20  # memory from this size on has a lease of its own
LABEL = "axcl"


class CardClient(Protocol):
    """What is asked of a client; ``leasehold.Client`` and ``leasehold.testing.FakeClient`` are some."""

    def acquire(
        self, *claims: Claim, card: str | None = None, wait: str | float = 0.0, label: str = "", **counts: float | None
    ) -> Lease:
        """Takes everything that is claimed, or nothing."""

    def cards(self) -> list[Card]:
        """The cards."""

    def leases(self, pool: str = "") -> list[LeaseInfo]:
        """All live leases."""

    def close(self) -> None:
        """Ends the session."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One allotment of one of the leases. ``unit_bytes`` is 0 where its units have no size."""

    lease: Lease
    index: int
    allotment: Allotment
    unit_bytes: int

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of its units."""
        return self.allotment.ids

    @property
    def window(self) -> Window:
        """Its memory; only where it is memory."""
        return self.lease.window(self.index)


class Holding:
    """The leases of one card, of one process. Thread-safe."""

    def __init__(self, client: CardClient, card_id: str, on_lost: Callable[[], None]) -> None:
        """``on_lost`` is called, from a thread of its own, when one of the leases is lost."""
        self._client = client
        self._card_id = card_id
        self._on_lost = on_lost
        self._lock = threading.RLock()
        self._leases: list[Lease] = []
        self._watched: tuple[Lease, ...] = ()
        self._is_closed = False
        self._lost_because = ""

    @property
    def lost_because(self) -> str:
        """Why one of the leases is lost, and with it all of them; empty while they stand."""
        if not self._lost_because:
            lost = (lease._lost_cause for lease in (*self._leases, *self._watched) if not lease.valid)
            self._lost_because = next((cause for cause in lost if cause), "")
        return self._lost_because

    @property
    def cpus(self) -> tuple[int, ...]:
        """CPU numbers of the cores among what is held; none where cores are not CPUs."""
        with self._lock:
            return tuple(cpu for lease in self._leases if lease.has_cpus for cpu in lease.cores)

    def look(self) -> None:
        """Finds out whether the leases stand, by asking the memory itself as well; ``lost_because`` then knows."""
        with self._lock:
            for lease in (*self._leases, *self._watched):
                with suppress(LeaseholdError):
                    lease.check()

    def watch(self, lease: Lease) -> None:
        """Counts a lease of somebody else's as one of these, but for ending it: where it is lost, all is."""
        self._watched = (*self._watched, lease)
        lease.on_lost(self._note_lost)

    def hold(self, *claims: Claim, wait: float = 0.0, is_alone: bool = False) -> tuple[Held, ...]:
        """Takes all claims or none, at once or (as a lease of its own) within ``wait`` seconds.

        Raises:
            Refused: as ``Client.acquire``.
            LeaseLost: what was held before is lost.
            Fault: the device was reset meanwhile.
        """
        if wait:  # it may take long: nobody else waits for it
            self._check_not_lost()
            lease = self._client.acquire(*claims, card=self._card_id, wait=wait, label=LABEL)
            with self._lock:
                if self._is_closed:
                    lease.release()
                self._check_open()
                return self._keep(lease, is_last=True)
        with self._lock:
            self._check_not_lost()
            self._check_open()
            last = self._leases[-1] if self._leases and not is_alone else None
            if last is None or last.allotment_count + len(claims) > ALLOTMENTS_PER_LEASE:
                lease = self._client.acquire(*claims, card=self._card_id, label=LABEL)
                return self._keep(lease, is_last=not is_alone)
            first = last.allotment_count
            last.extend(*claims)
            return _allotments(last, first)

    def drop(self, *given: Held) -> None:
        """Gives back what was held. What was lost meanwhile is back already."""
        with self._lock:
            if self._is_closed:
                return
            for held in given:
                lease = held.lease
                with suppress(LeaseLost, NotFound, NotOwner):
                    if lease.allotment_count == 1:
                        lease.release()
                    else:
                        lease.give_back(held.allotment.pool, held.ids, at=held.allotment.at)
                if lease._is_released:
                    self._leases.remove(lease)

    def close(self, *, releases: bool = True) -> None:
        """Gives everything back, or, where the whole session ends, leaves it to that. Does nothing a second time."""
        with self._lock:
            self._is_closed = True
            leases, self._leases = self._leases, []
        for lease in leases if releases else ():
            with suppress(LeaseholdError):  # a daemon that is gone, or has taken it: it ends with the process
                try:
                    lease.release()
                except WindowInUse:  # by a thread that is just hearing of the end
                    lease._abandon_windows()
                    lease.release()

    def _keep(self, lease: Lease, *, is_last: bool) -> tuple[Held, ...]:
        """Notes a new lease. The last one is that which grows."""
        self._leases.insert(len(self._leases) if is_last else 0, lease)
        lease.on_lost(self._note_lost)
        return _allotments(lease, 0)

    def _note_lost(self, lease: Lease) -> None:
        self._lost_because = self._lost_because or lease._lost_cause
        self._on_lost()

    def _check_not_lost(self) -> None:
        if because := self.lost_because:
            raise Fault(Code.NO_CONNECT, f"the lease of the device is lost: {because}")

    def _check_open(self) -> None:
        if self._is_closed:
            raise Fault(Code.NO_CONTEXT, "the device was reset")


@contextmanager
def refused_as(code: Code, *, lost: Code) -> Iterator[None]:
    """Turns what the daemon says no to into a ``Fault`` of ``code``, and a lease that is lost into one of ``lost``."""
    try:
        yield
    except Refused as refusal:
        raise Fault(code, f"{refusal} [{refusal.reason}]") from refusal
    except Fault as fault:
        raise (Fault(lost, str(fault)) if fault.code is Code.NO_CONNECT else fault) from fault
    except LeaseholdError as fault:
        raise Fault(lost, str(fault)) from fault


def _allotments(lease: Lease, first: int) -> tuple[Held, ...]:
    return tuple(
        Held(lease, index, lease.allotment(index), lease.unit_bytes(index))
        for index in range(first, lease.allotment_count)
    )
