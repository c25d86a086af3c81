"""Draws bitmaps in the terminal: a letter and a colour a lease, so that it reads without colours too.

A pool with one site is drawn unit by unit, one with several site by site; the tiles of an array stand as they lie.
"""

import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeGuard

from rich.console import Console
from rich.text import Text

from leasehold import Client, LeaseInfo
from leasehold.aie.bitmaps import ones_of
from leasehold.claims import Site, site_from, site_text
from leasehold.quantity import size_text
from rmapi.v1 import types_pb2 as pb

_COLUMNS, _ROWS_MAX = 64, 8
_ALWAYS_DRAWN = {"memory", "cores"}
_FREE, _RESERVED, _QUARANTINED, _UNKNOWN, _GATED = ".", "r", "q", "?", "-"
_STYLES = {
    _FREE: "bright_black",
    _RESERVED: "yellow",
    _QUARANTINED: "red",
    _UNKNOWN: "red",
    _GATED: "bright_black",
}
_COLOURS = ("green", "cyan", "magenta", "blue", "bright_green", "bright_cyan", "bright_magenta", "bright_blue")
_LETTERS = string.ascii_uppercase + "".join(sorted(set(string.ascii_lowercase) - {"r", "q"}))


@dataclass(frozen=True, slots=True)
class _Holders:
    """The letter of each lease, and the lease of each bit of a pool."""

    letter_of: dict[str, str]
    leases: list[LeaseInfo]

    def owners(self, bitmap: pb.PoolBitmap) -> dict[int, str]:
        """The letter of every held bit of a pool."""
        slices, stride = bitmap.pool.slices_per_unit, bitmap.pool.site_count
        index_of = {name: index for index, name in enumerate(bitmap.sites)}
        return {
            (unit * slices + part) * stride + site: self.letter_of[lease.id]
            for lease in self.leases
            if lease.card == bitmap.card
            for allotment in lease.allotments
            if allotment.pool == bitmap.pool.name
            for site, runs in zip(
                [index_of[site_text(one)] for one in allotment.at] or [0], allotment.ranges, strict=False
            )
            for run in runs
            for unit in run
            for part in range(slices)
        }


