"""Hands out units inside a lease."""

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from leasehold.claims import Claim, claims_to
from leasehold.errors import Closed, Invalid, LeaseLost, WindowInUse, refused
from leasehold.partition.ground import Ground
from leasehold.partition.part import Part
from leasehold.partition.row import Row
from rm.core.card import Allotment
from rm.core.claims import Claim as CoreClaim
from rm.core.claims import Run, Units
from rm.core.errors import Refusal
from rm.core.types import PoolName
from rm.service import convert

if TYPE_CHECKING:
    from leasehold.held_lease import HeldLease

CHECK_S = 0.01  # what the lease is told by others counts at once; its file and its keepalives are looked at so often
PLANS_MAX = 256  # wishes that are remembered with what they mean

_partitions: "weakref.WeakSet[Partition]" = weakref.WeakSet()


class _Plan(NamedTuple):
    """What a wish means that goes the short way. ``claims`` are kept alive, as it is known by their identity."""

    row: Row
    unit_count: int
    claims: tuple[Claim, ...]


class Partition:
    """The units that a lease has of some pools, to be handed out here. Thread-safe; ``lease.partition()`` makes it.

    Its memory is that of one window, which belongs to it until it is closed.
    """

    def __init__(self, lease: "HeldLease", pools: tuple[str, ...], window_index: int | None) -> None:
        """``window_index`` is that of an allotment of ``lease``; None: it has no memory. ``pools`` has each pool once.

        Raises:
            Exhausted: arrays or models have some of that memory.
        """
        self._lease = lease
        self._pools = pools
        self.window_index = window_index
        self._lock = threading.Lock()
        self._check_at = 0.0
        self._parts: dict[Part, None] = {}  # whose units are in the bits, oldest first
        self._quick: dict[Part, None] = {}  # whose units are in the index of free runs only; all newer than those
        self._later: list[Part] = []  # to be released when nothing uses their memory any more
        self._plans: dict[object, _Plan] = {}
        self._rows: dict[PoolName, Row] = {}  # of the pools that a plan was made for
        self._is_closed = False
        self._block: ctypes.Array[ctypes.c_ubyte] | None = None
        self._ground = self._make_ground()
        if window_index is not None:
            window = lease._windows[window_index]
            self._block = window._allocate(window.size)
        _partitions.add(self)

    # What users call.

    def acquire(self, *claims: Claim, memory: str | int | None = None, label: str = "", **counts: float | None) -> Part:
        """Takes everything that is claimed, or nothing; ``cores=1``, ``streams=2`` and so on are counts.

        It never waits. A claim object that is used again and again is quicker than a new one each time.

        Raises:
            Exhausted, Held: not now; ``facts["holders"]`` says which parts are in the way.
            Invalid: the units of this lease can never meet it.
            LeaseLost: the lease is lost, or belongs to the process of which this one was forked.
            Closed: the lease was released, or the partition closed.
        """
        key: object = None
        if claims:
            if len(claims) == 1 and memory is None and not counts:
                key = id(claims[0])  # its plan keeps it alive; one whose sites may change has none
        elif not counts:
            key = ("memory", memory, memory.__class__)  # the class, as True is 1
        elif len(counts) == 1 and memory is None:
            for pool_name, count in counts.items():
                key = (pool_name, count, count.__class__)
        if time.monotonic() >= self._check_at:
            self._check()
        with self._lock:
            try:
                plan = self._plans.get(key)
            except TypeError:  # it has no hash, and is no wish either
                plan = None
            if plan is not None:
                start = plan.row.take(plan.unit_count)
                if start >= 0:
                    part = Part(self, label, (), plan.row, start, start + plan.unit_count)
                    self._quick[part] = None
                    return part
            return self._acquire(claims, memory, counts, label, key)

    def refresh(self) -> None:
        """Takes in what the lease got of these pools since: after ``lease.extend``.

        Memory that was added is a window of its own, which ``lease.partition("memory", window=1)`` hands out.
        """
        self._check()
        with self._lock:
            self._refuse_if_closed()
            self._settle()
            self._ground = self._make_ground()
            self._plans.clear()  # they and the rows lead to the pools of before
            self._rows.clear()
            for part in self._parts:
                self._ground.hold(part._allotments)

    def close(self) -> None:
        """Gives the units back to the lease. Does nothing a second time.

        Raises:
            WindowInUse: parts are out; nothing was changed.
        """
        self._end(is_forced=False)
        self._lease._parted.forget(self)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that are out, oldest first."""
        with self._lock:
            return (*self._parts, *self._quick)

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools whose units it hands out."""
        return self._pools

    def free(self, pool: str) -> float:
        """How many units of a pool are free, over all sites; a fraction where some have slices left.

        Raises:
            Invalid: it hands out no units of this pool.
        """
        with self._lock:
            self._settle()
            found = self._ground.card.pools.get(PoolName(pool))
            if found is None:
                raise Invalid(f"a partition of {', '.join(self._pools)} has no pool {pool!r}", facts={"pool": pool})
            return found.free_count / found.spec.slices_per_unit

    def __enter__(self) -> "Partition":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            self._end(is_forced=True)
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a partition belongs to its process: it cannot be copied or pickled")

    # Whether the lease stands.

    def _check(self) -> None:
        self._check_at = time.monotonic() + CHECK_S  # before the look: who loses the lease meanwhile sets it to 0 after
        try:
            self._refuse_if_closed()
            self._lease.check()  # without the lock: it may tell this lease, and so this partition, that it is lost
        except (LeaseLost, Closed):
            self._check_at = 0.0
            raise

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise Closed(f"the partition of lease {self._lease.id} was closed, or its lease has ended")

    def _look_again(self) -> None:
        """Has the next call look whether the lease stands."""
        self._check_at = 0.0

    def _forget_parent(self) -> None:
        """In a forked child: the lease is the parent's, and so was whoever had the lock."""
        self._lock = threading.Lock()
        self._check_at = 0.0
        self._parts, self._quick, self._later = {}, {}, []

    def _end(self, *, is_forced: bool) -> None:
        """Ends it.

        Raises:
            WindowInUse: parts are out, and it is not forced.
        """
        with self._lock:
            if not is_forced:
                self._refuse_if_out()
            self._is_closed, self._check_at, self._block = True, 0.0, None
            self._parts, self._quick, self._later, self._plans = {}, {}, [], {}

    def _check_none_out(self) -> None:
        with self._lock:
            self._refuse_if_out()

    def _refuse_if_out(self) -> None:
        self._release_what_is_unused()
        if count := len(self._parts) + len(self._quick):
            raise WindowInUse(f"parts of lease {self._lease.id} are out, {count} in all; release them before it ends")

    # The long way of a request.

    def _acquire(
        self,
        claims: tuple[Claim, ...],
        memory: str | int | None,
        counts: Mapping[str, float | None],
        label: str,
        key: object,
    ) -> Part:
        self._refuse_if_closed()
        self._release_what_is_unused()
        self._settle()
        try:
            wanted = convert.claims_from(claims_to(claims, memory, counts))
        except Refusal as refusal:
            raise refused(refusal.reason, str(refusal), refusal.facts) from refusal
        taken = self._ground.place(wanted, [(part.label, part._allotments) for part in self._parts])
        self._ground.hold(taken)
        part = Part(self, label, taken)
        self._parts[part] = None
        if key is not None and _is_one_run(wanted[0]):
            self._remember(key, claims, taken[0])
        return part

    def _remember(self, key: object, claims: tuple[Claim, ...], taken: Allotment) -> None:
        """Has this wish go the short way from now on, where its pool has an index of free runs."""
        pool = self._ground.card.pools[taken.pool]
        may_change = any(not isinstance(getattr(claim, "at", ()), tuple) for claim in claims)
        if pool.free_runs is None or may_change:
            return
        row = self._rows.get(taken.pool)
        if row is None:
            row = self._rows[taken.pool] = Row(pool, pool.free_runs)
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        self._plans[key] = _Plan(row, taken.units.unit_count, claims)

    def _settle(self) -> None:
        """Writes the runs into the bits that went the short way: given back to the index, and held as any others."""
        for row in self._rows.values():
            row.settle()
        for part in self._quick:
            assert part._row is not None, "only one run of a pool goes the short way"
            part._row.runs.give_back(part._start, stop=part._stop)
            part._allotments = part._taken()
            self._ground.hold(part._allotments)
            self._parts[part] = None
        self._quick.clear()

    def _drop(self, part: Part) -> None:
        for one in part._allotments:
            if one.pool in self._rows:
                self._rows[one.pool].settle()
        del self._parts[part]
        self._ground.drop(part._allotments)

    def _make_ground(self) -> Ground:
        lease = self._lease
        covered = [
            one
            for index, one in enumerate(lease._message.allotments)
            if one.pool in self._pools and one.units and (not one.unit_bytes or index == self.window_index)
        ]
        return Ground(lease.id, lease.card, covered)

    # Memory.

    def _buffers(self, part: Part) -> tuple[memoryview, ...]:
        """The memory of a part that is out, to be looked after until nothing uses it."""
        self._check()
        with self._lock:
            self._refuse_if_closed()
            if part not in self._parts and part not in self._quick:
                raise Closed(f"this part of lease {self._lease.id} was released")
            blocks = []
            for offset, size in self._ground.places(part._taken()):
                assert self._block is not None, "a partition with memory has its window"
                blocks.append((ctypes.c_ubyte * size).from_buffer(self._block, offset))
            in_use = [one for one in part._blocks if one() is not None]
            part._blocks = (*in_use, *map(weakref.ref, blocks))
            return tuple(memoryview(block).cast("B") for block in blocks)

    def _check_unused(self, part: Part) -> None:
        """Refuses to give a part back whose memory something uses.

        Raises:
            WindowInUse: a buffer of it lives, or a view or array of one.
        """
        if any(one() is not None for one in part._blocks):
            raise WindowInUse(f"buffers or arrays use this part of lease {self._lease.id}; drop them before it ends")

    def _release_later(self, part: Part) -> None:
        """Releases a part as soon as nothing uses its memory: the frames of a traceback may for a while."""
        with self._lock:
            self._settle()
            if part in self._parts:
                self._later.append(part)
                self._release_what_is_unused()

    def _release_what_is_unused(self) -> None:
        in_use = []
        for part in self._later:
            if any(one() is not None for one in part._blocks):
                in_use.append(part)
            elif part in self._parts:
                self._drop(part)
        self._later = in_use


def _is_one_run(claim: CoreClaim) -> bool:
    """Whether ``claim`` gets the lowest free units in a row, where there are enough of them, and only there."""
    if isinstance(claim, Run):
        return not claim.at and claim.align_count == 1
    return isinstance(claim, Units) and not claim.at and claim.count == 1


def _forget_parents() -> None:
    for partition in list(_partitions):
        partition._forget_parent()


os.register_at_fork(after_in_child=_forget_parents)
