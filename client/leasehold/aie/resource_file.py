"""The driver's binary file of what a compiler reserved: read strictly, written byte for byte as the driver does.

Little-endian 64-bit words; no magic, no version, no checksum (the raw binary of UG1642; its layout is that of the
driver's own files). Word 0 counts the bitmaps, word 1 is the byte offset of the first, 16 when written. A bitmap is a
header (bits 0-3 tile type, 4-7 module, 8-15 resource type, 16-47 length in words, 48-63 zero) and so many words of
bits. Padding is written as zero and ignored when read.
"""

import struct
from collections.abc import Iterable, Mapping

from leasehold.aie.array import ArrayShape, Region, tile_of
from leasehold.claims import Ids
from leasehold.errors import Invalid

# What is reserved: for each pool, for each site that has any, the ids.
Resources = dict[str, dict[str, frozenset[int]]]

_WORD = struct.Struct("<Q")
_HEAD = struct.Struct("<QQ")
_WORD_BITS = 64


def write_resources(shape: ArrayShape, held: Mapping[str, Mapping[str, Iterable[int]]]) -> bytes:
    """The file that says that ``held`` is reserved: units by pool and site. Others than the array's are not written."""
    parts = [_HEAD.pack(len(shape.regions), _HEAD.size)]
    for region in shape.regions:
        bits = 0
        for site, ids in held.get(region.pool, {}).items():
            column, row, module = tile_of(site)
            if region.covers(row, module):
                for unit in ids:
                    bits |= 1 << region.bit(column, row, unit)
        word_count = _word_count(region, shape.column_count)
        parts.append(_WORD.pack(_key(region) | word_count << 16))
        parts.append(bits.to_bytes(word_count * _WORD.size, "little"))
    return b"".join(parts)


def read_resources(
    data: bytes, shape: ArrayShape, *, start_column: int = 0, column_count: int | None = None
) -> Resources:
    """What a file reserves on an array of ``shape``: in all its columns, or from ``start_column`` on in so many.

    All or nothing: whatever does not fit is refused before anything is made of it.

    Raises:
        Invalid: it is no such file, is cut off or too long, says something twice, or was made for another array; the
            text says where.
    """
    columns = shape.column_count if column_count is None else column_count
    if start_column < 0 or columns < 1 or start_column + columns > shape.column_count:
        text = f"columns {start_column} to {start_column + columns - 1} are not all in an array of {shape.column_count}"
        raise Invalid(text, facts={"start_column": start_column, "columns": columns})
    if len(data) < _HEAD.size:
        raise _torn(f"it has {len(data)} bytes, its head alone has {_HEAD.size}")
    element_count, at = _HEAD.unpack_from(data)
    if not 1 <= element_count <= len(shape.regions):
        raise _torn(f"it counts {element_count} bitmaps; an array like this has 1 to {len(shape.regions)}")
    if not _HEAD.size <= at <= len(data):
        raise _torn(f"its first bitmap is at byte {at} of {len(data)}")
    regions = {_key(region): region for region in shape.regions}
    found: Resources = {}
    for number in range(element_count):
        header, at = _word(data, at, number)
        region = regions.pop(header & 0xFFFF, None)
        if region is None or header >> 48:
            raise _torn(f"bitmap {number} is of no kind that this array has, or of one that it has had: {header:#x}")
        word_count = _word_count(region, columns)
        if header >> 16 != word_count:
            text = (
                f"bitmap {number} ({region.pool}) has {header >> 16} words, where {columns} columns of this array have"
            )
            raise _torn(f"{text} {word_count}; it was made for another shape")
        size = word_count * _WORD.size
        if at + size > len(data):
            raise _torn(f"bitmap {number} ({region.pool}) is cut off at byte {len(data)}")
        _take_bits(found, region, data[at : at + size], columns, start_column)
        at += size
    if at != len(data):
        raise _torn(f"{len(data) - at} bytes follow its last bitmap")
    return found


def claims_of(resources: Resources) -> list[Ids]:
    """The claims that take exactly ``resources``: one for each id of each pool, at all sites where it is."""
    return [
        Ids(pool, [unit], at=[site for site, ids in by_site.items() if unit in ids])
        for pool, by_site in resources.items()
        for unit in sorted({unit for ids in by_site.values() for unit in ids})
    ]


def is_resource_file(data: bytes) -> bool:
    """Whether ``data`` looks like such a file: a small count, and an offset that a writer puts there."""
    return len(data) >= _HEAD.size and 1 <= _HEAD.unpack_from(data)[0] < 64 and _HEAD.unpack_from(data)[1] == _HEAD.size


def _take_bits(found: Resources, region: Region, payload: bytes, column_count: int, start_column: int) -> None:
    bits = int.from_bytes(payload, "little") & ((1 << region.bit_count(column_count)) - 1)
    by_site: dict[str, list[int]] = {}
    while bits:
        lowest = bits & -bits
        column, row, unit = region.place(lowest.bit_length() - 1)
        by_site.setdefault(f"{column + start_column},{row},{region.module.name.lower()}", []).append(unit)
        bits ^= lowest
    if by_site:
        found.setdefault(region.pool, {}).update({site: frozenset(ids) for site, ids in by_site.items()})


def _word(data: bytes, at: int, number: int) -> tuple[int, int]:
    if at + _WORD.size > len(data):
        raise _torn(f"the header of bitmap {number} is cut off at byte {len(data)}")
    return _WORD.unpack_from(data, at)[0], at + _WORD.size


def _key(region: Region) -> int:
    return region.tile_type | region.module << 4 | region.resource_type << 8


def _word_count(region: Region, column_count: int) -> int:
    return -(-region.bit_count(column_count) // _WORD_BITS)


def _torn(why: str) -> Invalid:
    return Invalid(f"this is no resource file for this array: {why}", facts={"fault": why})