def draw_map(client: Client, console: Console, pool: str, card: str | None) -> None:
    """Draws the bitmaps of one pool or of all, of one card or of all, and says whose the letters are."""
    leases = client.leases()
    letters = {lease.id: _LETTERS[index % len(_LETTERS)] for index, lease in enumerate(leases)}
    holders = _Holders(letters, leases)
    gated = {one.id: {site_text(site) for site in one.gated_sites} for one in client.cards()}
    untouched = []
    for one in _bitmaps(client, pool, card):
        if not pool and one.pool.free_count == one.pool.total_count and one.pool.name not in _ALWAYS_DRAWN:
            untouched.append(_heading(one).plain)
            continue
        console.print(_heading(one))
        if one.pool.site_count > 1:
            _draw_sites(console, one, holders, gated[one.card])
            continue
        cells, bits_per_cell = _cells(one, holders, _ROWS_MAX if pool else _ROWS_MAX // 2)
        for start in range(0, len(cells), _COLUMNS):
            console.print(_line(cells[start : start + _COLUMNS], letters))
        if bits_per_cell > 1:
            size = one.pool.unit_bytes * bits_per_cell
            each = size_text(size) if size else f"{bits_per_cell} units"
            console.print(f"  a cell is {each}", style="bright_black")
    for text in untouched:
        console.print(Text(text, style="bright_black"))
    _print_legend(console, holders)


def map_json(client: Client, pool: str, card: str | None) -> list[dict[str, Any]]:
    """The bitmaps as strings of 0 and 1: bit ``unit * site_count + site``."""
    return [
        {
            "card": one.card,
            "pool": one.pool.name,
            "site_count": one.pool.site_count,
            "sites": list(one.sites),
            "slices_per_unit": one.pool.slices_per_unit,
            "held": _bit_text(one, one.held_bits),
            "reserved": _bit_text(one, one.reserved_bits),
            "quarantined": _bit_text(one, one.quarantined_bits),
        }
        for one in _bitmaps(client, pool, card)
    ]


def _bitmaps(client: Client, pool: str, card: str | None) -> list[pb.PoolBitmap]:
    cards = [one for one in client.cards() if card in {None, one.id}]
    if not cards:
        return [client.bitmap(pool or "memory", card)]  # refused, with what there is
    names = [(one.id, [pool] if pool else [status.name for status in one.pools]) for one in cards]
    return [client.bitmap(name, card_id) for card_id, pools in names for name in pools]


def _cells(bitmap: pb.PoolBitmap, holders: _Holders, row_count: int) -> tuple[list[str], int]:
    """One letter a cell: what most of its bits are, free ones last."""
    status = bitmap.pool
    count = status.unit_count * status.slices_per_unit * status.site_count
    bits_per_cell = max(1, -(-count // (_COLUMNS * row_count)))
    signs = _signs(bitmap, holders)
    return [
        _most(signs.get(bit, _FREE) for bit in range(start, min(count, start + bits_per_cell)))
        for start in range(0, count, bits_per_cell)
    ], bits_per_cell


def _signs(bitmap: pb.PoolBitmap, holders: _Holders) -> dict[int, str]:
    """The sign of every bit that is not free."""
    owners = holders.owners(bitmap)
    signs = dict.fromkeys(ones_of(int.from_bytes(bitmap.reserved_bits, "little")), _RESERVED)
    signs |= dict.fromkeys(ones_of(int.from_bytes(bitmap.quarantined_bits, "little")), _QUARANTINED)
    return signs | {bit: owners.get(bit, _UNKNOWN) for bit in ones_of(int.from_bytes(bitmap.held_bits, "little"))}


def _most(signs: Iterable[str]) -> str:
    """What most of those are that are not free; the first of equals."""
    taken = [sign for sign in signs if sign != _FREE]
    return Counter(taken).most_common(1)[0][0] if taken else _FREE


def _draw_sites(console: Console, bitmap: pb.PoolBitmap, holders: _Holders, gated: set[str]) -> None:
    """A cell a site; of the tiles of an array that are many, a cell for some columns."""
    signs, stride = _signs(bitmap, holders), bitmap.pool.site_count
    by_site: dict[int, list[str]] = {}
    for bit, sign in sorted(signs.items()):
        by_site.setdefault(bit % stride, []).append(sign)
    rows = _rows_of_sites(bitmap.sites)
    width = max(len(label) for label, _ in rows)
    columns_per_cell = max(1, -(-max(len(sites) for _, sites in rows) // _COLUMNS))
    for label, sites in rows:
        of_site = [_most(by_site.get(site, ())) for site in sites]
        shown = [
            _GATED if sign == _FREE and bitmap.sites[site] in gated else sign
            for sign, site in zip(of_site, sites, strict=True)
        ]
        parts = [shown[start : start + columns_per_cell] for start in range(0, len(shown), columns_per_cell)]
        cells = [_most(part) for part in parts]
        console.print(Text(f"  {label:<{width}}") + _line(cells, holders.letter_of))
    each = f"{columns_per_cell} sites" if columns_per_cell > 1 else "a site"
    console.print(f"  a cell is {each}: what most of its units are that are not free", style="bright_black")


def _rows_of_sites(names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Label and sites of each line: a line for a row of tiles, from the top, module by module; else as many as fit."""
    sites = [site_from(name) for name in names]
    tiles = [site for site in sites if _is_tile(site)]
    if len(tiles) < len(sites):
        return [("", [*range(len(sites))][start : start + _COLUMNS]) for start in range(0, len(sites), _COLUMNS)]
    rows: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for index, (column, row, module) in enumerate(tiles):
        rows.setdefault((module, -row), []).append((column, index))
    return [
        (f"{module} {-row}", [index for _, index in sorted(found)]) for (module, row), found in sorted(rows.items())
    ]


def _is_tile(site: Site) -> TypeGuard[tuple[int, int, str]]:
    return isinstance(site, tuple) and [type(part) for part in site] == [int, int, str]


def _heading(bitmap: pb.PoolBitmap) -> Text:
    status = bitmap.pool
    free, total = status.free_count, status.total_count
    if status.unit_bytes:
        amount = f"{size_text(free * status.unit_bytes)} of {size_text(total * status.unit_bytes)} free"
    else:
        amount = f"{free / status.slices_per_unit:g} of {total / status.slices_per_unit:g} free"
    return Text.assemble((f"card {bitmap.card} {status.name}", "bold"), f"  {amount}")


def _line(cells: list[str], letters: dict[str, str]) -> Text:
    colour_of = {letter: _COLOURS[index % len(_COLOURS)] for index, letter in enumerate(letters.values())}
    line = Text("  ")
    for cell, run in groupby(cells):
        line.append("".join(run), style=_STYLES.get(cell) or f"bold {colour_of.get(cell, 'red')}")
    return line


def _print_legend(console: Console, holders: _Holders) -> None:
    signs = [f"{_FREE} free", f"{_RESERVED} reserved", f"{_QUARANTINED} quarantined", f"{_GATED} clock off"]
    for lease in holders.leases:
        label = f" '{lease.label}'" if lease.label else ""
        signs.append(f"{holders.letter_of[lease.id]} {lease.id}{label} pid {lease.pid}")
    console.print()
    console.print(Text("   ".join(signs)), soft_wrap=True)


def _bit_text(bitmap: pb.PoolBitmap, bits: bytes) -> str:
    status = bitmap.pool
    count = status.unit_count * status.slices_per_unit * status.site_count
    return format(int.from_bytes(bits, "little"), f"0{count}b")[::-1]
