"""Partitions of an AI Engine array by columns, shared where none is free, and the clock level that their users need.

The rules are those of the NPU driver's solver (``aie2_solver.c``): a request names its start columns in the order in
which it likes them. It gets the first at which all its columns are free, else the least shared partition of the same
start and width. Each column range that is used is one lease of the array's ``columns``, so that a partition and a
plain claim on columns never overlap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leasehold.card import LeaseInfo
from leasehold.claims import Ids
from leasehold.errors import Exhausted, Held, Invalid, NotFound
from leasehold.local.manager import Manager

PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH, PRIORITY_REAL_TIME = 0x280, 0x200, 0x180, 0x100
_MS_PER_S = 1_000
_MHZ_PER_GHZ = 1_000


@dataclass(frozen=True, slots=True)
class Quality:
    """What a user of a partition needs.

    ``opc``: operations that a column range does a clock; ``gops``: billions of operations a frame (1 is 1 G); ``fps``:
    frames a second; ``latency_ms``: milliseconds a frame may take. 0 means that it does not say.
    """

    opc: int
    gops: int = 0
    fps: int = 0
    latency_ms: int = 0
    priority: int = PRIORITY_NORMAL


@dataclass(slots=True)
class _Partition:
    """One column range in use, and who uses it: request ids with their quality, oldest first."""

    start_column: int
    column_count: int
    lease: LeaseInfo
    users: dict[int, Quality]


class Partitions:
    """The partitions of one array. Not thread-safe: the original works under its device's lock, as callers do here.

    ``load`` and ``unload`` are called with start and width when a partition is first used and no longer used,
    ``set_level`` with an index into ``clocks_mhz`` when the level changes: places for what a driver does.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        clocks_mhz: Sequence[int] = (1_000,),
        efficiency_factor: int = 1,
        load: Callable[[int, int], object] = lambda start, width: None,
        unload: Callable[[int, int], object] = lambda start, width: None,
        set_level: Callable[[int], object] = lambda level: None,
    ) -> None:
        """``efficiency_factor`` is how many times its nominal operations a frame costs on the whole system."""
        self._manager = manager
        self._column_count = manager.cards()[0].pool("columns").unit_count
        self._clocks_mhz = tuple(clocks_mhz)
        self._efficiency_factor = efficiency_factor
        self._load, self._unload, self._set_level = load, unload, set_level
        self._partitions: list[_Partition] = []
        self.level = 0

    def request(
        self, request_id: int, start_columns: Sequence[int], column_count: int, quality: Quality | None = None
    ) -> int:
        """A partition of ``column_count`` columns for ``request_id``; answers its first column.

        Raises:
            Invalid: more columns than there are, a quality that no clock gives, or an id that has a partition.
            Exhausted: none of the starts is free, and no partition there has this width.
            Whatever ``load`` or ``set_level`` raises: then nothing is changed.
        """
        wanted = quality or Quality(opc=1)
        if not 1 <= column_count <= self._column_count:
            raise Invalid(f"an array of {self._column_count} columns has no partition of {column_count}")
        if wanted.opc < 0 or self._demand(wanted) > self._supply(wanted, self._clocks_mhz[-1]):
            raise Invalid(f"no clock of this array gives {wanted.gops} gops at {wanted.fps} fps")
        if self._of(request_id) is not None:
            raise Invalid(f"request {request_id} has a partition", facts={"request_id": request_id})
        partition = self._new(start_columns, column_count) or self._least_shared(start_columns, column_count)
        if partition is None:
            text = f"no partition of {column_count} columns can begin at any of {list(start_columns)}"
            raise Exhausted(text, facts={"columns": column_count})
        partition.users[request_id] = wanted
        try:
            self._set_level_for_all()
        except BaseException:
            self._drop(request_id, partition)
            raise
        return partition.start_column

    def release(self, request_id: int) -> None:
        """Ends the use of a partition; its columns are free when nobody uses it.

        Raises:
            NotFound: the id has none.
        """
        partition = self._of(request_id)
        if partition is None:
            raise NotFound(f"request {request_id} has no partition", facts={"request_id": request_id})
        self._drop(request_id, partition)
        self._set_level_for_all()

    def users(self, start_column: int) -> int:
        """How many use the partition that begins at a column; 0 where none does."""
        return sum(len(one.users) for one in self._partitions if one.start_column == start_column)

    def _new(self, starts: Sequence[int], column_count: int) -> _Partition | None:
        for start in starts:
            if not 0 <= start <= self._column_count - column_count:
                continue
            try:
                lease = self._manager.acquire(Ids("columns", range(start, start + column_count)), label="partition")
            except Held:
                continue
            try:
                self._load(start, column_count)
            except BaseException:
                self._manager.release(lease)
                raise
            self._partitions.append(_Partition(start, column_count, lease, {}))
            return self._partitions[-1]
        return None

    def _least_shared(self, starts: Sequence[int], column_count: int) -> _Partition | None:
        """The one with fewest users, the oldest of several."""
        alike = [one for one in self._partitions if one.start_column in starts and one.column_count == column_count]
        return min(alike, key=lambda one: len(one.users), default=None)

    def _of(self, request_id: int) -> _Partition | None:
        return next((one for one in self._partitions if request_id in one.users), None)

    def _drop(self, request_id: int, partition: _Partition) -> None:
        del partition.users[request_id]
        if not partition.users:
            self._partitions.remove(partition)
            self._manager.release(partition.lease)
            self._unload(partition.start_column, partition.column_count)

    # Clocks.

    def _set_level_for_all(self) -> None:
        everybody = [quality for one in self._partitions for quality in one.users.values()]
        level = max((self._level_for(quality) for quality in everybody), default=0)
        if level != self.level:
            self._set_level(level)
            self.level = level

    def _level_for(self, quality: Quality) -> int:
        """The lowest level that is enough; the highest where nothing is known, the lowest for low priority."""
        if quality.priority == PRIORITY_LOW:
            return 0
        demand = self._demand(quality)
        enough = (
            level for level, clock in enumerate(self._clocks_mhz) if demand and self._supply(quality, clock) >= demand
        )
        return next(enough, len(self._clocks_mhz) - 1)

    def _demand(self, quality: Quality) -> int:
        """Billions of operations a second."""
        by_latency = max(_MS_PER_S // quality.latency_ms, 1) if quality.latency_ms else 0
        return max(quality.fps, by_latency) * quality.gops * self._efficiency_factor

    def _supply(self, quality: Quality, clock_mhz: int) -> int:
        return quality.opc * clock_mhz // _MHZ_PER_GHZ
