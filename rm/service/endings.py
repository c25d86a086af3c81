"""How a lease ends: politely at once; by force only after notice, and then its units wait until the card is quiet.

What others would notice of it (a word to the holder, memory that is taken away) happens once the end is on disk: else a
daemon that crashed in between would come back with a live lease whose memory it has taken.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from rm.core.events import LeaseEnded, RevocationBegan
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.waitlist import QueueKey
from rm.devices.backend import Backend, Fence
from rm.service.commits import Commits
from rm.service.news import News


class Endings:
    """Ends leases, and gives their units on: ``serve`` is told of the queues where that may help somebody."""

    def __init__(
        self,
        ledger: Ledger,
        backend: Backend,
        commits: Commits,
        news: News,
        *,
        serve: Callable[[Iterable[QueueKey]], None],
    ) -> None:
        self._ledger = ledger
        self._backend = backend
        self._commits = commits
        self._news = news
        self._serve = serve

    def begin(self, event: RevocationBegan, *, now_ns: int) -> None:
        """Tells a holder to let go. It learns so once that is safe; its time runs already."""
        assert event.deadline_ns is not None
        lease = self._ledger.leases[event.lease_id]
        self._commits.commit(event)
        notice_ns = max(0, event.deadline_ns - now_ns)
        self._commits.when_synced(partial(self._news.revoking, lease, event.cause, notice_ns=notice_ns))

    def end(self, ended: Iterable[LeaseEnded], *, is_holder_dead: bool = False) -> None:
        """Ends leases, takes their memory back, and gives their units on once the card is quiet."""
        queues: dict[QueueKey, None] = {}
        for event in ended:
            lease = self._ledger.leases[event.lease_id]
            if not event.is_violent and len(self._backend.windows(lease.id)) < len(lease.windows):
                event = replace(event, is_violent=True)  # noqa: PLW2901 - who kept a window back has not let go of it
            self._commits.commit(event)
            if not event.is_violent:
                self._backend.end(lease.id)
            elif is_holder_dead:
                self._fence(lease, is_holder_dead=True)
            else:  # its process lives, and may use it: nothing is taken from it before its end is safe
                self._commits.when_synced(partial(self._fence_living, lease, event.cause))
            queues.update(dict.fromkeys(_queues(lease)))
        self._serve(queues)

    def fence_again(self, lease: Lease, *, is_holder_dead: bool) -> None:
        """Goes on, after a restart, with the fencing of a lease in quarantine."""
        with self._commits:
            self._fence(lease, is_holder_dead=is_holder_dead)

    def _fence_living(self, lease: Lease, cause: str) -> None:
        if self._commits.failed_because:
            return  # it is left to the next daemon
        with self._commits:
            self._fence(lease, is_holder_dead=False)
            self._serve(_queues(lease))
        self._news.lost(lease, cause)

    def _fence(self, lease: Lease, *, is_holder_dead: bool) -> None:
        """Has the card taken out of a lease's hands; its units are in quarantine until that is proven."""
        fence = self._backend.fence(lease, self._when_quiet(lease), is_holder_dead=is_holder_dead)
        if fence is Fence.QUIET:
            self._commits.commit(self._ledger.decide_quiet(lease.id))
        elif fence is Fence.OUT_OF_REACH and not is_holder_dead:
            self._news.out_of_reach(lease)

    def _when_quiet(self, lease: Lease) -> Callable[[], None]:
        """What a back end calls, from any thread, once nothing uses the units of a lease any more."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(self._quiet, lease)

        return tell

    def _quiet(self, lease: Lease) -> None:
        if self._commits.failed_because:
            return
        with self._commits:
            self._commits.commit(self._ledger.decide_quiet(lease.id))
            self._serve(_queues(lease))


def _queues(lease: Lease) -> list[QueueKey]:
    """Where somebody may wait for units of a lease."""
    return [(lease.card, pool) for pool in lease.pools]
