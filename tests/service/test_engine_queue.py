"""Who is granted when several want the same: the rules of the queue."""

import asyncio

import pytest

from rm.core import limits
from rm.core.claims import FirstOf, Ids
from rm.core.errors import InvalidRequest, PoolExhausted, QuotaExceeded, UnitHeld, WaitTimedOut
from rm.core.report import differences
from rm.core.types import NS_PER_S
from support.books import NO_REQUEST, asker, card, ids, pool
from support.daemon_parts import make_engine, run_async, settle, units


@run_async
async def test_a_request_that_fits_is_granted_at_once() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(3))
    assert (lease.id, lease.token, lease.card) == ("L1", 1, "0")
    assert parts.held() == {0, 1, 2}
    assert parts.backend.prepared == {"L1": 1}


@run_async
async def test_without_a_wait_a_request_that_does_not_fit_is_refused_and_leaves_nothing() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3), label="first")
    with pytest.raises(PoolExhausted, match="'first'") as refused:
        await parts.acquire(units(2), session="s2")
    assert [holder["lease"] for holder in refused.value.facts["holders"]] == ["L1"]
    assert parts.held() == {0, 1, 2}
    assert len(parts.engine.waitlist) == 0
    assert parts.backend.prepared == {"L1": 1}


@run_async
async def test_with_a_wait_it_is_granted_when_units_come_back() -> None:
    parts = make_engine(pool("u", 4))
    first = await parts.acquire(units(3))
    waiting = await parts.waiter(units(2), session="s2")
    await parts.engine.release(first.id, asker("s1"))
    assert (await waiting).token == 2
    assert parts.held() == {0, 1}


@run_async
async def test_conflicting_requests_keep_their_order_also_where_a_later_one_would_fit() -> None:
    parts = make_engine(pool("u", 4))
    first = await parts.acquire(units(3))
    big = await parts.waiter(units(4), session="s2")
    small = await parts.waiter(units(1), session="s3")
    assert not small.done(), "one unit is free, but somebody waits in front"
    await parts.engine.release(first.id, asker("s1"))
    assert (await big).token == 2
    assert not small.done()
    await parts.engine.release("L2", asker("s2"))
    assert (await small).token == 3


@run_async
async def test_a_newcomer_without_a_wait_does_not_overtake_and_is_told_who_waits() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    await parts.waiter(units(4), session="s2", label="trainer")
    with pytest.raises(PoolExhausted, match=r"waiting in front.*'trainer'") as refused:
        await parts.acquire(units(1), session="s3")
    assert refused.value.facts["waiter_count"] == 1
    assert refused.value.facts["waiter_pid"] == 100
    assert parts.held() == {0, 1, 2}


@run_async
async def test_a_newcomer_that_can_never_be_granted_is_told_so_also_behind_waiters() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    await parts.waiter(units(4), session="s2")
    with pytest.raises(InvalidRequest, match="never"):
        await parts.acquire(units(5), session="s3", wait_s=60)


@run_async
async def test_a_request_for_another_pool_goes_ahead_of_those_who_wait() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    await parts.acquire(units(4))
    await parts.waiter(units(1), session="s2")
    assert (await parts.acquire(units(4, "v"), session="s3")).token == 2


@run_async
async def test_two_requests_conflict_by_any_pool_they_share_and_by_any_of_their_alternatives() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    await parts.acquire(units(4))
    await parts.waiter(units(1), units(1, "v"), session="s2")
    with pytest.raises(PoolExhausted, match="waiting in front"):
        await parts.acquire(units(1, "v"), session="s3")
    with pytest.raises(PoolExhausted, match="waiting in front"):
        await parts.acquire(FirstOf((units(9, "v"), units(1, "v"))), session="s3")


@run_async
async def test_a_newcomer_may_use_the_card_on_which_nobody_waits() -> None:
    parts = make_engine(pool("u", 4), card_count=2)
    await parts.acquire(units(4), card_id="0")
    await parts.waiter(units(1), session="s2", card_id="0")
    lease = await parts.acquire(units(1), session="s3")
    assert lease.card == "1"
    with pytest.raises(PoolExhausted, match="waiting in front"):
        await parts.acquire(units(1), session="s3", card_id="0")


