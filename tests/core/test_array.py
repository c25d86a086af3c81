"""AI Engine arrays: every count of the device tables by tile and module, any shape, and tables that no array has."""

import pytest

from rm.core import limits
from rm.core.array import COLUMNS, RESOURCE_TYPES, Array, parse_array
from rm.core.errors import InvalidRequest
from rm.core.pool import Pool, PoolSpec
from rm.core.profile import parse_profile
from rm.core.types import PoolName
from rm.devices.profiles import load_profile

# UG1642 and the device tables of the driver, in the driver's order of types: perfcnt, user_event, trace_ctrl, pc_event,
# ss_event_port, bcast_channel, combo_event, group_event.
CORE, MEM = (4, 4, 1, 4, 8, 16, 4, 9), (2, 4, 1, 0, 0, 16, 4, 8)
MEMORY_TILE = (4, 2, 1, 0, 8, 16, 4, 9)
COUNTS = {
    "aie": {"core": CORE, "mem": MEM, "shim": (2, 4, 1, 0, 8, 16, 4, 7)},
    "aie-ml": {"core": CORE, "mem": MEM, "memory_tile": MEMORY_TILE, "shim": (2, 2, 1, 0, 8, 16, 4, 6)},
    "aie2ipu": {"core": CORE, "mem": MEM, "memory_tile": MEMORY_TILE, "shim": (2, 4, 1, 0, 8, 15, 4, 6)},
}
SHAPES = {"aie": (50, 0, 8), "aie-ml": (38, 2, 8), "aie2ipu": (5, 1, 4)}  # columns, rows of memory tiles, of tiles
SIDE_MAX = 255


def expected_units(name: str, shape: tuple[int, int, int]) -> dict[tuple[str, str], int]:
    """Units of every (type, site) that has some, counted tile by tile."""
    columns, memory_rows, tile_rows = shape
    units = {}
    for column in range(columns):
        for row in range(1 + memory_rows + tile_rows):
            if row == 0:
                modules = {"pl": "shim"}
            elif row <= memory_rows:
                modules = {"mem": "memory_tile"}
            else:
                modules = {"mem": "mem", "core": "core"}
            for module, kind in modules.items():
                for kind_of_unit, count in zip(RESOURCE_TYPES, COUNTS[name][kind], strict=True):
                    if count:
                        units[kind_of_unit, f"{column},{row},{module}"] = count
    return units


def units_of(pools: tuple[PoolSpec, ...]) -> dict[tuple[str, str], int]:
    return {(spec.name, site): spec.unit_count_at(index) for spec in pools for index, site in enumerate(spec.sites)}


@pytest.mark.parametrize("name", COUNTS)
def test_every_module_has_the_counts_of_the_device_tables(name) -> None:
    assert units_of(load_profile(name).pools) == expected_units(name, SHAPES[name])


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 6), (38, 11), (3, 255)])
def test_any_shape_has_the_counts_of_its_generation(name, shape) -> None:
    columns, rows = shape
    memory_rows = SHAPES[name][1]
    if rows < 1 + memory_rows:
        with pytest.raises(InvalidRequest, match="rows of memory tiles"):
            load_profile(f"{name}:{columns}x{rows}")
        return
    profile = load_profile(f"{name}:{columns}x{rows}")
    assert profile.name == f"{name}:{columns}x{rows}"
    assert units_of(profile.pools) == expected_units(name, (columns, memory_rows, rows - 1 - memory_rows))
    assert next(pool.unit_count for pool in profile.pools if pool.name == COLUMNS) == columns


def test_the_rows_of_memory_tiles_can_be_given_too() -> None:
    profile = load_profile("aie-ml:4x6x1")
    assert units_of(profile.pools) == expected_units("aie-ml", (4, 1, 4))


def test_the_pools_stand_in_the_drivers_order_and_the_columns_last() -> None:
    assert [pool.name for pool in load_profile("aie").pools] == [*RESOURCE_TYPES, COLUMNS]
    shims = load_profile("aie:2x1")
    assert PoolName("pc_event") not in {pool.name for pool in shims.pools}, "a type that no tile has is no pool"


def test_sites_go_column_by_column_row_by_row_and_memory_before_core() -> None:
    pools = {pool.name: pool for pool in load_profile("aie-ml:2x4").pools}
    assert pools[PoolName("bcast_channel")].sites == (
        "0,0,pl", "0,1,mem", "0,2,mem", "0,3,mem", "0,3,core", "1,0,pl", "1,1,mem", "1,2,mem", "1,3,mem", "1,3,core",
    )  # fmt: skip


