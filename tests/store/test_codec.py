"""Every event and every part of a snapshot comes back as it was; any other bytes are damage, and nothing worse."""

from dataclasses import replace
from functools import cache
from itertools import product
from types import NoneType
from typing import NewType, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rm.core import events, limits
from rm.core.events import Event, Granted, Renewed, RevocationBegan
from rm.core.pool import PoolSpec
from rm.core.reservation import ReservationSpec
from rm.core.snapshot import GatedSites, Head, Part, StandingReservation
from rm.core.types import NO_UNITS, LeaseId, PoolName, UnitRange, UnitSet
from rm.store import codec
from rm.store.damage import StoreDamaged
from support.books import CARD
from support.history import CARDS, history, states
from support.strategies import SAME_EVERY_RUN

STORED = tuple(kind for kind in get_args(Event) if kind is not Renewed)
PARTS = (Head, *get_args(Part))

_EMPTY = states([])[0].head


@st.composite
def _runs(draw: st.DrawFn) -> UnitRange:
    start = draw(st.integers(0, 1_000))
    return UnitRange(start, draw(st.integers(start + 1, 2_000)))


@st.composite
def _unit_sets(draw: st.DrawFn) -> UnitSet:
    sites = tuple(draw(st.lists(st.integers(0, limits.SITES_PER_POOL_MAX - 1), max_size=4)))
    each = draw(st.sampled_from([1, len(sites)]))
    return UnitSet(sites, tuple(tuple(draw(st.lists(_runs(), max_size=3))) for _ in range(each)))


_LEAVES: dict[object, st.SearchStrategy] = {
    UnitRange: _runs(),
    UnitSet: _unit_sets(),
    PoolSpec: st.builds(PoolSpec, st.text(max_size=9), st.integers(1, 99), unit_bytes=st.integers(0, 1 << 40)),
    int: st.integers(0, (1 << 63) - 1),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=40),
    bool: st.booleans(),
    NoneType: st.none(),
}


