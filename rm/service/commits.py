"""The way of every event: applied to the books, queued for the store in the same order, told to others once it is safe.

Here the daemon also stops when it finds a mistake of its own, instead of going on in doubt.
"""

from collections.abc import Callable
from functools import partial

from rm.core.errors import Refusal, ShuttingDown
from rm.core.events import Event, Granted, LeaseEnded, RevocationBegan
from rm.core.ledger import Ledger
from rm.core.snapshot import take
from rm.core.types import LeaseId
from rm.service.clock import Clock
from rm.service.event_log import EventLog, is_told
from rm.store.store import Store


class Commits:
    """The one way in which an event changes the books."""

    def __init__(
        self, ledger: Ledger, store: Store, clock: Clock, log: EventLog, on_failure: Callable[[], None]
    ) -> None:
        """``on_failure`` is called once when nothing may change any more."""
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._log = log
        self._on_failure = on_failure
        self._ends_untold: set[LeaseId] = set()
        self._depth = 0
        self._has_changed = False
        self.failed_because = ""
        store.on_failure = self.fail

    def commit(self, event: Event) -> None:
        """Applies an event, and queues it for the store in the same order.

        Raises:
            ShuttingDown: nothing changes any more.
        """
        if self.failed_because:
            raise ShuttingDown(self.failed_because)
        self._has_changed = True
        lease_id = getattr(event, "lease_id", None)
        before = (self._ledger.leases.get(lease_id) or self._ledger.quarantine.get(lease_id)) if lease_id else None
        self._ledger.apply(event)
        revision = self._ledger.revision
        self._store.append(revision, event)
        if isinstance(event, LeaseEnded | RevocationBegan):
            self._ends_untold.add(event.lease_id)
            self.when_synced(partial(self._ends_untold.discard, event.lease_id))
        lease = event.lease if isinstance(event, Granted) else before
        if is_told(event):
            self.when_synced(partial(self._log.note, event, lease, revision, self._clock.wall_ns()))
        if self._store.wants_snapshot:
            self._store.put_snapshot(take(self._ledger))

    def when_synced(self, then: Callable[[], None]) -> None:
        """Does what others will see once all that was decided so far is safe."""
        self._store.synced.when(self._ledger.revision, then)

    async def synced(self) -> int:
        """Waits until all that was decided so far is safe; answers its revision.

        Raises:
            ShuttingDown: it never will be.
        """
        revision = self._ledger.revision
        await self._store.synced.wait(revision)
        return revision

    async def told(self, refusal: Refusal) -> Refusal:
        """Waits until a refusal may be told, for it has seen events too; answers what is told where it never may."""
        try:
            await self.synced()
        except ShuttingDown as stopping:
            return stopping
        return refusal

    def may_tell_end(self, lease_id: LeaseId) -> bool:
        """Whether the end of a lease that is not live is safe, and so may be told."""
        return lease_id not in self._ends_untold

    def fail(self, because: str) -> None:
        """Stops the daemon: a rule of our own was broken, or the store failed. From now on nothing changes."""
        if not self.failed_because:
            self.failed_because = because
            self._on_failure()

    # Stands round everything that may change state, as ``with commits:``. A refusal has changed nothing and passes. So
    # does any other exception before the first change, which then costs only the call that met it; but a failed assert,
    # or an exception after a change, leaves the books in doubt.

    def __enter__(self) -> None:
        if not self._depth:
            self._has_changed = False
        self._depth += 1

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        self._depth -= 1
        is_refusal = isinstance(fault, Refusal)
        if fault is not None and not is_refusal and (self._has_changed or isinstance(fault, AssertionError)):
            self.fail(f"the daemon found a fault of its own: {type(fault).__name__}: {fault}")
