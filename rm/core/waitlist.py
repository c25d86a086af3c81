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

    __slots__ = ("_count_by_session", "_queues", "_waiters")

    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}
        self._queues: dict[QueueKey, dict[int, Waiter]] = {}
        self._count_by_session: dict[SessionId, int] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def check_room(self, session: SessionId) -> None:
        """Refuses one more waiter where there are as many as may be.

        Raises:
            QuotaExceeded: the session, or all of them together, have their most waiters.
        """
        mine = self._count_by_session.get(session, 0)
        for count, most, whose in (
            (mine, limits.WAITERS_PER_SESSION_MAX, "this session"),
            (len(self), limits.WAITERS_MAX, "the daemon"),
        ):
            if count >= most:
                raise QuotaExceeded(f"{whose} has {count} waiting requests, the most there may be", waiter_count=count)

    def add(self, waiter: Waiter) -> None:
        """Puts a waiter at the end of its queues."""
        assert waiter.number not in self._waiters
        self._waiters[waiter.number] = waiter
        for key in waiter.queues():
            self._queues.setdefault(key, {})[waiter.number] = waiter
        session = waiter.wish.asker.session
        self._count_by_session[session] = self._count_by_session.get(session, 0) + 1

    def remove(self, waiter: Waiter) -> None:
        """Takes a waiter out of its queues."""
        del self._waiters[waiter.number]
        for key in waiter.queues():
            queue = self._queues[key]
            del queue[waiter.number]
            if not queue:
                del self._queues[key]
        session = waiter.wish.asker.session
        self._count_by_session[session] -= 1
        if not self._count_by_session[session]:
            del self._count_by_session[session]

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
        """The waiters of one session."""
        if session not in self._count_by_session:
            return []
        return [waiter for waiter in self._waiters.values() if waiter.wish.asker.session == session]

    def of_request(self, session: SessionId, request_id: int) -> Waiter | None:
        """The waiter of one request."""
        mine = self.of_session(session)
        return next((waiter for waiter in mine if waiter.wish.request_id == request_id), None)
