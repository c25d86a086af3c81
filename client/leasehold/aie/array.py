"""The shape of an AI Engine array, as a card's pools tell it: which tiles and modules there are, and what each has.

Words and numbers are the driver's (UG1642): tile types 0 (compute), 2 (shim: NOC and PL share one map), 3 (memory);
modules 0 (mem), 1 (core), 2 (pl); resource types in the order of ``RESOURCE_TYPES``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from leasehold.claims import Site, site_text
from leasehold.errors import Invalid

RESOURCE_TYPES = (
    "perfcnt",
    "user_event",
    "trace_ctrl",
    "pc_event",
    "ss_event_port",
    "bcast_channel",
    "combo_event",
    "group_event",
)
Tile = tuple[int, int, str]  # column, row, module


class TileType(IntEnum):
    """Kinds of tiles by the driver's numbers; 1, SHIM NOC, shares the map of 2."""

    COMPUTE = 0
    SHIM = 2
    MEMORY = 3


class Module(IntEnum):
    """Modules of a tile by the driver's numbers; the names are those of sites."""

    MEM = 0
    CORE = 1
    PL = 2


_MODULES = {TileType.COMPUTE: (Module.MEM, Module.CORE), TileType.SHIM: (Module.PL,), TileType.MEMORY: (Module.MEM,)}


@dataclass(frozen=True, slots=True)
class PoolShape:
    """A pool as the daemon or a manager tells it. ``site_unit_counts`` is empty where all sites have ``unit_count``."""

    name: str
    unit_count: int
    sites: Sequence[str]
    site_unit_counts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """All units of one resource type in one module of all tiles of one type: what one bitmap of the driver covers.

    Bit ``unit_count * (column * row_count + row - first_row) + id``, column by column.
    """

    tile_type: TileType
    module: Module
    resource_type: int
    unit_count: int
    first_row: int
    row_count: int

    @property
    def pool(self) -> str:
        """Name of its pool."""
        return RESOURCE_TYPES[self.resource_type]

    def covers(self, row: int, module: str) -> bool:
        """Whether a module of a tile in this row belongs to it."""
        return module == self.module.name.lower() and self.first_row <= row < self.first_row + self.row_count

    def bit_count(self, column_count: int) -> int:
        """Bits of its map over so many columns."""
        return self.unit_count * self.row_count * column_count

    def bit(self, column: int, row: int, unit: int) -> int:
        """Where a unit lies; ``column`` counts from the map's first."""
        return self.unit_count * (column * self.row_count + row - self.first_row) + unit

    def place(self, bit: int) -> tuple[int, int, int]:
        """Column (from the map's first), row and id of a bit."""
        tile, unit = divmod(bit, self.unit_count)
        column, row = divmod(tile, self.row_count)
        return column, row + self.first_row, unit


