"""A snapshot makes the same books again; one that cannot be is found; and of a damaged store nothing is given on."""

from dataclasses import replace

import pytest

from rm.core import limits
from rm.core.card import CardSpec
from rm.core.claims import Ids, Run, Units
from rm.core.errors import LeaseGone, UnitHeld
from rm.core.events import Granted, Request, Started
from rm.core.lease import ANY_WINDOW, WindowMark
from rm.core.ledger import Ledger
from rm.core.report import differences as faults_of
from rm.core.snapshot import SALVAGE_LEAP, GatedSites, LiveLease, differences, everything_in_quarantine, restore, take
from rm.core.types import CardId, LeaseId, SessionId
from rm.devices.profiles import builtin_names, load_profile
from support.books import (
    NO_REQUEST,
    acquire,
    asker,
    card,
    deadlines_of,
    gate,
    ids,
    kill,
    pool,
    record,
    reserve,
    restored,
    snapshot,
    wish_for,
)

POOLS = (pool("memory", 16, unit_bytes=65_536), pool("streams", 8), pool("bcast", 4, sites=("a", "b", "c")))
CARDS = (card(*POOLS), card(pool("streams", 2), card_id="1"))
ADMIN = asker("root", uid=0, is_admin=True)
S1 = SessionId("s1")


@pytest.fixture
def ledger():
    """Books with something of everything in them."""
    made = Ledger(CARDS)
    made.apply(Started(3, "a boot", CARDS, ((CardId("0"), "once reset"), (CardId("1"), "never"))))
    for index, session in enumerate(("s1", "s2", "s3")):
        made.apply(made.decide_open_session(record(session, pid=100 + index)))
    reserve(made, "whole", "bcast", (0,), at=("a", "b"), content_hash="h")
    reserve(made, "in part", "streams", (5, 6, 7), owner_uid=1000)
    granted = made.decide_acquire(
        wish_for(Run("memory", 2), Units("streams", 2), request_id=1, ttl_ns=limits.TTL_NS_MIN), now_ns=0, now_wall_ns=9
    )
    made.apply(replace(granted, lease=replace(granted.lease, windows=(WindowMark(0, 131_072, 5, 77),))))
    made.apply(made.decide_extend(LeaseId("L1"), (Units("bcast", 1, ("b",)),), asker(), Request(S1, 2, b"more")))
    gone = acquire(made, Ids("streams", (6,), reservation="in part"), who=asker("s2"), label="gone")
    made.apply(made.decide_release(gone.id, asker("s2"), to_pool=True))
    shrunk = acquire(made, Units("streams", 2), Units("bcast", 1, ("a",)), who=asker("s2"))
    made.apply(made.decide_give_back(shrunk.id, asker("s2"), NO_REQUEST, pool="streams", ids=[2, 3]))
    made.apply(made.decide_revoke(shrunk.id, ADMIN, "asked to", notice_ns=5, now_ns=0))
    acquire(made, Run("memory", 3), Ids("streams", (7,), reservation="in part"), who=asker("s3"))
    kill(made, "s3")
    made.apply(made.decide_forgo(S1, 9))
    reserve(made, "shared", "streams", (1,), owner_uid=1000, is_shared=True, card_id="1")
    gate(made, "c")
    return made


def test_a_snapshot_makes_the_same_books_again(ledger) -> None:
    again = restored(ledger)
    assert snapshot(again) == snapshot(ledger)
    assert (again.epoch, again.boot_id, again.incarnations) == (ledger.epoch, ledger.boot_id, ledger.incarnations)
    assert faults_of(again) == []


def test_a_snapshot_of_the_books_that_a_snapshot_made_is_the_same(ledger) -> None:
    assert take(restored(ledger)) == take(ledger)


def test_no_deadline_is_in_it(ledger) -> None:
    assert set(deadlines_of(restored(ledger)).values()) == {None}


def test_restored_books_go_on_where_the_others_stopped(ledger) -> None:
    again = restored(ledger)
    wish = wish_for(Units("streams", 3), request_id=11)
    for books in (ledger, again):
        event = books.decide_acquire(wish, now_ns=0, now_wall_ns=0)
        assert isinstance(event, Granted)
        assert event.lease.token == 5
        books.apply(event)
    assert take(again) == take(ledger)


def test_restored_books_know_the_requests_that_were_answered(ledger) -> None:
    again = restored(ledger)
    same = wish_for(Run("memory", 2), Units("streams", 2), request_id=1, ttl_ns=limits.TTL_NS_MIN)
    assert again.decide_acquire(same, now_ns=0, now_wall_ns=0) == again.leases["L1"]
    with pytest.raises(LeaseGone):
        again.decide_acquire(replace(same, request_id=9), now_ns=0, now_wall_ns=0)


def test_restored_books_keep_reserved_and_quarantined_units_from_others(ledger) -> None:
    again = restored(ledger)
    with pytest.raises(UnitHeld):
        again.decide_acquire(wish_for(Ids("streams", (7,))), now_ns=0, now_wall_ns=0)
    again.apply(again.decide_quiet(LeaseId("L4")))
    left = acquire(again, Units("streams", 2, (), "in part"))
    assert ids(left.allotments[0]) == [5, 7], "6 was given to the pool"


def test_restored_books_know_what_is_shared_and_which_clocks_are_off(ledger) -> None:
    again = restored(ledger)
    assert {name: one.spec.is_shared for name, one in again.reservations.items()} == {
        "whole": False, "in part": False, "shared": True,
    }  # fmt: skip
    assert again.cards["0"].gated_sites == ("c",)
    assert again.cards["0"].pools["bcast"].open_sites == (0, 1)


