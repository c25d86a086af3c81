"""A card for your own tests: the client's surface over a ledger in this process, without a daemon.

    from leasehold.testing import FakeClient

    def test_my_program_refuses_politely():
        client = FakeClient(memory="16MiB", cores=2)
        with client.acquire(memory="8MiB") as lease:
            ...
        client.refuse_next(leasehold.Exhausted("full"))
        client.lose(lease)                      # as when the daemon takes it back

Leases, windows, streams and models are the real ones; what is faked is the daemon: nobody else shares the card, waiting
is first come first served only among this client's threads, and nothing outlives the process. It needs the extra
``daemon``.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leasehold import calls
from leasehold.aie.array import ArrayShape, PoolShape
from leasehold.artifacts.reservable import manifest_of
from leasehold.card import Card, LeaseInfo, ReservationInfo, card_from, lease_info_from, reservation_info_from
from leasehold.claims import Claim, Site, site_text
from leasehold.errors import Invalid, LeaseholdError, Refused, TimedOut, refused
from leasehold.held_lease import HeldLease
from leasehold.lease import Lease
from leasehold.quantity import parse_size
from leasehold.statistics import SiteCounts, count_sites
from rm.core.card import Card as LedgerCard
from rm.core.claims import Asker, Wish
from rm.core.errors import NotNow, Refusal
from rm.core.events import Event, Extended, Granted, LeaseEnded, Request, UnitsReturned
from rm.core.ledger import Ledger
from rm.core.report import differences
from rm.core.reservation import Reservation
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, SiteName
from rm.devices.backend import Fence
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import load_profile
from rm.service import convert
from rm.service.requests import reserve_wish
from rmapi.v1 import types_pb2

_SESSION = SessionId("fake")
_NEVER_ASKED_AGAIN = Request(_SESSION, 0, b"")


class FakeClient:
    """A client whose daemon is a ledger in this process. The same names as ``leasehold.Client``."""

    def __init__(
        self, profile: str = "embedded", *, memory: str | int = "64MiB", cores: int | None = None, cards: int = 1
    ) -> None:
        """Makes ``cards`` cards of ``memory`` each; ``cores`` are pretended where the host has fewer CPUs."""
        here = sorted(os.sched_getaffinity(0))
        cpus = here if cores is None else [here[index % len(here)] for index in range(cores)]
        self._backend = EmbeddedBackend(
            load_profile(profile), card_count=cards, memory_bytes=parse_size(memory), cpus=cpus
        )
        self._ledger = Ledger(self._backend.cards)
        self._asker = Asker(_SESSION, Holder(os.getpid(), os.getuid(), "fake"), is_admin=True)
        self._changed = threading.Condition(threading.RLock())
        self._leases: dict[str, HeldLease] = {}
        self._next_error: LeaseholdError | None = None

    # What a test does to it.

    def refuse_next(self, error: LeaseholdError) -> None:
        """Makes the next ``acquire`` raise ``error``."""
        self._next_error = error

    def lose(self, lease: Lease, cause: str = "keepalive missed") -> None:
        """Takes a lease back as the daemon would: its memory is gone, and whoever wants to know is told."""
        with self._changed:
            taken = self._ledger.leases[LeaseId(lease.id)]
            self._apply(LeaseEnded(taken.id, cause, is_violent=True))
            is_quiet = threading.Event()
            if self._backend.fence(taken, is_quiet.set, is_holder_dead=False) is not Fence.QUIET:
                is_quiet.wait()
            self._apply(self._ledger.decide_quiet(taken.id))
        self._drop(lease)
        lease._lose(cause)

    # The client's own names.

    def acquire(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        card: str | None = None,
        wait: str | float = 0.0,
        priority: int = 0,
        ttl: str | float | None = None,
        label: str = "",
        reservation: str = "",
        **counts: float | None,
    ) -> Lease:
        """Takes everything that is claimed, or nothing; see ``leasehold.Client.acquire``."""
        wait_s = calls.wait_seconds(wait)
        all_counts = {"cores": cores, "streams": streams, **counts}
        reserved_pools: list[str] = []
        if calls.is_whole(reservation, claims, memory, all_counts):
            with self._changed:
                found = [self._reservation_message(one.name) for one in self.reservations(reservation)]
                reserved_pools = calls.whole_pools(found, reservation, card)
        request = calls.acquire_request(
            1,
            claims,
            memory=memory,
            counts=all_counts,
            card=card,
            priority=priority,
            ttl=ttl,
            label=label,
            reservation=reservation,
            reserved_pools=reserved_pools,
        )
        if self._next_error is not None:
            error, self._next_error = self._next_error, None
            raise error
        give_up_at = time.monotonic() + wait_s
        with self._changed:
            wish = self._wish(request.claims, card, label)
            while True:
                try:
                    return self._grant(wish)
                except NotNow as refusal:
                    left_s = give_up_at - time.monotonic()
                    if not wait_s:
                        raise _told(refusal) from refusal
                    if left_s <= 0 or not self._changed.wait(left_s):
                        raise TimedOut(f"waited long enough: {refusal}", facts=refusal.facts) from refusal
                except Refusal as refusal:
                    raise _told(refusal) from refusal

    def cards(self) -> list[Card]:
        """The cards, with the state of their pools."""
        with self._changed:
            return [
                card_from(
                    convert.card_to(
                        card, [convert.pool_to(pool, waiter_count=0, used_bytes=0) for pool in card.pools.values()]
                    )
                )
                for card in self._ledger.cards.values()
            ]

    def bitmap(self, pool: str, card: str | None = None) -> types_pb2.PoolBitmap:
        """The bits of a pool, as their message; see ``leasehold.Client.bitmap``."""
        with self._changed:
            here = self._ledger.cards.get(CardId(card or next(iter(self._ledger.cards))))
            found = here.pools.get(PoolName(pool)) if here is not None else None
            if here is None or found is None:
                raise Invalid(f"there is no pool {pool!r} on card {card or 'any'}", facts={"pool": pool})
            return convert.bitmap_to(here, found, convert.pool_to(found, waiter_count=0, used_bytes=0))

    def leases(self, pool: str = "") -> list[LeaseInfo]:
        """All live leases, oldest first; only those with units of ``pool`` where it is given."""
        with self._changed:
            found = [lease for lease in self._ledger.leases.values() if not pool or pool in lease.pools]
            return [lease_info_from(convert.lease_to(lease, self._ledger.cards[lease.card])) for lease in found]

    def reserve(
        self,
        artifact: str | os.PathLike[str],
        *,
        name: str | None = None,
        card: str | None = None,
        shared: bool = False,
        replace: bool = False,
    ) -> ReservationInfo:
        """Sets aside what a file says; see ``leasehold.Client.reserve``."""
        manifest = manifest_of(Path(artifact))
        shape = None
        if manifest.resources:
            pools = self._card(card).spec.pools
            shape = ArrayShape.of(PoolShape(one.name, one.unit_count, one.sites, one.site_unit_counts) for one in pools)
        return self.reserve_claims(
            name or manifest.name,
            *manifest.claims(shape),
            content_hash=manifest.content_hash,
            card=card,
            profile=manifest.profile,
            shared=shared,
            replace=replace,
        )

    def reserve_claims(
        self,
        name: str,
        *claims: Claim,
        memory: str | int | None = None,
        content_hash: str = "",
        card: str | None = None,
        profile: str = "",
        shared: bool = False,
        replace: bool = False,
        **counts: float | None,
    ) -> ReservationInfo:
        """Sets units aside under ``name``; see ``leasehold.Client.reserve_claims``."""
        request = calls.reserve_request(
            name,
            claims,
            memory=memory,
            counts=counts,
            content_hash=content_hash,
            card=card,
            profile=profile,
            shared=shared,
            replace=replace,
        )
        with self._changed:
            try:
                event = self._ledger.decide_reserve_claims(reserve_wish(request, self._asker))
            except Refusal as refusal:
                raise _told(refusal) from refusal
            if not isinstance(event, Reservation):
                self._apply(event)
            return reservation_info_from(self._reservation_message(event.spec.name))

    def unreserve(self, name: str) -> None:
        """Takes a reservation away; its units go to the pool."""
        with self._changed:
            try:
                self._apply(self._ledger.decide_unreserve(name, self._asker))
            except Refusal as refusal:
                raise _told(refusal) from refusal

    def reservations(self, key: str = "") -> list[ReservationInfo]:
        """The reservations of a name or content hash, or all, in the order of their names."""
        with self._changed:
            found = [self._reservation_message(name) for name in sorted(self._ledger.reservations)]
            return [reservation_info_from(one) for one in found if not key or key in {one.name, one.content_hash}]

    def statistics(self, pool: str, card: str | None = None) -> list[SiteCounts]:
        """How much of a pool is free, held and reserved at each of its sites; see ``leasehold.Client.statistics``."""
        with self._changed:
            found = self._card(card)
            if PoolName(pool) not in found.pools:
                raise Invalid(f"card {found.id} has no pool {pool!r}; it has {', '.join(found.pools)}")
            state = found.pools[PoolName(pool)]
            bitmap = convert.bitmap_to(found, state, convert.pool_to(state, waiter_count=0, used_bytes=0))
            leases = [self._message(lease_id) for lease_id in self._ledger.leases]
            reserved = [self._reservation_message(name, with_units=True) for name in self._ledger.reservations]
            return count_sites(bitmap, leases, reserved)

    def check(self) -> list[str]:
        """Compares the bitmaps with the leases; one sentence a difference."""
        return differences(self._ledger)

    def close(self) -> None:
        """Releases every lease."""
        for lease in list(self._leases.values()):
            assert isinstance(lease, Lease)
            lease.release()

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            for lease in list(self._leases.values()):
                lease._abandon_windows()
        self.close()

    # What a lease asks of its client.

    def acquire_many(self, wishes: Iterable[Mapping[str, Any]]) -> list[Lease | LeaseholdError]:
        """Takes what each of ``wishes`` claims; see ``leasehold.Client.acquire_many``."""
        got: list[Lease | LeaseholdError] = []
        for wish in wishes:
            words = {word: value for word, value in wish.items() if word != "claims"}
            try:
                got.append(self.acquire(*wish.get("claims", ()), **words))
            except Invalid:
                self.release_many(one for one in got if isinstance(one, Lease))
                raise
            except Refused as refusal:
                got.append(refusal)
        return got

    def release_many(self, leases: Iterable[Lease]) -> None:
        """Gives several leases back."""
        for lease in list(leases):
            lease.release()

    def _release(self, lease: Lease, *, to_pool: bool) -> None:
        with self._changed:
            event = self._ledger.decide_release(LeaseId(lease.id), self._asker, to_pool=to_pool)
            if event is not None:
                self._apply(event)
                self._backend.end(LeaseId(lease.id))

    def _drop(self, lease: HeldLease) -> None:
        self._leases.pop(lease.id, None)

    def _say_let_go(self, lease: HeldLease) -> None:
        """Nobody waits for that here: ``lose`` takes at once."""

    def _extend(
        self, lease: Lease, claims: tuple[Claim, ...], memory: str | int | None, counts: dict[str, float | None]
    ) -> None:
        wanted = convert.claims_from(calls.extend_request(1, lease.id, claims, memory, counts).claims)
        lease_id = LeaseId(lease.id)
        with self._changed:
            try:
                event = self._ledger.decide_extend(lease_id, wanted, self._asker, _NEVER_ASKED_AGAIN)
                assert isinstance(event, Extended)
                first_index = len(lease.allotments)
                self._backend.prepare(lease_id, CardId(lease.card), event.allotments, first_index=first_index)
            except Refusal as refusal:
                raise _told(refusal) from refusal
            self._apply(event)
            cpus = self._ledger.cards[CardId(lease.card)].spec.core_cpus
            lease._grow(self._message(lease_id), self._windows(lease_id), cpus)

    def _give_back(
        self, lease: Lease, pool: str, ids: Sequence[int], at: Sequence[Site], *, to_pool: bool
    ) -> types_pb2.Lease:
        sites = tuple(SiteName(site_text(site)) for site in at)
        lease_id = LeaseId(lease.id)
        with self._changed:
            try:
                event = self._ledger.decide_give_back(
                    lease_id, self._asker, _NEVER_ASKED_AGAIN, pool=PoolName(pool), ids=ids, at=sites, to_pool=to_pool
                )
            except Refusal as refusal:
                raise _told(refusal) from refusal
            if isinstance(event, UnitsReturned):
                for index, lost in enumerate(event.lost):
                    if lost.sites and pool == "memory":
                        self._backend.give_back(lease_id, index)
                self._apply(event)
                return self._message(lease_id)
            if isinstance(event, LeaseEnded):
                self._apply(event)
                self._backend.end(lease_id)
            return types_pb2.Lease(id=lease_id)

    # The ledger.

    def _wish(self, claims: Sequence[object], card: str | None, label: str) -> Wish:
        try:
            found = convert.claims_from(claims)  # type: ignore[arg-type]  # a repeated field is a sequence
        except Refusal as refusal:
            raise _told(refusal) from refusal
        return Wish(self._asker, found, card=CardId(card) if card else None, label=label)

    def _grant(self, wish: Wish) -> Lease:
        event = self._ledger.decide_acquire(wish, now_ns=0, now_wall_ns=time.time_ns())
        assert isinstance(event, Granted), "a wish without a request id is always new"
        granted = event.lease
        self._backend.prepare(granted.id, granted.card, granted.allotments, first_index=0)
        self._apply(event)
        cpus = self._ledger.cards[granted.card].spec.core_cpus
        lease = Lease(self, self._message(granted.id), core_cpus=cpus, windows=self._windows(granted.id))
        self._leases[lease.id] = lease
        return lease

    def _apply(self, event: Event) -> None:
        self._ledger.apply(event)
        self._changed.notify_all()

    def _card(self, card_id: str | None) -> LedgerCard:
        try:
            return self._ledger.card_of(CardId(card_id)) if card_id else next(iter(self._ledger.cards.values()))
        except Refusal as refusal:
            raise _told(refusal) from refusal

    def _reservation_message(self, name: str, *, with_units: bool = False) -> types_pb2.Reservation:
        kept = self._ledger.reservations[name]
        return convert.reservation_to(kept, self._ledger.cards[kept.spec.card], with_units=with_units)

    def _message(self, lease_id: LeaseId) -> types_pb2.Lease:
        lease = self._ledger.leases[lease_id]
        return convert.lease_to(lease, self._ledger.cards[lease.card])

    def _windows(self, lease_id: LeaseId) -> dict[int, int]:
        return {window.mark.allotment_index: os.dup(window.fd) for window in self._backend.windows(lease_id)}


def _told(refusal: Refusal) -> Refused:
    return refused(refusal.reason, str(refusal), refusal.facts)
