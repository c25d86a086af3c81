"""One card and its ledger in this process: leases, reservations, and the per-unit calls of the AI Engine manager."""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from leasehold.aie.array import ArrayShape, PoolShape
from leasehold.aie.resource_file import Resources, read_resources, write_resources
from leasehold.card import ReservationInfo
from leasehold.claims import Site, site_text
from leasehold.errors import Invalid
from leasehold.local.ledger import MEMORY_DEFAULT, LocalLedger
from leasehold.statistics import SiteCounts, count_sites
from rm.core.asks import units_of_ids
from rm.core.bitmap import UnitBitmap
from rm.core.claims import Common, Ids, PlainClaim, Run, Units
from rm.core.events import LeaseEnded, UnitsReturned
from rm.core.lease import Lease
from rm.core.pool import Pool
from rm.core.reservation import ReservationSpec
from rm.core.types import PoolName, SiteName, UnitRange, UnitSet
from rm.service import convert

__all__ = ["MEMORY_DEFAULT", "Manager"]


class Manager(LocalLedger):
    """One card and its ledger. Thread-safe.

    ``profile`` is a name (``embedded``, ``ax-m1``, ``aie``, ``aie:4x6``, ...) or a TOML file; ``memory`` and ``cpus``
    are for profiles that take them from the host. ``system`` names what the profile lets the system keep for itself,
    such as ``error-broadcast`` and ``ecc``. With ``strict`` a claim by id must name reserved units.

    The calls that take a ``type`` are those of the AI Engine manager, one unit a module at a time: a type is a pool
    (``perfcnt``, ``bcast_channel``, ...) and a tile is ``(column, row, module)``. They know no owner: whoever has the
    manager frees what anybody got from it, as with the original, by ``acquire`` too.
    """

    # Getting units.

    def request(self, type: str, tiles: Sequence[Site]) -> list[int]:  # noqa: A002 - the original's word
        """One unit at each tile, lowest id first, all or none; ids in the order of ``tiles``. Never a reserved one.

        A tile that stands twice gets two units.

        Raises:
            Exhausted: a tile has none left.
            Invalid: no such type or tile, or one whose clock is gated; no tile at all.
        """
        lease = self._take(Units(PoolName(type), 1, _names(tiles)))
        return [runs[0].start for _, runs in lease.allotments[0].units.by_site()]

    def request_range(self, type: str, tile: Site, count: int) -> list[int]:  # noqa: A002
        """``count`` units in a row, the first a multiple of ``count``, inside the module.

        Raises:
            Exhausted: there is no such row.
            Invalid: no such type or tile, or a count that the module never has.
        """
        lease = self._take(Run(PoolName(type), unit_count=count, align_count=max(count, 1), at=_names([tile])))
        (run,) = lease.allotments[0].units.runs[0]
        return list(range(run.start, run.stop))

    def request_specific(self, type: str, tile: Site, id: int) -> int:  # noqa: A002
        """That unit, reserved or not, if nobody holds it.

        Raises:
            Held: somebody does.
            Invalid: no such type, tile or id; with ``strict``, also one that is not reserved.
        """
        self._take(Ids(PoolName(type), (id,), _names([tile])))
        return id

    def request_common(
        self,
        type: str,  # noqa: A002
        tiles: Sequence[Site] | None = None,
        id: int | None = None,  # noqa: A002
    ) -> int:
        """The lowest id that is neither held nor reserved at every tile; or ``id``, if nobody holds it at any.

        ``tiles`` None means all modules whose clock runs. A tile that stands twice counts once.

        Raises:
            Exhausted: no id is free at all of them.
            Held: somebody holds ``id`` at one of them.
            Invalid: no such type, tile or id; an empty list.
        """
        if tiles is not None and not tiles:
            raise Invalid("a common unit of no tile is none: name tiles, or None for all of them")
        pool, at = PoolName(type), tuple(dict.fromkeys(_names(tiles or ())))
        if id is None:
            lease = self._take(Common(pool, at))
            return lease.allotments[0].units.runs[0][0].start
        self._take(Ids(pool, (id,), at or self._open_sites(type)))
        return id

    # Ending units.

    def free(self, type: str, tile: Site, id: int) -> None:  # noqa: A002
        """Ends the hold on a unit; a reserved one stays reserved.

        Raises:
            Invalid: nobody holds it, or there is no such unit.
        """
        self._end_unit(type, tile, id, to_pool=False)

    def release_unit(self, type: str, tile: Site, id: int) -> None:  # noqa: A002
        """Ends the hold on a unit, and its reservation: it goes to the pool. The original calls this ``release``.

        Raises:
            Invalid: nobody holds it, or there is no such unit.
        """
        self._end_unit(type, tile, id, to_pool=True)

    # Counting units.

    def available(self, type: str, tile: Site) -> int:  # noqa: A002
        """Units at a tile that nobody holds and nothing reserves.

        Raises:
            Invalid: no such type or tile, or the tile has no units of this type.
        """
        with self._changing():
            pool, site = self._module(type, tile)
            return pool.blocked.at_site(site).count(0)

    def static(self, type: str, tile: Site) -> int:  # noqa: A002
        """Units at a tile that are reserved, held or not.

        Raises:
            Invalid: as ``available``.
        """
        with self._changing():
            pool, site = self._module(type, tile)
            return pool.reserved.at_site(site).count(1)

    def statistics(self, type: str) -> list[SiteCounts]:  # noqa: A002
        """How many units of a type are free, held and reserved at each tile, and whose they are.

        Raises:
            Invalid: no such type.
        """
        with self._changing():
            pool = self._pool(type)
            status = convert.pool_to(pool, waiter_count=0, used_bytes=0)
            leases = [convert.lease_to(lease, self.card) for lease in self._ledger.leases.values()]
            kept = [
                convert.reservation_to(one, self.card, with_units=True) for one in self._ledger.reservations.values()
            ]
            return count_sites(convert.bitmap_to(self.card, pool, status), leases, kept)

    # Files.

    def dump(self, *, with_reserved: bool = False) -> bytes:
        """The units that are held (and, if wanted, those that are reserved) as the driver's resource file.

        Raises:
            Invalid: this card is no AI Engine array.
        """
        with self._changing():
            pools = self.card.pools.values()
            resources: dict[str, dict[str, list[int]]] = {}
            for pool in pools:
                bits = pool.held.bits | pool.reserved.bits if with_reserved else pool.held.bits
                found = resources.setdefault(pool.spec.name, {})
                for bit in bits.search(1) if pool.spec.sites else ():
                    unit, site = divmod(bit, pool.spec.site_count)
                    found.setdefault(pool.spec.sites[site], []).append(unit)
            return write_resources(self._shape(), resources)

    def load(
        self,
        data: bytes,
        *,
        name: str | None = None,
        replace: bool = False,
        start_column: int = 0,
        column_count: int | None = None,
    ) -> ReservationInfo:
        """Reserves what a resource file lists, all or nothing: beside what is reserved or, with ``replace``, instead.

        Units that somebody holds become reserved as well, as with the original. ``start_column`` and ``column_count``
        are for a file that was made for a part of the array.

        Raises:
            Invalid: it is no such file, or one of another array; nothing is changed.
        """
        with self._changing():
            resources = read_resources(data, self._shape(), start_column=start_column, column_count=column_count)
            if replace:
                for one in list(self._ledger.reservations):
                    self._apply(self._ledger.decide_unreserve(one, self._asker, held_too=True))
            spec = ReservationSpec(
                name=self._free_name(name or f"file-{sha256(data).hexdigest()[:12]}"),
                content_hash=f"sha256:{sha256(data).hexdigest()}",
                card=self.card.id,
                units=self._unreserved_part(resources),
            )
            self._apply(self._ledger.decide_reserve(spec, held_too=True))
            return self._reservation_info(spec.name)

    # Clocks.

    def gate(self, tiles: Iterable[tuple[int, int]] | None = None) -> None:
        """Turns the clocks of tiles ``(column, row)``, and of those above them in their column, off; None means all.

        The shim's clock always runs.

        Raises:
            Held: somebody holds units there.
            Invalid: no such tile.
        """
        with self._changing():
            self._gate_exactly(set(self.card.gated_sites) | self._shape().sites_from(tiles))

    def ungate(self, tiles: Iterable[tuple[int, int]] | None = None) -> None:
        """Turns the clocks of tiles ``(column, row)``, and of those below them in their column, on; None means all.

        Raises:
            Invalid: no such tile.
        """
        with self._changing():
            self._gate_exactly(set(self.card.gated_sites) - self._shape().sites_up_to(tiles))

    # Inside.

    def _take(self, claim: PlainClaim) -> Lease:
        with self._changing():
            return self._grant((claim,))

    def _end_unit(self, type_: str, tile: Site, unit: int, *, to_pool: bool) -> None:
        with self._changing():
            pool, site = self._module(type_, tile)
            units_of_ids(pool, [unit], (site,))
            lease_id = self._holding.get((pool.spec.name, site, unit))
            if lease_id is None:
                text = f"unit {unit} of pool {type_} at {site_text(tile)} is not held"
                raise Invalid(text, facts={"pool": type_, "unit": unit})
            event = self._decide_give_back(lease_id, pool.spec.name, [unit], (pool.spec.sites[site],), to_pool=to_pool)
            assert isinstance(event, UnitsReturned | LeaseEnded), "a lease that holds a unit is live"
            self._apply(event)

    def _module(self, type_: str, tile: Site) -> tuple[Pool, int]:
        pool = self._pool(type_)
        site = pool.site_index.get(SiteName(site_text(tile)))
        if site is None:
            raise Invalid(f"pool {type_} has no site {site_text(tile)!r}", facts={"pool": type_})
        return pool, site

    def _pool(self, name: str) -> Pool:
        pool = self.card.pools.get(PoolName(name))
        if pool is None:
            there = ", ".join(self.card.pools)
            raise Invalid(f"card {self.card.id} has no pool {name!r}; it has {there}", facts={"pool": name})
        return pool

    def _open_sites(self, name: str) -> tuple[SiteName, ...]:
        pool = self._pool(name)
        return tuple(pool.spec.sites[site] for site in pool.open_sites) if pool.spec.sites else ()

    def _shape(self) -> ArrayShape:
        if self._array_shape is None:
            specs = [pool.spec for pool in self.card.pools.values()]
            self._array_shape = ArrayShape.of(
                PoolShape(spec.name, spec.unit_count, spec.sites, spec.site_unit_counts) for spec in specs
            )
        return self._array_shape

    def _gate_exactly(self, sites: Iterable[str]) -> None:
        self._apply(self._ledger.decide_gate(self.card.id, sorted(map(SiteName, sites))))

    def _free_name(self, name: str) -> str:
        names = [name, *(f"{name}-{number}" for number in range(2, len(self._ledger.reservations) + 3))]
        return next(one for one in names if one not in self._ledger.reservations)

    def _unreserved_part(self, resources: Resources) -> tuple[tuple[PoolName, UnitSet], ...]:
        """Those units of a file that are not reserved yet, pool by pool."""
        parts = []
        for name, by_site in resources.items():
            pool = self._pool(name)
            wanted = UnitBitmap(pool.spec.bits_per_site, pool.spec.site_count)
            for site, ids in by_site.items():
                index = pool.site_index[SiteName(site)]
                wanted.fill(UnitSet((index,), (tuple(UnitRange(unit, unit + 1) for unit in sorted(ids)),)), 1)
            wanted.bits &= ~pool.reserved.bits
            parts.append((pool.spec.name, wanted.all_set()))
        return tuple((name, units) for name, units in parts if units.sites)


def _names(tiles: Iterable[Site]) -> tuple[SiteName, ...]:
    return tuple(SiteName(site_text(tile)) for tile in tiles)
