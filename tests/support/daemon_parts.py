"""The parts of the daemon in the test's own process: an engine with a manual clock, a fake card and a fake store."""

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from rm.core.books import Books
from rm.core.card import Allotment, CardSpec
from rm.core.claims import Claim, Run, Units, Wish
from rm.core.errors import CardFailed, InvalidRequest
from rm.core.events import Event
from rm.core.lease import Lease, WindowMark
from rm.core.ledger import Ledger
from rm.core.limits import NOTICE_NS_DEFAULT
from rm.core.pool import Pool, PoolSpec
from rm.core.snapshot import Snapshot
from rm.core.types import NS_PER_S, CardId, LeaseId, PoolName
from rm.devices.backend import Fence, Window
from rm.service.engine import Engine
from rm.store.store import MemoryStore, Store
from rm.store.synced import Synced
from support.books import asker, bits_set, card
from support.clock import ManualClock

ASYNC_TEST_S_MAX = 60.0


def run_async(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes an ``async def`` test one that pytest can call: a loop of its own, and a deadline."""

    @functools.wraps(test)
    def run(*args: object, **fixtures: object) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **fixtures), ASYNC_TEST_S_MAX))

    return run


async def settle(turns: int = 20) -> None:
    """Lets every task that can go on go on; nothing here waits for time."""
    for _ in range(turns):
        await asyncio.sleep(0)


class FakeBackend:
    """A card that only remembers what it was asked. ``fault`` is raised by the next prepare, ``end_fault`` by an end.

    It answers a fence with ``fence_answer``; ``on_quiet`` has what a lease that was fenced waits for.
    """

    def __init__(self, cards: tuple[CardSpec, ...]) -> None:
        self.cards = cards
        self.incarnations: tuple[tuple[CardId, str], ...] = tuple((card.id, "never reset") for card in cards)
        self.warnings: tuple[str, ...] = ()
        self.fence_answer = Fence.QUIET
        self.fault: Exception | None = None
        self.end_fault: Exception | None = None
        self.prepared: dict[LeaseId, int] = {}
        self.adopted: list[LeaseId] = []
        self.fenced: list[tuple[LeaseId, bool]] = []
        self.on_quiet: dict[LeaseId, Callable[[], None]] = {}
        self.on_in_use: Callable[[LeaseId, float], None] = lambda lease_id, seen_s: None
        self.is_closed = False

    def prepare(
        self, lease_id: LeaseId, card: CardId, allotments: Sequence[Allotment], *, first_index: int
    ) -> tuple[WindowMark, ...]:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        assert first_index == self.prepared.get(lease_id, 0), "allotments are prepared in their order"
        self.prepared[lease_id] = first_index + len(allotments)
        return ()

    def adopt(self, lease: Lease) -> None:
        self.adopted.append(lease.id)
        self.prepared[lease.id] = len(lease.allotments)

    def hand_back(self, lease: Lease, allotment_index: int, fd: int) -> None:
        os.close(fd)
        raise InvalidRequest("this card has no windows")

    def remake(self, lease: Lease) -> tuple[WindowMark, ...]:
        return lease.windows

    def windows(self, lease_id: LeaseId) -> list[Window]:
        return []

    def used_bytes(self, lease_id: LeaseId) -> int:
        return 0

    def give_back(self, lease_id: LeaseId, allotment_index: int) -> None:
        assert allotment_index < self.prepared[lease_id]

    def end(self, lease_id: LeaseId) -> None:
        if self.end_fault is not None:
            fault, self.end_fault = self.end_fault, None
            raise fault
        self.prepared.pop(lease_id, None)

    def fence(self, lease: Lease, on_quiet: Callable[[], None], *, is_holder_dead: bool) -> Fence:
        self.end(lease.id)
        self.fenced.append((lease.id, is_holder_dead))
        if self.fence_answer is not Fence.QUIET:
            self.on_quiet[lease.id] = on_quiet
        return self.fence_answer

    def close(self) -> None:
        self.is_closed = True


class GatedStore:
    """A store whose disk is done only when the test says so, or at once where it is not held; full when it says so."""

    is_durable = True
    wants_snapshot = False

    def __init__(self, revision: int = 0, *, is_held: bool = True) -> None:
        self.synced = Synced(revision)
        self.is_held = is_held
        self.events: list[tuple[int, Event]] = []
        self.snapshots: list[Snapshot] = []
        self.full_because = ""
        self.on_failure: Callable[[str], None] = lambda why: None
        self.on_room: Callable[[], None] = lambda: None

    @property
    def kinds(self) -> list[str]:
        """The names of the events, in their order."""
        return [type(event).__name__ for _, event in self.events]

    def append(self, revision: int, event: Event) -> None:
        before = self.events[-1][0] if self.events else self.synced.revision
        assert revision == before + 1, "events are numbered without a gap"
        self.events.append((revision, event))
        if not self.is_held:
            self.sync()

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    async def read_back(self) -> Books | None:
        return None

    def sync(self) -> None:
        """The disk has everything that was queued so far, if the daemon still runs."""
        if self.events and self.synced.failed is None:
            self.synced.reached(self.events[-1][0])

    def fail(self, why: str) -> None:
        """The disk is broken: what was queued and not synced is lost."""
        self.synced.fail(why)
        self.on_failure(why)

    def has_room(self) -> None:
        """Somebody made room on the disk."""
        self.full_because = ""
        self.on_room()

    async def close(self) -> None:
        self.sync()


class CountingLedger(Ledger):
    """Counts how often somebody tried to be granted something."""

    try_count = 0

    def decide_acquire(self, *args: Any, **kwargs: Any) -> Any:
        self.try_count += 1
        return super().decide_acquire(*args, **kwargs)


@dataclass
class Parts:
    """An engine, and everything round it that a test looks at."""

    engine: Engine
    ledger: CountingLedger
    clock: ManualClock
    backend: FakeBackend
    failures: list[str] = field(default_factory=list)
    losses: list[tuple[str, str, str]] = field(default_factory=list)
    notices: list[tuple[str, str, float]] = field(default_factory=list)
    out_of_reach: list[str] = field(default_factory=list)

    def pool(self, name: str = "u", card_id: str = "0") -> Pool:
        return self.ledger.cards[CardId(card_id)].pools[PoolName(name)]

    def held(self, name: str = "u", card_id: str = "0") -> set[int]:
        return {unit for _, unit in bits_set(self.pool(name, card_id).held)}

    def quarantined(self, name: str = "u", card_id: str = "0") -> set[int]:
        return {unit for _, unit in bits_set(self.pool(name, card_id).quarantined)}

    async def acquire(self, *claims: Claim, session: str = "s1", wait_s: float = 0, **more: Any) -> Lease:
        return await self.engine.acquire(wish(*claims, session=session, **more), wait_ns=round(wait_s * NS_PER_S))

    def overdue(self) -> None:
        """Lets the keepalives that are due now be missed, and the notice that follows pass."""
        self.engine.tick()
        self.clock.advance(ns=NOTICE_NS_DEFAULT)
        self.engine.tick()

    async def waiter(self, *claims: Claim, session: str = "s1", wait_s: float = 60, **more: Any) -> asyncio.Task[Lease]:
        """A task that stands in the queue when this returns."""
        before = len(self.engine.waitlist)
        task = asyncio.create_task(self.acquire(*claims, session=session, wait_s=wait_s, **more))
        await settle()
        assert len(self.engine.waitlist) == before + 1, f"it does not wait: {task}"
        return task


def make_engine(
    *pools: PoolSpec,
    card_count: int = 1,
    cards: tuple[CardSpec, ...] = (),
    store: Store | None = None,
    ledger: CountingLedger | None = None,
) -> Parts:
    """An engine over ``card_count`` equal cards with these pools, or over ``cards``, with empty books or ``ledger``."""
    cards = cards or tuple(card(*pools, card_id=str(index)) for index in range(card_count))
    ledger, backend, clock = ledger or CountingLedger(cards), FakeBackend(cards), ManualClock()
    parts = Parts(None, ledger, clock, backend)  # type: ignore[arg-type]
    parts.engine = Engine(
        ledger, store or MemoryStore(), backend, clock, on_failure=lambda: parts.failures.append("failed")
    )
    news = parts.engine.news
    news.lost = lambda lease, cause: parts.losses.append((lease.session, lease.id, cause))
    news.revoking = lambda lease, cause, *, notice_ns: parts.notices.append((lease.id, cause, notice_ns / NS_PER_S))
    news.out_of_reach = lambda lease: parts.out_of_reach.append(lease.id)
    return parts


def units(count: int = 1, name: str = "u", **more: Any) -> Units:
    return Units(PoolName(name), count, **more)


def run_of(count: int, name: str = "u") -> Run:
    return Run(PoolName(name), unit_count=count)


def wish(
    *claims: Claim, session: str = "s1", card_id: str | None = None, fingerprint: bytes = b"", **more: Any
) -> Wish:
    return Wish(
        asker(session), claims, card=None if card_id is None else CardId(card_id), fingerprint=fingerprint, **more
    )


def card_failed() -> CardFailed:
    return CardFailed("no memory file could be made", size_bytes=1)
