"""A granted request, and what of it can be given back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rm.core.card import Allotment, Card
from rm.core.errors import InvalidRequest
from rm.core.types import NO_UNITS, CardId, Holder, LeaseId, PoolName, SessionId, UnitRange, UnitSet, ranges_of


@dataclass(frozen=True, slots=True)
class WindowMark:
    """How the memory file of one allotment is known again after a restart: where the kernel has it, and its size."""

    allotment_index: int
    size_bytes: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """Why a live lease is to end, and how long its holder was given to let go."""

    cause: str
    notice_ns: int


ANY_WINDOW = WindowMark(-1, 0, 0, 0)  # stands for whatever memory files of this daemon there may be


@dataclass(frozen=True, slots=True)
class Lease:
    """A live lease. ``token`` is its fencing number; ``ttl_ns`` None means that no keepalive is expected.

    ``allotments`` keeps the order of the claims; one that was given back whole stays in its place, without units.
    ``granted_wall_ns`` is for display only. ``windows`` has a mark for each allotment of memory.
    """

    id: LeaseId
    token: int
    card: CardId
    allotments: tuple[Allotment, ...]
    session: SessionId
    holder: Holder
    ttl_ns: int | None
    label: str
    granted_wall_ns: int
    windows: tuple[WindowMark, ...] = ()

    @property
    def pools(self) -> frozenset[PoolName]:
        """Pools that it has units of."""
        return frozenset(allotment.pool for allotment in self.allotments if allotment.units.sites)

    def text(self) -> str:
        """One phrase for people: who holds it."""
        label = f" '{self.label}'" if self.label else ""
        return f"{self.id}{label} (pid {self.holder.pid}, {self.holder.short_command()})"


def part_to_give_back(
    lease: Lease, card: Card, pool_name: PoolName, ids: Sequence[int], sites: tuple[int, ...]
) -> tuple[UnitSet, ...]:
    """What ``lease`` has of the units ``ids`` at ``sites``: for each of its allotments, the units that it would lose.

    Raises:
        InvalidRequest: it lacks one of them, or they are a part of an allotment of memory.
    """
    spec = card.pools[pool_name].spec
    wanted = {(site, unit) for site in sites for unit in ids}
    found: set[tuple[int, int]] = set()
    lost = []
    for allotment in lease.allotments:
        part = NO_UNITS
        if allotment.pool == pool_name:
            part, units_found = _intersection(allotment.units, wanted, spec.slices_per_unit)
            found |= units_found
            if spec.unit_bytes and part.unit_count not in {0, allotment.units.unit_count}:
                text = f"memory goes back by whole allotments: {lease.id} has one of {allotment.units.unit_count} units"
                raise InvalidRequest(text, lease=lease.id, pool=pool_name)
        lost.append(part)
    if missing := sorted(wanted - found):
        unit = missing[0][1]
        raise InvalidRequest(f"{lease.id} does not hold unit {unit} of pool {pool_name}", lease=lease.id, unit=unit)
    return tuple(lost)


def without(lease: Lease, lost: tuple[UnitSet, ...]) -> Lease:
    """``lease`` less the units in ``lost``, which has one entry for each of its allotments."""
    kept = [
        Allotment(allotment.pool, _difference(allotment.units, gone)) if gone.sites else allotment
        for allotment, gone in zip(lease.allotments, lost, strict=True)
    ]
    windows = tuple(mark for mark in lease.windows if kept[mark.allotment_index].units.unit_count)
    return replace(lease, allotments=tuple(kept), windows=windows)


def _intersection(units: UnitSet, wanted: set[tuple[int, int]], slices: int) -> tuple[UnitSet, set[tuple[int, int]]]:
    """The bits of ``units`` that belong to a wanted (site, unit), and which of those there are."""
    sites, runs, found = [], [], set()
    for site, site_runs in units.by_site():
        bits = [bit for run in site_runs for bit in range(run.start, run.stop) if (site, bit // slices) in wanted]
        if bits:
            sites.append(site)
            runs.append(ranges_of(bits))
            found |= {(site, bit // slices) for bit in bits}
    return (UnitSet(tuple(sites), tuple(runs)) if sites else NO_UNITS), found


def _difference(units: UnitSet, gone: UnitSet) -> UnitSet:
    gone_bits = {(site, bit) for site, runs in gone.by_site() for run in runs for bit in _bits(run)}
    sites, kept = [], []
    for site, runs in units.by_site():
        bits = [bit for run in runs for bit in _bits(run) if (site, bit) not in gone_bits]
        if bits:
            sites.append(site)
            kept.append(ranges_of(bits))
    return UnitSet(tuple(sites), tuple(kept)) if sites else NO_UNITS


def _bits(run: UnitRange) -> range:
    return range(run.start, run.stop)
