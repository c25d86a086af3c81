"""What happened lately, and who wants to hear of it. Both are bounded: a slow watcher loses events, and is told so."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rm.core import events, limits
from rm.core.errors import QuotaExceeded, ShuttingDown
from rm.core.lease import Lease
from rm.core.types import Holder

Kind = Literal[
    "started",
    "granted",
    "extended",
    "units_returned",
    "revoking",
    "ended",
    "units_quiet",
    "reserved",
    "unreserved",
    "gated",
    "resync",
]


@dataclass(frozen=True, slots=True, eq=False)
class Happening:
    """One event, as it is told to people. Each is itself alone: what is made of it for one watcher serves them all."""

    revision: int
    kind: Kind
    text: str
    wall_ns: int
    lease_id: str = ""
    card: str = ""
    cause: str = ""
    holder: Holder | None = None


_Told = Happening | Callable[[], Happening | None]

TELL_AFTER_S = 0.01
_UNTOLD = (events.SessionOpened, events.SessionForgotten, events.RequestForgone, events.WindowsRemade, events.Renewed)


def is_told(event: events.Event) -> bool:
    """Whether somebody may watch for events of this kind."""
    return not isinstance(event, _UNTOLD)


def describe(event: events.Event, lease: Lease | None, *, revision: int, wall_ns: int) -> Happening | None:
    """Puts an event into words; None for those that nobody watches for. ``lease`` is as it was when it happened."""
    who = lease.text() if lease else ""
    lease_id, card, holder = (lease.id, lease.card, lease.holder) if lease else ("", "", None)
    kind: Kind
    cause = ""
    match event:
        case events.Started(epoch):
            kind, text = "started", f"the daemon started: number {epoch} on this state"
        case events.Granted():
            kind, text = "granted", f"{who} was granted {', '.join(sorted(event.lease.pools))}"
        case events.Extended(_, allotments):
            kind, text = "extended", f"{who} got more {', '.join(sorted({one.pool for one in allotments}))}"
        case events.UnitsReturned():
            kind, text = "units_returned", f"{who} gave back some units"
        case events.RevocationBegan(_, cause):
            kind, text = "revoking", f"{who} is told to end: {cause}"
        case events.LeaseEnded(_, cause):
            kind, text = "ended", f"{who} ended: {cause}"
        case events.UnitsQuiet(quiet_id):
            kind, text = "units_quiet", f"the units of {quiet_id} are proven quiet"
        case _:
            return _describe_card(event, revision=revision, wall_ns=wall_ns)
    return Happening(revision, kind, text, wall_ns, lease_id, card, cause, holder)


def _describe_card(event: events.Event, *, revision: int, wall_ns: int) -> Happening | None:
    """What happened to a card, and to no lease."""
    kind: Kind
    match event:
        case events.Reserved(spec):
            kind, card, text = "reserved", spec.card, f"{spec.name} was reserved"
        case events.ReservationReplaced(spec):
            kind, card, text = "reserved", spec.card, f"{spec.name} was replaced"
        case events.Unreserved(name, card):
            kind, text = "unreserved", f"{name} is no longer reserved"
        case events.SitesGated(card, sites):
            off = f"the clocks of {len(sites)} sites of card {card} are off" if sites else ""
            kind, text = "gated", off or f"the clocks of all sites of card {card} run"
        case _:
            return None
    return Happening(revision, kind, text, wall_ns, card=card)


class Watcher:
    """Somebody who wants to hear of new events. Made and closed by the log."""

    def __init__(self) -> None:
        self._queue: deque[Happening] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False

    def tell(self, happenings: list[Happening]) -> None:
        """Queues events; where they are too many, only the latest are kept, behind RESYNC."""
        self._queue.extend(happenings)
        if len(self._queue) > limits.EVENTS_PER_WATCHER_MAX:
            latest = list(self._queue)[1 - limits.EVENTS_PER_WATCHER_MAX :]
            text = "events were lost: this watcher read too slowly"
            self._queue = deque([Happening(latest[0].revision, "resync", text, latest[0].wall_ns), *latest])
        self._arrived.set()

    def close(self) -> None:
        """Ends the watching once everything that was told is read."""
        self._is_closed = True
        self._arrived.set()

    async def next(self) -> list[Happening]:
        """Waits for events; answers those that are there, EVENTS_TOLD_TOGETHER_MAX at most.

        Raises:
            ShuttingDown: there will be none.
        """
        while not self._queue:
            if self._is_closed:
                raise ShuttingDown("the daemon is shutting down")
            self._arrived.clear()
            await self._arrived.wait()
        return [self._queue.popleft() for _ in range(min(len(self._queue), limits.EVENTS_TOLD_TOGETHER_MAX))]


class EventLog:
    """The latest events, and the watchers.

    Watchers are told a moment later, of all that has happened by then: to wake each of a hundred for each event would
    cost more than the events.
    """

    def __init__(self) -> None:
        self._past: deque[_Told] = deque(maxlen=limits.EVENTS_REMEMBERED)
        self._news: list[_Told] = []  # of which the watchers were not told yet
        self._telling: asyncio.TimerHandle | None = None
        self._watchers: set[Watcher] = set()
        self._is_closed = False

    def add(self, told: _Told) -> None:
        """Remembers an event, in words or what puts it into words, and tells it to every watcher."""
        self._past.append(told)
        if not self._watchers:
            return
        self._news.append(told)
        if len(self._news) >= limits.EVENTS_PER_WATCHER_MAX:
            self._tell()
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_AFTER_S, self._tell)

    def note(self, event: events.Event, lease: Lease | None, revision: int, wall_ns: int) -> None:
        """As ``add``, of an event that is put into words when somebody asks for it; see ``describe``."""
        self.add(partial(describe, event, lease, revision=revision, wall_ns=wall_ns))

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        news, self._news = self._news, []
        if happenings := _in_words(news):
            for watcher in self._watchers:
                watcher.tell(happenings)

    def past(self, count: int) -> list[Happening]:
        """The latest ``count`` events, oldest first."""
        return _in_words(list(self._past)[-count:] if count else [])

    def watch(self) -> Watcher:
        """Adds a watcher, who hears of everything from now on.

        Raises:
            QuotaExceeded: there are as many as may be.
            ShuttingDown: the log is closed.
        """
        if self._is_closed:
            raise ShuttingDown("the daemon is shutting down")
        if len(self._watchers) >= limits.WATCHERS_MAX:
            raise QuotaExceeded(f"{limits.WATCHERS_MAX} watchers are the most there may be", most=limits.WATCHERS_MAX)
        self._tell()  # what has happened already is none of its news
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """Removes a watcher."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """Ends every watching: the daemon is shutting down."""
        self._is_closed = True
        self._tell()
        for watcher in self._watchers:
            watcher.close()


def _in_words(told: list[_Told]) -> list[Happening]:
    words = [one if isinstance(one, Happening) else one() for one in told]
    return [one for one in words if one is not None]
