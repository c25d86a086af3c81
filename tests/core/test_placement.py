"""Where claims go: each kind, what can never be, and several claims that are decided together."""

from fractions import Fraction

import pytest

from rm.core.bitmap import first_gap
from rm.core.claims import Common, FirstOf, Ids, Run, Units
from rm.core.errors import InvalidRequest, NotOwner, PoolExhausted, UnitHeld
from support.books import acquire, asker, ids, kill, ledger_of, pool, release, reserve, snapshot, spots, wish_for

ABC = ("a", "b", "c")


@pytest.fixture
def ledger():
    """One pool of each shape."""
    return ledger_of(
        pool("memory", 16, unit_bytes=65_536),
        pool("streams", 4),
        pool("cores", 3, slices_per_unit=4),
        pool("bcast", 4, sites=ABC),
        pool("perf", 4, sites=ABC, site_unit_counts=(4, 2, 0)),
    )


def refused(ledger, kind, *claims, **more):
    """Asks, and answers the refusal; it must have changed nothing."""
    before = snapshot(ledger)
    with pytest.raises(kind) as found:
        ledger.decide_acquire(wish_for(*claims, **more), now_ns=0, now_wall_ns=0)
    assert snapshot(ledger) == before
    return found.value


def got(ledger, *claims, **more):
    """Grants, and answers what each claim got."""
    return [spots(allotment) for allotment in acquire(ledger, *claims, **more).allotments]


# Each kind.


def test_units_are_the_lowest_free_ones(ledger) -> None:
    acquire(ledger, Ids("streams", (1,)))
    assert got(ledger, Units("streams", 2)) == [((0, (0, 2)),)]
    refusal = refused(ledger, PoolExhausted, Units("streams", 2))
    assert (refusal.facts["free_count"], refusal.facts["asked_count"]) == (1, 2)
    assert [holder["lease"] for holder in refusal.facts["holders"]] == ["L1", "L2"]


def test_units_are_given_at_every_site_in_the_order_of_the_claim(ledger) -> None:
    acquire(ledger, Ids("bcast", (0,), ("a",)))
    assert got(ledger, Units("bcast", 2, ("c", "a"))) == [((2, (0, 1)), (0, (1, 2)))]


def test_a_site_asked_twice_gives_different_units_each_time(ledger) -> None:
    assert got(ledger, Units("bcast", 1, ("b", "b", "a"))) == [((1, (0,)), (1, (1,)), (0, (0,)))]
    assert got(ledger, Run("bcast", 1, at=("b", "b"))) == [((1, (2,)), (1, (3,)))]


def test_a_run_is_the_lowest_row_that_is_free(ledger) -> None:
    acquire(ledger, Ids("memory", (2, 7)))
    assert got(ledger, Run("memory", 3)) == [((0, (3, 4, 5)),)]
    assert got(ledger, Run("memory", 2)) == [((0, (0, 1)),)]
    refusal = refused(ledger, PoolExhausted, Run("memory", 9))
    assert (refusal.facts["free_count"], refusal.facts["largest_run_count"]) == (9, 8)


def test_an_aligned_run_starts_on_a_multiple(ledger) -> None:
    acquire(ledger, Ids("memory", (0,)))
    assert got(ledger, Run("memory", 2, align_count=4)) == [((0, (4, 5)),)]
    refused(ledger, PoolExhausted, Run("memory", 1, align_count=16))


def test_a_run_in_bytes_is_rounded_up_to_whole_units(ledger) -> None:
    assert len(ids(acquire(ledger, Run("memory", size_bytes=65_537)).allotments[0])) == 2
    assert len(ids(acquire(ledger, Run("memory", size_bytes=65_536)).allotments[0])) == 1


def test_a_run_never_crosses_the_border_of_a_site() -> None:
    ledger = ledger_of(pool("bcast", 4, sites=("a", "b")))
    acquire(ledger, Ids("bcast", (0, 1), ("a",)))
    acquire(ledger, Ids("bcast", (2, 3), ("b",)))
    refused(ledger, PoolExhausted, Run("bcast", 3, at=("a",)))
    refused(ledger, PoolExhausted, Run("bcast", 3, at=("b",)))
    assert got(ledger, Run("bcast", 2, at=("a", "b"))) == [((0, (2, 3)), (1, (0, 1)))]


