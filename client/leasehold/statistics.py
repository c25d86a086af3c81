"""How much of a pool is free, held and reserved at each site, and whose it is: counted from what the daemon tells."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from leasehold.claims import Site, site_from
from rmapi.v1 import types_pb2 as pb


@dataclass(frozen=True, slots=True)
class SiteCounts:
    """The units of one pool at one site; where the pool has slices, slices. ``site`` is empty where it has only one.

    ``available`` units have none against them; ``static`` ones are reserved, held or not. ``held_by`` and
    ``reserved_for`` count them by user id; -1 is nobody's own.
    """

    pool: str
    site: Site
    total: int
    available: int
    held: int
    static: int
    quarantined: int
    held_by: Mapping[int, int]
    reserved_for: Mapping[int, int]


def names_with(reservations: Iterable[pb.Reservation], pool: str) -> list[str]:
    """Names of those that have units of a pool."""
    return [one.name for one in reservations if any(mine.pool == pool and mine.unit_count for mine in one.pools)]


def count_sites(
    bitmap: pb.PoolBitmap, leases: Iterable[pb.Lease], reservations: Iterable[pb.Reservation]
) -> list[SiteCounts]:
    """The counts of every site of a pool. Leases, and reservations with units, may be of other pools and cards."""
    stride, pool = max(1, len(bitmap.sites)), bitmap.pool.name
    maps = [_bits(data) for data in (bitmap.held_bits, bitmap.reserved_bits, bitmap.quarantined_bits)]
    held, reserved, quarantined = (_by_site(text, stride) for text in maps)
    blocked = _by_site(_either(maps), stride)
    held_by = _owners(pool, bitmap, ((lease.holder.uid, lease.card, lease.allotments) for lease in leases))
    reserved_for = _owners(pool, bitmap, ((one.owner_uid, one.card, one.units) for one in reservations))
    counts = bitmap.site_unit_counts or [bitmap.pool.unit_count] * stride
    totals = [count * (bitmap.pool.slices_per_unit or 1) for count in counts]
    return [
        SiteCounts(
            pool=pool,
            site=site_from(bitmap.sites[site]) if bitmap.sites else "",
            total=totals[site],
            available=totals[site] - blocked[site],
            held=held[site],
            static=reserved[site],
            quarantined=quarantined[site],
            held_by=dict(held_by.get(site, {})),
            reserved_for=dict(reserved_for.get(site, {})),
        )
        for site in range(stride)
    ]


def _bits(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _either(maps: list[int]) -> int:
    held, reserved, quarantined = maps
    return held | reserved | quarantined


def _by_site(bits: int, stride: int) -> list[int]:
    """How many bits are set at each site; bit ``unit * stride + site`` is a unit at a site."""
    text = f"{bits:b}"[::-1]
    return [text[site::stride].count("1") for site in range(stride)]


def _owners(
    pool: str, bitmap: pb.PoolBitmap, owned: Iterable[tuple[int, str, Iterable[pb.Allotment]]]
) -> dict[int, Counter[int]]:
    """Units of the pool by site and user id."""
    index = {name: site for site, name in enumerate(bitmap.sites)}
    found: dict[int, Counter[int]] = {}
    for uid, card, allotments in owned:
        for allotment in allotments:
            if card != bitmap.card or allotment.pool != pool:
                continue
            if not allotment.units:
                continue  # it was given back
            sites = [index[name] for name in allotment.sites] or [0]
            runs = list(allotment.units) * (len(sites) if len(allotment.units) == 1 else 1)
            for site, ranges in zip(sites, runs, strict=True):
                found.setdefault(site, Counter())[uid] += sum(one.stop - one.start for one in ranges.ranges)
    return found
