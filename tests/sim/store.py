"""A store on the simulated disk. It keeps what it was given in a queue until the simulation lets the disk write."""

from collections.abc import Callable
from random import Random

from rm.core.books import Books
from rm.core.events import Event
from rm.core.snapshot import Snapshot
from rm.store import codec
from rm.store.recovery import recover
from rm.store.synced import Synced
from sim.disk import Disk, Row, frame_of


class SimStore:
    """Answers the engine as ``SqliteStore`` does, but moves only when it is told to."""

    is_durable = True

    def __init__(
        self,
        disk: Disk,
        *,
        revision: int,
        events_between_snapshots: int,
        on_event: Callable[[int, Event], None],
        on_durable: Callable[[int], None],
    ) -> None:
        """``on_event`` hears of every event before it is queued, ``on_durable`` how far the disk has them."""
        self.synced = Synced(revision)
        self.on_failure: Callable[[str], None] = lambda why: None
        self.on_room: Callable[[], None] = lambda: None
        self.full_because = "" if disk.has_ballast else "the disk is full"
        self.compaction_count = 0
        self.has_failed = False
        self._disk = disk
        self._on_event = on_event
        self._on_durable = on_durable
        self._last_revision = revision
        self._pause = events_between_snapshots
        self._snapshot_wanted_at = revision + events_between_snapshots
        self._queue: list[tuple[int, list[Row]]] = []

    @property
    def wants_snapshot(self) -> bool:
        return self._last_revision >= self._snapshot_wanted_at and not self.full_because

    @property
    def queued_count(self) -> int:
        return len(self._queue)

    def append(self, revision: int, event: Event) -> None:
        assert not self.has_failed, "an event was decided after the store had failed"
        assert revision == self._last_revision + 1
        self._last_revision = revision
        self._on_event(revision, event)
        self._queue.append((revision, [(True, revision, codec.encode_event(event))]))

    def put_snapshot(self, snapshot: Snapshot) -> None:
        assert snapshot.head.revision == self._last_revision
        self._snapshot_wanted_at = self._last_revision + self._pause
        parts = (snapshot.head, *snapshot.parts)
        rows = [(False, key, codec.encode_part(part)) for key, part in enumerate(parts)]
        self._queue.append((self._last_revision, rows))

    async def read_back(self) -> Books | None:
        image = self._disk.read()
        for revision, rows in self._queue:
            image.add(revision, rows)
        return recover(image)  # type: ignore[arg-type] - it has what recovery asks for

    async def close(self) -> None:
        self.sync()

    # What the simulation does.

    def sync(self, most: int | None = None) -> None:
        """Writes what has queued up, or the first ``most`` of it, in transactions as the real store makes them."""
        left = len(self._queue) if most is None else min(most, len(self._queue))
        while left and not self.has_failed:
            count = 1
            if is_event := self._queue[0][1][0][0]:
                while count < left and self._queue[count][1][0][0]:
                    count += 1
            batch = self._queue[:count]
            rows = [row for _, rows in batch for row in rows]
            revision = batch[-1][0]
            if not is_event:
                self.compaction_count += self._disk.compact(revision, rows)  # where there is no room, another will do
            elif not self._write(revision, rows):
                return
            del self._queue[:count]
            left -= count
            self._on_durable(revision)
            self.synced.reached(revision)

    def _write(self, revision: int, rows: list[Row]) -> bool:
        if self._disk.write(revision, rows):
            return True
        self.full_because = "the disk is full"
        return self._disk.drop_ballast() and self._disk.write(revision, rows)

    def make_room(self) -> None:
        """The disk has room again: writes what waited for it, and says so."""
        self._disk.is_full = False
        self.sync()
        self._disk.has_ballast = True
        if self.full_because:
            self.full_because = ""
            self.on_room()

    def fail(self, why: str) -> None:
        """A write failed: nothing more will be safe."""
        self.has_failed = True
        self.synced.fail(why)
        self.on_failure(why)

    def on_their_way(self, random: Random) -> list[bytes]:
        """What a crash may find half written: the queue, in any transactions the store may have made of it."""
        frames: list[bytes] = []
        rows: list[Row] = []
        for index, (revision, more) in enumerate(self._queue):
            rows += more
            is_followed_by_event = index + 1 < len(self._queue) and self._queue[index + 1][1][0][0]
            if not (more[0][0] and is_followed_by_event and random.random() < 0.5):
                frames.append(frame_of(revision, rows))
                rows = []
        return frames