def test_all_broadcast_channels_of_an_array_are_counted() -> None:
    pools = {pool.name: Pool(pool) for pool in load_profile("aie").pools}
    assert pools[PoolName("bcast_channel")].spec.site_count == 850
    assert pools[PoolName("bcast_channel")].counts().free == 850 * 16
    assert pools[PoolName("group_event")].counts().free == 50 * (8 * (9 + 8) + 7)


# Shapes that are none.


@pytest.mark.parametrize(
    "shape",
    ["", "4", "x", "4x", "x6", "4x6x", "4x6x1x1", "0x6", "4x0", "256x2", "2x256", "-1x6", "4x-6", "4.0x6", "٤x6",
     "4 x6", "100000x2", "4x6x6", "4x6:2", "4X6"],
)  # fmt: skip
def test_a_shape_that_no_array_has_is_refused(shape) -> None:
    with pytest.raises(InvalidRequest):
        load_profile(f"aie:{shape}")


def test_what_is_no_array_has_no_shape() -> None:
    with pytest.raises(InvalidRequest, match="embedded is no array"):
        load_profile("embedded:4x6")


@pytest.mark.parametrize("shape", [f"1x{SIDE_MAX}", f"{SIDE_MAX}x1"])
def test_a_side_has_a_most(shape) -> None:
    load_profile(f"aie:{shape}")
    columns, rows = (int(side) + (side == str(SIDE_MAX)) for side in shape.split("x"))
    with pytest.raises(InvalidRequest, match="1 to 255 columns and rows") as found:
        load_profile(f"aie:{columns}x{rows}")
    assert (found.value.facts["columns"], found.value.facts["rows"]) == (columns, rows)


def test_the_modules_of_an_array_have_a_most() -> None:
    assert limits.SITES_PER_POOL_MAX == 16 * (2 * 127 + 2)
    whole = load_profile("aie-ml:16x129x1")  # a shim, a memory tile and 127 tiles of two modules in each column
    assert max(pool.site_count for pool in whole.pools) == limits.SITES_PER_POOL_MAX
    with pytest.raises(InvalidRequest, match="an array of 4112 modules; 4096 are possible"):
        load_profile("aie-ml:16x130x2")


# Tables that are none.


def table(**changes: object) -> dict[str, object]:
    units = {"core": {"perfcnt": 4}, "mem": {"perfcnt": 2}, "shim": {"perfcnt": 2}}
    return {"columns": 2, "tile_rows": 1, "units": units} | changes


def test_a_table_says_what_an_array_has_and_leaves_out_what_it_has_not() -> None:
    array = parse_array(table())
    assert isinstance(array, Array)
    assert (array.column_count, array.row_count) == (2, 2)
    assert [pool.name for pool in array.pools()] == ["perfcnt", COLUMNS]


@pytest.mark.parametrize(
    "broken",
    [
        3,
        [],
        {},
        table(colour=1),
        table(columns=0),
        table(columns=SIDE_MAX + 1),
        table(columns="2"),
        table(columns=True),
        table(columns=2.0),
        table(tile_rows=-1),
        table(tile_rows=SIDE_MAX),
        table(memory_rows=-1),
        table(memory_rows=SIDE_MAX),
        table(units=3),
        table(units={"roof": {}}),
        table(units={"core": 3}),
        table(units={"core": {"locks": 1}}),
        table(units={"core": {"perfcnt": -1}}),
        table(units={"core": {"perfcnt": 65}}),
        table(units={"core": {"perfcnt": True}}),
        table(units={"core": {"perfcnt": "4"}}),
    ],
    ids=repr,
)
def test_a_table_that_no_array_has_is_refused(broken) -> None:
    with pytest.raises(InvalidRequest, match="array"):
        parse_array(broken)


def test_a_module_has_up_to_64_units_of_a_type() -> None:
    (pool, _) = parse_array(table(units={"core": {"perfcnt": 64}})).pools()
    assert pool.unit_count == 64


def test_a_profile_is_an_array_or_has_pools_of_its_own() -> None:
    both = 'name = "x"\n[pools.p]\nunit_count = 1\n[array]\ncolumns = 1\ntile_rows = 0\n[array.units]\n'
    with pytest.raises(InvalidRequest, match="not both"):
        parse_profile(both)
    with pytest.raises(InvalidRequest, match="array must be a table"):
        parse_profile('name = "x"\narray = 3')


