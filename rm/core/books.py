"""What is so: the cards, leases, reservations and remembered requests, and the only code that changes them.

``apply`` takes an event that was decided and cannot refuse; its asserts are for our own mistakes. The same events, in
the same order, make the same books: that is what a restart relies on.
"""

from dataclasses import replace
from typing import assert_never

from rm.core import events
from rm.core.card import Allotment, Card, CardSpec
from rm.core.deadlines import Deadlines
from rm.core.dedupe import Requests
from rm.core.lease import Lease, Revocation, without
from rm.core.reservation import Reservation, ReservationSpec
from rm.core.session import SessionRecord
from rm.core.types import CardId, LeaseId, PoolName, SessionId, UnitSet


class Books:
    """The state of everything that can run out, and of everybody who has some of it."""

    def __init__(self, cards: tuple[CardSpec, ...]) -> None:
        """Makes books in which every unit of ``cards`` is free."""
        self.cards: dict[CardId, Card] = {spec.id: Card(spec) for spec in cards}
        self.sessions: dict[SessionId, SessionRecord] = {}
        self.leases: dict[LeaseId, Lease] = {}
        self.revoking: dict[LeaseId, Revocation] = {}  # live leases that are told to end
        self.quarantine: dict[LeaseId, Lease] = {}  # ended leases whose units are not proven quiet
        self.reservations: dict[str, Reservation] = {}
        self.requests = Requests()
        self.deadlines = Deadlines()
        self.last_token = 0
        self.revision = 0
        self.epoch = 0
        self.boot_id = ""
        self.incarnations: dict[CardId, str] = {}
        self.leases_by_session: dict[SessionId, dict[LeaseId, None]] = {}
        self.leases_by_pool: dict[tuple[CardId, PoolName], dict[LeaseId, None]] = {}

    def apply(self, event: events.Event) -> None:  # noqa: C901, PLR0912 - one case an event
        """Makes ``event`` so."""
        match event:  # the most frequent first
            case events.Renewed(deadlines):
                for lease_id, deadline_ns in deadlines:
                    self.deadlines.set(lease_id, deadline_ns)
                return  # no fact that outlives this run: it has no number
            case events.Granted():
                self._apply_granted(event)
            case events.LeaseEnded():
                self._apply_lease_ended(event)
            case events.Started():
                self._apply_started(event)
            case events.SessionOpened(session):
                assert session.id not in self.sessions, f"session {session.id} is opened twice"
                self.sessions[session.id] = session
            case events.Extended():
                self._apply_extended(event)
            case events.WindowsRemade(lease_id, windows):
                self.leases[lease_id] = replace(self.leases[lease_id], windows=windows)
            case events.UnitsReturned():
                self._apply_units_returned(event)
            case events.RevocationBegan():
                self._apply_revocation_began(event)
            case events.UnitsQuiet():
                self._apply_units_quiet(event)
            case events.RequestForgone(request):
                self.requests.remember(request, None)
            case events.SessionForgotten(session_id):
                assert session_id not in self.leases_by_session, f"session {session_id} still has leases"
                self.sessions.pop(session_id, None)
                self.requests.forget(session_id)
            case events.Reserved():
                self._apply_reserved(event)
            case events.ReservationReplaced(spec):
                self._apply_unreserved(spec.name)
                self._apply_reserved(events.Reserved(spec))
            case events.Unreserved(name):
                self._apply_unreserved(name)
            case events.SitesGated(card_id, sites):
                self.cards[card_id].gate(sites)
            case _:
                assert_never(event)
        self.revision += 1

    # One method an event.

    def _apply_started(self, event: events.Started) -> None:
        assert event.epoch > self.epoch, f"epoch {event.epoch} is not above {self.epoch}"
        if event.cards != tuple(card.spec for card in self.cards.values()):
            in_use = bool(self.leases or self.quarantine or self.reservations)
            assert not in_use, "the cards changed while units of them were held, reserved or in quarantine"
            self.cards = {spec.id: Card(spec) for spec in event.cards}
        self.epoch, self.boot_id = event.epoch, event.boot_id
        self.incarnations = dict(event.incarnations)

    def _apply_granted(self, event: events.Granted) -> None:
        lease = event.lease
        assert lease.id not in self.leases, f"{lease.id} is granted twice"
        assert lease.token > self.last_token, f"token {lease.token} is not above {self.last_token}"
        self.last_token = lease.token
        self._keep(lease)
        self.requests.remember(event.request, lease.id, is_beginning=True)
        if event.deadline_ns is not None:
            self.deadlines.set(lease.id, event.deadline_ns)

    def _apply_extended(self, event: events.Extended) -> None:
        lease = self.leases[event.lease_id]
        self._hold(lease.card, event.allotments)
        windows = lease.windows + event.windows
        grown = replace(lease, allotments=lease.allotments + event.allotments, windows=windows)
        self.leases[lease.id] = grown
        self._index_pools(grown)
        self.requests.remember(event.request, lease.id)

    def _apply_units_returned(self, event: events.UnitsReturned) -> None:
        lease = self.leases[event.lease_id]
        for allotment, lost in zip(lease.allotments, event.lost, strict=True):
            if lost.sites:
                self._drop(lease.card, allotment.pool, lost, to_pool=event.to_pool, to_quarantine=False)
        left = without(lease, event.lost)
        self.leases[lease.id] = left
        for pool in lease.pools - left.pools:
            del self.leases_by_pool[lease.card, pool][lease.id]
        self.requests.remember(event.request, lease.id)

    def _apply_revocation_began(self, event: events.RevocationBegan) -> None:
        assert event.lease_id in self.leases, f"{event.lease_id} is revoked and not there"
        self.revoking[event.lease_id] = Revocation(event.cause, event.notice_ns)
        if event.deadline_ns is not None:
            self.deadlines.replace(event.lease_id, event.deadline_ns)

    def _apply_lease_ended(self, event: events.LeaseEnded) -> None:
        lease = self.leases.pop(event.lease_id)
        for allotment in lease.allotments:
            if allotment.units.sites:
                self._drop(
                    lease.card,
                    allotment.pool,
                    allotment.units,
                    to_pool=event.to_pool,
                    to_quarantine=event.is_violent,
                )
        if event.is_violent:
            self.quarantine[lease.id] = lease
        for pool in lease.pools:
            del self.leases_by_pool[lease.card, pool][lease.id]
        mine = self.leases_by_session[lease.session]
        del mine[lease.id]
        if not mine:
            del self.leases_by_session[lease.session]
        self.deadlines.drop(lease.id)
        self.revoking.pop(lease.id, None)

    def _apply_units_quiet(self, event: events.UnitsQuiet) -> None:
        lease = self.quarantine.pop(event.lease_id)
        for allotment in lease.allotments:
            if allotment.units.sites:
                self.cards[lease.card].pools[allotment.pool].quiet(allotment.units)

    def _apply_reserved(self, event: events.Reserved) -> None:
        spec = event.spec
        assert spec.name not in self.reservations, f"reservation {spec.name} is made twice"
        pools = self.cards[spec.card].pools
        self.reservations[spec.name] = Reservation(spec, pools)
        for name, units in spec.units:
            pools[name].reserve(units)

    def _apply_unreserved(self, reservation_name: str) -> None:
        reservation = self.reservations.pop(reservation_name)
        pools = self.cards[reservation.spec.card].pools
        for name, units in reservation.spec.units:
            left = reservation.units[name].part(units)
            if left.sites:
                pools[name].unreserve(left)

    # What a snapshot puts back.

    def restore_lease(self, lease: Lease) -> None:
        """Puts back a live lease."""
        assert lease.id not in self.leases, f"{lease.id} is there twice"
        self._keep(lease)

    def restore_quarantine(self, lease: Lease) -> None:
        """Puts back an ended lease whose units are in quarantine."""
        assert lease.id not in self.quarantine, f"{lease.id} is in quarantine twice"
        self.quarantine[lease.id] = lease
        for allotment in lease.allotments:
            if allotment.units.sites:
                self.cards[lease.card].pools[allotment.pool].quarantine(allotment.units)

    def restore_reservation(self, spec: ReservationSpec, given: tuple[tuple[PoolName, UnitSet], ...]) -> None:
        """Puts back a reservation, less the units that were ``given`` to their pools."""
        self._apply_reserved(events.Reserved(spec))
        for name, units in given:
            self.reservations[spec.name].lose(name, units)
            self.cards[spec.card].pools[name].unreserve(units)

    # What they share.

    def is_kept_by_system(self, lease: Lease) -> bool:
        """Whether the system itself has a lease. A process that the kernel does not name has pid 0 and a session."""
        return lease.holder.is_system and lease.session not in self.sessions

    def _keep(self, lease: Lease) -> None:
        """Notes a lease: its units are held from now on."""
        self._hold(lease.card, lease.allotments)
        self.leases[lease.id] = lease
        self.leases_by_session.setdefault(lease.session, {})[lease.id] = None
        self._index_pools(lease)

    def _hold(self, card: CardId, allotments: tuple[Allotment, ...]) -> None:
        for allotment in allotments:
            if allotment.units.sites:  # none where a snapshot has an allotment that was given back
                self.cards[card].pools[allotment.pool].hold(allotment.units)

    def _drop(self, card: CardId, name: PoolName, units: UnitSet, *, to_pool: bool, to_quarantine: bool) -> None:
        pool = self.cards[card].pools[name]
        pool.drop(units, to_quarantine=to_quarantine)
        if to_pool and not pool.reserved.has_none(units):
            given = pool.reserved.part(units)
            pool.unreserve(given)
            for reservation in self.reservations.values():
                if reservation.spec.card == card:
                    reservation.lose(name, given)

    def _index_pools(self, lease: Lease) -> None:
        for pool in lease.pools:
            self.leases_by_pool.setdefault((lease.card, pool), {})[lease.id] = None
