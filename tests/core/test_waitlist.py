"""Who waits for what, in the order they came."""

import pytest

from rm.core import limits
from rm.core.claims import FirstOf, Units, pools_of
from rm.core.errors import QuotaExceeded
from rm.core.types import CardId, SessionId
from rm.core.waitlist import Waiter, Waitlist
from support.books import asker, wish_for

CARDS = (CardId("0"), CardId("1"))


def waiter(number: int, *pools: str, cards=CARDS[:1], session: str = "s1", request_id: int = 0) -> Waiter:
    wish = wish_for(*(Units(pool, 1) for pool in pools), who=asker(session), request_id=request_id)
    return Waiter(number, wish, cards, pools_of(wish.claims), deadline_ns=10)


@pytest.fixture
def waitlist() -> Waitlist:
    return Waitlist()


def test_who_came_first_is_first_in_each_of_its_queues(waitlist) -> None:
    first, second = waiter(1, "cores"), waiter(2, "cores", "memory")
    for one in (first, second):
        waitlist.add(one)
    assert waitlist.first((CARDS[0], "cores")) is first
    assert waitlist.first((CARDS[0], "memory")) is second
    assert (waitlist.count((CARDS[0], "cores")), waitlist.count((CARDS[0], "vdec")), len(waitlist)) == (2, 0, 2)


def test_a_waiter_may_be_served_once_it_is_first_in_all_of_its_queues(waitlist) -> None:
    first, second = waiter(1, "cores"), waiter(2, "cores", "memory")
    waitlist.add(first)
    waitlist.add(second)
    assert (waitlist.cards_led_by(first), waitlist.cards_led_by(second)) == (CARDS[:1], ())
    waitlist.remove(first)
    assert waitlist.cards_led_by(second) == CARDS[:1]


def test_a_waiter_leads_on_those_cards_only_where_nobody_is_in_front(waitlist) -> None:
    anywhere = waiter(2, "cores", cards=CARDS)
    waitlist.add(waiter(1, "cores", cards=CARDS[:1]))
    waitlist.add(anywhere)
    assert waitlist.cards_led_by(anywhere) == CARDS[1:]


def test_a_newcomer_may_use_cards_on_which_nobody_waits_for_its_pools(waitlist) -> None:
    waitlist.add(waiter(1, "cores", "vdec"))
    assert waitlist.open_cards(CARDS, frozenset({"cores"})) == CARDS[1:]
    assert waitlist.open_cards(CARDS, frozenset({"memory"})) == CARDS
    assert waitlist.open_cards(CARDS, frozenset({"memory", "vdec"})) == CARDS[1:]


def test_a_waiter_queues_at_every_pool_of_its_alternatives() -> None:
    claims = (FirstOf((Units("cores", 2), Units("vdec", 1))), Units("memory", 1))
    assert pools_of(claims) == {"cores", "vdec", "memory"}


def test_who_has_left_is_in_no_queue(waitlist) -> None:
    one = waiter(1, "cores", cards=CARDS, request_id=4)
    waitlist.add(one)
    waitlist.remove(one)
    assert len(waitlist) == 0
    assert waitlist.first((CARDS[1], "cores")) is None
    assert waitlist.open_cards(CARDS, frozenset({"cores"})) == CARDS
    assert (waitlist.of_session(SessionId("s1")), waitlist.of_request(SessionId("s1"), 4)) == ([], None)


def test_waiters_are_found_by_session_and_by_request(waitlist) -> None:
    mine, also_mine, other = waiter(1, "a", request_id=1), waiter(2, "b", request_id=2), waiter(3, "a", session="s2")
    for one in (mine, also_mine, other):
        waitlist.add(one)
    assert waitlist.of_session(SessionId("s1")) == [mine, also_mine]
    assert waitlist.of_request(SessionId("s1"), 2) is also_mine
    assert waitlist.of_request(SessionId("s2"), 2) is None


def test_a_session_has_room_up_to_its_most_waiters(waitlist, monkeypatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_PER_SESSION_MAX", 2)
    waitlist.add(waiter(1, "a"))
    waitlist.check_room(SessionId("s1"))
    last = waiter(2, "a")
    waitlist.add(last)
    with pytest.raises(QuotaExceeded):
        waitlist.check_room(SessionId("s1"))
    waitlist.check_room(SessionId("s2"))
    waitlist.remove(last)
    waitlist.check_room(SessionId("s1"))


def test_all_sessions_together_have_room_up_to_the_most_waiters(waitlist, monkeypatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_MAX", 2)
    for number in range(2):
        waitlist.check_room(SessionId("s9"))
        waitlist.add(waiter(number, "a", session=f"s{number}"))
    with pytest.raises(QuotaExceeded):
        waitlist.check_room(SessionId("s9"))
