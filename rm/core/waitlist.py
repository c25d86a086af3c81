"""Who waits for what, in the order they came. A structure only: who is granted is the engine's and the ledger's to say.

A waiter queues at every pool it may take units from, on every card it may use. Two requests conflict when they queue at
one pool; conflicting requests keep their order. So a waiter may be served from a card when it is first in all of its
queues there, and a newcomer when those queues are empty: neither question costs more with more waiters.
"""

from dataclasses import dataclass

from rm.core import limits
from rm.core.claims import Wish
from rm.core.errors import QuotaExceeded
from rm.core.types import CardId, PoolName, SessionId

QueueKey = tuple[CardId, PoolName]


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """A request that waits until ``deadline_ns``. ``number`` counts up in the order of arrival."""

    number: int
    wish: Wish
    cards: tuple[CardId, ...]
    pools: frozenset[PoolName]
    deadline_ns: int

    def queues(self) -> list[QueueKey]:
        """Its queues."""
        return [(card, pool) for card in self.cards for pool in self.pools]


class Waitlist:
    """All requests that wait."""

    __slots__ = ("_by_request", "_by_session", "_count", "_queues")

    def __init__(self) -> None:
        self._count = 0
        self._queues: dict[QueueKey, dict[int, Waiter]] = {}
        self._by_session: dict[SessionId, dict[int, Waiter]] = {}
        self._by_request: dict[tuple[SessionId, int], Waiter] = {}

    def __len__(self) -> int:
        return self._count

    def check_room(self, session: SessionId) -> None:
        """Refuses one more waiter where there are as many as may be.

        Raises:
            QuotaExceeded: the session, or all of them together, have their most waiters.
        """
        mine = len(self._by_session.get(session, ()))
        for count, most, whose in (
            (mine, limits.WAITERS_PER_SESSION_MAX, "this session"),
            (len(self), limits.WAITERS_MAX, "the daemon"),
        ):
            if count >= most:
                raise QuotaExceeded(f"{whose} has {count} waiting requests, the most there may be", waiter_count=count)

    def add(self, waiter: Waiter) -> None:
        """Puts a waiter at the end of its queues."""
        wish = waiter.wish
        mine = self._by_session.setdefault(wish.asker.session, {})
        assert waiter.number not in mine
        mine[waiter.number] = waiter
        for key in waiter.queues():
            self._queues.setdefault(key, {})[waiter.number] = waiter
        if wish.request_id:
            self._by_request[wish.asker.session, wish.request_id] = waiter
        self._count += 1

    def remove(self, waiter: Waiter) -> None:
        """Takes a waiter out of its queues."""
        wish = waiter.wish
        mine = self._by_session[wish.asker.session]
        del mine[waiter.number]
        if not mine:
            del self._by_session[wish.asker.session]
        for key in waiter.queues():
            queue = self._queues[key]
            del queue[waiter.number]
            if not queue:
                del self._queues[key]
        self._by_request.pop((wish.asker.session, wish.request_id), None)
        self._count -= 1

    def first(self, key: QueueKey) -> Waiter | None:
        """Who is first in one queue."""
        queue = self._queues.get(key)
        return next(iter(queue.values())) if queue else None

    def count(self, key: QueueKey) -> int:
        """How many wait in one queue."""
        return len(self._queues.get(key, ()))

    def open_cards(self, cards: tuple[CardId, ...], pools: frozenset[PoolName]) -> tuple[CardId, ...]:
        """Those of ``cards`` on which nobody waits for one of ``pools``."""
        return tuple(card for card in cards if not any((card, pool) in self._queues for pool in pools))

    def cards_led_by(self, waiter: Waiter) -> tuple[CardId, ...]:
        """Cards on which ``waiter`` is first in all of its queues."""
        return tuple(card for card in waiter.cards if all(self.first((card, pool)) is waiter for pool in waiter.pools))

    def of_session(self, session: SessionId) -> list[Waiter]:
        """The waiters of one session, in the order they came."""
        return list(self._by_session.get(session, {}).values())

    def of_request(self, session: SessionId, request_id: int) -> Waiter | None:
        """The waiter of one request."""
        return self._by_request.get((session, request_id))