@run_async
async def test_who_may_use_any_card_is_granted_on_the_first_that_becomes_free() -> None:
    parts = make_engine(pool("u", 1), card_count=2)
    await parts.acquire(units(1))
    second = await parts.acquire(units(1))
    waiting = await parts.waiter(units(1), session="s2")
    await parts.engine.release(second.id, asker("s1"))
    assert (await waiting).card == "1"


@run_async
async def test_who_fits_only_on_the_card_where_others_wait_queues_there_and_is_not_called_impossible() -> None:
    parts = make_engine(cards=(card(pool("u", 4)), card(pool("u", 1), card_id="1")))
    first = await parts.acquire(units(4), card_id="0")
    in_front = await parts.waiter(units(1), session="s2", card_id="0")
    with pytest.raises(PoolExhausted, match="waiting in front"):
        await parts.acquire(units(2), session="s3")
    waiting = await parts.waiter(units(2), session="s3")
    await parts.engine.release(first.id, asker("s1"))
    assert (await in_front).card == "0"
    assert (await waiting).card == "0"


@run_async
async def test_a_waiter_that_leads_only_on_a_card_too_small_for_it_goes_on_waiting() -> None:
    parts = make_engine(cards=(card(pool("u", 4)), card(pool("u", 1), card_id="1")))
    big = await parts.acquire(units(4), card_id="0")
    small = await parts.acquire(units(1), card_id="1")
    in_front = await parts.waiter(units(4), session="s2", card_id="0")
    waiting = await parts.waiter(units(2), session="s3")
    await parts.engine.release(small.id, asker("s1"))
    await settle()
    assert not waiting.done(), "it waits for card 0, whatever happens on card 1"
    await parts.engine.release(big.id, asker("s1"))
    await parts.engine.release((await in_front).id, asker("s2"))
    assert (await waiting).card == "0"


@run_async
async def test_a_unit_by_id_can_be_waited_for() -> None:
    parts = make_engine(pool("u", 4))
    first = await parts.acquire(Ids("u", (2,)))
    with pytest.raises(UnitHeld):
        await parts.acquire(Ids("u", (2,)), session="s2")
    waiting = await parts.waiter(Ids("u", (2,)), session="s2")
    await parts.engine.release(first.id, asker("s1"))
    await waiting
    assert parts.held() == {2}


@run_async
async def test_units_that_are_given_back_serve_those_who_wait() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4))
    waiting = await parts.waiter(units(2), session="s2")
    await parts.engine.give_back(lease.id, asker("s1"), NO_REQUEST, pool="u", ids=[1, 3])
    await waiting
    assert ids(parts.ledger.leases["L1"].allotments[0]) == [0, 2]
    assert ids(parts.ledger.leases["L2"].allotments[0]) == [1, 3]


# The end of a wait.


@run_async
async def test_a_wait_ends_at_its_deadline_and_not_before_and_says_who_holds() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(4), label="holder")
    waiting = await parts.waiter(units(1), session="s2", wait_s=5)
    assert parts.engine.waiting.next_deadline_ns() == parts.clock.now_ns + 5 * NS_PER_S
    parts.clock.advance(ns=5 * NS_PER_S - 1)
    parts.engine.tick()
    await settle()
    assert not waiting.done()
    parts.clock.advance(ns=1)
    parts.engine.tick()
    with pytest.raises(WaitTimedOut, match="'holder'") as timed_out:
        await waiting
    assert [holder["lease"] for holder in timed_out.value.facts["holders"]] == ["L1"]
    assert len(parts.engine.waitlist) == 0


@run_async
async def test_a_wait_that_ends_lets_those_behind_it_go_on() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    big = await parts.waiter(units(4), session="s2", wait_s=5)
    small = await parts.waiter(units(1), session="s3", wait_s=60)
    parts.clock.advance(s=5)
    parts.engine.tick()
    with pytest.raises(WaitTimedOut):
        await big
    assert (await small).token == 2


