"""The one writer: decides through the ledger, applies, hands to the store, and answers once that is safe.

Everything that changes state here is synchronous, so that one turn of the event loop is one change; only waiting for
the store or for a turn in the queue is awaited. A client that gives up cancels its own wait, never a decided change.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from rm.core import limits
from rm.core.claims import Asker, Claim, Wish, pools_of
from rm.core.errors import (
    InvalidRequest,
    LeaseGone,
    NotNow,
    NotOwner,
    Refusal,
    ShuttingDown,
    StoreFull,
)
from rm.core.events import Granted, LeaseEnded, Renewed, Request, RevocationBegan, UnitsReturned, WindowsRemade
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.report import check_possible
from rm.core.session import SessionRecord
from rm.core.types import CardId, LeaseId, PoolName, SessionId, SiteName
from rm.core.unclaimed import Unclaimed
from rm.core.waitlist import QueueKey, Waiter, Waitlist
from rm.devices.backend import Backend
from rm.service.clock import Clock
from rm.service.commits import Commits
from rm.service.endings import Endings
from rm.service.event_log import EventLog
from rm.service.news import News
from rm.service.reservations import Desk, Reservations
from rm.service.waiting import Waiting, WaitingRoom
from rm.store.store import Store


class Engine:
    """Decides what becomes of the books. Events go through ``commits``; only renewals, which nobody keeps, do not."""

    def __init__(
        self, ledger: Ledger, store: Store, backend: Backend, clock: Clock, *, on_failure: Callable[[], None]
    ) -> None:
        """Takes over ``ledger``. ``on_failure`` is called once when a mistake of our own is found: stop the daemon."""
        self.ledger = ledger
        self.store = store
        self.backend = backend
        self.clock = clock
        self.log = EventLog()
        self.waiting = WaitingRoom()
        self.news = News()
        self.commits = Commits(ledger, store, clock, self.log, on_failure)
        self.endings = Endings(ledger, backend, self.commits, self.news, serve=self._serve_waiters)
        self.reservations = Reservations(
            ledger, self.commits, self.waiting, Desk(self._check_serving, self._check_room, self._serve_waiters)
        )
        self._unclaimed = Unclaimed()
        self._coming: set[LeaseId] = set()  # granted, and not safe yet: nobody knows of them
        self._ran_ns = clock.monotonic_ns()  # at the last tick, less the time in which the daemon stood still
        self._paused_ns = 0
        self._stopped_because = ""
        store.on_room = self._serve_everybody

    @property
    def waitlist(self) -> Waitlist:
        """Who waits for what."""
        return self.waiting.waitlist

    # Asking for units.

    async def acquire(self, wish: Wish, *, wait_ns: int = 0) -> Lease:
        """Grants ``wish``, at once or within ``wait_ns``.

        Raises:
            Refusal: as ``Ledger.decide_acquire``, and
            WaitTimedOut, QuotaExceeded, ShuttingDown: as their names say.
        """
        outcome = self._acquire_or_queue(wish, wait_ns)
        lease = outcome if isinstance(outcome, Lease) else await self._wait(outcome)
        return await self._safe_and_live(lease)

    async def extend(self, lease_id: LeaseId, claims: tuple[Claim, ...], asker: Asker, request: Request) -> Lease:
        """Adds ``claims`` to a lease, at once or not at all."""
        self._check_serving()
        with self.commits:
            event = self.ledger.decide_extend(lease_id, claims, asker, request)
            if isinstance(event, Lease):
                lease = event
            else:
                lease = self.ledger.leases[lease_id]
                pools = pools_of(claims)
                if not self.waitlist.open_cards((lease.card,), pools):
                    raise self.waiting.in_front((lease.card,), pools, may_queue=False)
                self._check_room()
                first_index = len(lease.allotments)
                windows = self.backend.prepare(lease_id, lease.card, event.allotments, first_index=first_index)
                self.commits.commit(replace(event, windows=windows))
                lease = self.ledger.leases[lease_id]
        return await self._safe_and_live(lease)

    async def give_back(
        self,
        lease_id: LeaseId,
        asker: Asker,
        request: Request,
        *,
        pool: PoolName,
        ids: Sequence[int],
        at: tuple[SiteName, ...] = (),
        to_pool: bool = False,
    ) -> Lease | None:
        """Gives back some units of a lease; None where they were its last."""
        self._check_serving()
        with self.commits:
            event = self.ledger.decide_give_back(lease_id, asker, request, pool=pool, ids=ids, at=at, to_pool=to_pool)
            if isinstance(event, LeaseEnded):
                self.endings.end([event])
            elif isinstance(event, UnitsReturned):
                lease = self.ledger.leases[lease_id]
                for index, lost in enumerate(event.lost):
                    if lost.sites and lost.unit_count == lease.allotments[index].units.unit_count:
                        self.backend.give_back(lease_id, index)
                self.commits.commit(event)
                self._serve_waiters([(lease.card, pool)])
            left = self.ledger.leases.get(lease_id)
        await self.synced()
        return left

    # Ending.

    async def release(self, lease_id: LeaseId, asker: Asker, *, to_pool: bool = False) -> bool:
        """Ends a lease politely; answers whether this call did."""
        with self.commits:
            event = self.ledger.decide_release(lease_id, asker, to_pool=to_pool)
            if event is not None:
                self.endings.end([event])
        await self.synced()
        return event is not None

    async def forgo(self, session: SessionId, request_id: int) -> bool:
        """Ends whatever an acquire got whose answer never came, and sees to it that it gets nothing later."""
        with self.commits:
            waiter = self.waitlist.of_request(session, request_id)
            if waiter is not None:
                self._withdraw(waiter)
            event = self.ledger.decide_forgo(session, request_id)
            if isinstance(event, LeaseEnded):
                self.endings.end([event])
            elif event is not None:
                self.commits.commit(event)
        await self.synced()
        return isinstance(event, LeaseEnded)

    async def revoke(self, lease_id: LeaseId, asker: Asker, cause: str, *, notice_ns: int) -> bool:
        """Has an admin end somebody's lease: its holder is told, and fenced after ``notice_ns``."""
        with self.commits:
            now_ns = self.clock.monotonic_ns()
            event = self.ledger.decide_revoke(lease_id, asker, cause, notice_ns=notice_ns, now_ns=now_ns)
            if event is not None:
                self.endings.begin(event, now_ns=now_ns)
        await self.synced()
        return event is not None

    def open_session(self, session: SessionRecord) -> None:
        """Notes a client process; to be told of once that is safe.

        Raises:
            ShuttingDown, StoreFull: not now.
        """
        self._check_open()
        with self.commits:
            self.commits.commit(self.ledger.decide_open_session(session))

    def end_session(self, session: SessionId, cause: str, *, is_violent: bool) -> None:
        """Ends every lease and every wait of a session. A violent end is the death of its process."""
        with self.commits:
            waiters = self.waitlist.of_session(session)
            for waiter in waiters:  # all of them before anybody is served: none of them may be granted now
                self.waiting.leave(waiter, LeaseGone("the session ended"))
            ended = self.ledger.decide_end_session(session, cause, is_violent=is_violent)
            self.endings.end(ended, is_holder_dead=is_violent)
            self._serve_waiters(queue for waiter in waiters for queue in waiter.queues())
            self.commits.commit(self.ledger.decide_forget_session(session))
            self._unclaimed.forget(session)

    # Living on.

    def keep_alive(self, session: SessionId, lease_ids: Sequence[LeaseId]) -> tuple[LeaseId, ...]:
        """Renews the leases of a session, all of which it names; answers those that are not live.

        It does not wait for the store, and so tells of no end that is not safe yet. A lease that was left out for long
        enough comes back: its grant reached nobody.
        """
        with self.commits:
            now_ns = self.clock.monotonic_ns()
            renewed, lost = self.ledger.decide_renew(lease_ids, session, now_ns=now_ns)
            if renewed.deadlines:
                self.ledger.apply(renewed)
            self._unclaimed.named(session, lease_ids)
            held = self.ledger.leases_by_session.get(session)
            if held and self._unclaimed.is_due(session, now_ns=now_ns) and not held.keys() <= (named := set(lease_ids)):
                self._end_unclaimed(session, named)
        return tuple(lease_id for lease_id in lost if self.commits.may_tell_end(lease_id))

    def _end_unclaimed(self, session: SessionId, named: set[LeaseId]) -> None:
        revoking, coming = self.ledger.revoking, self._coming
        held = self.ledger.leases_by_session[session]
        mine = [self.ledger.leases[one] for one in held if one not in revoking and one not in coming]
        unclaimed = self._unclaimed.heard(session, mine, named, now_ns=self._ran_ns)
        self.endings.end([LeaseEnded(lease.id, "nobody claimed it", is_violent=True) for lease in unclaimed])

    def remake_windows(self, lease: Lease) -> None:
        """Makes windows of a lease anew that died with the last daemon before anybody had them.

        Raises:
            CardFailed: somebody has one, or the host cannot make another.
        """
        with self.commits:
            windows = self.backend.remake(lease)
            if windows != lease.windows:
                self.commits.commit(WindowsRemade(lease.id, windows))

    def tick(self) -> None:
        """Ends what is overdue: leases without a keepalive, and waits that have lasted long enough."""
        with self.commits:
            now_ns = self.clock.monotonic_ns()
            self._ran_ns = now_ns - self._paused_ns
            for waiter in self.waiting.overdue(now_ns):
                self._withdraw(
                    waiter, self.waiting.timed_out(waiter, self.ledger, full_because=self.store.full_because)
                )
            for event in self.ledger.decide_expire(now_ns=now_ns):
                if isinstance(event, RevocationBegan):
                    self.endings.begin(event, now_ns=now_ns)
                else:
                    self.endings.end([event])

    def postpone(self, gap_ns: int) -> None:
        """Moves every keepalive deadline by the time in which the daemon did not run."""
        self.ledger.deadlines.postpone(gap_ns)
        self._paused_ns += gap_ns

    async def synced(self) -> int:
        """Waits until everything that an answer may have seen is safe; answers its revision.

        Raises:
            ShuttingDown: it never will be.
        """
        return await self.commits.synced()

    def stop(self, because: str = "the daemon is shutting down") -> None:
        """Grants nothing from now on, and sends everybody who waits away."""
        self._stopped_because = because
        for waiting in self.waiting:
            self._withdraw(waiting.waiter, ShuttingDown(because))

    # The steps of a change.

    def _acquire_or_queue(self, wish: Wish, wait_ns: int) -> Lease | Waiting:
        self._check_serving()
        if not 0 <= wait_ns <= limits.WAIT_NS_MAX:
            raise InvalidRequest("a wait is 0 s to 24 h", wait_ns=str(wait_ns))
        with self.commits:
            again = self.waiting.asked_again(wish)
            if again is not None:
                return again
            lease = self.ledger.answered_before(wish)
            if lease is not None:  # asked again: it needs no turn in a queue
                self._unclaimed.asked_again(lease)
                return lease
            cards = self.ledger.cards_for(wish)
            pools = pools_of(wish.claims)
            open_cards = self.waitlist.open_cards(cards, pools)
            try:
                if not open_cards:
                    check_possible(self.ledger, wish)
                    raise self.waiting.in_front(cards, pools)
                return self._grant(wish, open_cards)
            except NotNow:
                if not wait_ns:
                    raise
            deadline_ns = self.clock.monotonic_ns() + wait_ns
            return self.waiting.enter(wish, cards, pools, deadline_ns=deadline_ns)

    def _grant(self, wish: Wish, cards: tuple[CardId, ...]) -> Lease:
        """Grants a wish that was found to be new when it came."""
        now_ns, now_wall_ns = self.clock.monotonic_ns(), self.clock.wall_ns()
        try:
            event = self.ledger.decide_acquire(wish, now_ns=now_ns, now_wall_ns=now_wall_ns, cards=cards, is_new=True)
        except (InvalidRequest, NotOwner) as fault:  # never from these cards, but perhaps from those with a queue
            check_possible(self.ledger, wish)
            raise self.waiting.in_front(self.ledger.cards_for(wish), pools_of(wish.claims)) from fault
        assert isinstance(event, Granted), "a request that is new finds no lease"
        self._check_room()
        lease = event.lease
        windows = self.backend.prepare(lease.id, lease.card, lease.allotments, first_index=0)
        lease = replace(lease, windows=windows) if windows else lease
        self._coming.add(lease.id)
        self.commits.commit(Granted(lease, event.request, None))
        self.commits.when_synced(partial(self._begin_clock, lease))
        return lease

    def _begin_clock(self, lease: Lease) -> None:
        """A grant is safe. Only now can its client hear of it, and keep it alive."""
        self._coming.discard(lease.id)
        if lease.ttl_ns is not None and lease.id in self.ledger.leases and lease.id not in self.ledger.revoking:
            self.ledger.apply(Renewed(((lease.id, self.clock.monotonic_ns() + lease.ttl_ns),)))

    async def _safe_and_live(self, lease: Lease) -> Lease:
        """Waits until a lease may be told to its client; refuses to, where it has ended meanwhile."""
        await self.synced()
        if lease.id not in self.ledger.leases:
            raise LeaseGone(f"{lease.id} ended before its client was told of it", lease=lease.id)
        return lease

    async def _wait(self, waiting: Waiting) -> Lease:
        waiting.call_count += 1
        try:
            return await asyncio.shield(waiting.answer)
        finally:
            waiting.call_count -= 1
            if not waiting.call_count and waiting in self.waiting:
                with self.commits:
                    self._withdraw(waiting.waiter)

    def _withdraw(self, waiter: Waiter, refusal: Refusal | None = None) -> None:
        """Takes a waiter out of the queue, and serves those who stood behind it."""
        self.waiting.leave(waiter, refusal or LeaseGone("the wait was given up"))
        self._serve_waiters(waiter.queues())

    def _serve_everybody(self) -> None:
        with self.commits:
            self._serve_waiters(queue for waiting in self.waiting for queue in waiting.waiter.queues())

    def _serve_waiters(self, queues: Iterable[QueueKey]) -> None:
        """Grants whoever may now be granted, in the order they came; ``queues`` are those where something changed."""
        numbers = {first.number for queue in queues if (first := self.waitlist.first(queue)) is not None}
        pending = sorted(numbers)
        while pending:
            waiting = self.waiting.get(heapq.heappop(pending))
            if waiting is None or self._stopped_because or self.commits.failed_because:
                continue
            waiter = waiting.waiter
            cards = self.waitlist.cards_led_by(waiter)
            if not cards:
                continue
            answer: Lease | Refusal
            try:
                answer = self._grant(waiter.wish, cards)
            except NotNow:
                continue
            except Refusal as refusal:
                answer = refusal
            self.waiting.leave(waiter, answer)
            for queue in waiter.queues():
                first = self.waitlist.first(queue)
                if first is not None and first.number not in pending:
                    heapq.heappush(pending, first.number)

    def _check_serving(self) -> None:
        if because := self.commits.failed_because or self._stopped_because:
            raise ShuttingDown(because)

    def _check_open(self) -> None:
        self._check_serving()
        self._check_room()

    def _check_room(self) -> None:
        if self.store.full_because:
            raise StoreFull(self.store.full_because)