def test_a_site_that_its_card_does_not_have_is_found(ledger) -> None:
    taken = take(ledger)
    parts = [replace(part, sites=("nowhere",)) if isinstance(part, GatedSites) else part for part in taken.parts]
    with pytest.raises(AssertionError, match="no site nowhere"):
        restore(Ledger(CARDS), taken.head, parts)


def test_what_happens_later_does_not_change_a_snapshot_that_was_taken(ledger) -> None:
    before = take(ledger)
    kill(ledger)
    acquire(ledger, Units("streams", 1))
    fresh = Ledger(CARDS)
    restore(fresh, before.head, before.parts)
    assert take(fresh) == before


def test_a_snapshot_of_empty_books_is_a_head(ledger) -> None:
    taken = take(Ledger(CARDS))
    assert (taken.parts, taken.head.part_count, taken.head.revision) == ((), 0, 0)
    assert snapshot(restored(Ledger(CARDS))) == snapshot(Ledger(CARDS))


# What cannot be.


def test_a_snapshot_that_lacks_a_part_is_found(ledger) -> None:
    taken = take(ledger)
    for lost in range(len(taken.parts)):
        with pytest.raises(AssertionError):
            restore(Ledger(CARDS), taken.head, taken.parts[:lost] + taken.parts[lost + 1 :])


def test_a_snapshot_with_a_part_twice_is_found(ledger) -> None:
    taken = take(ledger)
    for part in taken.parts:
        with pytest.raises(AssertionError):
            restore(Ledger(CARDS), taken.head, [*taken.parts, part])


def test_two_leases_on_one_unit_are_found(ledger) -> None:
    taken = take(ledger)
    twin = LiveLease(replace(ledger.leases["L1"], id=LeaseId("L2"), token=2), None)
    with pytest.raises(AssertionError, match="already set"):
        restore(Ledger(CARDS), replace(taken.head, part_count=len(taken.parts) + 1), [*taken.parts, twin])


def test_a_token_that_was_never_given_is_found(ledger) -> None:
    taken = take(ledger)
    with pytest.raises(AssertionError, match="token"):
        restore(Ledger(CARDS), replace(taken.head, last_token=0), taken.parts)


def test_the_books_of_other_cards_are_not_restored_nor_are_books_in_use(ledger) -> None:
    taken = take(ledger)
    with pytest.raises(AssertionError, match="other cards"):
        restore(Ledger(CARDS[:1]), taken.head, taken.parts)
    with pytest.raises(AssertionError, match="empty books"):
        restore(ledger, taken.head, taken.parts)


# What differs.


def test_equal_snapshots_have_no_differences(ledger) -> None:
    assert differences(take(ledger), take(restored(ledger))) == []


def test_every_difference_is_a_sentence(ledger) -> None:
    before = take(ledger)
    ledger.apply(ledger.decide_release(LeaseId("L1"), asker()))
    heads, *others = differences(before, take(ledger))
    assert heads.startswith("the heads differ")
    assert [text[:9] for text in others] == ["only here"]
    assert "'L1'" in others[0]


# A daemon that starts with other cards, and one whose store is damaged.


def test_cards_change_only_while_nothing_of_them_is_in_use(ledger) -> None:
    with pytest.raises(AssertionError, match="the cards changed"):
        ledger.apply(Started(4, "a boot", CARDS[:1]))
    empty = Ledger(CARDS)
    empty.apply(Started(1, "a boot", CARDS[:1]))
    assert list(empty.cards) == ["0"]


def test_an_epoch_never_comes_twice(ledger) -> None:
    with pytest.raises(AssertionError, match="epoch 3 is not above 3"):
        ledger.apply(Started(3, "a boot", CARDS))


def profile_cards() -> list[CardSpec]:
    return [
        load_profile(name).card(CardId("0"), backend="test", memory_bytes=64 << 20, cpus=(0, 1))
        for name in builtin_names()
    ]


@pytest.mark.parametrize("spec", profile_cards(), ids=lambda spec: spec.profile)
def test_of_a_damaged_store_no_unit_is_free_until_its_card_is_quiet(spec) -> None:
    kept = everything_in_quarantine((spec,), Ledger(()))
    ledger = Ledger((spec,))
    restore(ledger, kept.head, kept.parts)
    for state in ledger.cards["0"].pools.values():
        assert (state.counts().free, state.counts().quarantined) == (0, state.total_count)
    assert faults_of(ledger) == []
    for lease in list(ledger.quarantine.values()):
        assert lease.windows == (ANY_WINDOW,)
        ledger.apply(ledger.decide_quiet(lease.id))
    assert all(state.counts().free == state.total_count for state in ledger.cards["0"].pools.values())


def test_of_a_damaged_store_reservations_stand_and_everything_counts_on_far_ahead(ledger) -> None:
    kept = everything_in_quarantine(CARDS, ledger)
    again = Ledger(CARDS)
    restore(again, kept.head, kept.parts)
    assert again.reservations.keys() == {"whole", "in part", "shared"}
    assert again.reservations["shared"].spec.is_shared
    assert again.cards["0"].gated_sites == ("c",)
    assert (again.leases, again.sessions, again.requests.remembered()) == ({}, {}, [])
    assert again.last_token >= ledger.last_token + SALVAGE_LEAP
    assert again.revision >= ledger.revision + SALVAGE_LEAP
    assert faults_of(again) == []


def test_a_reservation_of_a_card_that_is_another_now_does_not_stand(ledger) -> None:
    other = (card(pool("streams", 8)), CARDS[1])
    kept = everything_in_quarantine(other, ledger)
    again = Ledger(other)
    restore(again, kept.head, kept.parts)
    assert again.reservations.keys() == {"shared"}
    assert again.cards["0"].gated_sites == ()