@run_async
async def test_who_stood_behind_others_until_the_end_is_told_so() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    await parts.waiter(units(4), session="s2", wait_s=60)
    behind = await parts.waiter(units(1), session="s3", wait_s=5)
    parts.clock.advance(s=5)
    parts.engine.tick()
    with pytest.raises(WaitTimedOut, match="behind others"):
        await behind


@run_async
async def test_a_cancelled_call_leaves_the_queue_and_those_behind_it_are_served() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    big = await parts.waiter(units(4), session="s2")
    small = await parts.waiter(units(1), session="s3")
    big.cancel()
    assert (await small).token == 2
    assert len(parts.engine.waitlist) == 0
    with pytest.raises(asyncio.CancelledError):
        await big


@run_async
async def test_waits_that_are_over_do_not_pile_up() -> None:
    parts = make_engine(pool("u", 1))
    await parts.acquire(units(1))
    for _ in range(3_000):
        waiting = asyncio.create_task(parts.acquire(units(1), session="s2", wait_s=86_400))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
    assert len(parts.engine.waiting._deadlines) < 1_500
    last = await parts.waiter(units(1), session="s2", wait_s=7)
    parts.clock.advance(s=7)
    parts.engine.tick()
    with pytest.raises(WaitTimedOut):
        await last


# Limits.


@pytest.mark.parametrize("wait_ns", [-1, limits.WAIT_NS_MAX + 1, 1 << 200])
@run_async
async def test_a_wait_of_less_than_nothing_or_more_than_a_day_is_invalid(wait_ns) -> None:
    parts = make_engine(pool("u", 1))
    with pytest.raises(InvalidRequest, match="24 h"):
        await parts.acquire(units(1), wait_s=wait_ns / NS_PER_S)
    assert parts.ledger.leases == {}


@run_async
async def test_a_wait_of_exactly_a_day_is_possible() -> None:
    parts = make_engine(pool("u", 1))
    await parts.acquire(units(1))
    await parts.waiter(units(1), wait_s=limits.WAIT_NS_MAX / NS_PER_S)


@run_async
async def test_one_waiter_above_the_limit_of_a_session_is_refused_and_others_may_still_wait(monkeypatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_PER_SESSION_MAX", 2)
    parts = make_engine(pool("u", 1))
    await parts.acquire(units(1))
    for _ in range(2):
        await parts.waiter(units(1), session="s2")
    with pytest.raises(QuotaExceeded, match="this session has 2"):
        await parts.acquire(units(1), session="s2", wait_s=60)
    await parts.waiter(units(1), session="s3")


@run_async
async def test_one_waiter_above_the_limit_of_all_is_refused_and_a_place_that_becomes_free_is_given(monkeypatch) -> None:
    monkeypatch.setattr(limits, "WAITERS_MAX", 2)
    parts = make_engine(pool("u", 1))
    await parts.acquire(units(1))
    first = await parts.waiter(units(1), session="s2")
    await parts.waiter(units(1), session="s3")
    with pytest.raises(QuotaExceeded, match="the daemon has 2"):
        await parts.acquire(units(1), session="s4", wait_s=60)
    first.cancel()
    await settle()
    await parts.waiter(units(1), session="s4")


@run_async
async def test_a_thousand_waiters_make_a_release_no_dearer() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    lease = await parts.acquire(units(2))
    await parts.acquire(units(2))
    await parts.acquire(units(4, "v"))
    tasks = [
        asyncio.create_task(parts.acquire(units(2, "u" if index % 2 else "v"), session="s2", wait_s=60))
        for index in range(1_000)
    ]
    await settle()
    assert len(parts.engine.waitlist) == 1_000
    parts.ledger.try_count = 0
    await parts.engine.release(lease.id, asker("s1"))
    assert parts.ledger.try_count <= 2, "the head of the queue, and the one who became the head"
    await settle()
    assert sum(task.done() for task in tasks) == 1
    assert differences(parts.ledger) == []


@run_async
async def test_an_extension_behind_waiters_is_not_told_to_wait() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(2))
    await parts.waiter(units(3), session="s2")
    with pytest.raises(PoolExhausted, match=r"1 waiting in front for u.*; try again when they are served"):
        await parts.engine.extend(lease.id, (units(1),), asker("s1"), NO_REQUEST)
