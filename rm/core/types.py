"""The words that every other file of the core uses: ids, ranges of units, sets of units, holders."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NewType

CardId = NewType("CardId", str)
PoolName = NewType("PoolName", str)
LeaseId = NewType("LeaseId", str)
SessionId = NewType("SessionId", str)
SiteName = NewType("SiteName", str)

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class UnitRange:
    """Units in a row, half-open: ``start <= unit < stop``. In a pool with slices the indices count slices."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.start}" if len(self) == 1 else f"{self.start}-{self.stop - 1}"


@dataclass(frozen=True, slots=True)
class UnitSet:
    """Units of one pool, site by site.

    ``runs`` has one entry a site, in the order of ``sites`` (indices into the pool's sites); a single entry holds for
    every site, which is how one channel across 850 tiles stays one small value. Runs of one site are ascending and
    disjoint; a site may stand twice, with different units.
    """

    sites: tuple[int, ...]
    runs: tuple[tuple[UnitRange, ...], ...]

    def __post_init__(self) -> None:
        assert len(self.runs) in {1, len(self.sites)}, f"{len(self.runs)} lists of runs for {len(self.sites)} sites"

    @property
    def is_same_everywhere(self) -> bool:
        """Whether one list of runs holds for several sites."""
        return len(self.runs) == 1 and len(self.sites) > 1

    @property
    def unit_count(self) -> int:
        """Units (or slices) in all, over all sites."""
        if len(self.runs) == 1 and len(self.runs[0]) == 1:  # what most claims get
            run = self.runs[0][0]
            return (run.stop - run.start) * len(self.sites)
        counted = sum(len(run) for runs in self.runs for run in runs)
        return counted * len(self.sites) if self.is_same_everywhere else counted

    def by_site(self) -> Iterator[tuple[int, tuple[UnitRange, ...]]]:
        """Each site with its runs, in the order of ``sites``."""
        if self.is_same_everywhere:
            return ((site, self.runs[0]) for site in self.sites)
        return zip(self.sites, self.runs, strict=True)


NO_UNITS = UnitSet((), ())


def ranges_of(ids: list[int]) -> tuple[UnitRange, ...]:
    """The runs that ascending, distinct ``ids`` make."""
    runs: list[UnitRange] = []
    start = previous = -1
    for unit in ids:
        assert unit > previous, f"{ids} is not ascending"
        if unit != previous + 1 or start < 0:
            if start >= 0:
                runs.append(UnitRange(start, previous + 1))
            start = unit
        previous = unit
    if start >= 0:
        runs.append(UnitRange(start, previous + 1))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process as the kernel sees it. ``command`` is the process's own word and proves nothing.

    Pid 0 is the system itself, which keeps some units of a card where it is asked to: no process.
    """

    pid: int
    uid: int
    command: str

    @property
    def is_system(self) -> bool:
        """Whether it is the system itself."""
        return self.pid == 0

    def short_command(self) -> str:
        """The name of the program: of the script, where the first word is an interpreter of Python."""
        words = [word.rsplit("/", 1)[-1] for word in self.command.split(" ")]
        if words[0].startswith("python") and len(words) > 1 and not words[1].startswith("-"):
            return words[1]
        return words[0] or "?"
