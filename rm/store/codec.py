"""Events and the parts of a snapshot as bytes: one byte version of the kind, one byte kind, and a MessagePack map.

What ``encode_*`` would not have made, byte for byte, is damage: there is one way to write each value down. So a change
of any field of these classes is a new version of each kind that has them; ``old_records`` reads those before. Nothing
monotonic is written: deadlines hold for one run only.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, get_args

import msgspec

from rm.core import limits
from rm.core.dedupe import SessionRequests
from rm.core.events import (
    Event,
    Extended,
    Granted,
    LeaseEnded,
    Renewed,
    RequestForgone,
    ReservationReplaced,
    Reserved,
    RevocationBegan,
    SessionForgotten,
    SessionOpened,
    SitesGated,
    Started,
    UnitsQuiet,
    UnitsReturned,
    Unreserved,
    WindowsRemade,
)
from rm.core.pool import PoolSpec
from rm.core.session import SessionRecord
from rm.core.snapshot import GatedSites, Head, LiveLease, Part, QuarantinedLease, StandingReservation
from rm.core.types import UnitRange, UnitSet
from rm.store.damage import StoreDamaged
from rm.store.old_records import OLD_KINDS, OldRecord

# Numbers are on disk for good: one that is no longer written is never used again.
_EVENT_KINDS: dict[int, type[Any]] = {
    1: Started,
    2: SessionOpened,
    3: Granted,
    4: Extended,
    5: WindowsRemade,
    6: UnitsReturned,
    7: RevocationBegan,
    8: LeaseEnded,
    9: UnitsQuiet,
    10: RequestForgone,
    11: SessionForgotten,
    12: Reserved,
    13: Unreserved,
    14: ReservationReplaced,
    15: SitesGated,
}
_PART_KINDS: dict[int, type[Any]] = {
    64: Head,
    65: SessionRecord,
    66: StandingReservation,
    67: LiveLease,
    68: QuarantinedLease,
    69: SessionRequests,
    70: GatedSites,
}
_KINDS = _EVENT_KINDS | _PART_KINDS
_VERSIONS = dict.fromkeys(_KINDS, 1) | {12: 2, 66: 2}  # a reservation says whether it is shared
_PREFIXES = {kind: bytes((_VERSIONS[number], number)) for number, kind in _KINDS.items()}
_DECODERS = {
    at: msgspec.msgpack.Decoder(kind)
    for at, kind in OLD_KINDS.items() | {(_VERSIONS[number], number): kind for number, kind in _KINDS.items()}.items()
}
_encode_body = msgspec.msgpack.Encoder().encode

_BITS_PER_SITE_MAX = limits.UNITS_PER_POOL_MAX * limits.SLICES_PER_UNIT_MAX
_LEAVES = frozenset({str, bytes, int, bool, type(None)})

assert set(_EVENT_KINDS.values()) == set(get_args(Event)) - {Renewed}, "an event has no number"
assert set(_PART_KINDS.values()) == {Head, *get_args(Part)}, "a part of a snapshot has no number"


def encode_event(event: Event) -> bytes:
    """Writes ``event`` down, less its deadline."""
    assert not isinstance(event, Renewed), "a renewal is never stored"
    if isinstance(event, Granted | RevocationBegan) and event.deadline_ns is not None:
        event = replace(event, deadline_ns=None)
    return _encode(event)


def decode_event(data: bytes) -> Event:
    """Reads what ``encode_event`` wrote.

    Raises:
        StoreDamaged: it did not write this.
    """
    event = cast(Event, _decode(data, _EVENT_KINDS))
    if isinstance(event, Granted | RevocationBegan) and event.deadline_ns is not None:
        raise StoreDamaged("the record has a deadline, which is never stored")
    return event


def encode_part(part: Head | Part) -> bytes:
    """Writes one part of a snapshot down."""
    return _encode(part)


def decode_part(data: bytes) -> Head | Part:
    """Reads what ``encode_part`` wrote.

    Raises:
        StoreDamaged: it did not write this.
    """
    return cast(Head | Part, _decode(data, _PART_KINDS))


def _encode(value: Event | Head | Part) -> bytes:
    data = _PREFIXES[type(value)] + _encode_body(value)
    assert len(data) <= limits.RECORD_BYTES_MAX, f"a record of {len(data)} bytes: {type(value).__name__}"
    return data


def _decode(data: bytes, kinds: dict[int, type[Any]]) -> object:
    if not 2 <= len(data) <= limits.RECORD_BYTES_MAX:
        raise StoreDamaged(f"a record of {len(data)} bytes")
    version, number = data[0], data[1]
    if number not in kinds:
        raise StoreDamaged(f"the record is of kind {number}, which does not belong here")
    decoder = _DECODERS.get((version, number))
    if decoder is None:
        raise StoreDamaged(f"the record has version {version}, this rmd reads version {_VERSIONS[number]}")
    name = kinds[number].__name__
    try:
        value = decoder.decode(memoryview(data)[2:])
    except (ValueError, AssertionError, RecursionError, MemoryError) as fault:  # the last two: deep or huge nonsense
        raise StoreDamaged(f"the record is no {name}: {fault}") from fault
    if _encode_body(value) != data[2:]:
        raise StoreDamaged(f"the record is a {name}, but not as it is written here")
    if version != _VERSIONS[number]:
        value = cast(OldRecord, value).today()
    _check_numbers(value, name)
    return value


def _check_numbers(value: object, name: str) -> None:
    """Finds what ``Books.apply`` would take without a word though no pool can be like it."""
    kind = type(value)
    check = _CHECKS.get(kind)
    if check is not None and not check(value):
        raise StoreDamaged(f"the {name} has an impossible {kind.__name__}: {value!r:.200}")
    inside = (
        value
        if isinstance(value, tuple)
        else [getattr(value, field) for field in cast(Any, value).__dataclass_fields__]
    )
    for part in inside:
        if type(part) not in _LEAVES:
            _check_numbers(part, name)


def _is_possible_pool(spec: PoolSpec) -> bool:
    counts = spec.site_unit_counts
    return (
        1 <= spec.unit_count <= limits.UNITS_PER_POOL_MAX
        and 1 <= spec.slices_per_unit <= limits.SLICES_PER_UNIT_MAX
        and len(spec.sites) <= limits.SITES_PER_POOL_MAX
        and spec.unit_bytes >= 0
        and len(counts) in {0, len(spec.sites)}
        and all(0 <= count <= spec.unit_count for count in counts)
    )


_CHECKS: dict[type[Any], Callable[[Any], bool]] = {
    UnitRange: lambda run: 0 <= run.start < run.stop <= _BITS_PER_SITE_MAX,
    UnitSet: lambda units: all(0 <= site < limits.SITES_PER_POOL_MAX for site in units.sites),
    PoolSpec: _is_possible_pool,
    Head: lambda head: min(head.revision, head.last_token, head.epoch, head.part_count) >= 0,
}
