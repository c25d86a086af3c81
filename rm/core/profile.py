"""Which pools a kind of card has, as data: a profile is a TOML text, and this reads it.

Sizes that only the host can tell are words there: ``memory_mib = "card-memory"`` and ``unit_count = "cpus"``. An AI
Engine array has a table ``[array]`` instead of pools. ``[[system.NAME]]`` is what the system itself keeps if asked to.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rm.core import limits
from rm.core.array import TILE_MODULES, Array, parse_array
from rm.core.card import CardSpec
from rm.core.errors import InvalidRequest
from rm.core.pool import PoolSpec
from rm.core.types import CardId, PoolName, SiteName

MEMORY_UNIT_KIB_DEFAULT = 64
CARD_MEMORY = "card-memory"
CPUS = "cpus"

_KEYS = {"name", "description", "pools", "array", "system"}
_POOL_KEYS = {"unit_count", "memory_mib", "unit_kib", "sites", "site_unit_counts", "slices"}


@dataclass(frozen=True, slots=True)
class SystemUnits:
    """Units that the system itself keeps: ``ids`` at every site whose module is one of ``modules`` (none: at all)."""

    pool: PoolName
    ids: tuple[int, ...]
    modules: tuple[str, ...] = ()

    def sites_in(self, pool: PoolSpec) -> tuple[SiteName, ...]:
        """The sites of ``pool`` that it means; none where its pool has no sites."""
        return tuple(site for site in pool.sites if not self.modules or site.rpartition(",")[2] in self.modules)


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of card. The pools named in ``host_sized`` get their ``unit_count`` from the host.

    ``system`` has what the system itself keeps, by name, where it is asked to.
    """

    name: str
    description: str
    pools: tuple[PoolSpec, ...]
    host_sized: frozenset[PoolName]
    array: Array | None = None
    system: Mapping[str, tuple[SystemUnits, ...]] = field(default_factory=dict)

    def shaped(self, shape: str) -> "Profile":
        """The same kind of array in another shape, such as ``4x6``: columns by rows.

        Raises:
            InvalidRequest: it is no array, or no such shape.
        """
        if self.array is None:
            raise InvalidRequest(f"profile {self.name} is no array: it has no shape {shape!r}", profile=self.name)
        array = self.array.shaped(shape)
        pools = {pool.name: pool for pool in array.pools()}
        system = {
            name: tuple(one for one in units if one.pool in pools and one.sites_in(pools[one.pool]))
            for name, units in self.system.items()
        }
        return replace(self, name=f"{self.name}:{shape}", pools=tuple(pools.values()), array=array, system=system)

    def card(self, card_id: CardId, *, backend: str, memory_bytes: int, cpus: tuple[int, ...]) -> CardSpec:
        """The shape of one card of this kind on a host that gives it ``memory_bytes`` and ``cpus``.

        Raises:
            InvalidRequest: the host gives less than one unit of a pool.
        """
        pools, core_cpus = [], cpus if PoolName("cores") in self.host_sized else ()
        for pool in self.pools:
            sized = pool
            if pool.name in self.host_sized:
                sized = replace(pool, unit_count=memory_bytes // pool.unit_bytes if pool.unit_bytes else len(cpus))
            if not 1 <= sized.bits_per_site * sized.site_count <= limits.UNITS_PER_POOL_MAX:
                text = f"pool {pool.name}: {sized.unit_count} units of {sized.site_count} sites are too few or too many"
                raise InvalidRequest(text, pool=pool.name, unit_count=sized.unit_count)
            pools.append(sized)
        return CardSpec(card_id, self.name, backend, tuple(pools), core_cpus)


def parse_profile(text: str) -> Profile:
    """Reads a profile.

    Raises:
        InvalidRequest: it is no TOML, or says something that no card can be; the text names the place.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:  # also numbers of thousands of digits, and brackets nested as deep
        raise InvalidRequest(f"the profile is no TOML: {fault}") from fault
    unknown = document.keys() - _KEYS
    if unknown:
        raise InvalidRequest(f"the profile has unknown keys: {', '.join(sorted(unknown))}")
    name = _name("name", document.get("name"))
    array = None
    if "array" in document:
        if "pools" in document:
            raise InvalidRequest(f"profile {name} is an array or has pools of its own, not both", profile=name)
        array = parse_array(document["array"])
        pools, host_sized = array.pools(), frozenset[PoolName]()
    else:
        pools, host_sized = _parse_pools(name, document.get("pools"))
    system = _parse_system(document.get("system", {}), pools)
    return Profile(name, str(document.get("description", "")), pools, host_sized, array, system)


def _parse_pools(name: str, tables: object) -> tuple[tuple[PoolSpec, ...], frozenset[PoolName]]:
    if not isinstance(tables, dict) or not 1 <= len(tables) <= limits.POOLS_PER_CARD_MAX:
        raise InvalidRequest(f"profile {name} needs 1 to {limits.POOLS_PER_CARD_MAX} tables [pools.NAME]", profile=name)
    pools, host_sized = [], set()
    for pool_name, table in tables.items():
        pool, is_host_sized = _parse_pool(_name("pools", pool_name), table)
        pools.append(pool)
        if is_host_sized:
            host_sized.add(pool.name)
    return tuple(pools), frozenset(host_sized)


def _parse_system(table: object, pools: tuple[PoolSpec, ...]) -> dict[str, tuple[SystemUnits, ...]]:
    if not isinstance(table, dict) or not all(isinstance(entries, list) for entries in table.values()):
        raise InvalidRequest("the profile's system has lists of tables, [[system.NAME]]")
    by_name = {pool.name: pool for pool in pools}
    return {
        _name("system", name): tuple(_parse_system_units(name, entry, by_name) for entry in entries)
        for name, entries in table.items()
    }


def _parse_system_units(name: str, table: object, pools: Mapping[PoolName, PoolSpec]) -> SystemUnits:
    known = {"pool", "ids", "modules"}
    if not isinstance(table, dict) or table.keys() - known or table.get("pool") not in list(pools):
        raise InvalidRequest(f"system.{name}: a table with a pool of the profile, ids and modules is expected")
    pool, ids, modules = pools[table["pool"]], table.get("ids"), table.get("modules", [])
    if not isinstance(ids, list) or not all(type(unit) is int and 0 <= unit < pool.unit_count for unit in ids):
        raise InvalidRequest(f"system.{name}: ids of pool {pool.name} are 0 to {pool.unit_count - 1}", pool=pool.name)
    if not ids or len(set(ids)) < len(ids):
        raise InvalidRequest(f"system.{name}: ids of pool {pool.name}, each once, are expected", pool=pool.name)
    if not isinstance(modules, list) or not all(module in TILE_MODULES.values() for module in modules):
        raise InvalidRequest(f"system.{name}: modules are {', '.join(sorted(set(TILE_MODULES.values())))}")
    units = SystemUnits(pool.name, tuple(ids), tuple(modules))
    indexes = {site: index for index, site in enumerate(pool.sites)}
    sites = tuple(indexes[site] for site in units.sites_in(pool))
    if modules and not sites:
        raise InvalidRequest(f"system.{name}: pool {pool.name} has no site in {', '.join(modules)}", pool=pool.name)
    if sites and max(ids) >= (least := pool.least_unit_count(sites)):
        raise InvalidRequest(f"system.{name}: some of these sites have {least} units of {pool.name}", pool=pool.name)
    return units


def _parse_pool(name: str, table: object) -> tuple[PoolSpec, bool]:
    if not isinstance(table, dict) or table.keys() - _POOL_KEYS:
        keys = ", ".join(sorted(_POOL_KEYS))
        raise InvalidRequest(f"pool {name}: a table with only {keys} is expected", pool=name)
    unit_bytes, unit_count, is_host_sized = 0, 0, False
    if "memory_mib" in table:
        if table.keys() & {"slices", "sites", "unit_count"}:
            text = f"pool {name}: memory has one site and whole blocks; leave out slices, sites and unit_count"
            raise InvalidRequest(text, pool=name)
        unit_bytes = _count(name, table, "unit_kib", MEMORY_UNIT_KIB_DEFAULT) * 1024
        if table["memory_mib"] == CARD_MEMORY:
            is_host_sized = True
        else:
            unit_count = _count(name, table, "memory_mib") * 1024 * 1024 // unit_bytes
    elif table.get("unit_count") == CPUS:
        is_host_sized = True
    else:
        unit_count = _count(name, table, "unit_count")
    sites = _sites(name, table)
    spec = PoolSpec(
        name=PoolName(name),
        unit_count=unit_count,
        sites=sites,
        site_unit_counts=_site_unit_counts(name, table, len(sites), unit_count),
        unit_bytes=unit_bytes,
        slices_per_unit=_count(name, table, "slices", 1, most=limits.SLICES_PER_UNIT_MAX),
    )
    return spec, is_host_sized


def _sites(pool: str, table: Mapping[str, object]) -> tuple[SiteName, ...]:
    sites = table.get("sites", [])
    if not isinstance(sites, list) or not all(isinstance(site, str) and site for site in sites):
        raise InvalidRequest(f"pool {pool}: sites must be a list of names", pool=pool)
    if len(set(sites)) < len(sites) or len(sites) > limits.SITES_PER_POOL_MAX:
        raise InvalidRequest(f"pool {pool}: up to {limits.SITES_PER_POOL_MAX} sites, each once", pool=pool)
    return tuple(SiteName(site) for site in sites)


def _site_unit_counts(pool: str, table: Mapping[str, object], site_count: int, most: int) -> tuple[int, ...]:
    counts = table.get("site_unit_counts", [])
    if not isinstance(counts, list) or (counts and len(counts) != site_count):
        raise InvalidRequest(f"pool {pool}: site_unit_counts must be a list with one number a site", pool=pool)
    if not all(type(count) is int and 0 <= count <= most for count in counts):  # and no bool
        raise InvalidRequest(f"pool {pool}: a site has 0 to {most} units, the pool's unit_count", pool=pool)
    return tuple(counts)


def _count(
    pool: str, table: Mapping[str, object], key: str, default: int | None = None, most: int = limits.UNITS_PER_POOL_MAX
) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidRequest(f"pool {pool}: {key} must be a number from 1 to {most}, not {value!r}", pool=pool)
    return value


def _name(key: str, value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= limits.NAME_CHARS_MAX or not value.isprintable():
        raise InvalidRequest(f"the profile's {key} must be a name of up to {limits.NAME_CHARS_MAX} characters")
    return value
