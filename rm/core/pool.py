"""All units of one kind on one card: three truths about each (held, reserved, quarantined), and what follows.

Only ``Books.apply`` calls what changes a pool. ``blocked`` (no plain claim takes it) and ``free_runs`` are derived from
the truths, kept in step with them, and compared with them by ``check``.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bitarray import bitarray

from rm.core.bitmap import UnitBitmap, longest_run_of_clear_bits, runs_of_clear_bits
from rm.core.free_runs import FreeRuns
from rm.core.types import PoolName, SiteName, UnitRange, UnitSet


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The shape of a pool, as its profile gives it.

    ``unit_count`` is that of a site; where sites differ, ``site_unit_counts`` gives each site's own, none above it.
    ``unit_bytes`` is 0 where units have no size. A unit is cut into ``slices_per_unit`` slices; each slice is a bit.
    """

    name: PoolName
    unit_count: int
    sites: tuple[SiteName, ...] = ()
    site_unit_counts: tuple[int, ...] = ()
    unit_bytes: int = 0
    slices_per_unit: int = 1

    @property
    def site_count(self) -> int:
        """Sites; 1 where none are named."""
        return len(self.sites) or 1

    @property
    def bits_per_site(self) -> int:
        """Bits at the site that has most."""
        return self.unit_count * self.slices_per_unit

    def unit_count_at(self, site: int) -> int:
        """Units at one site."""
        return self.site_unit_counts[site] if self.site_unit_counts else self.unit_count

    def least_unit_count(self, sites: tuple[int, ...]) -> int:
        """Units at that one of ``sites`` which has fewest: the ids that all of them have."""
        return min(map(self.site_unit_counts.__getitem__, sites)) if self.site_unit_counts else self.unit_count


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How many bits of a pool are in which state: units, or slices where the pool has them."""

    total: int
    free: int
    held: int
    reserved: int
    quarantined: int
    largest_run: int


@dataclass(frozen=True, slots=True)
class SpareMaps:
    """Maps for whoever places a request: made with the pool, so that no request makes one. Their bits mean nothing."""

    named: UnitBitmap
    pending: UnitBitmap
    view: UnitBitmap


class Pool:
    """The state of one pool. ``gated`` are the sites whose clock is off, ``open_sites`` all others, in order."""

    __slots__ = (
        "_absent",
        "blocked",
        "free_count",
        "free_runs",
        "gated",
        "held",
        "held_count",
        "open_sites",
        "quarantined",
        "quarantined_count",
        "reserved",
        "reserved_count",
        "site_index",
        "spare",
        "spec",
        "total_count",
    )

    def __init__(self, spec: PoolSpec) -> None:
        """Makes a pool with every unit free."""
        self.spec = spec
        self.site_index = {name: index for index, name in enumerate(spec.sites)}
        self.gated: frozenset[int] = frozenset()
        self.open_sites = tuple(range(spec.site_count))
        self.held, self.reserved, self.quarantined = self._empty(), self._empty(), self._empty()
        self.spare = SpareMaps(self._empty(), self._empty(), self._empty())
        self._absent = self._make_absent()
        self.blocked = self._absent.copy()
        self.total_count = spec.bits_per_site * spec.site_count - self._absent.count()
        self.free_count = self.total_count
        self.held_count = self.reserved_count = self.quarantined_count = 0
        self.free_runs = FreeRuns(self.blocked.bits) if self._is_one_row else None

    # What changes it.

    def hold(self, units: UnitSet) -> None:
        """Marks ``units`` as held: plain ones, or reserved ones that nobody holds."""
        assert self.quarantined.has_none(units), f"{units} of {self.spec.name} is in quarantine"
        self.held.insert(units)
        self.held_count += units.unit_count
        self._block(units)

    def drop(self, units: UnitSet, *, to_quarantine: bool) -> None:
        """Takes the hold off ``units``; reserved ones stay reserved."""
        self.held.remove(units)
        self.held_count -= units.unit_count
        if to_quarantine:
            self.quarantined.insert(units)
            self.quarantined_count += units.unit_count
        else:
            self._unblock(units)

    def quarantine(self, units: UnitSet) -> None:
        """Puts ``units``, which nobody holds, into quarantine."""
        self.quarantined.insert(units)
        self.quarantined_count += units.unit_count
        self._block(units)

    def quiet(self, units: UnitSet) -> None:
        """Takes ``units`` out of quarantine."""
        self.quarantined.remove(units)
        self.quarantined_count -= units.unit_count
        self._unblock(units)

    def reserve(self, units: UnitSet) -> None:
        """Sets ``units`` aside."""
        self.reserved.insert(units)
        self.reserved_count += units.unit_count
        self._block(units)

    def unreserve(self, units: UnitSet) -> None:
        """Takes the reservation off ``units``; held ones stay held."""
        self.reserved.remove(units)
        self.reserved_count -= units.unit_count
        self._unblock(units)

    def gate(self, names: Iterable[SiteName]) -> None:
        """Turns the clocks of its sites off that are among ``names``, and on at all others."""
        self.gated = frozenset(self.site_index[name] for name in names if name in self.site_index)
        self.open_sites = tuple(site for site in range(self.spec.site_count) if site not in self.gated)

    # What is asked of it.

    def truth(self, name: str) -> UnitBitmap:
        """What is ``held``, ``reserved`` or ``quarantined``."""
        return {"held": self.held, "reserved": self.reserved, "quarantined": self.quarantined}[name]

    def all_at(self, site: int) -> UnitSet:
        """Every unit of one site."""
        return UnitSet((site,), ((UnitRange(0, self.spec.unit_count_at(site) * self.spec.slices_per_unit),),))

    def counts(self) -> PoolCounts:
        """Counts its bits. The longest run costs a search where the pool is small, a look-up where it is large."""
        return PoolCounts(
            total=self.total_count,
            free=self.free_count,
            held=self.held_count,
            reserved=self.reserved_count,
            quarantined=self.quarantined_count,
            largest_run=self.largest_run(),
        )

    def largest_run(self) -> int:
        """Longest run of free bits at any one site."""
        if self.free_runs is not None:
            return self.free_runs.largest()
        if self.spec.site_count > self.spec.bits_per_site:
            return _longest_run_by_columns(~self.blocked.bits, self.spec.site_count)
        return max(longest_run_of_clear_bits(self.blocked.at_site(site)) for site in range(self.spec.site_count))

    def check(self) -> list[str]:
        """Compares what is derived with the truths; one sentence a difference."""
        name = self.spec.name
        blocked = self.held.bits | self.reserved.bits | self.quarantined.bits | self._absent.bits
        faults = []
        if blocked != self.blocked.bits:
            faults.append(f"pool {name}: blocked differs from held, reserved and quarantined together")
        if self.free_runs is not None and list(self.free_runs) != list(runs_of_clear_bits(blocked)):
            faults.append(f"pool {name}: the index of free runs differs from the bits")
        if (self.held.bits & self.quarantined.bits).any():
            faults.append(f"pool {name}: a unit is both held and quarantined")
        counted = (self.held.count(), self.reserved.count(), self.quarantined.count(), blocked.count(0))
        kept = (self.held_count, self.reserved_count, self.quarantined_count, self.free_count)
        if counted != kept:
            faults.append(f"pool {name}: the bits count {counted}, the counters {kept}")
        if sorted((*self.open_sites, *self.gated)) != list(range(self.spec.site_count)):
            faults.append(f"pool {name}: a site is both open and gated, or neither")
        return faults

    # What follows from a change.

    def _block(self, units: UnitSet) -> None:
        newly = units if self.blocked.has_none(units) else self.blocked.part(units, 0)
        self.blocked.fill(newly, 1)
        self.free_count -= newly.unit_count
        if self.free_runs is not None:
            for run in _all_runs(newly):
                self.free_runs.take(run)

    def _unblock(self, units: UnitSet) -> None:
        freed = units
        for truth in (self.held, self.reserved, self.quarantined):
            freed = freed if truth.has_none(freed) else truth.part(freed, 0)
        self.blocked.fill(freed, 0)
        self.free_count += freed.unit_count
        if self.free_runs is not None:
            for run in _all_runs(freed):
                self.free_runs.give(run)

    @property
    def _is_one_row(self) -> bool:
        return self.spec.site_count == 1 and self.spec.slices_per_unit == 1

    def _empty(self) -> UnitBitmap:
        return UnitBitmap(self.spec.bits_per_site, self.spec.site_count)

    def _make_absent(self) -> UnitBitmap:
        """Bits that stand for no unit, because their site has fewer than the others."""
        absent = self._empty()
        slices, most = self.spec.slices_per_unit, self.spec.bits_per_site
        for site, count in enumerate(self.spec.site_unit_counts):
            if count < self.spec.unit_count:
                absent.fill(UnitSet((site,), ((UnitRange(count * slices, most),),)), 1)
        return absent


def _longest_run_by_columns(free: bitarray, site_count: int) -> int:
    """As many columns as can be laid over each other, one further each time, until no site has them all free."""
    length, rest = 0, free
    while rest.any():
        length += 1
        rest = rest[:-site_count] & free[length * site_count :]
    return length


def _all_runs(units: UnitSet) -> Iterable[UnitRange]:
    return (run for runs in units.runs for run in runs)


def amount_text(spec: PoolSpec, bit_count: int) -> str:
    """``bit_count`` bits of a pool in words: as bytes where units have a size, else as units."""
    if spec.unit_bytes:
        return bytes_text(bit_count * spec.unit_bytes)
    count = bit_count / spec.slices_per_unit
    return f"{count:g} {'unit' if count == 1 else 'units'}"


def bytes_text(byte_count: int) -> str:
    """A number of bytes in its largest round unit: ``512 MiB``, ``64 KiB``, ``7.5 GiB``."""
    for name, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if byte_count >= size:
            return f"{byte_count / size:.4g} {name}"
    return f"{byte_count} bytes"
