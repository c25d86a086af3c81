"""Who waits for which revision to be safe. Belongs to the event loop: a store that writes elsewhere tells it there."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from rm.core.errors import Refusal, ShuttingDown


class Synced:
    """How far everything is safe, and what is to happen when it is safe further."""

    def __init__(self, revision: int = 0) -> None:
        """Everything up to ``revision`` is safe already."""
        self.revision = revision
        self._numbers = count()
        self._then: list[tuple[int, int, Callable[[], None], Callable[[Refusal], None]]] = []
        self.failed: Refusal | None = None

    def when(
        self, revision: int, then: Callable[[], None], or_else: Callable[[Refusal], None] = lambda refusal: None
    ) -> None:
        """Calls ``then`` once ``revision`` is safe, at once where it is; ``or_else`` where it never will be.

        Calls come in the order of revisions, and in the order of asking for one revision.
        """
        if revision <= self.revision:
            then()
        elif self.failed is not None:
            or_else(self.failed)
        else:
            heapq.heappush(self._then, (revision, next(self._numbers), then, or_else))

    async def wait(self, revision: int) -> None:
        """Returns once ``revision`` is safe.

        Raises:
            ShuttingDown: it never will be.
        """
        if revision <= self.revision:
            return
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then() -> None:
            if not safe.done():
                safe.set_result(None)

        def or_else(refusal: Refusal) -> None:
            if not safe.done():
                safe.set_exception(refusal)

        self.when(revision, then, or_else)
        await safe

    def reached(self, revision: int) -> None:
        """Everything up to ``revision`` is safe now."""
        assert revision >= self.revision, f"{revision} was safe before {self.revision}"
        self.revision = revision
        while self._then and self._then[0][0] <= revision:
            _, _, then, _ = heapq.heappop(self._then)
            then()

    def fail(self, why: str) -> None:
        """Nothing more will ever be safe: sends everybody away who waits, and whoever comes."""
        self.failed = ShuttingDown(why)
        waiting, self._then = self._then, []
        for _, _, _, or_else in sorted(waiting, key=lambda entry: entry[:2]):
            or_else(self.failed)