def test_a_run_comes_in_as_few_pieces_as_the_longest_rows_make(ledger) -> None:
    acquire(ledger, Ids("memory", (4, 7, 9)))  # free: 0-3, 5-6, 8, 10-15
    refused(ledger, PoolExhausted, Run("memory", 9))
    assert got(ledger, Run("memory", 9, extent_count_max=2)) == [((0, (0, 1, 2, *range(10, 16))),)]


def test_no_more_pieces_are_given_than_asked_for(ledger) -> None:
    acquire(ledger, Ids("memory", tuple(range(1, 16, 2))))
    refused(ledger, PoolExhausted, Run("memory", 4, extent_count_max=3))
    assert got(ledger, Run("memory", 4, extent_count_max=4)) == [((0, (0, 2, 4, 6)),)]


def test_every_piece_of_an_aligned_run_starts_on_a_multiple(ledger) -> None:
    acquire(ledger, Ids("memory", (0, 6, 12)))  # free: 1-5, 7-11, 13-15
    assert got(ledger, Run("memory", 5, align_count=4, extent_count_max=2)) == [((0, (4, 8, 9, 10, 11)),)]


def test_a_piece_of_a_run_is_never_a_part_of_a_unit(ledger) -> None:
    """Unit 0 is free, unit 1 lacks its second slice, unit 2 is free: the longest free row ends inside unit 1."""
    first, _, slice_4, slice_5 = [
        acquire(ledger, claim)
        for claim in (Ids("cores", (0,)), Ids("cores", (2,)), *[Units("cores", Fraction(1, 4))] * 2)
    ]
    assert (ids(slice_4.allotments[0]), ids(slice_5.allotments[0])) == ([4], [5])
    for lease in (slice_4, first):
        release(ledger, lease)
    refused(ledger, PoolExhausted, Run("cores", 2, extent_count_max=16))
    kept = ledger.leases["L2"]
    release(ledger, kept)
    assert got(ledger, Run("cores", 2, extent_count_max=2)) == [((0, (0, 1, 2, 3, 8, 9, 10, 11)),)]


def test_ids_are_exactly_these_at_every_site(ledger) -> None:
    assert got(ledger, Ids("bcast", (3, 1), ("c", "a"))) == [((2, (1, 3)), (0, (1, 3)))]
    refusal = refused(ledger, UnitHeld, Ids("bcast", (1,), ("a",)))
    assert (refusal.facts["state"], refusal.facts["holders"][0]["lease"]) == ("held", "L1")
    assert got(ledger, Ids("bcast", (1,), ("b",))) == [((1, (1,)),)]


def test_an_id_in_quarantine_is_refused_and_said_to_be(ledger) -> None:
    acquire(ledger, Ids("streams", (2,)))
    kill(ledger)
    refusal = refused(ledger, UnitHeld, Ids("streams", (2,)))
    assert (refusal.facts["state"], refusal.facts["holders"]) == ("quarantined", [])


def test_common_is_the_lowest_id_that_is_free_at_every_site(ledger) -> None:
    acquire(ledger, Ids("bcast", (0,), ("c",)), Ids("bcast", (1,), ("a",)))
    assert got(ledger, Common("bcast")) == [((0, (2,)), (1, (2,)), (2, (2,)))]
    assert got(ledger, Common("bcast", ("b", "a"))) == [((1, (0,)), (0, (0,)))]
    assert got(ledger, Common("bcast", ("b",))) == [((1, (1,)),)]


def test_common_is_refused_where_no_id_is_free_everywhere_though_each_site_has_some(ledger) -> None:
    acquire(ledger, Ids("bcast", (0, 1), ("a",)), Ids("bcast", (2, 3), ("b",)))
    assert refused(ledger, PoolExhausted, Common("bcast", ("a", "b"))).facts["site_count"] == 2


def test_common_at_a_site_named_twice_is_one_unit_there(ledger) -> None:
    assert got(ledger, Common("bcast", ("a", "a", "b"))) == [((0, (0,)), (1, (0,)))]


