"""An index of the runs of clear bits of a map: first fit in address order, at a cost that does not grow with the map.

It is derived from the bits and can be made anew from them at any time. Two views of the same runs are kept: ``_edge``
leads from each end of a run to its other end, which is what joining neighbours needs, and ``_bins`` holds the starts of
all runs whose length has the same number of binary digits, in order, which is what the search needs.

A search looks at the runs of its own bin that are too short, one by one, and at the first run of each longer bin: its
cost is bounded by the number of runs in one bin, not by the number of units.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from bitarray import bitarray

from rm.core.bitmap import runs_of_clear_bits
from rm.core.types import UnitRange

_NONE: list[int] = []  # no bin


class FreeRuns:
    """The free runs of one map. The owner of the map tells it of every change; it never looks at the map itself."""

    __slots__ = ("_bins", "_edge", "_unit_count")

    def __init__(self, bits: bitarray) -> None:
        """Derives the index from ``bits``; set bits are taken."""
        self._unit_count = len(bits)
        self._bins: list[list[int]] = [[] for _ in range(self._unit_count.bit_length() + 1)]
        self._edge: dict[int, int] = {}
        for run in runs_of_clear_bits(bits):
            self._edge[run.start] = run.stop
            self._edge[-run.stop] = run.start
            self._bins[len(run).bit_length()].append(run.start)

    def __iter__(self) -> Iterator[UnitRange]:
        return (UnitRange(start, stop) for start, stop in sorted(self._edge.items()) if stop > start >= 0)

    def first_fit(self, unit_count: int, align_count: int = 1) -> int:
        """Lowest start, a multiple of ``align_count``, of ``unit_count`` free units in a row, or -1."""
        best, edge = -1, self._edge
        for starts in self._bins[unit_count.bit_length() :]:
            for start in starts:
                if 0 <= best <= start:
                    break
                aligned = -(-start // align_count) * align_count
                if aligned + unit_count <= edge[start] and not 0 <= best <= aligned:
                    best = aligned
                    break
        return best

    def largest(self) -> int:
        """Length of the longest free run; 0 where there is none."""
        for starts in reversed(self._bins):
            if starts:
                return max(self._edge[start] - start for start in starts)
        return 0

    def take(self, run: UnitRange) -> None:
        """Notes that ``run``, all of it free, is taken."""
        assert 0 <= run.start < run.stop <= self._unit_count, f"{run} of {self._unit_count} units"
        start, stop = self._run_around(run)
        self._drop(start, stop)
        if start < run.start:
            self._add(start, run.start)
        if run.stop < stop:
            self._add(run.stop, stop)

    def take_first(self, unit_count: int) -> int:
        """Takes the lowest ``unit_count`` free units in a row and answers where they start; or -1, and takes nothing.

        What ``first_fit`` finds, in one walk: the run that is found stays in its place, a little shorter.
        """
        edge, best, its_bin, its_index = self._edge, -1, _NONE, 0
        for starts in self._bins[unit_count.bit_length() :]:
            if not starts:
                continue
            for index, start in enumerate(starts):
                if 0 <= best <= start:
                    break
                if start + unit_count <= edge[start]:
                    best, its_bin, its_index = start, starts, index
                    break
        if best < 0:
            return best
        stop, new = edge.pop(best), best + unit_count
        if new < stop and self._bins[(stop - new).bit_length()] is its_bin:
            its_bin[its_index] = new
            edge[new] = stop
            edge[-stop] = new
            return best
        del its_bin[its_index]
        del edge[-stop]
        if new < stop:
            self._add(new, stop)
        return best

    def give(self, run: UnitRange) -> None:
        """Notes that ``run``, all of it taken, is free, and joins it with its neighbours."""
        self.give_back(run.start, stop=run.stop)

    def give_back(self, start: int, *, stop: int) -> None:
        """As ``give``, for who has the two ends of a run and is in a hurry."""
        assert 0 <= start < stop <= self._unit_count, f"{start} to {stop} of {self._unit_count} units"
        edge = self._edge
        left = edge.get(-start) if start else None
        if left is not None:
            self._drop(left, start)
            start = left
        right = edge.pop(stop, -1)  # the run behind it, if there is one, begins earlier from now on
        if right < 0:
            self._add(start, stop)
            return
        edge[start] = right
        edge[-right] = start
        starts = self._bins[(right - stop).bit_length()]
        longer = self._bins[(right - start).bit_length()]
        at = bisect_left(starts, stop)
        if starts is longer:
            starts[at] = start
        else:
            del starts[at]
            insort(longer, start)

    def _run_around(self, run: UnitRange) -> tuple[int, int]:
        """The free run that holds all of ``run``: looked up at its ends, else found in the bins."""
        stop = self._edge.get(run.start)
        if stop is not None:
            assert run.stop <= stop, f"{run} is not free in full"
            return run.start, stop
        start = self._edge.get(-run.stop)
        if start is not None:
            assert start <= run.start, f"{run} is not free in full"
            return start, run.stop
        for size_class in range(len(run).bit_length(), len(self._bins)):
            starts = self._bins[size_class]
            at = bisect_left(starts, run.start)
            if at and self._edge[starts[at - 1]] >= run.stop:
                return starts[at - 1], self._edge[starts[at - 1]]
        raise AssertionError(f"{run} is not free in full")

    # Right ends are stored as negative keys, so that one dict serves both; 0 is never a right end.

    def _add(self, start: int, stop: int) -> None:
        self._edge[start] = stop
        self._edge[-stop] = start
        insort(self._bins[(stop - start).bit_length()], start)

    def _drop(self, start: int, stop: int) -> None:
        del self._edge[start]
        del self._edge[-stop]
        starts = self._bins[(stop - start).bit_length()]
        del starts[bisect_left(starts, start)]
