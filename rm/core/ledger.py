"""What may become so: each ``decide_*`` answers a wish with one event, or raises a refusal, and changes nothing.

The walk of every change is decide, apply, commit, answer; ``Books.apply`` is the second step. Time is an argument.
"""

from collections.abc import Iterable, Sequence

from rm.core import limits
from rm.core.asks import check_range, check_shown, resolve_sites, units_of_ids
from rm.core.card import Allotment, Card
from rm.core.claims import Asker, Claim, Wish
from rm.core.errors import InvalidRequest, LeaseGone, LeaseNotFound, NotNow, NotOwner, QuotaExceeded
from rm.core.events import (
    Extended,
    Granted,
    LeaseEnded,
    Renewed,
    Request,
    RequestForgone,
    RevocationBegan,
    SessionForgotten,
    SessionOpened,
    UnitsQuiet,
    UnitsReturned,
)
from rm.core.lease import Lease, part_to_give_back, without
from rm.core.lookup import not_owner
from rm.core.placement import place
from rm.core.reserving import Reserving
from rm.core.session import SessionRecord
from rm.core.types import NS_PER_S, CardId, LeaseId, PoolName, SessionId, SiteName


class Ledger(Reserving):
    """The books, and the rules by which they change."""

    # Beginning and growing.

    def decide_acquire(
        self,
        wish: Wish,
        *,
        now_ns: int,
        now_wall_ns: int,
        cards: Sequence[CardId] | None = None,
        is_new: bool = False,
    ) -> Granted | Lease:
        """Grants every claim of ``wish`` from the first card that fits, or none; or finds the lease it got before.

        ``cards`` narrows the choice further than the wish does: to those on which nobody waits in front. A wish that
        ``is_new`` was found to be so when it came, however many requests have come since.

        Raises:
            InvalidRequest: it can never be granted as it is written.
            PoolExhausted, UnitHeld: not now.
            NotOwner, QuotaExceeded, LeaseGone: as their names say.
        """
        lease = None if is_new else self.answered_before(wish)
        if lease is not None:
            return lease
        self._check_wish(wish)
        possible = self.cards_for(wish)
        card, allotments = self._place_on_first(wish, possible if cards is None else tuple(cards))
        token = self.last_token + 1
        lease = Lease(
            id=LeaseId(f"L{token}"),
            token=token,
            card=card.id,
            allotments=allotments,
            session=wish.asker.session,
            holder=wish.asker.holder,
            ttl_ns=wish.ttl_ns,
            label=wish.label,
            granted_wall_ns=now_wall_ns,
        )
        request = Request(wish.asker.session, wish.request_id, wish.fingerprint)
        return Granted(lease, request, None if wish.ttl_ns is None else now_ns + wish.ttl_ns)

    def answered_before(self, wish: Wish) -> Lease | None:
        """The lease that ``wish`` got when it was asked for before; None where it is new.

        Raises:
            InvalidRequest: its request id was used for another request.
            LeaseGone: that lease has ended, or the request was given up.
        """
        known = self.requests.find(Request(wish.asker.session, wish.request_id, wish.fingerprint))
        return None if known is None else self._answered_before(known, wish.request_id)

    def decide_extend(
        self, lease_id: LeaseId, claims: tuple[Claim, ...], asker: Asker, request: Request
    ) -> Extended | Lease:
        """Adds ``claims`` to a live lease, from its own card, all or none.

        Raises:
            Those of ``decide_acquire`` and of ``decide_release``.
        """
        known = self.requests.find(request)
        if known is not None:
            return self._answered_before(known, request.id)
        lease = self.lease_of(lease_id, asker.session)
        if lease_id in self.revoking:
            raise LeaseGone(f"{lease_id} is about to end: {self.revoking[lease_id].cause}", lease=lease_id)
        if len(lease.allotments) + len(claims) > limits.ALLOTMENTS_PER_LEASE_MAX:
            most = limits.ALLOTMENTS_PER_LEASE_MAX
            raise QuotaExceeded(f"{lease_id} has {len(lease.allotments)} allotments, {most} are possible", most=most)
        card = self.cards[lease.card]
        allotments = place(
            claims,
            card=card,
            reservations=self.reservations,
            asker=asker,
            find_holders=self.find_holders,
        )
        had, more = _window_count(card, lease.allotments), _window_count(card, allotments)
        if had + more > limits.WINDOWS_PER_LEASE_MAX:
            most = limits.WINDOWS_PER_LEASE_MAX
            text = f"{lease_id} has {had} pieces of memory and asks for {more}, {most} are possible"
            raise QuotaExceeded(text, lease=lease_id, window_count=had, asked=more, most=most)
        return Extended(lease_id, allotments, request)

    # Giving back and ending.

    def decide_give_back(
        self,
        lease_id: LeaseId,
        asker: Asker,
        request: Request,
        *,
        pool: PoolName,
        ids: Sequence[int],
        at: tuple[SiteName, ...] = (),
        to_pool: bool = False,
    ) -> UnitsReturned | LeaseEnded | Lease | None:
        """Gives back some units of a lease; ends it where they are its last. None: it has ended already.

        Raises:
            InvalidRequest: the lease does not hold one of them.
            LeaseNotFound, NotOwner: as for ``decide_release``.
        """
        known = self.requests.find(request)
        if known is not None:
            return self.leases.get(known)
        if lease_id not in self.leases and self.was_granted(lease_id):
            return None
        lease = self.lease_of(lease_id, asker.session)
        card = self.cards[lease.card]
        if pool not in card.pools:
            raise InvalidRequest(f"card {card.id} has no pool {pool!r}", pool=pool)
        sites = resolve_sites(card.pools[pool], at)
        units_of_ids(card.pools[pool], ids, sites)
        lost = part_to_give_back(lease, card, pool, ids, sites)
        if to_pool:
            self.check_may_give_to_pool(card, [(pool, units) for units in lost], asker)
        if not without(lease, lost).pools:
            return LeaseEnded(lease_id, "released", is_violent=False, to_pool=to_pool)
        return UnitsReturned(lease_id, lost, to_pool, request)

    def decide_release(self, lease_id: LeaseId, asker: Asker, *, to_pool: bool = False) -> LeaseEnded | None:
        """Ends a lease politely; None where it had ended before.

        Raises:
            LeaseNotFound: there never was such a lease.
            NotOwner: it is another session's, or ``to_pool`` and a reservation is another user's.
        """
        if lease_id not in self.leases and self.was_granted(lease_id):
            return None
        lease = self.lease_of(lease_id, asker.session)
        if to_pool:
            units = [(allotment.pool, allotment.units) for allotment in lease.allotments]
            self.check_may_give_to_pool(self.cards[lease.card], units, asker)
        return LeaseEnded(lease_id, "released", is_violent=False, to_pool=to_pool)

    def decide_forgo(self, session: SessionId, request_id: int) -> LeaseEnded | RequestForgone | None:
        """Ends the lease that a request got, or makes sure that it will get none; None where neither is needed."""
        lease_id = self.requests.lease_of(session, request_id)
        if lease_id is None:
            return RequestForgone(Request(session, request_id, b""))
        if lease_id not in self.leases:
            return None
        return LeaseEnded(lease_id, "released", is_violent=False)

    def decide_revoke(
        self, lease_id: LeaseId, asker: Asker, cause: str, *, notice_ns: int, now_ns: int
    ) -> RevocationBegan | None:
        """Tells a lease to end though its owner did not ask, or to end sooner; None where it does, or has ended.

        Raises:
            InvalidRequest: a notice that none can be.
            LeaseNotFound: there never was such a lease.
            NotOwner: the asker is no admin.
        """
        if not 0 <= notice_ns <= limits.NOTICE_NS_MAX:
            raise InvalidRequest(f"a notice is 0 s to {limits.NOTICE_NS_MAX // NS_PER_S} s", notice_ns=str(notice_ns))
        check_shown("a cause", cause)
        if not asker.is_admin:
            text = f"only root and the daemon's own user may revoke a lease, not uid {asker.holder.uid}"
            raise NotOwner(text, lease=lease_id, uid=asker.holder.uid)
        if lease_id not in self.leases and not self.was_granted(lease_id):
            raise LeaseNotFound(f"there is no live lease {lease_id!r}", lease=lease_id)
        if lease_id not in self.leases:
            return None
        deadline_ns = self.deadlines.get(lease_id)
        if lease_id in self.revoking and deadline_ns is not None and deadline_ns <= now_ns + notice_ns:
            return None
        return RevocationBegan(lease_id, cause, now_ns + notice_ns, notice_ns)

    def decide_open_session(self, session: SessionRecord) -> SessionOpened:
        """Notes a client process. Who may open how many is not the ledger's to say."""
        assert session.id not in self.sessions, f"session {session.id} is there already"
        return SessionOpened(session)

    def decide_end_session(self, session: SessionId, cause: str, *, is_violent: bool) -> Iterable[LeaseEnded]:
        """Ends every lease of a session, in the order they were granted."""
        mine = self.leases_by_session.get(session, {})
        return [LeaseEnded(lease_id, cause, is_violent=is_violent) for lease_id in mine]

    def decide_forget_session(self, session: SessionId) -> SessionForgotten:
        """Forgets the requests of a session that has ended."""
        assert session not in self.leases_by_session, f"session {session} still has leases"
        return SessionForgotten(session)

    def decide_expire(self, *, now_ns: int) -> list[RevocationBegan | LeaseEnded]:
        """Tells every lease whose keepalive is overdue to end, and ends those whose notice is over, earliest first."""
        return [
            LeaseEnded(lease_id, self.revoking[lease_id].cause, is_violent=True)
            if lease_id in self.revoking
            else RevocationBegan(lease_id, "keepalive missed", now_ns + limits.NOTICE_NS_DEFAULT)
            for lease_id in self.deadlines.expired(now_ns)
        ]

    def decide_quiet(self, lease_id: LeaseId) -> UnitsQuiet:
        """Gives the units of a violently ended lease on, now that the card is proven quiet."""
        assert lease_id in self.quarantine, f"{lease_id} is not in quarantine"
        return UnitsQuiet(lease_id)

    # Living on.

    def decide_renew(
        self, lease_ids: Sequence[LeaseId], session: SessionId, *, now_ns: int
    ) -> tuple[Renewed, tuple[LeaseId, ...]]:
        """Moves the deadlines of a session's leases to one ttl from now; also answers those that are not live.

        A lease that is told to end counts as lost: a keepalive does not save it.

        Raises:
            InvalidRequest: more leases than a session may have.
            NotOwner: one is another session's; then none is renewed.
        """
        check_range("leases in a keepalive", len(lease_ids), limits.LEASES_PER_SESSION_MAX, least=0)
        leases, revoking = self.leases, self.revoking
        deadlines, lost = [], []
        for lease_id in lease_ids:
            lease = leases.get(lease_id)
            if lease is None:
                lost.append(lease_id)
            elif lease.session != session:
                raise not_owner(lease)
            elif lease_id in revoking:
                lost.append(lease_id)
            elif lease.ttl_ns is not None:
                deadlines.append((lease_id, now_ns + lease.ttl_ns))
        return Renewed(tuple(deadlines)), tuple(lost)

    def decide_deadlines(self, *, now_ns: int) -> Renewed:
        """New deadlines for every lease that has a clock, after a restart: its clients need time to come back."""
        deadlines = [
            (lease.id, now_ns + lease.ttl_ns + limits.RESTART_GRACE_NS)
            for lease in self.leases.values()
            if lease.ttl_ns is not None and lease.id not in self.revoking
        ]
        deadlines += [(lease_id, now_ns + revocation.notice_ns) for lease_id, revocation in self.revoking.items()]
        return Renewed(tuple(deadlines))

    # What the decisions share.

    def _check_wish(self, wish: Wish) -> None:
        if wish.ttl_ns is not None and not limits.TTL_NS_MIN <= wish.ttl_ns <= limits.TTL_NS_MAX:
            least, most = limits.TTL_NS_MIN / NS_PER_S, limits.TTL_NS_MAX / NS_PER_S
            text = f"a ttl is {least:g} s to {most:g} s, not {wish.ttl_ns / NS_PER_S:g} s"
            raise InvalidRequest(text, ttl_ns=str(wish.ttl_ns))
        check_shown("a label", wish.label)
        count = len(self.leases_by_session.get(wish.asker.session, ()))
        if count >= limits.LEASES_PER_SESSION_MAX:
            raise QuotaExceeded(f"this session has {count} leases, the most there may be", lease_count=count)

    def _place_on_first(self, wish: Wish, cards: Sequence[CardId]) -> tuple[Card, tuple[Allotment, ...]]:
        not_now: NotNow | None = None
        never: InvalidRequest | NotOwner | None = None
        for card_id in cards:
            card = self.cards[card_id]
            try:
                return card, place(
                    wish.claims,
                    card=card,
                    reservations=self.reservations,
                    asker=wish.asker,
                    find_holders=self.find_holders,
                )
            except NotNow as refusal:
                not_now = not_now or refusal
            except (InvalidRequest, NotOwner) as refusal:
                never = never or refusal
        refused = not_now or never
        assert refused is not None, "a request may use one card at least"
        raise refused

    def _answered_before(self, lease_id: LeaseId, request_id: int) -> Lease:
        if lease_id not in self.leases:
            text = f"request {request_id} was granted as {lease_id}, which has ended"
            raise LeaseGone(text, lease=lease_id, request_id=request_id)
        return self.leases[lease_id]


def _window_count(card: Card, allotments: Iterable[Allotment]) -> int:
    """How many of ``allotments`` are memory, and not given back."""
    return sum(1 for one in allotments if card.pools[one.pool].spec.unit_bytes and one.units.unit_count)