# What the system itself keeps.


def kept(profile_name: str, system_name: str) -> dict[tuple[str, int], int]:
    """At how many sites of each kind of tile each id is kept: by (pool and module, id)."""
    profile = load_profile(profile_name)
    pools = {pool.name: pool for pool in profile.pools}
    found: dict[tuple[str, int], int] = {}
    for one in profile.system[system_name]:
        for site in one.sites_in(pools[one.pool]):
            for unit in one.ids:
                key = (f"{one.pool} {site.rpartition(',')[2]}", unit)
                found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize(("name", "last"), [("aie", 5), ("aie-ml", 5), ("aie2ipu", 3)])
def test_error_broadcast_keeps_channel_0_of_every_tile_and_a_few_of_every_shim(name, last) -> None:
    columns, memory_rows, tile_rows = SHAPES[name]
    expected = {("bcast_channel pl", unit): columns for unit in range(last + 1)}
    expected["bcast_channel mem", 0] = columns * (memory_rows + tile_rows)
    expected["bcast_channel core", 0] = columns * tile_rows
    assert kept(name, "error-broadcast") == expected


@pytest.mark.parametrize("name", COUNTS)
def test_ecc_keeps_channel_6_everywhere_and_a_counter_of_every_core(name) -> None:
    columns, memory_rows, tile_rows = SHAPES[name]
    assert kept(name, "ecc") == {
        ("bcast_channel pl", 6): columns,
        ("bcast_channel mem", 6): columns * (memory_rows + tile_rows),
        ("bcast_channel core", 6): columns * tile_rows,
        ("perfcnt core", 0): columns * tile_rows,
    }


def test_an_array_of_shims_keeps_nothing_of_tiles_that_it_has_not() -> None:
    assert kept("aie:1x1", "ecc") == {("bcast_channel pl", 6): 1}
    assert [one.modules for one in load_profile("aie:1x1").system["error-broadcast"]] == [("pl",)]


SYSTEM = """
name = "x"
[array]
columns = 2
tile_rows = 1
[array.units.core]
perfcnt = 4
[array.units.shim]
perfcnt = 2
"""


def test_system_units_are_read() -> None:
    profile = parse_profile(f'{SYSTEM}[[system.a]]\npool = "perfcnt"\nids = [3]\nmodules = ["core"]\n')
    ((one,),) = profile.system.values()
    assert one.sites_in(profile.pools[0]) == ("0,1,core", "1,1,core")


@pytest.mark.parametrize(
    "body",
    [
        "system = 3",
        "[system]\na = 3",
        "[[system.a]]\nids = [0]",
        '[[system.a]]\npool = "nowhere"\nids = [0]',
        '[[system.a]]\npool = "perfcnt"',
        '[[system.a]]\npool = "perfcnt"\nids = []',
        '[[system.a]]\npool = "perfcnt"\nids = [0, 0]',
        '[[system.a]]\npool = "perfcnt"\nids = [-1]',
        '[[system.a]]\npool = "perfcnt"\nids = [4]',
        '[[system.a]]\npool = "perfcnt"\nids = [true]',
        '[[system.a]]\npool = "perfcnt"\nids = ["0"]',
        '[[system.a]]\npool = "perfcnt"\nids = [0]\nmodules = "core"',
        '[[system.a]]\npool = "perfcnt"\nids = [0]\nmodules = ["roof"]',
        '[[system.a]]\npool = "perfcnt"\nids = [0]\nmodules = [1]',
        '[[system.a]]\npool = "perfcnt"\nids = [0]\nmodules = ["mem"]',
        '[[system.a]]\npool = "columns"\nids = [0]\nmodules = ["pl"]',
        '[[system.a]]\npool = "perfcnt"\nids = [3]\nmodules = ["pl"]',
        '[[system.a]]\npool = "perfcnt"\nids = [3]',
        '[[system.a]]\npool = "perfcnt"\nids = [0]\ncolour = 1',
        '[[system.a]]\npool = ["perfcnt"]\nids = [0]',
        '[[system.a]]\npool = "perfcnt"\nids = [[0]]',
        '[[system.a]]\npool = "perfcnt"\nids = [0]\nmodules = [["pl"]]',
    ],
)
def test_system_units_that_cannot_be_are_refused(body) -> None:
    text = f"system = 3\n{SYSTEM}" if body == "system = 3" else SYSTEM + body
    with pytest.raises(InvalidRequest, match="system"):
        parse_profile(text)
