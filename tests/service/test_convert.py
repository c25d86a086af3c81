"""Between the contract and the core: nothing that a client can write does more than be refused."""

from fractions import Fraction

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from rm.core import claims as core
from rm.core import limits
from rm.core.errors import InvalidRequest, Refusal
from rm.core.ledger import Ledger
from rm.core.report import differences
from rm.core.types import NS_PER_S
from rm.service import convert
from rm.service.event_log import Happening
from rmapi.v1 import types_pb2 as pb
from support.books import acquire, card, ledger_of, pool, reserve, snapshot, wish_for
from support.daemon_parts import units
from support.strategies import SAME_EVERY_RUN

INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 2, 64, 2**31, 2**62, -(2**63), 2**63 - 1])
INT32 = st.integers(-(2**31), 2**31 - 1)
FEW = st.integers(1, 3)
COUNT = FEW | FEW | FEW | FEW | st.integers(-2, 9) | INT64
SITES = ("t0", "t1", "t2")
TEXT = st.sampled_from(["", "t0", "r", "h", "perf"]) | st.text(st.characters(codec="utf-8"), max_size=12)


def mostly(usual: st.SearchStrategy, odd: st.SearchStrategy, times: int = 9) -> st.SearchStrategy:
    """The usual, but one time in ten: what nobody expects must meet a request that is otherwise well."""
    return st.integers(0, times).flatmap(lambda number: usual if number else odd)


AMOUNT = COUNT.map(lambda count: {"unit_count": count}) | mostly(
    COUNT.map(lambda count: {"size_bytes": max(-(2**63), min(2**63 - 1, count * 65_536))}), st.just({})
)
ALIGN, EXTENTS = mostly(st.integers(0, 4), INT64), mostly(st.integers(0, 3), INT32)
PART = mostly(st.sampled_from([(1, 2), (1, 4), (3, 4), (1, 3)]), st.tuples(INT32, INT32))
KINDS = {
    "units": COUNT.map(lambda count: pb.UnitsClaim(unit_count=count))
    | PART.map(lambda part: pb.UnitsClaim(fraction=pb.Fraction(numerator=part[0], denominator=part[1]))),
    "run": st.builds(
        lambda amount, align, extents: pb.RunClaim(**amount, align_count=align, extent_count_max=extents),
        AMOUNT,
        ALIGN,
        EXTENTS,
    ),
    "ids": mostly(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True), st.lists(COUNT, max_size=6)).map(
        lambda ids: pb.IdsClaim(ids=ids)
    ),
    "common": st.just(pb.CommonClaim()),
}


@st.composite
def claim_messages(draw: st.DrawFn, kinds: dict[str, st.SearchStrategy]) -> pb.Claim:
    """A claim that mostly fits its pool, with something odd about it now and then."""
    name = draw(mostly(st.sampled_from(["memory", "streams", "cores", "bcast", "perf"]), TEXT, 19))
    usual_sites = st.lists(st.sampled_from(SITES), min_size=1, max_size=3, unique=True)
    usual_sites = usual_sites if name in {"bcast", "perf"} else st.just([])
    sites = draw(mostly(usual_sites, st.lists(TEXT | st.sampled_from(SITES), max_size=4), 19))
    message = pb.Claim(
        pool=name, sites=sites, reservation=draw(mostly(st.just(""), st.sampled_from(["r", "h"]) | TEXT))
    )
    kind = draw(mostly(st.sampled_from(sorted(kinds)), st.none(), 29))
    if kind is not None:
        getattr(message, kind).CopyFrom(draw(kinds[kind]))
        getattr(message, kind).SetInParent()
    return message


def alternatives(of: st.SearchStrategy[pb.Claim], most: int) -> st.SearchStrategy[pb.FirstOfClaim]:
    return st.lists(of, min_size=1, max_size=most).map(lambda ways: pb.FirstOfClaim(alternatives=ways))


PLAIN = claim_messages(KINDS)
NESTED = mostly(PLAIN, claim_messages({"first_of": alternatives(PLAIN, 2)}), 29)
FIRST_OF = mostly(alternatives(NESTED, 3), alternatives(NESTED, 10) | st.just(pb.FirstOfClaim()))
CLAIMS = mostly(st.lists(claim_messages(KINDS | {"first_of": FIRST_OF}), min_size=1, max_size=3), st.lists(PLAIN))


