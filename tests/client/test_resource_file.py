"""The driver's resource file: written byte for byte, read strictly, all or nothing, never a crash."""

import hashlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasehold import Invalid
from leasehold.aie.array import ArrayShape, PoolShape, TileType
from leasehold.aie.resource_file import claims_of, is_resource_file, read_resources, write_resources
from leasehold.local import Manager
from rm.devices.profiles import load_profile
from support.recordings import DATA
from support.strategies import SAME_EVERY_RUN

# What the driver wrote for an array of 50 columns after counter 0 of two cores and a channel everywhere were asked for.
GOLDEN = "98450dfeaa651561e2e855ae89175a01007c2721b1e6fee163acd136fe4fa37a"
# Headers of that array's bitmaps, in their order.
HEADERS = (
    "d0000 190010 190100 190110 70200 70210 190310 320410 640500 640510 190600 190610 320700 390710 "
    "20022 40122 10222 70422 d0522 40622 60722"
)


def shape_of(profile: str) -> ArrayShape:
    return ArrayShape.of(
        PoolShape(pool.name, pool.unit_count, pool.sites, pool.site_unit_counts) for pool in load_profile(profile).pools
    )


SMALL, SMALL_ML = shape_of("aie:2x3"), shape_of("aie-ml:4x6x1")
EVERY_UNIT = {
    region.pool: {} for region in SMALL_ML.regions
}  # filled below: every unit of every module of the small array
for _region in SMALL_ML.regions:
    for _bit in range(_region.bit_count(SMALL_ML.column_count)):
        _column, _row, _unit = _region.place(_bit)
        _site = f"{_column},{_row},{_region.module.name.lower()}"
        EVERY_UNIT[_region.pool][_site] = EVERY_UNIT[_region.pool].get(_site, frozenset()) | {_unit}


def words(data: bytes) -> list[int]:
    return [word for (word,) in struct.iter_unpack("<Q", data)]


def test_the_driver_s_golden_file_is_written_byte_for_byte() -> None:
    manager = Manager("aie")
    for row in (1, 2):
        manager.request("perfcnt", [(1, row, "core")])
    manager.request_common("bcast_channel")
    data = manager.dump()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (4752, GOLDEN)


def test_bitmaps_come_in_the_driver_s_order_with_its_headers() -> None:
    data, headers, at = write_resources(shape_of("aie"), {}), [], 16
    while at < len(data):
        (header,) = struct.unpack_from("<Q", data, at)
        headers.append(f"{header:x}")
        at += 8 + 8 * (header >> 16)
    assert " ".join(headers) == HEADERS
    assert words(data)[:2] == [21, 16]


@pytest.mark.parametrize(
    ("profile", "size"), [("aie:2x3", 352), ("aie-ml:4x6x1", 544), ("aie-ml", 4136), ("aie:4x9", 592)]
)
def test_a_file_has_the_size_that_the_driver_s_has(profile, size) -> None:
    assert len(write_resources(shape_of(profile), {})) == size


def test_a_unit_lies_where_the_driver_has_it() -> None:
    data = write_resources(SMALL, {"perfcnt": {"0,1,core": [1], "1,2,core": [0]}})
    assert words(data)[4:6] == [0x1_0010, 0x1002]


def test_every_unit_comes_back() -> None:
    assert read_resources(write_resources(SMALL_ML, EVERY_UNIT), SMALL_ML) == EVERY_UNIT


@pytest.mark.parametrize("seed", range(3))  # in the name of the test: printed where one fails
def test_any_units_come_back(seed) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        some = {
            pool: {
                site: frozenset(chance.sample(sorted(ids), chance.randint(1, len(ids)))) for site, ids in part.items()
            }
            for pool, sites in EVERY_UNIT.items()
            if (part := {site: ids for site, ids in sites.items() if chance.random() < 0.3})
        }
        assert read_resources(write_resources(SMALL_ML, some), SMALL_ML) == some


def test_padding_is_written_as_zero_and_ignored_when_read() -> None:
    data = bytearray(write_resources(SMALL, {"perfcnt": {"0,1,mem": [0]}}))
    struct.pack_into("<Q", data, 24, 1 | 1 << 60)  # 8 counters of the memory modules, and what lies behind them
    assert read_resources(bytes(data), SMALL) == {"perfcnt": {"0,1,mem": {0}}}


def test_bitmaps_may_come_in_any_order_and_some_may_be_missing() -> None:
    data = write_resources(SMALL, {"perfcnt": {"0,1,core": [3]}})
    only = struct.pack("<QQ", 1, 16) + data[32:48]
    assert read_resources(only, SMALL) == {"perfcnt": {"0,1,core": {3}}}
    turned = struct.pack("<QQ", 2, 16) + data[32:48] + data[16:32]
    assert read_resources(turned, SMALL) == read_resources(only, SMALL)


def test_a_file_for_some_columns_is_read_where_it_belongs() -> None:
    data = write_resources(SMALL, {"trace_ctrl": {"1,0,pl": [0]}})
    assert read_resources(data, shape_of("aie:5x3"), start_column=2, column_count=2) == {"trace_ctrl": {"3,0,pl": {0}}}


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (4, 2), (0, 6), (0, 0), (5, 1)])
def test_columns_that_are_not_there_are_refused(start, count) -> None:
    with pytest.raises(Invalid, match="columns"):
        read_resources(write_resources(SMALL, {}), shape_of("aie:5x3"), start_column=start, column_count=count)


def with_word(index: int, value: int) -> bytes:
    data = bytearray(write_resources(SMALL, {}))
    struct.pack_into("<Q", data, 8 * index, value)
    return bytes(data)


