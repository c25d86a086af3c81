"""Where one claim fits into the bits of one site (or of several, for ``Common``). Set bits are taken; nothing changes.

Each function answers None where it does not fit. Lowest first throughout, so that the answer can be told from the bits.
"""

from itertools import islice

from bitarray import bitarray
from bitarray.util import any_and

from rm.core.bitmap import UnitBitmap, first_gap, mask_of, runs_of_clear_bits
from rm.core.free_runs import FreeRuns
from rm.core.types import UnitRange, ranges_of


def fit_units(bits: bitarray, bit_count: int, *, slices_per_unit: int) -> tuple[UnitRange, ...] | None:
    """The lowest ``bit_count`` free bits; where units have slices, whole units or a part of a single one."""
    if slices_per_unit == 1:
        ids = list(islice(bits.search(0), bit_count))
        return ranges_of(ids) if len(ids) == bit_count else None
    part = bit_count % slices_per_unit
    if part:
        return _fit_part(bits, part, slices_per_unit)
    whole = (
        unit
        for unit in range(len(bits) // slices_per_unit)
        if bits.find(1, unit * slices_per_unit, (unit + 1) * slices_per_unit) < 0
    )
    units = list(islice(whole, bit_count // slices_per_unit))
    if len(units) * slices_per_unit < bit_count:
        return None
    return tuple(UnitRange(run.start * slices_per_unit, run.stop * slices_per_unit) for run in ranges_of(units))


def fit_run(
    bits: bitarray,
    bit_count: int,
    *,
    align_count: int,
    extent_count_max: int,
    slices_per_unit: int,
    free_runs: FreeRuns | None,
) -> tuple[UnitRange, ...] | None:
    """The lowest ``bit_count`` free bits in a row, or else in as few pieces as the longest free runs make."""
    if free_runs is not None:
        start = free_runs.first_fit(bit_count, align_count)
    else:
        start = first_gap(bits, bit_count, align_count)
    if start >= 0:
        return (UnitRange(start, start + bit_count),)
    if extent_count_max == 1:
        return None
    return _fit_pieces(bits, bit_count, align_count, extent_count_max, slices_per_unit)


def fit_common(
    blocked: UnitBitmap, sites: tuple[int, ...], *, unit_count: int, slices_per_unit: int
) -> UnitRange | None:
    """The lowest unit that is free at every one of ``sites``."""
    stride = blocked.site_count
    mask = mask_of(sites, stride)
    for unit in range(unit_count):
        columns = range(unit * slices_per_unit, (unit + 1) * slices_per_unit)
        if not any(any_and(blocked.bits[bit * stride : (bit + 1) * stride], mask) for bit in columns):
            return UnitRange(columns.start, columns.stop)
    return None


def _fit_part(bits: bitarray, slice_count: int, slices_per_unit: int) -> tuple[UnitRange, ...] | None:
    """Slices of the lowest unit that has enough of them."""
    for first in range(0, len(bits), slices_per_unit):
        free = list(islice(bits.search(0, first, first + slices_per_unit), slice_count))
        if len(free) == slice_count:
            return ranges_of(free)
    return None


def _fit_pieces(
    bits: bitarray, bit_count: int, align_count: int, extent_count_max: int, slices_per_unit: int
) -> tuple[UnitRange, ...] | None:
    """The longest free runs of whole units, longest first, until there is enough; each starts aligned."""
    usable = []
    for run in runs_of_clear_bits(bits):
        start = -(-run.start // align_count) * align_count
        stop = run.stop - run.stop % slices_per_unit
        if start < stop:
            usable.append(UnitRange(start, stop))
    usable.sort(key=lambda run: (-len(run), run.start))
    pieces = []
    missing = bit_count
    for run in usable[:extent_count_max]:
        piece = UnitRange(run.start, min(run.stop, run.start + missing))
        pieces.append(piece)
        missing -= len(piece)
        if not missing:
            return tuple(sorted(pieces))
    return None
