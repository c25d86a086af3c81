"""The one writer: decides through the ledger, applies, hands to the store, and answers once that is safe.

Everything that changes state here is synchronous, so that one turn of the event loop is one change; only waiting for
the store or for a turn in the queue is awaited. A client that gives up cancels its own wait, never a decided change.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence

from rm.core import limits
from rm.core.claims import Asker, Claim, Wish, pools_of
from rm.core.errors import (
    InvalidRequest,
    LeaseGone,
    NotNow,
    NotOwner,
    Refusal,
    ShuttingDown,
    WaitTimedOut,
)
from rm.core.events import Event, Granted, LeaseEnded, Request
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.report import explain
from rm.core.types import CardId, LeaseId, PoolName, SessionId, SiteName
from rm.core.waitlist import QueueKey, Waiter, Waitlist
from rm.devices.backend import Backend
from rm.service.clock import Clock
from rm.service.event_log import EventLog, describe
from rm.service.waiting import Waiting, WaitingRoom
from rm.store.store import Store

# Told of every lease that ended without its owner's asking: session, lease, cause.
OnLost = Callable[[SessionId, LeaseId, str], None]


class Engine:
    """Changes the books, and nothing else does."""

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
        self.on_lost: OnLost = lambda session, lease_id, cause: None
        self.has_changed = False
        self._on_failure = on_failure
        self._stopped_because = ""

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
        await self.synced()
        return lease

    async def extend(self, lease_id: LeaseId, claims: tuple[Claim, ...], asker: Asker, request: Request) -> Lease:
        """Adds ``claims`` to a lease, at once or not at all."""
        self._check_serving()
        with _FailStop(self):
            event = self.ledger.decide_extend(lease_id, claims, asker, request)
            if isinstance(event, Lease):
                lease = event
            else:
                lease = self.ledger.leases[lease_id]
                pools = pools_of(claims)
                if not self.waitlist.open_cards((lease.card,), pools):
                    raise self.waiting.in_front((lease.card,), pools)
                first_index = len(lease.allotments)
                self.backend.prepare(lease_id, lease.card, event.allotments, first_index=first_index)
                self._commit(event)
                lease = self.ledger.leases[lease_id]
        await self.synced()
        return lease

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
        with _FailStop(self):
            event = self.ledger.decide_give_back(lease_id, asker, request, pool=pool, ids=ids, at=at, to_pool=to_pool)
            if isinstance(event, LeaseEnded):
                self._end([event])
            elif event is not None and not isinstance(event, Lease):
                lease = self.ledger.leases[lease_id]
                for index, lost in enumerate(event.lost):
                    if lost.sites and lost.unit_count == lease.allotments[index].units.unit_count:
                        self.backend.give_back(lease_id, index)
                self._commit(event)
                self._serve_waiters([(lease.card, pool)])
        await self.synced()
        return self.ledger.leases.get(lease_id)

    # Ending.

    async def release(self, lease_id: LeaseId, asker: Asker, *, to_pool: bool = False) -> bool:
        """Ends a lease politely; answers whether this call did."""
        with _FailStop(self):
            event = self.ledger.decide_release(lease_id, asker, to_pool=to_pool)
            if event is not None:
                self._end([event])
        await self.synced()
        return event is not None

    async def forgo(self, session: SessionId, request_id: int) -> bool:
        """Ends whatever an acquire got whose answer never came, and sees to it that it gets nothing later."""
        with _FailStop(self):
            waiter = self.waitlist.of_request(session, request_id)
            if waiter is not None:
                self._withdraw(waiter)
            event = self.ledger.decide_forgo(session, request_id)
            if isinstance(event, LeaseEnded):
                self._end([event])
            elif event is not None:
                self._commit(event)
        await self.synced()
        return isinstance(event, LeaseEnded)

    def end_session(self, session: SessionId, cause: str, *, is_violent: bool) -> None:
        """Ends every lease and every wait of a session."""
        with _FailStop(self):
            waiters = self.waitlist.of_session(session)
            for waiter in waiters:  # all of them before anybody is served: none of them may be granted now
                self.waiting.leave(waiter, LeaseGone("the session ended"))
            self._end(self.ledger.decide_end_session(session, cause, is_violent=is_violent))
            self._serve_waiters(queue for waiter in waiters for queue in waiter.queues())
            self._commit(self.ledger.decide_forget_session(session))

    # Living on.

    def keep_alive(self, session: SessionId, lease_ids: Sequence[LeaseId]) -> tuple[LeaseId, ...]:
        """Renews the leases of a session; answers those that are not live. It does not wait for the store."""
        with _FailStop(self):
            renewed, lost = self.ledger.decide_renew(lease_ids, session, now_ns=self.clock.monotonic_ns())
            if renewed.deadlines:
                self.ledger.apply(renewed)
        return lost

    def tick(self) -> None:
        """Ends what is overdue: leases without a keepalive, and waits that have lasted long enough."""
        with _FailStop(self):
            now_ns = self.clock.monotonic_ns()
            for waiter in self.waiting.overdue(now_ns):
                self._withdraw(waiter, self._timed_out(waiter))
            expired = self.ledger.decide_expire(now_ns=now_ns)
            sessions = [self.ledger.leases[event.lease_id].session for event in expired]
            self._end(expired, in_use=True)
        for session, event in zip(sessions, expired, strict=True):
            self.on_lost(session, event.lease_id, event.cause)

    def postpone(self, gap_ns: int) -> None:
        """Moves every keepalive deadline by the time in which the daemon did not run."""
        self.ledger.deadlines.postpone(gap_ns)

    async def synced(self) -> int:
        """Waits until everything that an answer may have seen is safe; answers its revision."""
        revision = self.ledger.revision
        await self.store.synced(revision)
        return revision

    def stop(self, because: str = "the daemon is shutting down") -> None:
        """Grants nothing from now on, and sends everybody who waits away."""
        self._stopped_because = because
        for waiting in self.waiting:
            self._withdraw(waiting.waiter, ShuttingDown(because))

    def fail(self) -> None:
        """Stops the daemon: one of our own rules was broken, and nothing more may be granted."""
        if not self._stopped_because:
            self._stopped_because = "the daemon found a fault of its own and stops"
            self._on_failure()

    # The steps of a change.

    def _acquire_or_queue(self, wish: Wish, wait_ns: int) -> Lease | Waiting:
        self._check_serving()
        if not 0 <= wait_ns <= limits.WAIT_NS_MAX:
            raise InvalidRequest("a wait is 0 s to 24 h", wait_ns=str(wait_ns))
        with _FailStop(self):
            again = self.waiting.asked_again(wish)
            if again is not None:
                return again
            cards = self.ledger.cards_for(wish)
            pools = pools_of(wish.claims)
            open_cards = self.waitlist.open_cards(cards, pools)
            try:
                if not open_cards:
                    self._check_possible(wish)
                    raise self.waiting.in_front(cards, pools)
                return self._grant(wish, open_cards)
            except NotNow:
                if not wait_ns:
                    raise
            deadline_ns = self.clock.monotonic_ns() + wait_ns
            return self.waiting.enter(wish, cards, pools, deadline_ns=deadline_ns)

    def _check_possible(self, wish: Wish) -> None:
        """Refuses at once what could never be granted, however short the queue."""
        refusal = explain(self.ledger, wish).refusal
        if refusal is not None and not isinstance(refusal, NotNow):
            raise refusal

    def _grant(self, wish: Wish, cards: tuple[CardId, ...], *, has_waited: bool = False) -> Lease:
        now_ns, now_wall_ns = self.clock.monotonic_ns(), self.clock.wall_ns()
        try:
            event = self.ledger.decide_acquire(
                wish, now_ns=now_ns, now_wall_ns=now_wall_ns, cards=cards, has_waited=has_waited
            )
        except (InvalidRequest, NotOwner) as fault:  # never from these cards, but perhaps from those with a queue
            self._check_possible(wish)
            raise self.waiting.in_front(self.ledger.cards_for(wish), pools_of(wish.claims)) from fault
        if isinstance(event, Lease):
            return event
        lease = event.lease
        self.backend.prepare(lease.id, lease.card, lease.allotments, first_index=0)
        self._commit(event)
        return lease

    async def _wait(self, waiting: Waiting) -> Lease:
        waiting.call_count += 1
        try:
            return await asyncio.shield(waiting.answer)
        finally:
            waiting.call_count -= 1
            if not waiting.call_count and waiting in self.waiting:
                with _FailStop(self):
                    self._withdraw(waiting.waiter)

    def _withdraw(self, waiter: Waiter, refusal: Refusal | None = None) -> None:
        """Takes a waiter out of the queue, and serves those who stood behind it."""
        self.waiting.leave(waiter, refusal or LeaseGone("the wait was given up"))
        self._serve_waiters(waiter.queues())

    def _timed_out(self, waiter: Waiter) -> WaitTimedOut:
        refusal = explain(self.ledger, waiter.wish).refusal
        if refusal is None:
            return WaitTimedOut("waited long enough, behind others")
        return WaitTimedOut(f"waited long enough: {refusal}", **refusal.facts)

    def _serve_waiters(self, queues: Iterable[QueueKey]) -> None:
        """Grants whoever may now be granted, in the order they came; ``queues`` are those where something changed."""
        numbers = {first.number for queue in queues if (first := self.waitlist.first(queue)) is not None}
        pending = sorted(numbers)
        while pending:
            waiting = self.waiting.get(heapq.heappop(pending))
            if waiting is None or self._stopped_because:
                continue
            waiter = waiting.waiter
            cards = self.waitlist.cards_led_by(waiter)
            if not cards:
                continue
            answer: Lease | Refusal
            try:
                answer = self._grant(waiter.wish, cards, has_waited=True)
            except NotNow:
                continue
            except Refusal as refusal:
                answer = refusal
            self.waiting.leave(waiter, answer)
            for queue in waiter.queues():
                first = self.waitlist.first(queue)
                if first is not None and first.number not in pending:
                    heapq.heappush(pending, first.number)

    def _end(self, ended: Iterable[LeaseEnded], *, in_use: bool = False) -> None:
        """Ends leases, takes their memory back, and gives their units on once the card is quiet.

        ``in_use`` says that their process lives and has not let go of them.
        """
        queues: dict[QueueKey, None] = {}
        for event in ended:
            lease = self.ledger.leases[event.lease_id]
            self._commit(event)
            is_quiet = self.backend.end(lease.id, self._when_quiet(lease.id) if in_use else None)
            if event.is_violent and is_quiet:
                self._commit(self.ledger.decide_quiet(lease.id))
            queues.update(dict.fromkeys((lease.card, pool) for pool in lease.pools))
        self._serve_waiters(queues)

    def _when_quiet(self, lease_id: LeaseId) -> Callable[[], None]:
        """What a back end calls, from any thread, once nothing uses the units of a lease any more."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(self._quiet, lease_id)

        return tell

    def _quiet(self, lease_id: LeaseId) -> None:
        with _FailStop(self):
            event = self.ledger.decide_quiet(lease_id)
            self._commit(event)
            self._serve_waiters([(event.card, allotment.pool) for allotment in event.allotments])

    def _commit(self, event: Event) -> None:
        """Applies an event, and queues it for the store in the same order."""
        self.has_changed = True
        lease_id = getattr(event, "lease_id", None)
        before = self.ledger.leases.get(lease_id) if lease_id else None
        self.ledger.apply(event)
        revision = self.ledger.revision
        self.store.append(revision, event)
        lease = event.lease if isinstance(event, Granted) else before
        happening = describe(event, lease, revision=revision, wall_ns=self.clock.wall_ns())
        if happening is not None:
            self.log.add(happening)

    def _check_serving(self) -> None:
        if self._stopped_because:
            raise ShuttingDown(self._stopped_because)


class _FailStop:
    """Round everything that may change state: stops the daemon on a mistake of our own.

    A refusal has changed nothing and passes. So does any other exception before the first change, which then costs only
    the call that met it; but a failed assert, or an exception after a change, leaves the books in doubt.
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        self._engine.has_changed = False

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        is_refusal = isinstance(fault, Refusal)
        if fault is not None and not is_refusal and (self._engine.has_changed or isinstance(fault, AssertionError)):
            self._engine.fail()