def test_common_looks_only_at_ids_that_every_site_has(ledger) -> None:
    acquire(ledger, Ids("perf", (0, 1), ("a",)))
    refused(ledger, PoolExhausted, Common("perf", ("a", "b")))
    assert got(ledger, Common("perf", ("a",))) == [((0, (2,)),)]


# Slices.


def test_a_fraction_is_slices_of_the_lowest_unit_that_has_enough(ledger) -> None:
    assert got(ledger, Units("cores", Fraction(1, 2))) == [((0, (0, 1)),)]
    assert got(ledger, Units("cores", Fraction(3, 4))) == [((0, (4, 5, 6)),)]
    assert got(ledger, Units("cores", Fraction(1, 4))) == [((0, (2,)),)]


def test_a_fraction_never_spans_two_units(ledger) -> None:
    for _ in range(3):
        acquire(ledger, Units("cores", Fraction(3, 4)))
    refused(ledger, PoolExhausted, Units("cores", Fraction(1, 2)))


def test_a_whole_unit_is_one_of_which_no_slice_is_taken(ledger) -> None:
    acquire(ledger, Units("cores", Fraction(1, 4)))
    assert got(ledger, Units("cores", 1)) == [((0, (4, 5, 6, 7)),)]
    assert got(ledger, Units("cores", Fraction(4, 4))) == [((0, (8, 9, 10, 11)),)]
    refused(ledger, PoolExhausted, Units("cores", 1))


# What can never be.

NEVER = [
    Units("nowhere", 1),
    Units("streams", 0),
    Units("streams", -1),
    Units("streams", 5),
    Units("streams", Fraction(1, 2)),
    Units("cores", Fraction(0)),
    Units("cores", Fraction(-1, 2)),
    Units("cores", Fraction(1, 3)),
    Units("cores", Fraction(3, 2)),
    Units("cores", 4),
    Units("bcast", 1),
    Units("bcast", 1, ("a", "nowhere")),
    Units("bcast", 3, ("a", "a")),
    Units("streams", 1, ("a",)),
    Units("perf", 3, ("a", "b")),
    Units("perf", 1, ("c",)),
    Units("streams", 1, reservation="nowhere"),
    Run("memory"),
    Run("memory", -1),
    Run("memory", 17),
    Run("memory", size_bytes=-1),
    Run("memory", size_bytes=16 * 65_536 + 1),
    Run("streams", size_bytes=1),
    Run("memory", 1, align_count=0),
    Run("memory", 1, align_count=-2),
    Run("memory", 1, extent_count_max=0),
    Run("memory", 17, extent_count_max=16),
    Run("bcast", 1),
    Run("perf", 3, at=("b",)),
    Run("cores", 4),
    Ids("streams", ()),
    Ids("streams", (-1,)),
    Ids("streams", (4,)),
    Ids("streams", (0, 1, 0)),
    Ids("cores", (3,)),
    Ids("bcast", (0,)),
    Ids("bcast", (0,), ("a", "a")),
    Ids("perf", (2,), ("a", "b")),
    Ids("perf", (0,), ("c",)),
    Ids("nowhere", (0,)),
    Common("nowhere"),
    Common("bcast", ("nowhere",)),
    Common("perf"),
    FirstOf(()),
    FirstOf((Units("streams", 5), Units("nowhere", 1))),
]


@pytest.mark.parametrize("claim", NEVER, ids=repr)
def test_what_can_never_be_is_invalid_however_busy_the_card_is(ledger, claim) -> None:
    refused(ledger, InvalidRequest, claim)
    acquire(ledger, Units("streams", 4), Run("memory", 16), Units("cores", 3))
    refused(ledger, InvalidRequest, claim)


@pytest.mark.parametrize("claim", NEVER, ids=repr)
def test_one_claim_that_can_never_be_makes_the_request_invalid_though_another_is_only_busy(ledger, claim) -> None:
    acquire(ledger, Ids("streams", (0,)))
    refused(ledger, InvalidRequest, Ids("streams", (0,)), claim)


