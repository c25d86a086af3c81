"""What the engine asks of a store, and the store that keeps nothing."""

from collections.abc import Callable
from typing import Protocol

from rm.core.books import Books
from rm.core.events import Event
from rm.core.snapshot import Snapshot
from rm.store.synced import Synced


class Store(Protocol):
    """Takes events in the order they were applied, and says when they are safe. Belongs to one event loop.

    The owner may set ``on_failure``, which is told why once nothing more can be made safe (the daemon must stop), and
    ``on_room``, which is told when a full disk has room again.
    """

    on_failure: Callable[[str], None]
    on_room: Callable[[], None]

    @property
    def is_durable(self) -> bool:
        """Whether what is synced survives a crash of the daemon."""

    @property
    def full_because(self) -> str:
        """Why nothing new may be granted now, in words; empty where there is room."""

    @property
    def synced(self) -> Synced:
        """How far everything is safe."""

    @property
    def wants_snapshot(self) -> bool:
        """Whether there are so many events since the last snapshot that another would pay."""

    def append(self, revision: int, event: Event) -> None:
        """Queues the event that made ``revision``. It must not wait."""

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Queues the books as they are after everything queued before; the events up to there are then dropped."""

    async def read_back(self) -> Books | None:
        """The books as everything that was queued before this call makes them; None where nothing is kept.

        Raises:
            StoreDamaged: what is on disk cannot be read.
        """

    async def close(self) -> None:
        """Makes everything safe that was queued, and ends."""


class MemoryStore:
    """Keeps nothing: the ledger in memory is all there is, and ends with the daemon."""

    is_durable = False
    full_because = ""
    wants_snapshot = False

    def __init__(self) -> None:
        self.synced = Synced()
        self.on_failure: Callable[[str], None] = lambda why: None
        self.on_room: Callable[[], None] = lambda: None

    def append(self, revision: int, event: Event) -> None:
        """Keeps nothing: the event was applied, and that is all that is promised."""
        self.synced.reached(revision)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Does nothing."""

    async def read_back(self) -> Books | None:
        """Has nothing to read."""
        return None

    async def close(self) -> None:
        """Does nothing."""
