"""The store that keeps everything: one thread that writes, one transaction and one fsync for all that has queued up.

The loop only queues, once a turn; the thread encodes, writes, and tells the loop how far everything is safe. While the
disk is quick and one client asks at a time the loop waits for that, a moment at most: to be told later costs more than
the disk does. Where several ask it hears the next of them meanwhile, for the next commit. A disk that hangs costs the
loop one such moment, and from then on it does not wait. Whatever goes wrong in the thread, but for a
full disk, ends the store for good: a write that failed is never tried again, as nobody can say what of it is on disk.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from rm.core import limits
from rm.core.books import Books
from rm.core.events import Event
from rm.core.ledger import Ledger
from rm.core.snapshot import Snapshot
from rm.store import codec
from rm.store.damage import StoreDamaged
from rm.store.database import Database, DiskFull
from rm.store.opening import open_database
from rm.store.recovery import recover
from rm.store.synced import Synced

QUICK_S = 0.002  # a disk that takes no longer for a commit is waited for, and no longer than this
_UNAWAITED_COUNT = 8  # commits that are not waited for after one that took longer, or had changes of several clients
FULL_RETRY_S = 0.25
FULL_AT_CLOSE_S = 2.0  # how long a full disk may delay the end of the daemon

_NEVER = 1 << 63

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Append:
    revision: int
    event: Event


@dataclass(frozen=True, slots=True)
class _ReadBack:
    answer: "asyncio.Future[Books]"


_Item = _Append | Snapshot | _ReadBack


class SqliteStore:
    """A store in a directory. Belongs to the event loop in which it is first used; until then it has no thread."""

    is_durable = True

    def __init__(self, database: Database, *, revision: int = 0, part_count: int = 0, event_count: int = 0) -> None:
        """Takes over ``database``, which holds a snapshot of ``part_count`` parts and ``event_count`` events."""
        self.synced = Synced(revision)
        self.on_failure: Callable[[str], None] = lambda why: None
        self.on_room: Callable[[], None] = lambda: None
        self.full_because = ""  # written by the store's thread
        self._database = database
        self._last_revision = revision
        self._snapshot_wanted_at = revision - event_count + _events_between_snapshots(part_count)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._is_handing_over = False  # at the end of this turn of the loop
        self._unawaited_left = 0  # commits that are still not waited for
        self._committed = threading.Lock()  # released by the thread for the loop that waits
        self._committed.acquire()
        self._safe_revision = revision
        self._changed = threading.Condition()  # guards all below
        self._is_idle = self._is_awaited = False  # the thread; its next commit, by the loop
        self._queue: deque[_Item] = deque()
        self._closing_since_s: float | None = None
        self._failed_because = ""
        self._doing: list[_Item] = []  # what the store's thread has taken
        self._next_look_s = 0.0  # when the store's thread looks again whether a full disk has room

    @classmethod
    def open(cls, directory: Path) -> "tuple[SqliteStore, Ledger]":
        """Opens the store in ``directory``, or makes an empty one; answers with the books that it holds.

        Raises:
            StoreDamaged: they cannot be read, or were lost. The text says what to do.
            DiskFull, OSError: a new store cannot be made.
        """
        with ExitStack() as undo:
            database = open_database(directory)
            undo.callback(database.close)
            ledger = recover(database)
            part_count, event_count = database.counts()
            store = cls(database, revision=ledger.revision, part_count=part_count, event_count=event_count)
            try:
                database.make_ballast()
            except DiskFull as fault:
                store._begin_full(fault)
            undo.pop_all()
        return store, ledger

    # What the loop calls.

    @property
    def wants_snapshot(self) -> bool:
        """Whether there are so many events since the last snapshot that another would pay, and none is on its way."""
        return self._last_revision >= self._snapshot_wanted_at and not self.full_because

    def append(self, revision: int, event: Event) -> None:
        """Queues the event that made ``revision``. After a failure it is dropped: nobody is told that it is safe."""
        assert revision == self._last_revision + 1, f"revision {revision} comes after {self._last_revision}"
        self._last_revision = revision
        self._put(_Append(revision, event), wakes=False)
        if not self._is_handing_over and self._loop is not None:
            self._is_handing_over = True
            self._loop.call_soon(self._hand_over)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Queues the books as they are after everything queued before; the events up to there are then dropped."""
        assert snapshot.head.revision == self._last_revision, "a snapshot is of the books as they are"
        self._snapshot_wanted_at = _NEVER
        self._put(snapshot)

    async def read_back(self) -> Books | None:
        """The books as everything that was queued before this call makes them, read from disk.

        Raises:
            StoreDamaged: what is on disk cannot be read, or the store has ended.
        """
        answer: asyncio.Future[Books] = asyncio.get_running_loop().create_future()
        if not self._put(_ReadBack(answer)):
            raise StoreDamaged(f"the store has ended: {self._failed_because or 'it is closed'}")
        return await answer

    async def close(self) -> None:
        """Makes everything safe that was queued, and ends. After a failure it only ends."""
        with self._changed:
            if self._closing_since_s is None:
                self._closing_since_s = time.monotonic()
                self._changed.notify()
        if self._loop is None:
            self._database.close()  # it was never used
        else:
            # What the thread told the loop before it ended has happened when this returns.
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _put(self, item: _Item, *, wakes: bool = True) -> bool:
        """Queues ``item``; says whether anybody will take it, which is now if it ``wakes`` the thread."""
        with self._changed:
            if self._failed_because or self._closing_since_s is not None:
                return False
            self._queue.append(item)
            if wakes:
                self._changed.notify()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread.start()
        return True

    def _hand_over(self) -> None:
        """Has the thread write what this turn of the loop has queued; waits for it where that is the quickest."""
        self._is_handing_over = False
        with self._changed:
            is_alone = self._is_idle and all(isinstance(item, _Append) for item in self._queue)
            self._is_awaited = is_alone and bool(self._queue) and not self._unawaited_left
            is_awaited = self._is_awaited
            self._changed.notify()
        if not is_awaited:
            return
        if not self._committed.acquire(timeout=QUICK_S):
            with self._changed:
                if self._is_awaited:  # it takes longer: the thread tells the loop when it is done
                    self._is_awaited = False
                    return
            self._committed.acquire()  # it has come just now
        if self._safe_revision > self.synced.revision:
            self.synced.reached(self._safe_revision)

    # What the thread tells the loop.

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        assert self._loop is not None, "only the thread tells, and the loop has started it"
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(what, *values)

    def _say_what_is_safe(self, revision: int) -> None:
        with self._changed:
            self._safe_revision = revision
            is_awaited, self._is_awaited = self._is_awaited, False
        if is_awaited:
            self._committed.release()
        else:
            self._tell(self.synced.reached, revision)

    def _want_snapshot_at(self, revision: int) -> None:
        self._snapshot_wanted_at = revision

    def _say_that_it_failed(self, why: str) -> None:
        self._snapshot_wanted_at = _NEVER
        self.synced.fail(why)
        self.on_failure(why)

    # The thread.

    def _run(self) -> None:
        try:
            while (items := self._take()) is not None:
                self._doing = items
                self._do(items)
        except Exception as fault:  # whatever it is, the daemon must learn of it, and nothing may be written after it
            self._fail(f"the store in {self._database.path.parent} failed: {type(fault).__name__}: {fault}")
        finally:
            self._database.close()

    def _take(self) -> list[_Item] | None:
        """Waits for work: events in a row, one other thing, or nothing while the disk is full. None: it is closed."""
        with self._changed:
            while not self._queue:
                if self._closing_since_s is not None:
                    return None
                self._is_idle = True
                self._changed.wait(FULL_RETRY_S if self.full_because else None)
                self._is_idle = False
                if self.full_because:
                    break
            items: list[_Item] = []
            while self._queue and len(items) < limits.EVENTS_PER_BATCH_MAX:
                if items and not (isinstance(items[0], _Append) and isinstance(self._queue[0], _Append)):
                    break
                items.append(self._queue.popleft())
            return items

    def _do(self, items: list[_Item]) -> None:
        match items:
            case [Snapshot() as snapshot]:
                self._compact(snapshot)
            case [_ReadBack(answer)]:
                self._read_back(answer)
            case _:
                self._write([item for item in items if isinstance(item, _Append)])
        if self.full_because:
            self._look_for_room()
        elif self._database.wants_checkpoint:
            self._checkpoint()

    def _write(self, batch: list[_Append]) -> None:
        if not batch:
            return
        rows = [(item.revision, codec.encode_event(item.event)) for item in batch]
        began_s = time.monotonic()
        while True:
            try:
                self._database.write(rows)
                break
            except DiskFull as fault:
                self._begin_full(fault)
                if not self._database.drop_ballast():
                    self._wait_for_room(fault)
        is_awaited_in_vain = time.monotonic() - began_s > QUICK_S or len(batch) > 1
        self._unawaited_left = _UNAWAITED_COUNT if is_awaited_in_vain else max(0, self._unawaited_left - 1)
        self._say_what_is_safe(batch[-1].revision)

    def _compact(self, snapshot: Snapshot) -> None:
        parts = [codec.encode_part(snapshot.head), *map(codec.encode_part, snapshot.parts)]
        pause = _events_between_snapshots(len(snapshot.parts))
        try:
            self._database.compact(parts, snapshot.head.revision)
        except DiskFull as fault:  # the events are all there still: another snapshot will do
            self._begin_full(fault)
        self._tell(self._want_snapshot_at, snapshot.head.revision + pause)

    def _read_back(self, answer: "asyncio.Future[Books]") -> None:
        try:
            books = recover(self._database)
        except StoreDamaged as fault:
            self._tell(_set_unless_done, answer.set_exception, answer, fault)
        else:
            self._tell(_set_unless_done, answer.set_result, answer, books)

    def _checkpoint(self) -> None:
        try:
            self._database.checkpoint()
        except DiskFull as fault:
            self._begin_full(fault)

    # A full disk.

    def _begin_full(self, fault: DiskFull) -> None:
        if not self.full_because:
            self.full_because = f"{fault}; nothing new is granted until there is room"
            _log.warning("the disk is full", fault=str(fault))

    def _wait_for_room(self, fault: DiskFull) -> None:
        """Lets some time pass before the same batch is tried again; nothing is answered meanwhile."""
        if self._closing_since_s is not None and time.monotonic() - self._closing_since_s > FULL_AT_CLOSE_S:
            raise fault
        time.sleep(FULL_RETRY_S)

    def _look_for_room(self) -> None:
        """Ends the time of the full disk if the log fits into the file, and the ballast beside it.

        The new log leaves behind what a write that found no room left in the old one (see rm/store/wal.py).
        """
        if time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + FULL_RETRY_S
        try:
            self._database.checkpoint()
            self._database.make_ballast()
        except DiskFull:
            return
        self.full_because = ""
        _log.info("the disk has room again", path=str(self._database.path))
        self._tell(self.on_room)

    # A failure.

    def _fail(self, why: str) -> None:
        with self._changed:
            self._failed_because = why
            left = [*self._doing, *self._queue]
            self._queue.clear()
            is_awaited, self._is_awaited = self._is_awaited, False
        if is_awaited:
            self._committed.release()
        _log.error("the store failed", why=why)
        self._tell(self._say_that_it_failed, why)
        for item in left:
            if isinstance(item, _ReadBack):
                self._tell(_set_unless_done, item.answer.set_exception, item.answer, StoreDamaged(why))


def _events_between_snapshots(part_count: int) -> int:
    return max(limits.EVENTS_BETWEEN_SNAPSHOTS_MIN, 2 * part_count)


def _set_unless_done(set_it: Callable[[object], None], answer: "asyncio.Future[Books]", value: object) -> None:
    if not answer.done():  # whoever asked may have gone
        set_it(value)