@dataclass(frozen=True, slots=True)
class ArrayShape:
    """An array: its columns, the rows of each type of tile, and its regions in the order of the driver's files."""

    column_count: int
    rows: dict[TileType, range]
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, pools: Iterable[PoolShape]) -> "ArrayShape":
        """The shape that a card's pools make.

        Raises:
            Invalid: they make none: the card is no AI Engine array.
        """
        by_name = {pool.name: pool for pool in pools if pool.name in RESOURCE_TYPES}
        modules: dict[int, dict[int, set[str]]] = {}
        for pool in by_name.values():
            for column, row, module in map(tile_of, pool.sites):
                modules.setdefault(column, {}).setdefault(row, set()).add(module)
        if not modules or sorted(modules) != list(range(len(modules))):
            raise Invalid("this card is no AI Engine array; start rmd with --profile aie, or name such a profile")
        first = modules[0]
        if any(column != first for column in modules.values()) or sorted(first) != list(range(len(first))):
            raise Invalid("the columns of this card are not alike: it is no AI Engine array")
        types = {row: _tile_type(names) for row, names in sorted(first.items())}
        rows = {kind: [row for row, its_type in types.items() if its_type == kind] for kind in TileType}
        if any(found != list(range(found[0], found[-1] + 1)) for found in rows.values() if found):
            raise Invalid("tiles of one type do not lie in rows beside each other: this is no AI Engine array")
        ranges = {kind: range(found[0], found[-1] + 1) for kind, found in rows.items() if found}
        return cls(len(modules), ranges, tuple(_regions(ranges, by_name)))

    def tiles(self, module: str | None = None) -> list[Tile]:
        """Every module of every tile, column by column, row by row, ``mem`` before ``core``; or those of one name."""
        by_row = {row: _MODULES[kind] for kind, rows in self.rows.items() for row in rows}
        return [
            (column, row, one.name.lower())
            for column in range(self.column_count)
            for row in sorted(by_row)
            for one in by_row[row]
            if module in {None, one.name.lower()}
        ]

    @property
    def row_count(self) -> int:
        """Rows of tiles, the shim's among them."""
        return sum(len(rows) for rows in self.rows.values())

    def sites_from(self, tiles: Iterable[tuple[int, int]] | None) -> set[str]:
        """The sites of ``tiles`` and of all above them in their columns, no shim's: what loses its clock with theirs.

        None means all.

        Raises:
            Invalid: there is no such tile.
        """
        lowest = self._rows_by_column(tiles, default=1)
        return {site_text(tile) for tile in self.tiles() if tile[1] >= max(1, lowest.get(tile[0], self.row_count))}

    def sites_up_to(self, tiles: Iterable[tuple[int, int]] | None) -> set[str]:
        """The sites of ``tiles`` and of all below them in their columns: what must have a clock that they have one.

        None means all.

        Raises:
            Invalid: there is no such tile.
        """
        highest = self._rows_by_column(tiles, default=self.row_count - 1, pick=max)
        return {site_text(tile) for tile in self.tiles() if tile[1] <= highest.get(tile[0], -1)}

    def _rows_by_column(
        self,
        tiles: Iterable[tuple[int, int]] | None,
        *,
        default: int,
        pick: Callable[[int, int], int] = min,
    ) -> dict[int, int]:
        if tiles is None:
            return dict.fromkeys(range(self.column_count), default)
        found: dict[int, int] = {}
        for column, row in tiles:
            if not (0 <= column < self.column_count and 0 <= row < self.row_count):
                text = f"there is no tile ({column}, {row}) in {self.column_count} columns and {self.row_count} rows"
                raise Invalid(text, facts={"column": column, "row": row})
            found[column] = pick(row, found.get(column, row))
        return found


def tile_of(site: Site) -> Tile:
    """Column, row and module of a site, given as a tuple or as its name.

    Raises:
        Invalid: it is none.
    """
    parts = site.split(",") if isinstance(site, str) else site
    try:
        column, row, module = parts
        return int(column), int(row), str(module)
    except (ValueError, TypeError) as fault:
        raise Invalid(f"a tile is (column, row, module), such as (3, 1, 'core'), not {site!r}") from fault


def _tile_type(modules: set[str]) -> TileType:
    for kind, names in _MODULES.items():
        if modules == {one.name.lower() for one in names}:
            return kind
    raise Invalid(f"no tile has the modules {', '.join(sorted(modules))}")


def _regions(rows: dict[TileType, range], pools: dict[str, PoolShape]) -> Iterable[Region]:
    for kind, its_rows in rows.items():
        for number, name in enumerate(RESOURCE_TYPES):
            for module in _MODULES[kind]:
                count = _unit_count(pools.get(name), f"0,{its_rows.start},{module.name.lower()}")
                if count:
                    yield Region(kind, module, number, count, its_rows.start, len(its_rows))


def _unit_count(pool: PoolShape | None, site: str) -> int:
    if pool is None or site not in pool.sites:
        return 0
    return pool.site_unit_counts[list(pool.sites).index(site)] if pool.site_unit_counts else pool.unit_count