@pytest.mark.parametrize(
    "claims",
    [
        (Units("streams", 3), Units("streams", 2)),
        (Run("memory", 9), Run("memory", 8)),
        (Ids("streams", (0, 1)), Units("streams", 3)),
        (Ids("streams", (0, 1)), Ids("streams", (1, 2))),
        (Units("cores", Fraction(1, 4)), Units("cores", 3)),
        (Common("bcast"), Units("bcast", 4, ("b",))),
        (Common("perf", ("b",)),) * 3,
    ],
    ids=repr,
)
def test_claims_that_can_never_be_met_together_are_invalid(ledger, claims) -> None:
    refused(ledger, InvalidRequest, *claims)


def test_a_request_for_nothing_is_invalid(ledger) -> None:
    refused(ledger, InvalidRequest)


def test_the_most_that_a_pool_has_is_granted(ledger) -> None:
    assert len(got(ledger, Units("streams", 4), Run("memory", 16), Units("cores", 3), Units("perf", 2, ("b",)))) == 4


# Several claims, decided together.


def test_claims_on_one_pool_see_each_other(ledger) -> None:
    assert got(ledger, Units("streams", 1), Units("streams", 2), Units("streams", 1)) == [
        ((0, (0,)),),
        ((0, (1, 2)),),
        ((0, (3,)),),
    ]
    assert got(ledger, Run("memory", 3), Run("memory", 2, align_count=2)) == [((0, (0, 1, 2)),), ((0, (4, 5)),)]


def test_ids_come_before_units_whatever_the_order_of_the_request(ledger) -> None:
    for claims in [(Units("streams", 1), Ids("streams", (0,))), (Ids("streams", (2,)), Units("streams", 1))]:
        by_kind = dict(zip(claims, got(ledger, *claims), strict=True))
        assert by_kind[claims[0]] != by_kind[claims[1]]
    assert [sorted(ids(a)) for lease in ledger.leases.values() for a in lease.allotments] == [[1], [0], [2], [3]]


def test_the_more_rigid_claim_is_placed_first(ledger) -> None:
    units, run, common = Units("bcast", 1, ("a",)), Run("bcast", 2, at=("a",)), Common("bcast")
    answer = dict(zip(["units", "run", "common"], got(ledger, units, run, common), strict=True))
    assert answer == {"common": ((0, (0,)), (1, (0,)), (2, (0,))), "run": ((0, (1, 2)),), "units": ((0, (3,)),)}


def test_all_claims_of_a_request_are_granted_or_none(ledger) -> None:
    acquire(ledger, Units("streams", 4))
    refused(ledger, PoolExhausted, Run("memory", 4), Units("streams", 1))
    assert ledger.cards["0"].pools["memory"].held_count == 0


def test_the_first_alternative_that_fits_with_the_rest_is_taken(ledger) -> None:
    wish = FirstOf((Units("streams", 3), Units("streams", 2), Units("streams", 1)))
    assert got(ledger, wish, Ids("streams", (0,))) == [((0, (1, 2, 3)),), ((0, (0,)),)]
    ledger.apply(ledger.decide_release("L1", asker()))
    assert got(ledger, wish, Units("streams", 2)) == [((0, (0, 1)),), ((0, (2, 3)),)]


def test_the_last_claim_gives_way_before_the_first_does(ledger) -> None:
    acquire(ledger, Units("streams", 1))
    both = FirstOf((Units("streams", 2), Units("streams", 1)))
    assert [len(at[0][1]) for at in got(ledger, both, both)] == [2, 1]


def test_an_alternative_that_can_never_be_is_passed_over(ledger) -> None:
    assert got(ledger, FirstOf((Units("nowhere", 1), Units("streams", 9), Units("streams", 1)))) == [((0, (0,)),)]


def test_alternatives_of_which_one_is_only_busy_make_the_request_busy_not_invalid(ledger) -> None:
    acquire(ledger, Units("streams", 4))
    refused(ledger, PoolExhausted, FirstOf((Units("nowhere", 1), Units("streams", 1))))


# Which card.