@cache
def values_of(kind: type) -> st.SearchStrategy:
    """Values of a type, as its annotations have them."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    if isinstance(kind, NewType):
        return values_of(kind.__supertype__)
    inside = get_args(kind)
    if get_origin(kind) is tuple:
        is_list = inside[1:] == (...,)
        each = values_of(inside[0])
        return st.lists(each, max_size=3).map(tuple) if is_list else st.tuples(*map(values_of, inside))
    if inside:
        return st.one_of(*map(values_of, inside))
    return st.builds(kind, **{name: values_of(hint) for name, hint in get_type_hints(kind).items()})


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
def test_an_event_comes_back_as_it_was(kind) -> None:
    @settings(SAME_EVERY_RUN, max_examples=40)
    @given(values_of(kind))
    def check(event: Event) -> None:
        if isinstance(event, Granted | RevocationBegan):
            event = replace(event, deadline_ns=None)
        assert codec.decode_event(codec.encode_event(event)) == event

    check()


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_a_part_of_a_snapshot_comes_back_as_it_was(kind) -> None:
    @settings(SAME_EVERY_RUN, max_examples=40)
    @given(values_of(kind))
    def check(part: Head | Part) -> None:
        assert codec.decode_part(codec.encode_part(part)) == part

    check()


def test_a_whole_history_comes_back_as_it_was() -> None:
    made = history(300)
    assert [codec.decode_event(codec.encode_event(event)) for event in made] == made
    assert set(map(type, made)) == set(STORED), "every kind comes up"
    last = states(made)[-1]
    assert [codec.decode_part(codec.encode_part(part)) for part in (last.head, *last.parts)] == [last.head, *last.parts]


def test_nothing_monotonic_is_written() -> None:
    granted = next(event for event in history(60) if isinstance(event, Granted))
    assert codec.encode_event(replace(granted, deadline_ns=7)) == codec.encode_event(granted)
    revoked = RevocationBegan(LeaseId("L1"), "why", 7)
    assert codec.decode_event(codec.encode_event(revoked)) == replace(revoked, deadline_ns=None)
    with pytest.raises(AssertionError, match="renewal"):
        codec.encode_event(Renewed(()))


def test_numbers_of_kinds_stand_for_good() -> None:
    first = {type(event): codec.encode_event(event)[:2] for event in history(300)}
    assert first[events.Started] == b"\x01\x01"
    assert first[events.Granted] == b"\x01\x03"
    assert first[events.Reserved] == b"\x02\x0c"
    assert first[events.Unreserved] == b"\x01\x0d"
    assert first[events.ReservationReplaced] == b"\x01\x0e"
    assert first[events.SitesGated] == b"\x01\x0f"
    assert codec.encode_part(_EMPTY)[:2] == b"\x01\x40"
    parts = {type(part): codec.encode_part(part)[:2] for part in states(history(60))[-1].parts}
    assert parts[StandingReservation] == b"\x02\x42"
    assert parts[GatedSites] == b"\x01\x46"


def test_what_a_reservation_is_and_which_sites_are_gated_comes_back_as_it_was() -> None:
    for is_shared, owner_uid in product((False, True), (None, 0, 1000)):
        units = ((PoolName("ch"), UnitSet((0, 1), ((UnitRange(1, 2),),))), (PoolName("u"), NO_UNITS))
        spec = ReservationSpec("étude", "hash", CARD, units, owner_uid, is_shared)
        for event in (events.Reserved(spec), events.ReservationReplaced(spec)):
            assert codec.decode_event(codec.encode_event(event)) == event
        part = StandingReservation(spec, units[:1])
        assert codec.decode_part(codec.encode_part(part)) == part
    for sites in ((), ("0,1,core",), ("0,1,core", "0,1,mem")):
        assert codec.decode_event(codec.encode_event(events.SitesGated(CARD, sites))) == events.SitesGated(CARD, sites)
        assert codec.decode_part(codec.encode_part(GatedSites(CARD, sites))) == GatedSites(CARD, sites)


# What is damage.


_UNSHARED = {"name": "g", "content_hash": "", "card": "0", "units": [], "owner_uid": None}


@pytest.mark.parametrize(
    ("number", "value", "words"),
    [
        (14, {"spec": _UNSHARED}, "not as it is written here"),
        (14, {"spec": _UNSHARED | {"is_shared": 1}}, "Expected `bool`"),
        (14, {"spec": {**_UNSHARED, "units": [["u", {"sites": [0], "runs": [[{"start": 2, "stop": 1}]]}]],
                       "is_shared": False}}, "impossible UnitRange"),
        (15, {"card": "0"}, "required field `sites`"),
        (15, {"card": "0", "sites": "a"}, "Expected `array`"),
        (15, {"card": "0", "sites": [1]}, "Expected `str`"),
        (15, {"sites": [], "card": "0"}, "not as it is written here"),
    ],
)  # fmt: skip
def test_damage_in_the_newer_kinds_says_what_it_is(number, value, words) -> None:
    with pytest.raises(StoreDamaged, match=words):
        codec.decode_event(_body(number, value))


def _granted() -> bytes:
    return codec.encode_event(next(event for event in history(60) if isinstance(event, Granted)))


def _body(kind: int, value: object) -> bytes:
    return bytes((1, kind)) + msgspec.msgpack.encode(value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (b"\x01", "1 bytes"),
        (b"\x02" + _granted()[1:], "version 2"),
        (b"\x01\x00", "kind 0"),
        (b"\x01\x0a\x80", "RequestForgone"),
        (codec.encode_part(_EMPTY), "kind 64"),
        (_granted() + b"\x00", "trailing"),
        (_granted()[:-1], "truncated"),
        (_body(9, {"lease_id": 5}), "Expected `str`"),
        (_body(9, {"lease_id": "L1", "more": 1}), "not as it is written"),
        (_body(1, {"epoch": 1, "boot_id": "", "cards": []}), "not as it is written"),
        (_body(7, RevocationBegan(LeaseId("L1"), "why", 5)), "deadline"),
        (b"\x01\x09\x81\xa8lease_id\xd9\x02L1", "not as it is written"),
        (b"\x01\x09\x81\xa8lease_id\xa2\xff\xff", "utf-8"),
        (b"\x01\x09\x81\xa1x" + b"\x91" * 100_000, "recursion"),
        (b"\x01\x09\x81\xa8lease_id\xdb\xff\xff\xff\xff", "truncated"),
    ],
)
def test_damage_says_what_it_is(data, words) -> None:
    with pytest.raises(StoreDamaged, match=words):
        codec.decode_event(data)


@pytest.mark.parametrize(
    "units",
    [
        UnitSet((0,), ((UnitRange(-1, 4),),)),
        UnitSet((0,), ((UnitRange(4, 4),),)),
        UnitSet((0,), ((UnitRange(4, 2),),)),
        UnitSet((0,), ((UnitRange(0, 1 << 40),),)),
        UnitSet((-1,), ((UnitRange(0, 1),),)),
        UnitSet((limits.SITES_PER_POOL_MAX,), ((UnitRange(0, 1),),)),
    ],
)
def test_units_that_no_pool_has_are_damage(units) -> None:
    event = events.UnitsReturned(LeaseId("L1"), (units,), False, events.Request("s", 1, b""))
    with pytest.raises(StoreDamaged, match="impossible Unit"):
        codec.decode_event(codec.encode_event(event))


@pytest.mark.parametrize(
    "more", [{"unit_count": 0}, {"unit_count": 1 << 40}, {"slices_per_unit": 0}, {"sites": ("a",)}]
)
def test_a_pool_that_cannot_be_is_damage(more) -> None:
    spec = replace(PoolSpec(PoolName("p"), 4, ("a", "b"), (4, 4)), **more)
    event = events.Started(1, "", (replace(CARDS[0], pools=(spec,)),))
    with pytest.raises(StoreDamaged, match="impossible PoolSpec"):
        codec.decode_event(codec.encode_event(event))


def test_lists_of_runs_that_fit_no_sites_are_damage() -> None:
    units = {"sites": [0, 1, 2], "runs": [[], []]}
    request = {"session": "s", "id": 1, "fingerprint": b""}
    with pytest.raises(StoreDamaged, match="lists of runs"):
        codec.decode_event(_body(6, {"lease_id": "L", "lost": [units], "to_pool": False, "request": request}))


def test_a_record_has_a_largest_size() -> None:
    with pytest.raises(StoreDamaged, match="bytes"):
        codec.decode_event(b"\x01\x09" + bytes(limits.RECORD_BYTES_MAX))
    with pytest.raises(AssertionError, match="bytes"):
        codec.encode_event(events.UnitsQuiet(LeaseId("L" * limits.RECORD_BYTES_MAX)))


_GOOD = [codec.encode_event(event) for event in history(60)] + [
    codec.encode_part(part) for part in (_EMPTY, *states(history(60))[-1].parts)
]


@settings(SAME_EVERY_RUN, max_examples=600)
@given(st.binary(max_size=200) | st.builds(bytes.__add__, st.sampled_from([good[:2] for good in _GOOD]), st.binary()))
@example(b"\x01\x01\x84")
def test_any_bytes_are_a_record_or_damage(data) -> None:
    _read_both_ways(data)


@settings(SAME_EVERY_RUN, max_examples=600)
@given(st.sampled_from(_GOOD), st.data())
def test_a_record_with_some_other_bytes_in_it_is_a_record_or_damage(good, data) -> None:
    start = data.draw(st.integers(0, len(good)))
    stop = data.draw(st.integers(start, min(len(good), start + 8)))
    _read_both_ways(good[:start] + data.draw(st.binary(max_size=8)) + good[stop:])


def _read_both_ways(data: bytes) -> None:
    for decode, encode in ((codec.decode_event, codec.encode_event), (codec.decode_part, codec.encode_part)):
        try:
            value = decode(data)
        except StoreDamaged:
            continue
        assert encode(value) == data, "there is one way to write a value down"
