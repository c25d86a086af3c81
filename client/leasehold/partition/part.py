"""What one request to a partition got."""

import ctypes
import weakref
from typing import TYPE_CHECKING

from leasehold.card import Allotment
from rm.core.card import Allotment as CoreAllotment
from rm.core.pool import Pool
from rm.core.types import UnitRange, UnitSet

if TYPE_CHECKING:
    from leasehold.partition.partition import Partition


class Part:
    """What one request got. A context manager: it is back when its block is left.

    It stays taken until it is released, whether or not anything refers to it.
    """

    __slots__ = ("_allotments", "_blocks", "_partition", "_pool", "_start", "_stop", "label")

    def __init__(  # noqa: PLR0917 - by position, as this is on the short way
        self,
        partition: "Partition",
        label: str,
        allotments: tuple[CoreAllotment, ...] = (),
        pool: Pool | None = None,
        start: int = 0,
        stop: int = 0,
    ) -> None:
        """Either ``allotments`` say what it has, or it has the units from ``start`` to ``stop`` of ``pool``."""
        self._partition = partition
        self.label = label
        self._allotments = allotments
        self._pool = pool
        self._start = start
        self._stop = stop
        self._blocks: tuple[
            weakref.ref[ctypes.Array[ctypes.c_ubyte]], ...
        ] = ()  # of its memory, in use or not any more

    @property
    def allotments(self) -> tuple[Allotment, ...]:
        """What each claim got, in the order of the claims; unit ids are the card's own."""
        return tuple(self._partition._ground.allotment(one) for one in self._taken())

    def units(self, pool: str) -> tuple[int, ...]:
        """Ids of all units that it has of a pool; empty where it has none."""
        return tuple(unit for allotment in self.allotments if allotment.pool == pool for unit in allotment.ids)

    @property
    def memory(self) -> memoryview | None:
        """Its memory, a part of the lease's window; the first piece where it has several, None where it has none.

        Raises:
            LeaseLost, Closed: as ``Partition.acquire``; also where the part was released.
        """
        return next(iter(self.buffers), None)

    @property
    def buffers(self) -> tuple[memoryview, ...]:
        """All its memory, one buffer for each run of units. What they held before is not wiped."""
        return self._partition._buffers(self)

    @property
    def offset(self) -> int | None:
        """Where ``memory`` begins in the window of the lease, in bytes; None where it has no memory."""
        return next((start for start, _ in self._partition._ground.places(self._taken())), None)

    def release(self) -> None:
        """Gives its units back to the partition. Does nothing a second time, or where the lease has ended.

        Raises:
            WindowInUse: buffers or arrays of its memory live; it stays taken until they are dropped.
        """
        partition = self._partition
        with partition._lock:
            if self in partition._quick:
                if self._blocks:
                    partition._check_unused(self)
                del partition._quick[self]
                partition._index_of(self).give_back(self._start, stop=self._stop)
            elif self in partition._parts:
                partition._check_unused(self)
                partition._drop(self)

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            self._partition._release_later(self)
        else:
            self.release()

    def __repr__(self) -> str:
        got = ", ".join(f"{one.pool} {one.ids}" for one in self.allotments)
        return f"<Part of {self._partition._lease.id}: {got}>"

    def _taken(self) -> tuple[CoreAllotment, ...]:
        """What it has, in the core's words."""
        pool = self._pool
        if pool is None or self._allotments:
            return self._allotments
        return (CoreAllotment(pool.spec.name, UnitSet((0,), ((UnitRange(self._start, self._stop),),))),)
