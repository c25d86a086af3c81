"""What one request to a partition got."""

import ctypes
import weakref
from typing import TYPE_CHECKING

from leasehold.card import Allotment
from leasehold.partition.row import Row
from rm.core.card import Allotment as CoreAllotment
from rm.core.types import UnitRange, UnitSet

if TYPE_CHECKING:
    from leasehold.partition.partition import Partition


class Part:
    """What one request got. A context manager: it is back when its block is left.

    It stays taken until it is released, whether or not anything refers to it.
    """

    __slots__ = ("_allotments", "_blocks", "_gives", "_partition", "_row", "_start", "_stop", "label")

    def __init__(  # noqa: PLR0917 - by position, as this is on the short way
        self,
        partition: "Partition",
        label: str,
        allotments: tuple[CoreAllotment, ...] = (),
        row: Row | None = None,
        start: int = 0,
        stop: int = 0,
    ) -> None:
        """Either ``allotments`` say what it has, or it has the units from ``start`` to ``stop`` of ``row``."""
        self._partition = partition
        self.label = label
        self._allotments = allotments
        self._row = row
        self._gives = row.gives if row else 0
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
            row = self._row
            if row is not None and self in partition._quick:
                if self._blocks:
                    partition._check_unused(self)
                del partition._quick[self]
                row.give_back(self._start, self._stop, self._gives)
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
        row = self._row
        if row is None or self._allotments:
            return self._allotments
        return (CoreAllotment(row.pool.spec.name, UnitSet((0,), ((UnitRange(self._start, self._stop),),))),)
