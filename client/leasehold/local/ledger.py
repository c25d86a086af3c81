"""The ledger of one card in this process: claims, leases and reservations under one lock, in this library's words."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from leasehold import calls
from leasehold.aie.array import ArrayShape
from leasehold.card import Card, LeaseInfo, ReservationInfo, card_from, lease_info_from, reservation_info_from
from leasehold.claims import Claim, Site, claims_to, site_text
from leasehold.errors import refused
from leasehold.quantity import parse_size
from rm.core.card import Allotment
from rm.core.card import Card as CoreCard
from rm.core.claims import Asker, Wish
from rm.core.claims import Claim as CoreClaim
from rm.core.errors import Refusal
from rm.core.events import Event, Extended, Granted, LeaseEnded, Request, UnitsReturned
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.profile import Profile
from rm.core.report import differences
from rm.core.reservation import Reservation
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, SiteName
from rm.devices.profiles import load_profile
from rm.service import convert
from rm.service.system import claims_of
from rmapi.v1 import types_pb2

MEMORY_DEFAULT = "1GiB"
_SESSION = SessionId("local")
_NEVER_ASKED_AGAIN = Request(_SESSION, 0, b"")


class LocalLedger:
    """One card, on which one user may do everything. See ``Manager``, which is what users make."""

    def __init__(
        self,
        profile: str = "embedded",
        *,
        memory: str | int = MEMORY_DEFAULT,
        cpus: Sequence[int] | None = None,
        system: Sequence[str] = (),
        strict: bool = False,
    ) -> None:
        """Makes a card on which everything is free, but for what the system keeps.

        Raises:
            Invalid: no such profile, a broken one, or one that knows no such system units.
        """
        numbers = tuple(sorted(os.sched_getaffinity(0)) if cpus is None else cpus)
        self._lock = threading.RLock()
        with self._changing():
            self._profile: Profile = load_profile(profile)
            spec = self._profile.card(CardId("0"), backend="local", memory_bytes=parse_size(memory), cpus=numbers)
            self._ledger = Ledger((spec,))
            holder = Holder(os.getpid(), os.getuid(), "local")
            self._asker = Asker(_SESSION, holder, is_admin=True, needs_reserved=strict)
            self._system_asker = Asker(_SESSION, Holder(0, os.getuid(), "system"), is_admin=True)
            self._array_shape: ArrayShape | None = None
            self._holding: dict[tuple[PoolName, int, int], LeaseId] = {}  # (pool, site, unit), where pools have sites
            self._system: dict[str, LeaseId] = {}
            for name in system:
                self.reserve_system(name)

    @property
    def card(self) -> CoreCard:
        """The card's state, to be read."""
        return self._ledger.cards[CardId("0")]

    # Leases.

    def acquire(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        label: str = "",
        reservation: str = "",
        **counts: float | None,
    ) -> LeaseInfo:
        """Takes everything that is claimed, or nothing.

        ``reservation`` (a name or content hash) is where what is given by keyword comes from; alone, it is taken whole.

        Raises:
            Refused: one of its kinds says why; nothing was taken.
        """
        with self._changing():
            all_counts = {"cores": cores, "streams": streams, **counts}
            found = [self._reservation_message(name) for name in self._ledger.reservations] if reservation else []
            found = [one for one in found if reservation in {one.name, one.content_hash}]
            pools = calls.whole_pools(found, reservation, None)
            messages = claims_to(claims, memory, all_counts, reservation, pools)
            return self._info(self._grant(convert.claims_from(messages), label=label))

    def release(self, lease: LeaseInfo | str, *, to_pool: bool = False) -> None:
        """Ends a lease; does nothing where it has ended. Reserved units stay reserved, but ``to_pool``.

        Raises:
            NotFound: there never was such a lease.
        """
        with self._changing():
            event = self._ledger.decide_release(_id(lease), self._asker, to_pool=to_pool)
            if event is not None:
                self._apply(event)

    def extend(
        self,
        lease: LeaseInfo | str,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        **counts: float | None,
    ) -> LeaseInfo:
        """Adds claims to a lease, all or none; answers it as it is then."""
        messages = claims_to(claims, memory, {"cores": cores, "streams": streams, **counts})
        with self._changing():
            found = convert.claims_from(messages)
            event = self._ledger.decide_extend(_id(lease), found, self._asker, _NEVER_ASKED_AGAIN)
            assert isinstance(event, Extended), "a request without an id is always new"
            self._apply(event)
            return self._info(self._ledger.leases[_id(lease)])

    def give_back(
        self,
        lease: LeaseInfo | str,
        pool: str,
        ids: Sequence[int],
        *,
        at: Sequence[Site] = (),
        to_pool: bool = False,
    ) -> LeaseInfo | None:
        """Gives back some units of a lease; answers what is left, or None where they were its last."""
        with self._changing():
            sites = tuple(SiteName(site_text(site)) for site in at)
            event = self._decide_give_back(_id(lease), PoolName(pool), ids, sites, to_pool=to_pool)
            if isinstance(event, UnitsReturned | LeaseEnded):
                self._apply(event)
            left = self._ledger.leases.get(_id(lease))
            return None if left is None else self._info(left)

    def leases(self) -> list[LeaseInfo]:
        """All live leases, oldest first."""
        with self._lock:
            return [self._info(lease) for lease in self._ledger.leases.values()]

    # Reservations.

    def reserve_claims(
        self,
        name: str,
        *claims: Claim,
        memory: str | int | None = None,
        content_hash: str = "",
        replace: bool = False,
        **counts: float | None,
    ) -> ReservationInfo:
        """Sets aside what is claimed under a name, all or nothing; finds what is there for the same ``content_hash``.

        Raises:
            Refused: one of its kinds says why; nothing was set aside.
        """
        messages = claims_to(claims, memory, counts)
        with self._changing():
            claimed = convert.claims_from(messages)
            wish = ReserveWish(name, claimed, self._asker, content_hash=content_hash, replaces=replace)
            event = self._ledger.decide_reserve_claims(wish)
            if isinstance(event, Reservation):
                return self._reservation_info(event.spec.name)
            self._apply(event)
            return self._reservation_info(name)

    def unreserve(self, name: str) -> None:
        """Takes a reservation away; its units go to the pool.

        Raises:
            Invalid: there is none of this name.
            Held: units of it are held.
        """
        with self._changing():
            self._apply(self._ledger.decide_unreserve(name, self._asker))

    def reservations(self) -> list[ReservationInfo]:
        """All reservations, in the order of their names."""
        with self._lock:
            return [self._reservation_info(name) for name in sorted(self._ledger.reservations)]

    # The system, and the card as a whole.

    def reserve_system(self, name: str) -> LeaseInfo:
        """Takes what the profile lets the system keep under ``name``, as a lease so labelled; a reset brings it back.

        Raises:
            Held: somebody has one of the units, the system itself for one; nothing was taken.
            Invalid: the profile knows no such name.
        """
        with self._changing():
            claims = claims_of(self._profile.system, name, self.card)
            lease = self._grant(claims, label=f"system:{name}", asker=self._system_asker)
            self._system[name] = lease.id
            return self._info(lease)

    def reset(self) -> None:
        """Does as a reset of the card: leases and reservations end, clocks run, and the system's leases come back."""
        with self._changing():
            kept = [name for name, lease_id in self._system.items() if lease_id in self._ledger.leases]
            for lease_id in list(self._ledger.leases):
                self._apply(LeaseEnded(lease_id, "the card was reset", is_violent=False))
            for name in list(self._ledger.reservations):
                self._apply(self._ledger.decide_unreserve(name, self._asker))
            self._apply(self._ledger.decide_gate(self.card.id, ()))
            self._system.clear()
            for name in kept:
                self.reserve_system(name)

    def cards(self) -> list[Card]:
        """The card, with the state of its pools."""
        with self._lock:
            pools = [convert.pool_to(pool, waiter_count=0, used_bytes=0) for pool in self.card.pools.values()]
            return [card_from(convert.card_to(self.card, pools))]

    def bitmap(self, pool: str, card: str | None = None) -> types_pb2.PoolBitmap:
        """The bits of a pool, as their message; as ``Client.bitmap`` tells it.

        Raises:
            Invalid: no such card or pool.
        """
        with self._changing():
            here = self._ledger.card_of(CardId(card or "0"))
            found = self._ledger.pool_of(here, PoolName(pool))
            return convert.bitmap_to(here, found, convert.pool_to(found, waiter_count=0, used_bytes=0))

    def check(self) -> list[str]:
        """Compares the bitmaps with the leases; one sentence a difference."""
        with self._lock:
            return differences(self._ledger)

    # Inside.

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Under the lock, and with the core's refusals as this library's errors."""
        with self._lock:
            try:
                yield
            except Refusal as fault:
                raise refused(fault.reason, str(fault), fault.facts) from fault

    def _grant(self, claims: tuple[CoreClaim, ...], *, label: str = "", asker: Asker | None = None) -> Lease:
        event = self._ledger.decide_acquire(Wish(asker or self._asker, claims, label=label), now_ns=0, now_wall_ns=0)
        assert isinstance(event, Granted), "a wish without a request id is always new"
        self._apply(event)
        return event.lease

    def _decide_give_back(
        self, lease_id: LeaseId, pool: PoolName, ids: Sequence[int], at: tuple[SiteName, ...], *, to_pool: bool
    ) -> UnitsReturned | LeaseEnded | Lease | None:
        return self._ledger.decide_give_back(
            lease_id, self._asker, _NEVER_ASKED_AGAIN, pool=pool, ids=ids, at=at, to_pool=to_pool
        )

    def _apply(self, event: Event) -> None:
        """Makes an event so, and keeps the index of who holds what in step."""
        match event:
            case Granted(lease):
                self._note(lease.id, lease.allotments)
            case Extended(lease_id, allotments):
                self._note(lease_id, allotments)
            case UnitsReturned(lease_id, lost):
                mine = self._ledger.leases[lease_id].allotments
                self._unnote([Allotment(one.pool, units) for one, units in zip(mine, lost, strict=True)])
            case LeaseEnded(lease_id):
                self._unnote(self._ledger.leases[lease_id].allotments)
        self._ledger.apply(event)

    def _note(self, lease_id: LeaseId, allotments: Sequence[Allotment]) -> None:
        self._holding.update(dict.fromkeys(self._spots(allotments), lease_id))

    def _unnote(self, allotments: Sequence[Allotment]) -> None:
        for spot in self._spots(allotments):
            self._holding.pop(spot, None)

    def _spots(self, allotments: Sequence[Allotment]) -> Iterator[tuple[PoolName, int, int]]:
        for allotment in allotments:
            spec = self.card.pools[allotment.pool].spec
            if spec.sites:
                for site, runs in allotment.units.by_site():
                    for run in runs:
                        for bit in range(run.start, run.stop):
                            yield allotment.pool, site, bit // spec.slices_per_unit

    def _info(self, lease: Lease) -> LeaseInfo:
        return lease_info_from(convert.lease_to(lease, self.card))

    def _reservation_info(self, name: str) -> ReservationInfo:
        return reservation_info_from(self._reservation_message(name))

    def _reservation_message(self, name: str) -> types_pb2.Reservation:
        return convert.reservation_to(self._ledger.reservations[name], self.card)


def _id(lease: LeaseInfo | str) -> LeaseId:
    return LeaseId(lease if isinstance(lease, str) else lease.id)