WHOLE = write_resources(SMALL, {})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (WHOLE[:15], "15 bytes"),
        (with_word(0, 0), "counts 0"),
        (with_word(0, 20), "follow its last bitmap"),
        (with_word(0, 22), "counts 22"),
        (with_word(0, 1 << 63), "counts"),
        (with_word(1, 8), "at byte 8"),
        (with_word(1, 1 << 40), "at byte"),
        (with_word(2, 0x1_0001), "bitmap 0 is of no kind"),
        (with_word(2, 0x1_0007), "bitmap 0 is of no kind"),
        (with_word(2, 0x1_0800), "bitmap 0 is of no kind"),
        (with_word(2, 0x1_0020), "bitmap 0 is of no kind"),
        (with_word(2, 0x0_0000), "0 words"),
        (with_word(2, 0x2_0000), "2 words"),
        (with_word(2, 0xFFFFFFFF_0000), "words"),
        (with_word(2, 1 << 48 | 0x1_0000), "bitmap 0 is of no kind"),
        (with_word(4, 0x1_0000), "bitmap 1 is of no kind that this array has, or of one that it has had"),
        (WHOLE[:-1], "cut off"),
        (WHOLE[:-8], "cut off"),
        (WHOLE[:-16], "cut off"),
        (WHOLE + b"\0", "1 bytes follow"),
        (WHOLE + WHOLE, "352 bytes follow"),
        (write_resources(shape_of("aie:3x3"), {}), "bcast_channel.* has 2 words, where 2 columns of this array have 1"),
        (write_resources(shape_of("aie"), {}), "made for another shape"),
        (write_resources(SMALL_ML, {}), "counts 28"),
    ],
)
def test_whatever_does_not_fit_is_refused_and_changes_nothing(data, says) -> None:
    with pytest.raises(Invalid, match=says):
        read_resources(data, SMALL)
    manager = Manager("aie:2x3")
    with pytest.raises(Invalid):
        manager.load(data)
    assert manager.reservations() == []


def test_a_file_is_cut_off_at_every_byte_and_never_loaded_in_part() -> None:
    data = (DATA / "aie-compile-1.bin").read_bytes()
    shape = shape_of("aie")
    for size in range(0, len(data), 7):
        with pytest.raises(Invalid):
            read_resources(data[:size], shape)


def test_a_flipped_bit_is_other_units_or_a_refusal_never_a_crash() -> None:
    data = (DATA / "aie-compile-0.bin").read_bytes()
    shape, right = shape_of("aie"), read_resources(data, shape_of("aie"))
    outcomes = {"the same": 0, "others": 0, "refused": 0}
    for bit in range(0, len(data) * 8, 13):
        hurt = bytearray(data)
        hurt[bit // 8] ^= 1 << bit % 8
        try:
            found = read_resources(bytes(hurt), shape)
        except Invalid:
            outcomes["refused"] += 1
        else:
            outcomes["the same" if found == right else "others"] += 1
    assert all(outcomes.values()), outcomes


@given(st.binary(max_size=400))
@SAME_EVERY_RUN
def test_any_bytes_are_a_file_or_a_refusal(data) -> None:
    try:
        found = read_resources(data, SMALL)
    except Invalid:
        return
    assert read_resources(write_resources(SMALL, found), SMALL) == found


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=16))
@SAME_EVERY_RUN
def test_a_file_with_any_bytes_in_it_is_a_file_or_a_refusal(at, some) -> None:
    data = (WHOLE[:at] + some + WHOLE[at + len(some) :])[: max(len(WHOLE), at + len(some))]
    try:
        found = read_resources(data, SMALL)
    except Invalid:
        return
    assert read_resources(write_resources(SMALL, found), SMALL) == found


def test_the_claims_of_a_file_take_exactly_its_units() -> None:
    claims = claims_of(EVERY_UNIT)
    assert len(claims) <= 64, "one request carries them"
    taken = {(claim.pool, site, unit) for claim in claims for site in claim.at for unit in claim.ids}
    wanted = {(pool, site, unit) for pool, sites in EVERY_UNIT.items() for site, ids in sites.items() for unit in ids}
    assert taken == wanted


def test_a_file_is_told_from_other_files() -> None:
    assert is_resource_file(WHOLE)
    assert not any(map(is_resource_file, (b"", b"xclbin2\0" + bytes(8), b"name = 'x'      ", bytes(16))))


@pytest.mark.parametrize("profile", ["embedded", "ax-m1"])
def test_a_card_that_is_no_array_has_no_file(profile) -> None:
    manager = Manager(profile)
    with pytest.raises(Invalid, match="no AI Engine array"):
        manager.dump()
    with pytest.raises(Invalid, match="no AI Engine array"):
        manager.load(WHOLE)


def test_the_shape_of_an_array_is_told_from_its_pools() -> None:
    assert (SMALL_ML.column_count, SMALL_ML.row_count) == (4, 6)
    assert SMALL_ML.rows == {TileType.SHIM: range(1), TileType.MEMORY: range(1, 2), TileType.COMPUTE: range(2, 6)}
    assert len(SMALL_ML.tiles()) == 4 * (1 + 1 + 4 * 2)
    assert SMALL_ML.tiles("pl") == [(column, 0, "pl") for column in range(4)]


@pytest.mark.parametrize(
    "sites",
    [
        [],
        ["0,0,pl", "2,0,pl"],  # a column is missing
        ["0,0,pl", "1,1,mem"],  # columns differ
        ["0,0,core"],  # no such tile
        ["0,0,mem", "0,1,pl", "0,2,mem"],  # memory tiles on both sides of a shim
        ["0,x,pl"],
        ["left"],
    ],
)
def test_sites_that_make_no_array_are_refused(sites) -> None:
    with pytest.raises(Invalid):
        ArrayShape.of([PoolShape("perfcnt", 4, sites)])
