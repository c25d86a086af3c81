"""An array design: what a program for an AI Engine array uses, written down; compiled to the driver's resource file.

    name = "fir"
    profile = "aie"                          # or aie-ml, aie:4x6, a file

    [[use]]
    resource = "perfcnt"
    count = 2                                # units at every tile
    tiles = ["3,1,core", "0-3,1-8,mem"]      # column, row, module: numbers, ranges, *

    [[use]]
    resource = "bcast_channel"
    common = true                            # one id at all tiles
    tiles = ["all"]

In place of ``count`` or ``common`` there may be ``run = n``, n units in a row whose first is a multiple of n, or
``ids = [...]``, exactly these.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leasehold.aie.array import RESOURCE_TYPES, Tile, tile_of
from leasehold.artifacts.manifest import NAME_CHARS_MAX, Manifest, ResourceFile, hash_text
from leasehold.card import Allotment
from leasehold.claims import Claim, Common, Ids, Run, Units
from leasehold.errors import Invalid, Refused

if TYPE_CHECKING:
    from leasehold.local import Manager

DESIGN_BYTES_MAX = 1 << 20
USES_MAX = 1_024
PATTERNS_PER_USE_MAX = 4_096

_KINDS = ("ids", "common", "run", "count")  # those with the least choice are placed first
_MODULES = ("core", "mem", "pl")
_PART = re.compile(r"\*|([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Use:
    """One table ``[[use]]``, the ``number``-th from 1: ``value`` is the count, the run's length, the ids, or True."""

    number: int
    resource: str
    kind: str
    value: int | tuple[int, ...]
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return f"[[use]] {self.number} ({self.resource})"


@dataclass(frozen=True, slots=True)
class Design:
    """A design that has been read, and makes sense by itself."""

    name: str
    profile: str
    content_hash: str
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled design: what each table got, in their order, and the driver's file of all of it."""

    manifest: Manifest
    granted: tuple[Allotment, ...]

    @property
    def data(self) -> bytes:
        """The driver's resource file."""
        return self.manifest.whole_resources()


