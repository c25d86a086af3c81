"""Draws bitmaps in the terminal: a letter and a colour a lease, so that it reads without colours too."""

import string
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from leasehold import Client, LeaseInfo
from leasehold.quantity import size_text
from rmapi.v1 import types_pb2 as pb

_COLUMNS, _ROWS_MAX = 64, 8
_ALWAYS_DRAWN = {"memory", "cores"}
_FREE, _RESERVED, _QUARANTINED, _UNKNOWN = ".", "r", "q", "?"
_STYLES = {_FREE: "bright_black", _RESERVED: "yellow", _QUARANTINED: "red", _UNKNOWN: "red"}
_COLOURS = ("green", "cyan", "magenta", "blue", "bright_green", "bright_cyan", "bright_magenta", "bright_blue")
_LETTERS = string.ascii_uppercase + "".join(set(string.ascii_lowercase) - {"r", "q"})


@dataclass(frozen=True, slots=True)
class _Holders:
    """The letter of each lease, and the lease of each bit of a pool."""

    letter_of: dict[str, str]
    leases: list[LeaseInfo]

    def owners(self, bitmap: pb.PoolBitmap) -> dict[int, str]:
        """The letter of every held bit of a pool with one site."""
        slices = bitmap.pool.slices_per_unit
        return {
            unit * slices + part: self.letter_of[lease.id]
            for lease in self.leases
            if lease.card == bitmap.card
            for allotment in lease.allotments
            if allotment.pool == bitmap.pool.name
            for unit in allotment.ids
            for part in range(slices)
        }


def draw_map(client: Client, console: Console, pool: str, card: str | None) -> None:
    """Draws the bitmaps of one pool or of all, of one card or of all, and says whose the letters are."""
    leases = client.leases()
    letters = {lease.id: _LETTERS[index % len(_LETTERS)] for index, lease in enumerate(leases)}
    holders = _Holders(letters, leases)
    untouched = []
    for one in _bitmaps(client, pool, card):
        if not pool and one.pool.free_count == one.pool.total_count and one.pool.name not in _ALWAYS_DRAWN:
            untouched.append(_heading(one).plain)
            continue
        console.print(_heading(one))
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
    """The bitmaps as strings of 0 and 1, a bit a unit."""
    return [
        {
            "card": one.card,
            "pool": one.pool.name,
            "site_count": one.pool.site_count,
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
    owners = holders.owners(bitmap) if status.site_count == 1 else {}
    held, reserved, quarantined = (
        int.from_bytes(bits, "little") for bits in (bitmap.held_bits, bitmap.reserved_bits, bitmap.quarantined_bits)
    )
    cells = []
    for start in range(0, count, bits_per_cell):
        stop = min(count, start + bits_per_cell)
        mask = (1 << (stop - start)) - 1
        if not (held | reserved | quarantined) >> start & mask:
            cells.append(_FREE)
            continue
        found: Counter[str] = Counter()
        for bit in range(start, stop):
            if held >> bit & 1:
                found[owners.get(bit, _UNKNOWN)] += 1
            elif quarantined >> bit & 1:
                found[_QUARANTINED] += 1
            elif reserved >> bit & 1:
                found[_RESERVED] += 1
        cells.append(found.most_common(1)[0][0])
    return cells, bits_per_cell


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
    signs = [f"{_FREE} free"]
    for lease in holders.leases:
        label = f" '{lease.label}'" if lease.label else ""
        signs.append(f"{holders.letter_of[lease.id]} {lease.id}{label} pid {lease.pid}")
    console.print()
    console.print(Text("   ".join(signs)), soft_wrap=True)


def _bit_text(bitmap: pb.PoolBitmap, bits: bytes) -> str:
    status = bitmap.pool
    count = status.unit_count * status.slices_per_unit * status.site_count
    return format(int.from_bytes(bits, "little"), f"0{count}b")[::-1]