def test_the_first_card_that_fits_is_taken(ledger) -> None:
    two = ledger_of(pool("streams", 2), card_count=2)
    leases = [acquire(two, Units("streams", 2)), acquire(two, Units("streams", 1)), acquire(two, Units("streams", 1))]
    assert [lease.card for lease in leases] == ["0", "1", "1"]
    refused(two, PoolExhausted, Units("streams", 1))
    refused(two, InvalidRequest, Units("streams", 3))


def test_a_named_card_is_the_only_one_asked() -> None:
    two = ledger_of(pool("streams", 1), card_count=2)
    assert acquire(two, Units("streams", 1), card="1").card == "1"
    refused(two, PoolExhausted, Units("streams", 1), card="1")
    refused(two, InvalidRequest, Units("streams", 1), card="2")


def test_the_choice_can_be_narrowed_to_cards_on_which_nobody_waits() -> None:
    two = ledger_of(pool("streams", 1), card_count=2)
    event = two.decide_acquire(wish_for(Units("streams", 1)), now_ns=0, now_wall_ns=0, cards=["1"])
    assert event.lease.card == "1"


# From a reservation.


def test_every_kind_of_claim_takes_only_units_of_its_reservation(ledger) -> None:
    reserve(ledger, "graph", "memory", (3, 5, 6, 7))
    reserve(ledger, "other", "memory", (0, 1, 2))
    assert got(ledger, Run("memory", 2, reservation="graph")) == [((0, (5, 6)),)]
    assert got(ledger, Units("memory", 1, reservation="graph")) == [((0, (3,)),)]
    refused(ledger, PoolExhausted, Units("memory", 2, reservation="graph"))
    refused(ledger, InvalidRequest, Ids("memory", (4,), reservation="graph"))
    refused(ledger, InvalidRequest, Ids("memory", (0,), reservation="graph"))
    assert got(ledger, Ids("memory", (7,), reservation="graph")) == [((0, (7,)),)]
    refused(ledger, PoolExhausted, Units("streams", 1, reservation="graph"))


def test_common_from_a_reservation_needs_the_id_reserved_at_every_site(ledger) -> None:
    reserve(ledger, "graph", "bcast", (1, 2), at=("a", "b"))
    assert got(ledger, Common("bcast", ("a", "b"), reservation="graph")) == [((0, (1,)), (1, (1,)))]
    refused(ledger, PoolExhausted, Common("bcast", reservation="graph"))


def test_a_reservation_is_found_by_its_content_hash_on_each_card() -> None:
    two = ledger_of(pool("streams", 2), card_count=2)
    reserve(two, "first", "streams", (1,), content_hash="abc")
    reserve(two, "second", "streams", (0,), content_hash="abc", card_id="1")
    claim = Units("streams", 1, reservation="abc")
    assert [acquire(two, claim).card, acquire(two, claim).card] == ["0", "1"]
    refused(two, PoolExhausted, claim)
    refused(two, InvalidRequest, Units("streams", 1, reservation="first"), card="1")


def test_reserved_units_are_for_the_owner_or_an_admin_by_id_too(ledger) -> None:
    reserve(ledger, "graph", "streams", (0, 1, 2), owner_uid=1000)
    stranger = asker("s2", uid=1001)
    refused(ledger, NotOwner, Units("streams", 1, reservation="graph"), who=stranger)
    refused(ledger, NotOwner, Ids("streams", (0,)), who=stranger)
    assert got(ledger, Ids("streams", (0,))) == [((0, (0,)),)]
    assert got(ledger, Ids("streams", (1,)), who=asker("root", uid=0, is_admin=True)) == [((0, (1,)),)]
    assert got(ledger, Units("streams", 1), who=stranger) == [((0, (3,)),)]


def test_a_shared_reservation_is_for_everybody(ledger) -> None:
    reserve(ledger, "graph", "streams", (0,), owner_uid=None)
    assert got(ledger, Units("streams", 1, reservation="graph"), who=asker("s2", uid=1001)) == [((0, (0,)),)]


def test_a_plain_run_lands_where_a_stateless_search_of_the_bits_says(ledger) -> None:
    for count in (3, 1, 4):
        start = first_gap(ledger.cards["0"].pools["memory"].blocked.bits, count)
        assert ids(acquire(ledger, Run("memory", count)).allotments[0])[0] == start