def shapes() -> Ledger:
    """A card with a pool of each shape, some of it held and some reserved."""
    ledger = ledger_of(
        pool("memory", 20, unit_bytes=65_536),
        pool("streams", 6),
        pool("cores", 3, slices_per_unit=4),
        pool("bcast", 4, sites=SITES),
        pool("perf", 3, sites=SITES, site_unit_counts=(3, 0, 2)),
        card_count=2,
    )
    acquire(ledger, units(3, "memory"), units(2, "streams"))
    reserve(ledger, "r", "streams", (4, 5), content_hash="h", owner_uid=7)
    return ledger


@settings(SAME_EVERY_RUN, max_examples=600)
@given(CLAIMS)
def test_any_claims_at_all_are_granted_or_refused_and_never_break_anything(messages) -> None:
    ledger = shapes()
    before = snapshot(ledger)
    try:
        event = ledger.decide_acquire(wish_for(*convert.claims_from(messages)), now_ns=0, now_wall_ns=0)
    except Refusal:
        assert snapshot(ledger) == before
        return
    ledger.apply(event)
    assert differences(ledger) == []
    assert len(convert.lease_to(event.lease, ledger.cards[event.lease.card]).allotments) == len(messages)


@settings(SAME_EVERY_RUN, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_that_are_a_claim_are_granted_or_refused(data) -> None:
    message = pb.Claim()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return
    with pytest.raises(Refusal):
        shapes().decide_acquire(wish_for(*convert.claims_from([message])), now_ns=0, now_wall_ns=0)


@settings(SAME_EVERY_RUN, max_examples=200)
@given(st.lists(st.builds(pb.UnitRange, start=COUNT, stop=COUNT), max_size=5))
def test_any_ranges_at_all_become_ids_or_are_refused(ranges) -> None:
    try:
        ids = convert.ids_from(ranges)
    except InvalidRequest:
        return
    assert len(ids) <= limits.IDS_PER_CLAIM_MAX
    assert all(unit >= 0 for unit in ids)


@SAME_EVERY_RUN
@given(INT64, st.integers(-(2**31), 2**31 - 1))
def test_any_duration_is_a_number_of_nanoseconds(whole, nanos) -> None:
    assert convert.duration_ns(Duration(seconds=whole, nanos=nanos)) == whole * NS_PER_S + nanos


# The limits of a request, each at its edge.


def units_claim(count: int = 1, **more) -> pb.Claim:
    return pb.Claim(pool="streams", units=pb.UnitsClaim(unit_count=count), **more)


def first_of(count: int) -> pb.Claim:
    return pb.Claim(first_of=pb.FirstOfClaim(alternatives=[units_claim()] * count))


@pytest.mark.parametrize(
    ("most", "make"),
    [
        (limits.CLAIMS_PER_REQUEST_MAX, lambda count: [units_claim()] * count),
        (limits.ALTERNATIVES_PER_CLAIM_MAX, lambda count: [first_of(count)]),
        (limits.SITES_PER_CLAIM_MAX, lambda count: [units_claim(sites=["t"] * count)]),
        (limits.IDS_PER_CLAIM_MAX, lambda count: [pb.Claim(pool="streams", ids=pb.IdsClaim(ids=range(count)))]),
    ],
    ids=["claims", "alternatives", "sites", "ids"],
)
def test_as_many_as_may_be_pass_and_one_more_is_invalid(most, make) -> None:
    convert.claims_from(make(most))
    with pytest.raises(InvalidRequest, match=str(most)):
        convert.claims_from(make(most + 1))


@pytest.mark.parametrize("messages", [[], [pb.Claim()], [pb.Claim(pool="streams")], [first_of(0)]])
def test_a_request_that_asks_for_nothing_is_invalid(messages) -> None:
    with pytest.raises(InvalidRequest):
        convert.claims_from(messages)


def test_alternatives_do_not_nest() -> None:
    nested = pb.Claim(first_of=pb.FirstOfClaim(alternatives=[first_of(1)]))
    with pytest.raises(InvalidRequest, match="alternatives itself"):
        convert.claims_from([nested])


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 2), (2, 2), (3, 2), (-1, 2), (1, -2), (1, 0), (1, 1_025)])
def test_what_is_no_fraction_of_a_unit_is_invalid(numerator, denominator) -> None:
    part = pb.Fraction(numerator=numerator, denominator=denominator)
    with pytest.raises(InvalidRequest, match="fraction"):
        convert.claims_from([pb.Claim(pool="cores", units=pb.UnitsClaim(fraction=part))])