def read_design(data: bytes) -> Design:
    """Reads a design's file.

    Raises:
        Invalid: it is no design; the text names the table and the key.
    """
    if len(data) > DESIGN_BYTES_MAX:
        raise _wrong(f"it has more than {DESIGN_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as fault:  # no UTF-8 either; numbers too long, brackets too deep
        raise _wrong(f"it is no TOML: {fault}") from fault
    _check_keys("it", document, {"name", "profile", "use"})
    uses = document.get("use")
    if not isinstance(uses, list) or not 1 <= len(uses) <= USES_MAX:
        raise _wrong(f"it needs 1 to {USES_MAX} tables [[use]]")
    return Design(
        name=_text("it", document, "name", NAME_CHARS_MAX),
        profile=_text("it", document, "profile", 4_096),
        content_hash=hash_text(data),
        uses=tuple(_use(number, table) for number, table in enumerate(uses, 1)),
    )


def compile_design(design: Design) -> Compiled:
    """Finds units for all that a design uses, on an array on which nothing is taken. Needs the extra ``daemon``.

    Raises:
        Refused: a table cannot be met, beside those that have less choice than it; the text names it.
        Invalid: there is no such profile or tile, or the profile is no array.
    """
    from leasehold.local import Manager

    manager = Manager(design.profile)
    manager.dump()  # refuses a card that is no array before anything is placed on it
    tiles = _tiles_of(manager)
    granted: dict[int, Allotment] = {}
    for use in sorted(design.uses, key=lambda use: _KINDS.index(use.kind)):
        try:
            granted[use.number] = manager.acquire(_claim(use, tiles)).allotments[0]
        except Refused as fault:
            facts = fault.facts | {"use": use.number, "resource": use.resource}
            raise type(fault)(f"{use}: {fault}", reason=fault.reason, facts=facts) from fault
    resources = (ResourceFile(manager.dump()),)
    profile = manager.cards()[0].profile  # by its name, also where it was given as a file
    manifest = Manifest(design.name, design.content_hash, profile, resources=resources)
    return Compiled(manifest, tuple(granted[use.number] for use in design.uses))


def _tiles_of(manager: "Manager") -> dict[str, list[Tile]]:
    """The tiles of each pool that has some."""
    specs = [pool.spec for pool in manager.card.pools.values()]
    return {spec.name: [tile_of(site) for site in spec.sites] for spec in specs if spec.name in RESOURCE_TYPES}


def _claim(use: Use, tiles: Mapping[str, Sequence[Tile]]) -> Claim:
    if use.resource not in tiles:
        raise Invalid(f"this array has no such resource; it has {', '.join(tiles)}")
    every = [tile for known in tiles.values() for tile in known]
    columns, rows = 1 + max(tile[0] for tile in every), 1 + max(tile[1] for tile in every)
    at: dict[Tile, None] = {}
    for pattern in use.patterns:
        at.update(dict.fromkeys(_matching(pattern, use.resource, tiles[use.resource], columns=columns, rows=rows)))
    match use.kind, use.value:
        case "ids", tuple(ids):
            return Ids(use.resource, ids, at=list(at))
        case "run", int(count):
            return Run(use.resource, count, align=count, at=list(at))
        case "count", int(count):
            return Units(use.resource, count, at=list(at))
        case _:
            return Common(use.resource, at=list(at))


def _matching(pattern: str, resource: str, tiles: Iterable[Tile], *, columns: int, rows: int) -> list[Tile]:
    """The tiles that a pattern means, in the order of the array."""
    if pattern == "all":
        return list(tiles)
    column_text, row_text, module = pattern.split(",")
    wanted_columns, wanted_rows = _range(column_text, columns), _range(row_text, rows)
    for wanted, there, what in ((wanted_columns, columns, "columns"), (wanted_rows, rows, "rows")):
        if wanted.stop > there:
            raise Invalid(f"tiles {pattern!r}: this array has the {what} 0 to {there - 1}")
    found = [
        tile for tile in tiles if tile[0] in wanted_columns and tile[1] in wanted_rows and module in {"*", tile[2]}
    ]
    if not found:
        raise Invalid(f"tiles {pattern!r}: no tile there has a {resource}")
    return found


def _range(text: str, count: int) -> range:
    if text == "*":
        return range(count)
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _use(number: int, table: object) -> Use:
    where = f"[[use]] {number}"
    if not isinstance(table, dict):
        raise _wrong(f"{where} is no table")
    resource = _text(where, table, "resource", NAME_CHARS_MAX)
    where = f"{where} ({resource})"
    _check_keys(where, table, {"resource", "tiles", *_KINDS})
    given = [kind for kind in _KINDS if kind in table]
    if len(given) != 1:
        raise _wrong(f"{where} needs one of count, run, ids and common, and has {' and '.join(given) or 'none'}")
    (kind,) = given
    return Use(number, resource, kind, _value(where, kind, table[kind]), _patterns(where, table.get("tiles")))


def _value(where: str, kind: str, value: object) -> int | tuple[int, ...]:
    match kind:
        case "common":
            if value is not True:
                raise _wrong(f"{where}: common can only be true; leave it out for anything else")
            return True
        case "ids":
            if not isinstance(value, list) or not value or not all(type(one) is int and one >= 0 for one in value):
                raise _wrong(f"{where}: ids must be a list of numbers from 0")
            return tuple(value)
        case _:
            if type(value) is not int or value < 1:  # and no bool
                raise _wrong(f"{where}: {kind} must be a number from 1, not {ascii(value)[:80]}")
            return value


def _patterns(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= PATTERNS_PER_USE_MAX:
        raise _wrong(f"{where}: tiles must be a list of 1 to {PATTERNS_PER_USE_MAX} patterns, such as '3,1,core'")
    for pattern in value:
        if not isinstance(pattern, str) or not _is_pattern(pattern):
            text = "write column,row,module with numbers, ranges or *, such as '0-3,1-8,mem', or 'all'"
            raise _wrong(f"{where}: tiles {ascii(pattern)[:80]}: {text}")
    return tuple(value)


def _is_pattern(text: str) -> bool:
    parts = text.split(",")
    if text == "all":
        return True
    if len(parts) != 3 or parts[2] not in {"*", *_MODULES}:
        return False
    matches = [_PART.fullmatch(part) for part in parts[:2]]
    return all(match and (match[2] is None or int(match[1]) <= int(match[2])) for match in matches)


def _text(where: str, table: Mapping[str, object], key: str, most: int) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
        raise _wrong(f"{where}: {key} must be a text of 1 to {most} printable characters, not {ascii(value)[:80]}")
    return value


def _check_keys(where: str, table: Mapping[str, object], known: set[str]) -> None:
    if unknown := table.keys() - known:
        raise _wrong(f"{where} has unknown keys: {ascii(sorted(unknown))[1:-1]}; there are {', '.join(sorted(known))}")


def _wrong(why: str) -> Invalid:
    return Invalid(f"this design cannot be compiled: {why}", facts={"fault": why})
