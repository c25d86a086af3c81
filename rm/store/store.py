"""What the engine asks of a store, and the store that keeps nothing."""

from typing import Protocol

from rm.core.events import Event


class Store(Protocol):
    """Takes events in the order they were applied, and says when they are safe."""

    @property
    def is_durable(self) -> bool:
        """Whether what is synced survives a crash of the daemon."""

    def append(self, revision: int, event: Event) -> None:
        """Queues the event that made ``revision``. It must not wait."""

    async def synced(self, revision: int) -> None:
        """Returns once every event up to ``revision`` is safe. No answer leaves before that."""

    async def close(self) -> None:
        """Makes everything safe that was queued, and ends."""


class MemoryStore:
    """Keeps nothing: the ledger in memory is all there is, and ends with the daemon."""

    is_durable = False

    def append(self, revision: int, event: Event) -> None:
        """Does nothing: the event was applied, and that is all that is promised."""

    async def synced(self, revision: int) -> None:
        """Returns at once."""

    async def close(self) -> None:
        """Does nothing."""
