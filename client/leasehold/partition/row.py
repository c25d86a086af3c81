"""A pool that is one row, as the short way sees it: runs are taken lowest first, and given back, unseen by its bits."""

from rm.core.free_runs import FreeRuns
from rm.core.pool import Pool


class Row:
    """The free runs of a pool, but for one that was given back last and lies loose: who asks for as much gets it again.

    That is what the search would find, as long as nothing was given back since that run was taken: it was the lowest
    that fitted then, and what was taken since only left less. ``gives`` counts what was given back, to tell that.
    """

    __slots__ = ("_loose_start", "_loose_stop", "gives", "pool", "runs")

    def __init__(self, pool: Pool, runs: FreeRuns) -> None:
        self.pool = pool
        self.runs = runs
        self.gives = 0
        self._loose_start = self._loose_stop = -1

    def take(self, unit_count: int) -> int:
        """Takes the lowest ``unit_count`` free units in a row; answers where they start, or -1 where there are none."""
        start = self._loose_start
        if start >= 0:
            if self._loose_stop - start == unit_count:
                self._loose_start = -1
                return start
            self.settle()
        return self.runs.take_first(unit_count)

    def give_back(self, start: int, stop: int, gives: int) -> None:
        """Gives back the run from ``start`` to ``stop``, which was taken when ``gives`` was what is told here."""
        if self._loose_start >= 0:
            self.settle()
        if gives == self.gives:
            self._loose_start, self._loose_stop = start, stop
        else:
            self.gives += 1
            self.runs.give_back(start, stop=stop)

    def settle(self) -> None:
        """Puts what lies loose into the index: before anybody else looks at it, or changes it."""
        if self._loose_start >= 0:
            self.runs.give_back(self._loose_start, stop=self._loose_stop)
            self._loose_start = -1
        self.gives += 1
