"""The bits of a pool as a daemon tells them, as shapes and as units by site."""

from collections.abc import Iterable

from leasehold.aie.array import ArrayShape, PoolShape
from rmapi.v1 import types_pb2 as pb


def shape_of(bitmaps: Iterable[pb.PoolBitmap]) -> ArrayShape:
    """The shape of the array whose pools these are.

    Raises:
        Invalid: they make none.
    """
    return ArrayShape.of(
        PoolShape(one.pool.name, one.pool.unit_count, one.sites, one.site_unit_counts) for one in bitmaps
    )


def held_of(bitmap: pb.PoolBitmap, with_reserved: bool = False) -> dict[str, list[int]]:
    """The units that are held (or reserved, where that is wanted too), by site."""
    bits = int.from_bytes(bitmap.held_bits, "little")
    if with_reserved:
        bits |= int.from_bytes(bitmap.reserved_bits, "little")
    found: dict[str, list[int]] = {}
    for bit in ones_of(bits):
        unit, site = divmod(bit, len(bitmap.sites))
        found.setdefault(bitmap.sites[site], []).append(unit)
    return found


def ones_of(bits: int) -> list[int]:
    """The numbers of the bits that are set, ascending."""
    text = f"{bits:b}"[::-1]
    return [index for index, digit in enumerate(text) if digit == "1"]