# Each kind, there and back.


def test_each_kind_of_claim_becomes_its_own() -> None:
    at = {"pool": "p", "sites": ["a", "b"], "reservation": "r"}
    fraction = pb.UnitsClaim(fraction=pb.Fraction(numerator=1, denominator=4))
    run = pb.RunClaim(size_bytes=5, align_count=8, extent_count_max=3)
    messages = [
        pb.Claim(units=pb.UnitsClaim(unit_count=3), **at),
        pb.Claim(units=fraction, **at),
        pb.Claim(run=run, **at),
        pb.Claim(run=pb.RunClaim(unit_count=2), pool="p"),
        pb.Claim(ids=pb.IdsClaim(ids=[7, 1]), **at),
        pb.Claim(common=pb.CommonClaim(), **at),
        pb.Claim(first_of=pb.FirstOfClaim(alternatives=[units_claim(2), units_claim(1)])),
    ]
    assert convert.claims_from(messages) == (
        core.Units("p", 3, ("a", "b"), "r"),
        core.Units("p", Fraction(1, 4), ("a", "b"), "r"),
        core.Run("p", size_bytes=5, align_count=8, extent_count_max=3, at=("a", "b"), reservation="r"),
        core.Run("p", unit_count=2),
        core.Ids("p", (7, 1), ("a", "b"), "r"),
        core.Common("p", ("a", "b"), "r"),
        core.FirstOf((core.Units("streams", 2), core.Units("streams", 1))),
    )


def test_an_allotment_names_its_sites_and_its_units_at_each() -> None:
    ledger = ledger_of(pool("bcast", 4, sites=("t0", "t1"), slices_per_unit=2))
    lease = acquire(ledger, core.Units("bcast", 2, ("t1", "t0")))
    (told,) = convert.lease_to(lease, ledger.cards["0"]).allotments
    assert (list(told.sites), told.slices_per_unit) == (["t1", "t0"], 2)
    assert [[(one.start, one.stop) for one in units.ranges] for units in told.units] == [[(0, 4)], [(0, 4)]]


def test_ranges_become_the_ids_in_them() -> None:
    assert convert.ids_from([pb.UnitRange(start=3, stop=5), pb.UnitRange(stop=1)]) == [3, 4, 0]
    assert convert.ids_from([]) == []


def test_every_kind_of_event_has_its_word_in_the_contract() -> None:
    for kind in ("granted", "extended", "units_returned", "ended", "units_quiet", "reserved", "unreserved", "resync"):
        told = convert.event_to(Happening(1, kind, "text", 1_500_000_000))
        assert pb.Event.Kind.Name(told.kind) == f"KIND_{kind.upper()}"
        assert (told.event_time.seconds, told.event_time.nanos) == (1, 500_000_000)
        assert not told.HasField("holder")


@SAME_EVERY_RUN
@given(st.integers(0, 2**62))
def test_a_duration_goes_there_and_back(ns) -> None:
    assert convert.duration_ns(convert.duration_to(ns)) == ns


def test_the_bits_of_a_pool_are_told_lowest_first() -> None:
    ledger = ledger_of(pool("u", 12))
    acquire(ledger, core.Ids("u", (0, 9)))
    state = ledger.cards["0"]
    status = convert.pool_to(state.pools["u"], waiter_count=3, used_bytes=4)
    told = convert.bitmap_to(state, state.pools["u"], status)
    assert list(told.held_bits) == [0b1, 0b10]
    counts = (told.pool.total_count, told.pool.free_count, told.pool.held_count, told.pool.largest_run_count)
    assert counts == (12, 10, 2, 8)
    assert (told.pool.waiter_count, told.pool.used_bytes) == (3, 4)
    assert convert.card_to(state, [status]).profile == card().profile
