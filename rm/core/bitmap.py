"""One bit a unit: the truth about one fact (held, reserved or quarantined) of one pool.

The bit of unit ``u`` at site ``s`` is ``u * site_count + s``. So the same unit at all sites is one slice (a column, as
``Common`` asks for it), and a pool with one site is a plain row of units (as ``Run`` asks for it).
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from bitarray import bitarray, frozenbitarray
from bitarray.util import any_and, count_and, ones, zeros

from rm.core.types import NO_UNITS, UnitRange, UnitSet


class UnitBitmap:
    """A set of the units of one pool. Sets and clears bits, and finds them; it knows no rules."""

    __slots__ = ("bits", "site_count", "unit_count")

    def __init__(self, unit_count: int, site_count: int) -> None:
        """Makes an empty set. ``unit_count`` is a site's number of bits: of slices, where the pool has them."""
        assert unit_count >= 1
        assert site_count >= 1
        self.unit_count = unit_count
        self.site_count = site_count
        self.bits = zeros(unit_count * site_count, endian="little")

    def copy(self) -> "UnitBitmap":
        """Makes a set of the same units that can be changed by itself."""
        twin = UnitBitmap.__new__(UnitBitmap)
        twin.unit_count, twin.site_count, twin.bits = self.unit_count, self.site_count, self.bits.copy()
        return twin

    def emptied(self) -> "UnitBitmap":
        """Clears every bit; answers itself."""
        self.bits.setall(0)
        return self

    def becomes(self, other: "UnitBitmap") -> "UnitBitmap":
        """Takes over the bits of ``other``, a set of the same units; answers itself."""
        self.bits[:] = other.bits
        return self

    # What is in the set.

    def has_none(self, units: UnitSet) -> bool:
        """Whether every bit of ``units`` is clear."""
        if (run := self._only_run(units)) is not None:
            return self.bits.find(1, run.start, run.stop) < 0
        if units.is_same_everywhere:
            mask = self._site_mask(units.sites)
            return not any(any_and(self.bits[column], mask) for column in self._columns(units.runs[0]))
        if self.site_count == 1:
            return all(self.bits.find(1, run.start, run.stop) < 0 for runs in units.runs for run in runs)
        return not any(self.bits[piece].any() for piece in self._pieces(units))

    def has_all(self, units: UnitSet) -> bool:
        """Whether every bit of ``units`` is set."""
        if (run := self._only_run(units)) is not None:
            return self.bits.find(0, run.start, run.stop) < 0
        if units.is_same_everywhere:
            mask = self._site_mask(units.sites)
            count = mask.count()
            return all(count_and(self.bits[column], mask) == count for column in self._columns(units.runs[0]))
        if self.site_count == 1:
            return all(self.bits.find(0, run.start, run.stop) < 0 for runs in units.runs for run in runs)
        return all(self.bits[piece].all() for piece in self._pieces(units))

    def count(self) -> int:
        """Bits that are set. Costs a pass over the map: not for the way of a request."""
        return self.bits.count()

    def has(self, unit: int, site: int) -> bool:
        """Whether one bit is set."""
        return bool(self.bits[unit * self.site_count + site])

    def at_site(self, site: int) -> bitarray:
        """The bits of one site in the order of its units, as a copy (or, with one site, as they are)."""
        return self.bits if self.site_count == 1 else self.bits[site :: self.site_count]

    def all_set(self) -> UnitSet:
        """Every unit of the set. Costs a pass over the map."""
        runs = [(site, tuple(runs_of_clear_bits(~self.at_site(site)))) for site in range(self.site_count)]
        found = [(site, its_runs) for site, its_runs in runs if its_runs]
        return UnitSet(tuple(site for site, _ in found), tuple(its_runs for _, its_runs in found))

    def part(self, units: UnitSet, value: int = 1) -> UnitSet:
        """Those of ``units`` whose bit is ``value``."""
        sites, chosen = [], []
        for site, runs in units.by_site():
            found = []
            for run in runs:
                piece = self.bits[self._slice(site, run)]
                in_run = runs_of_clear_bits(~piece if value else piece)
                found += [UnitRange(run.start + sub.start, run.start + sub.stop) for sub in in_run]
            if found:
                sites.append(site)
                chosen.append(tuple(found))
        return UnitSet(tuple(sites), tuple(chosen)) if sites else NO_UNITS

    # What changes it.

    def insert(self, units: UnitSet) -> None:
        """Sets the bits of ``units``, which must all be clear."""
        assert self.has_none(units), f"{units} is already set in part"
        self.fill(units, 1)

    def remove(self, units: UnitSet) -> None:
        """Clears the bits of ``units``, which must all be set."""
        assert self.has_all(units), f"{units} is not set in full"
        self.fill(units, 0)

    def fill(self, units: UnitSet, value: int) -> None:
        """Writes ``value`` into every bit of ``units``, whatever it was."""
        if (run := self._only_run(units)) is not None:
            assert 0 <= run.start < run.stop <= self.unit_count, f"{run} of {self.unit_count} units"
            self.bits[run.start : run.stop] = value
            return
        if units.is_same_everywhere:
            mask = self._site_mask(units.sites)
            for column in self._columns(units.runs[0]):
                self.bits[column] = self.bits[column] | mask if value else self.bits[column] & ~mask
            return
        for piece in self._pieces(units):
            self.bits[piece] = value

    # How units lie in the bits. Bounds are asserted here: a slice of a bitarray clips in silence.

    def _only_run(self, units: UnitSet) -> UnitRange | None:
        """The one run of ``units``, in a pool of one site: what most claims are."""
        if self.site_count != 1 or len(units.runs) != 1 or len(units.runs[0]) != 1:
            return None
        assert units.sites == (0,), f"sites {units.sites} of 1"
        return units.runs[0][0]

    def _pieces(self, units: UnitSet) -> Iterator[slice]:
        return (self._slice(site, run) for site, runs in units.by_site() for run in runs)

    def _slice(self, site: int, run: UnitRange) -> slice:
        stride = self.site_count
        assert 0 <= site < stride, f"site {site} of {stride}"
        assert 0 <= run.start < run.stop <= self.unit_count, f"{run} of {self.unit_count} units"
        return slice(run.start * stride + site, (run.stop - 1) * stride + site + 1, stride)

    def _columns(self, runs: Iterable[UnitRange]) -> Iterator[slice]:
        stride = self.site_count
        for run in runs:
            assert 0 <= run.start < run.stop <= self.unit_count, f"{run} of {self.unit_count} units"
            for unit in range(run.start, run.stop):
                yield slice(unit * stride, (unit + 1) * stride)

    def _site_mask(self, sites: tuple[int, ...]) -> bitarray:
        return mask_of(sites, self.site_count)


