"""The requests that wait, with what the engine needs besides their order: their answers, and when they give up."""

import asyncio
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from rm.core.claims import Wish
from rm.core.errors import InvalidRequest, PoolExhausted, Refusal, WaitTimedOut
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.report import explain
from rm.core.types import CardId, PoolName
from rm.core.waitlist import Waiter, Waitlist

_STALE_DEADLINES_MAX = 1_024  # of waits that are over: they leave the heap when they come up, or when there are more


@dataclass(slots=True)
class Waiting:
    """A queued request, and how many calls wait for its answer (a client may ask again while it waits)."""

    waiter: Waiter
    answer: asyncio.Future[Lease]
    call_count: int = 0


class WaitingRoom:
    """Who waits, in which order, for how long, and who is told when it is over."""

    def __init__(self) -> None:
        self.waitlist = Waitlist()
        self._by_number: dict[int, Waiting] = {}
        self._deadlines: list[tuple[int, int]] = []
        self._numbers = count(1)
        self.on_enter: Callable[[int], None] = lambda deadline_ns: None

    def __iter__(self) -> Iterator[Waiting]:
        return iter(list(self._by_number.values()))

    def __contains__(self, waiting: Waiting) -> bool:
        return waiting.waiter.number in self._by_number

    def get(self, number: int) -> Waiting | None:
        """The waiting request of this number, if it still waits."""
        return self._by_number.get(number)

    def enter(self, wish: Wish, cards: tuple[CardId, ...], pools: frozenset[PoolName], *, deadline_ns: int) -> Waiting:
        """Puts a request at the end of its queues, and tells ``on_enter`` when it will give up.

        Raises:
            QuotaExceeded: its session, or all of them together, have their most waiters.
        """
        self.waitlist.check_room(wish.asker.session)
        waiter = Waiter(next(self._numbers), wish, cards, pools, deadline_ns)
        self.waitlist.add(waiter)
        heapq.heappush(self._deadlines, (deadline_ns, waiter.number))
        waiting = Waiting(waiter, asyncio.get_running_loop().create_future())
        self._by_number[waiter.number] = waiting
        self.on_enter(deadline_ns)
        return waiting

    def leave(self, waiter: Waiter, answer: Lease | Refusal) -> None:
        """Takes a request out of its queues, and tells whoever waits for it."""
        self.waitlist.remove(waiter)
        waiting = self._by_number.pop(waiter.number)
        if len(self._deadlines) > 2 * len(self._by_number) + _STALE_DEADLINES_MAX:
            self._deadlines = [(one.waiter.deadline_ns, number) for number, one in self._by_number.items()]
            heapq.heapify(self._deadlines)
        if waiting.answer.done():
            return
        if isinstance(answer, Lease):
            waiting.answer.set_result(answer)
        else:
            waiting.answer.set_exception(answer)
            waiting.answer.exception()  # seen: a call that was cancelled will not look at it

    def asked_again(self, wish: Wish) -> Waiting | None:
        """The same request, where it already waits.

        Raises:
            InvalidRequest: its id waits with other parameters.
        """
        if not wish.request_id:
            return None
        waiter = self.waitlist.of_request(wish.asker.session, wish.request_id)
        if waiter is None:
            return None
        if waiter.wish.fingerprint != wish.fingerprint:
            text = f"request id {wish.request_id} waits with other parameters"
            raise InvalidRequest(text, request_id=wish.request_id)
        return self._by_number[waiter.number]

    def overdue(self, now_ns: int) -> Iterator[Waiter]:
        """Those who have waited long enough, one by one; each must leave before the next is asked for."""
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, number = heapq.heappop(self._deadlines)
            if number in self._by_number:
                yield self._by_number[number].waiter

    def timed_out(self, waiter: Waiter, ledger: Ledger, *, full_because: str) -> WaitTimedOut:
        """Why a request that waited long enough was not granted."""
        refusal = explain(ledger, waiter.wish).refusal
        if full_because:
            return WaitTimedOut(f"waited long enough: {full_because}")
        if refusal is None:
            return WaitTimedOut("waited long enough, behind others")
        return WaitTimedOut(f"waited long enough: {refusal}", **refusal.facts)

    def next_deadline_ns(self) -> int | None:
        """When the next wait ends, or one that has been answered since would have."""
        return self._deadlines[0][0] if self._deadlines else None

    def in_front(
        self, cards: tuple[CardId, ...], pools: frozenset[PoolName], *, may_queue: bool = True
    ) -> PoolExhausted:
        """Why a request that would overtake others is refused: who waits in front of it; ``may_queue`` if it could."""
        queues = [(card, pool) for card in cards for pool in pools]
        firsts = [first for queue in queues if (first := self.waitlist.first(queue)) is not None]
        wish = min(firsts, key=lambda waiter: waiter.number).wish
        waiter_count = max(self.waitlist.count(queue) for queue in queues)
        names, pid = ", ".join(sorted(pools)), wish.asker.holder.pid
        who = f"pid {pid}" + (f" ('{wish.label}')" if wish.label else "")
        then = "give a wait to queue behind" if may_queue else "try again when they are served"
        text = f"{waiter_count} waiting in front for {names}, the first of them {who}; {then}"
        return PoolExhausted(text, pool=names, waiter_count=waiter_count, waiter_pid=pid, holders=[])
