"""An AI Engine array as pools: one pool a resource type, one site a module of a tile.

Rows count from the bottom: row 0 is the shim (interface tiles), then memory tiles where the generation has them, then
compute tiles. A compute tile has the modules ``mem`` and ``core``, a memory tile ``mem``, a shim tile ``pl``; SHIM NOC
and SHIM PL tiles share one map, so their module has one name. Source: UG1642 and the AI Engine driver's device tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rm.core import limits
from rm.core.errors import InvalidRequest
from rm.core.pool import PoolSpec
from rm.core.types import PoolName, SiteName

COLUMNS = PoolName("columns")
RESOURCE_TYPES = tuple(
    PoolName(name)
    for name in (
        "perfcnt",
        "user_event",
        "trace_ctrl",
        "pc_event",
        "ss_event_port",
        "bcast_channel",
        "combo_event",
        "group_event",
    )
)
TILE_MODULES = {"core": "core", "mem": "mem", "memory_tile": "mem", "shim": "pl"}  # by the tables of a profile
_UNITS_PER_MODULE_MAX = 64
_SIDE_MAX = 255  # the driver keeps a column and a row in a byte each


@dataclass(frozen=True, slots=True)
class Array:
    """The shape of an array: columns, rows of each kind of tile, and units of each type in each kind of module."""

    column_count: int
    memory_row_count: int
    tile_row_count: int
    unit_counts: Mapping[str, Mapping[PoolName, int]]

    @property
    def row_count(self) -> int:
        """Rows in all, the shim's among them."""
        return 1 + self.memory_row_count + self.tile_row_count

    def shaped(self, text: str) -> "Array":
        """The same generation in another shape: ``COLUMNSxROWS`` or ``COLUMNSxROWSxMEMORY_ROWS``, row 0 counted.

        Raises:
            InvalidRequest: no such shape.
        """
        numbers = text.split("x")
        if len(numbers) not in {2, 3} or not all(
            part.isascii() and part.isdigit() and len(part) < 6 for part in numbers
        ):
            raise InvalidRequest(f"an array's shape is COLUMNSxROWS, such as 4x6, not {text!r}", shape=text)
        columns, rows, memory_rows = map(int, [*numbers, str(self.memory_row_count)][:3])
        if 1 <= rows < 1 + memory_rows:
            least = f"an array with {memory_rows} rows of memory tiles has {1 + memory_rows} rows at least, not {rows}"
            raise InvalidRequest(least, rows=rows, memory_rows=memory_rows)
        made = replace(self, column_count=columns, memory_row_count=memory_rows, tile_row_count=rows - 1 - memory_rows)
        made.check()
        return made

    def check(self) -> None:
        """Refuses a shape that no array has.

        Raises:
            InvalidRequest: too few or too many columns, rows or sites.
        """
        sides = (self.column_count, self.row_count)
        if min(sides) < 1 or max(sides) > _SIDE_MAX or self.memory_row_count < 0 or self.tile_row_count < 0:
            text = f"an array has 1 to {_SIDE_MAX} columns and rows, the shim's among them"
            raise InvalidRequest(text, columns=self.column_count, rows=self.row_count)
        if len(self._modules()) > limits.SITES_PER_POOL_MAX:
            most = limits.SITES_PER_POOL_MAX
            raise InvalidRequest(f"an array of {len(self._modules())} modules; {most} are possible", most=most)

    def pools(self) -> tuple[PoolSpec, ...]:
        """Its pools, in the driver's order of types, and one for its columns.

        A site without units of a type is not in that type's pool.
        """
        counted = {
            name: [(site, count) for site, kind in self._modules() if (count := self.unit_counts[kind][name])]
            for name in RESOURCE_TYPES
        }
        pools = [_pool(name, counts) for name, counts in counted.items() if counts]
        return (*pools, PoolSpec(COLUMNS, self.column_count))

    def _modules(self) -> list[tuple[SiteName, str]]:
        """Every module and what it belongs to: column by column, row by row, ``mem`` before ``core``."""
        by_row = ["shim"] + ["memory_tile"] * self.memory_row_count + ["tile"] * self.tile_row_count
        return [
            (SiteName(f"{column},{row},{TILE_MODULES[kind]}"), kind)
            for column in range(self.column_count)
            for row, tile in enumerate(by_row)
            for kind in (("mem", "core") if tile == "tile" else (tile,))
        ]


def parse_array(table: object) -> Array:
    """Reads the table ``[array]`` of a profile.

    Raises:
        InvalidRequest: it says something that no array can be; the text names the place.
    """
    known = {"columns", "memory_rows", "tile_rows", "units"}
    if not isinstance(table, dict):
        raise InvalidRequest(f"array must be a table with {', '.join(sorted(known))}, not {table!r:.40}")
    if unknown := table.keys() - known:
        raise InvalidRequest(f"[array] has unknown keys: {', '.join(sorted(unknown))}")
    units = table.get("units")
    if not isinstance(units, dict) or units.keys() - TILE_MODULES.keys():
        raise InvalidRequest(f"[array.units] needs tables, of {', '.join(TILE_MODULES)}")
    counts = {kind: _unit_counts(kind, units.get(kind, {})) for kind in TILE_MODULES}
    array = Array(
        column_count=_number("columns", table.get("columns"), least=1, most=_SIDE_MAX),
        memory_row_count=_number("memory_rows", table.get("memory_rows", 0), least=0, most=_SIDE_MAX),
        tile_row_count=_number("tile_rows", table.get("tile_rows"), least=0, most=_SIDE_MAX),
        unit_counts=counts,
    )
    array.check()
    return array


def _unit_counts(kind: str, table: object) -> dict[PoolName, int]:
    if not isinstance(table, dict) or table.keys() - set(RESOURCE_TYPES):
        raise InvalidRequest(f"[array.units.{kind}] has counts of {', '.join(RESOURCE_TYPES)} only")
    return {
        name: _number(f"units.{kind}.{name}", table.get(name, 0), least=0, most=_UNITS_PER_MODULE_MAX)
        for name in RESOURCE_TYPES
    }


def _number(key: str, value: object, *, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidRequest(f"array.{key} must be a number from {least} to {most}, not {value!r}", key=key)
    return value


def _pool(name: PoolName, counts: list[tuple[SiteName, int]]) -> PoolSpec:
    sites, units = zip(*counts, strict=True)
    most = max(units)
    return PoolSpec(name, most, sites, () if min(units) == most else units)
