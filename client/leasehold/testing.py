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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from leasehold import calls
from leasehold.card import Card, LeaseInfo, card_from, lease_info_from
from leasehold.claims import Claim, Site, site_text
from leasehold.errors import Invalid, LeaseholdError, Refused, TimedOut, refused
from leasehold.held_lease import HeldLease
from leasehold.lease import Lease
from leasehold.quantity import parse_size
from leasehold.reservations import ReservationCalls
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
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

_SESSION = SessionId("fake")
_NEVER_ASKED_AGAIN = Request(_SESSION, 0, b"")


class FakeClient(ReservationCalls):
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
            reserved_pools = calls.whole_pools(self.reservation_messages(reservation), reservation, card)
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
                    with _refusals_told(but_not=NotNow if wait_s else ()):
                        return self._grant(wish)
                except NotNow as refusal:
                    left_s = give_up_at - time.monotonic()
                    if left_s <= 0 or not self._changed.wait(left_s):
                        raise TimedOut(f"waited long enough: {refusal}", facts=refusal.facts) from refusal

    def cards(self) -> list[Card]:
        """The cards, with the state of their pools."""
        return [card_from(card) for card in self._read("ListCards", pb.ListCardsRequest()).cards]

    def bitmap(self, pool: str, card: str | None = None) -> types_pb2.PoolBitmap:
        """The bits of a pool, as their message; see ``leasehold.Client.bitmap``."""
        response: pb.GetBitmapResponse = self._read("GetBitmap", pb.GetBitmapRequest(pool=pool, card=card or ""))
        return response.bitmap

    def leases(self, pool: str = "") -> list[LeaseInfo]:
        """All live leases, oldest first; only those with units of ``pool`` where it is given."""
        return [lease_info_from(message) for message in self.lease_messages(pool)]

    def lease_messages(self, pool: str = "") -> Iterator[types_pb2.Lease]:
        """The same as their messages."""
        with self._changed:
            found = [lease for lease in self._ledger.leases.values() if not pool or pool in lease.pools]
            messages = [self._message(lease.id) for lease in found]
        return iter(messages)

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

    def _check_may_call(self) -> None:
        """It always may: there is nobody to wait for."""

    def _drop(self, lease: HeldLease) -> None:
        self._leases.pop(lease.id, None)

    def _say_let_go(self, lease: HeldLease) -> None:
        """Nobody waits for that here: ``lose`` takes at once."""

    def _extend(
        self, lease: Lease, claims: tuple[Claim, ...], memory: str | int | None, counts: dict[str, float | None]
    ) -> None:
        wanted = convert.claims_from(calls.extend_request(1, lease.id, claims, memory, counts).claims)
        lease_id = LeaseId(lease.id)
        with self._changed, _refusals_told():
            event = self._ledger.decide_extend(lease_id, wanted, self._asker, _NEVER_ASKED_AGAIN)
            assert isinstance(event, Extended)
            first_index = len(lease.allotments)
            self._backend.prepare(lease_id, CardId(lease.card), event.allotments, first_index=first_index)
            self._apply(event)
            cpus = self._ledger.cards[CardId(lease.card)].spec.core_cpus
            lease._grow(self._message(lease_id), self._windows(lease_id), cpus)

    def _give_back(
        self, lease: Lease, pool: str, ids: Sequence[int], at: Sequence[Site], *, to_pool: bool
    ) -> types_pb2.Lease:
        sites = tuple(SiteName(site_text(site)) for site in at)
        lease_id = LeaseId(lease.id)
        with self._changed, _refusals_told():
            event = self._ledger.decide_give_back(
                lease_id, self._asker, _NEVER_ASKED_AGAIN, pool=PoolName(pool), ids=ids, at=sites, to_pool=to_pool
            )
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

    # What is asked of the daemon.

    def _read(self, method: str, request: Any) -> Any:  # noqa: ANN401 - one of many messages
        with self._changed, _refusals_told():
            match request:
                case pb.ListCardsRequest():
                    return pb.ListCardsResponse(cards=[_card_to(card) for card in self._ledger.cards.values()])
                case pb.GetBitmapRequest():
                    card = self._ledger.card_named(request.card)
                    pool = self._ledger.pool_of(card, PoolName(request.pool))
                    bitmap = convert.bitmap_to(card, pool, convert.pool_to(pool, waiter_count=0, used_bytes=0))
                    return pb.GetBitmapResponse(bitmap=bitmap, revision=self._ledger.revision)
                case pb.ListReservationsRequest():
                    wanted = self._ledger.reservations_of(request.key)
                    return pb.ListReservationsResponse(
                        reservations=[self._reservation_to(one, with_units=request.with_units) for one in wanted]
                    )
        raise AssertionError(f"nobody asks {method} of a card of its own")

    def _call(self, method: str, request: Any) -> Any:  # noqa: ANN401
        with self._changed, _refusals_told():
            match request:
                case pb.ReserveRequest():
                    event = self._ledger.decide_reserve_claims(reserve_wish(request, self._asker))
                    if not isinstance(event, Reservation):
                        self._apply(event)
                    kept = self._ledger.reservations[event.spec.name]
                    return pb.ReserveResponse(reservation=self._reservation_to(kept, with_units=False))
                case pb.UnreserveRequest():
                    return self._apply(self._ledger.decide_unreserve(request.name, self._asker))
                case pb.GateSitesRequest():
                    card = self._ledger.card_named(request.card)
                    return self._apply(self._ledger.decide_gate(card.id, [SiteName(site) for site in request.sites]))
        raise AssertionError(f"nobody asks {method} of a card of its own")

    # The ledger.

    def _wish(self, claims: Sequence[object], card: str | None, label: str) -> Wish:
        with _refusals_told():
            found = convert.claims_from(claims)  # type: ignore[arg-type]  # a repeated field is a sequence
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

    def _reservation_to(self, kept: Reservation, *, with_units: bool) -> types_pb2.Reservation:
        return convert.reservation_to(kept, self._ledger.cards[kept.spec.card], with_units=with_units)

    def _message(self, lease_id: LeaseId) -> types_pb2.Lease:
        lease = self._ledger.leases[lease_id]
        return convert.lease_to(lease, self._ledger.cards[lease.card])

    def _windows(self, lease_id: LeaseId) -> dict[int, int]:
        return {window.mark.allotment_index: os.dup(window.fd) for window in self._backend.windows(lease_id)}


@contextmanager
def _refusals_told(*, but_not: type[Refusal] | tuple[()] = ()) -> Iterator[None]:
    """Raises the ledger's refusals as a client has them."""
    try:
        yield
    except but_not:
        raise
    except Refusal as refusal:
        raise refused(refusal.reason, str(refusal), refusal.facts) from refusal


def _card_to(card: LedgerCard) -> types_pb2.Card:
    pools = [convert.pool_to(pool, waiter_count=0, used_bytes=0) for pool in card.pools.values()]
    return convert.card_to(card, pools)