def mask_of(sites: tuple[int, ...], site_count: int) -> bitarray:
    """One bit a site, set for each of ``sites``, which are distinct."""
    return ones(site_count, endian="little") if len(sites) == site_count else _mask_of_some(sites, site_count)


@lru_cache(maxsize=64)  # the same sites come five times on the way of one claim
def _mask_of_some(sites: tuple[int, ...], site_count: int) -> frozenbitarray:
    mask = zeros(site_count, endian="little")
    mask[list(sites)] = 1
    return frozenbitarray(mask)


def first_gap(bits: bitarray, unit_count: int, align_count: int = 1) -> int:
    """Lowest start, a multiple of ``align_count``, of ``unit_count`` clear bits in a row, or -1.

    Searches the bits and nothing else: the oracle for the index of free runs, and the way to place a claim around what
    earlier claims of the same request will get.
    """
    start = 0
    while True:
        start = bits.find(0, start)
        if start < 0:
            return -1
        start = -(-start // align_count) * align_count
        stop = start + unit_count
        if stop > len(bits):
            return -1
        taken = bits.find(1, start, stop)
        if taken < 0:
            return start
        start = taken + 1


def runs_of_clear_bits(bits: bitarray) -> Iterator[UnitRange]:
    """Every longest run of clear bits, in order."""
    start = bits.find(0)
    while start >= 0:
        stop = bits.find(1, start)
        if stop < 0:
            stop = len(bits)
        yield UnitRange(start, stop)
        start = bits.find(0, stop) if stop < len(bits) else -1


def longest_run_of_clear_bits(bits: bitarray) -> int:
    """Length of the longest run of clear bits; 0 where there is none."""
    return max((len(run) for run in runs_of_clear_bits(bits)), default=0)
