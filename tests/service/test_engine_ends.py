"""How leases and sessions end: politely, by violence, by the clock, and what happens to those who wait meanwhile."""

import asyncio

import pytest

from rm.core import limits
from rm.core.errors import InvalidRequest, LeaseGone, LeaseNotFound, NotOwner, PoolExhausted
from rm.core.events import Request
from rm.core.lease import WindowMark
from rm.core.report import differences
from rm.core.types import NS_PER_S
from rm.devices.backend import Fence, Window
from support.books import NO_REQUEST, asker, pool
from support.daemon_parts import GatedStore, make_engine, run_async, settle, units

TTL_NS = 10 * NS_PER_S


@run_async
async def test_a_released_lease_is_free_at_once_and_a_second_release_does_nothing() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4))
    assert await parts.engine.release(lease.id, asker("s1")) is True
    assert (parts.held(), parts.quarantined(), parts.backend.prepared) == (set(), set(), {})
    assert await parts.engine.release(lease.id, asker("s1")) is False


@run_async
async def test_only_the_session_that_owns_a_lease_ends_extends_or_shrinks_it_not_even_an_admin() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(2))
    stranger = asker("s2", is_admin=True)
    with pytest.raises(NotOwner):
        await parts.engine.release(lease.id, stranger)
    with pytest.raises(NotOwner):
        await parts.engine.extend(lease.id, (units(1),), stranger, NO_REQUEST)
    with pytest.raises(NotOwner):
        await parts.engine.give_back(lease.id, stranger, NO_REQUEST, pool="u", ids=[0])
    assert parts.held() == {0, 1}


@pytest.mark.parametrize("lease_id", ["", "L2", "L0", "L01", "L-1", "L1 ", "l1", "L" + "9" * 30])
@run_async
async def test_a_lease_that_never_was_is_not_found(lease_id) -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(1))
    with pytest.raises(LeaseNotFound):
        await parts.engine.release(lease_id, asker("s1"))


@run_async
async def test_the_last_unit_given_back_ends_the_lease() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(2))
    left = await parts.engine.give_back(lease.id, asker("s1"), NO_REQUEST, pool="u", ids=[0])
    assert left is not None
    assert await parts.engine.give_back(lease.id, asker("s1"), NO_REQUEST, pool="u", ids=[1]) is None
    assert (parts.ledger.leases, parts.backend.prepared) == ({}, {})


@run_async
async def test_the_same_giving_back_again_changes_nothing_more() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(3))
    request = Request("s1", 2, b"give")
    for _ in range(2):
        left = await parts.engine.give_back(lease.id, asker("s1"), request, pool="u", ids=[1])
        assert left is not None
        assert parts.held() == {0, 2}
    with pytest.raises(InvalidRequest, match="does not hold"):
        await parts.engine.give_back(lease.id, asker("s1"), Request("s1", 3, b""), pool="u", ids=[1])


@run_async
async def test_an_extension_comes_at_once_or_not_at_all_and_does_not_overtake() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    lease = await parts.acquire(units(2))
    grown = await parts.engine.extend(lease.id, (units(1), units(1, "v")), asker("s1"), Request("s1", 2, b"x"))
    assert [one.pool for one in grown.allotments] == ["u", "u", "v"]
    again = await parts.engine.extend(lease.id, (units(1), units(1, "v")), asker("s1"), Request("s1", 2, b"x"))
    assert again == grown
    with pytest.raises(PoolExhausted):
        await parts.engine.extend(lease.id, (units(2),), asker("s1"), NO_REQUEST)
    await parts.waiter(units(4), session="s2")
    with pytest.raises(PoolExhausted, match="waiting in front"):
        await parts.engine.extend(lease.id, (units(1),), asker("s1"), NO_REQUEST)
    assert parts.backend.prepared == {"L1": 3}


# Violence.


@run_async
async def test_a_dead_session_leaves_nothing_held_and_its_units_serve_those_who_wait() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(2))
    await parts.acquire(units(2))
    waiting = await parts.waiter(units(4), session="s2")
    parts.engine.end_session("s1", "process died", is_violent=True)
    assert (await waiting).session == "s2"
    assert parts.backend.prepared == {"L3": 1}


@run_async
async def test_units_of_the_dead_stay_in_quarantine_until_the_card_is_quiet() -> None:
    parts = make_engine(pool("u", 4))
    parts.backend.fence_answer = Fence.SOON
    await parts.acquire(units(3))
    parts.engine.end_session("s1", "process died", is_violent=True)
    assert (parts.held(), parts.quarantined()) == (set(), {0, 1, 2})
    with pytest.raises(PoolExhausted):
        await parts.acquire(units(2), session="s2")
    assert (await parts.acquire(units(1), session="s2")).token == 2
    assert parts.held() == {3}
    assert differences(parts.ledger) == []


@run_async
async def test_a_polite_end_needs_no_quarantine_even_where_the_card_cannot_fence() -> None:
    parts = make_engine(pool("u", 4))
    parts.backend.fence_answer = Fence.OUT_OF_REACH
    await parts.acquire(units(4))
    parts.engine.end_session("s1", "session closed", is_violent=False)
    assert (parts.held(), parts.quarantined()) == (set(), set())


@run_async
async def test_waiters_of_a_dead_session_leave_the_queue() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(4))
    dead = [await parts.waiter(units(1), session="s2") for _ in range(3)]
    alive = await parts.waiter(units(1), session="s3")
    parts.engine.end_session("s2", "process died", is_violent=True)
    assert len(parts.engine.waitlist) == 1
    for waiting in dead:
        with pytest.raises(LeaseGone):
            await waiting
    parts.engine.end_session("s1", "process died", is_violent=True)
    assert (await alive).session == "s3"


@run_async
async def test_a_waiter_of_a_dead_session_is_not_granted_while_the_others_of_it_leave() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    await parts.waiter(units(4), session="s2")
    await parts.waiter(units(1), session="s2")
    behind = await parts.waiter(units(1), session="s3")
    parts.engine.end_session("s2", "process died", is_violent=True)
    assert (await behind).session == "s3"
    assert {lease.session for lease in parts.ledger.leases.values()} == {"s1", "s3"}
    assert (len(parts.engine.waitlist), parts.failures) == (0, [])


@run_async
async def test_a_session_with_leases_and_waiters_in_one_queue_ends_without_serving_itself() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(4), session="s2")
    await parts.waiter(units(4), session="s2")
    parts.engine.end_session("s2", "process died", is_violent=True)
    await settle()
    assert (parts.ledger.leases, parts.failures) == ({}, [])


# The clock.


@run_async
async def test_a_missed_keepalive_is_told_exactly_at_its_deadline_and_the_lease_ends_when_the_notice_is_over() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4), ttl_ns=TTL_NS)
    parts.clock.advance(ns=TTL_NS - 1)
    parts.engine.tick()
    assert (parts.ledger.leases, parts.notices) == ({lease.id: lease}, [])
    parts.clock.advance(ns=1)
    parts.engine.tick()
    assert parts.notices == [(lease.id, "keepalive missed", limits.NOTICE_NS_DEFAULT / NS_PER_S)]
    parts.clock.advance(ns=limits.NOTICE_NS_DEFAULT - 1)
    parts.engine.tick()
    assert (parts.ledger.leases, parts.losses) == ({lease.id: lease}, [])
    parts.clock.advance(ns=1)
    parts.engine.tick()
    assert (parts.ledger.leases, parts.held()) == ({}, set())
    assert parts.losses == [("s1", lease.id, "keepalive missed")]
    assert parts.backend.fenced == [(lease.id, False)]


@run_async
async def test_an_expired_lease_is_in_quarantine_until_the_card_is_quiet() -> None:
    parts = make_engine(pool("u", 4))
    parts.backend.fence_answer = Fence.SOON
    await parts.acquire(units(2), ttl_ns=TTL_NS)
    parts.clock.advance(ns=TTL_NS)
    parts.overdue()
    assert (parts.held(), parts.quarantined()) == (set(), {0, 1})


@run_async
async def test_an_expired_lease_serves_those_who_wait() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(4), ttl_ns=TTL_NS)
    waiting = await parts.waiter(units(4), session="s2", wait_s=60)
    parts.clock.advance(ns=TTL_NS)
    parts.overdue()
    assert (await waiting).session == "s2"


@run_async
async def test_a_lease_without_a_ttl_never_expires() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(1), ttl_ns=None)
    parts.clock.advance(s=10 * 365 * 86_400)
    parts.engine.tick()
    assert parts.held() == {0}


@run_async
async def test_a_keepalive_gives_a_full_ttl_from_now_and_an_earlier_one_never_shortens_it() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS)
    parts.clock.advance(ns=TTL_NS - 1)
    assert parts.engine.keep_alive("s1", [lease.id]) == ()
    parts.clock.advance(ns=TTL_NS - 1)
    parts.engine.tick()
    assert lease.id in parts.ledger.leases
    parts.clock.advance(ns=1)
    parts.overdue()
    assert parts.ledger.leases == {}


@run_async
async def test_a_keepalive_names_the_leases_that_are_lost_and_never_revives_one() -> None:
    parts = make_engine(pool("u", 4))
    kept = await parts.acquire(units(1), ttl_ns=TTL_NS)
    lost = await parts.acquire(units(1), ttl_ns=limits.TTL_NS_MIN)
    parts.clock.advance(ns=limits.TTL_NS_MIN)
    parts.overdue()
    assert parts.engine.keep_alive("s1", [lost.id, kept.id, "L77", ""]) == (lost.id, "L77", "")
    assert list(parts.ledger.leases) == [kept.id]


@run_async
async def test_a_keepalive_of_anothers_lease_is_refused_and_renews_none() -> None:
    parts = make_engine(pool("u", 4))
    mine = await parts.acquire(units(1), ttl_ns=TTL_NS)
    other = await parts.acquire(units(1), session="s2", ttl_ns=TTL_NS)
    before_ns = parts.ledger.deadlines.get(mine.id)
    parts.clock.advance(s=1)
    with pytest.raises(NotOwner):
        parts.engine.keep_alive("s1", [mine.id, other.id])
    assert parts.ledger.deadlines.get(mine.id) == before_ns
    assert parts.ledger.deadlines.get(other.id) == before_ns


@run_async
async def test_a_keepalive_of_as_many_leases_as_a_session_may_have_is_possible_and_one_more_is_not() -> None:
    parts = make_engine(pool("u", 4))
    many = [f"L{number + 1}" for number in range(limits.LEASES_PER_SESSION_MAX)]
    assert parts.engine.keep_alive("s1", many) == tuple(many)
    with pytest.raises(InvalidRequest):
        parts.engine.keep_alive("s1", [*many, "L9999"])


# Nothing is answered before it is safe.


@run_async
async def test_no_answer_leaves_before_the_store_has_what_it_saw() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    grant = asyncio.create_task(parts.acquire(units(4), ttl_ns=TTL_NS))
    await settle()
    assert (grant.done(), parts.held()) == (False, {0, 1, 2, 3})
    assert parts.engine.keep_alive("s1", ["L1"]) == (), "a keepalive does not wait for the disk"
    store.sync()
    lease = await grant
    release = asyncio.create_task(parts.engine.release(lease.id, asker("s1")))
    again = asyncio.create_task(parts.engine.release(lease.id, asker("s1")))
    read = asyncio.create_task(parts.engine.synced())
    await settle()
    assert [task.done() for task in (release, again, read)] == [False, False, False]
    store.sync()
    assert (await release, await again, await read) == (True, False, parts.ledger.revision)


@run_async
async def test_a_call_that_is_cancelled_while_the_store_is_slow_changes_nothing_that_was_decided() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    grant = asyncio.create_task(parts.acquire(units(4), request_id=1))
    await settle()
    grant.cancel()
    await settle()
    assert parts.held() == {0, 1, 2, 3}
    store.sync()
    assert (await parts.acquire(units(4), request_id=1)).id == "L1"


@run_async
async def test_the_store_gets_every_event_in_the_order_in_which_it_was_applied() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    tasks = [asyncio.create_task(parts.acquire(units(1), session=f"s{index}")) for index in range(4)]
    await settle()
    parts.engine.end_session("s2", "process died", is_violent=True)
    assert [revision for revision, _ in store.events] == list(range(1, parts.ledger.revision + 1))
    assert [type(event).__name__ for _, event in store.events[4:]] == ["LeaseEnded", "UnitsQuiet", "SessionForgotten"]
    store.sync()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(answer, "id", type(answer)) for answer in answers] == ["L1", "L2", LeaseGone, "L4"]


@run_async
async def test_whoever_waits_has_the_units_of_a_fenced_lease_when_the_card_says_that_it_is_quiet() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(4), ttl_ns=TTL_NS)
    waiting = await parts.waiter(units(4), session="s2", wait_s=60)
    parts.backend.fence_answer = Fence.SOON
    parts.clock.advance(ns=TTL_NS)
    parts.overdue()
    await settle()
    assert not waiting.done()

    parts.backend.on_quiet["L1"]()
    await settle()
    assert waiting.done()
    assert differences(parts.ledger) == []


@run_async
async def test_the_polite_are_not_fenced_and_the_dead_are_as_such() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4))
    await parts.engine.release(lease.id, asker("s1"))
    assert parts.backend.fenced == []
    await parts.acquire(units(4))
    parts.engine.end_session("s1", "process died", is_violent=True)
    assert (parts.backend.fenced, parts.losses) == ([("L2", True)], [])


# Politely, but not everything was handed back.


async def ended_politely(parts, lease, how: str) -> None:
    if how == "released":
        assert await parts.engine.release(lease.id, asker("s1")) is True
    elif how == "last unit given back":
        assert await parts.engine.give_back(lease.id, asker("s1"), NO_REQUEST, pool="u", ids=[0, 1]) is None
    else:
        parts.engine.end_session("s1", how, is_violent=False)
        await parts.engine.synced()


@pytest.mark.parametrize("how", ["released", "last unit given back", "session closed"])
@pytest.mark.parametrize("handed_back_count", [0, 1, 2])
@run_async
async def test_who_keeps_a_window_back_has_not_let_go_of_it_however_politely_its_lease_ends(
    monkeypatch, how, handed_back_count
) -> None:
    parts = make_engine(pool("u", 2))
    parts.backend.fence_answer = Fence.SOON
    marks = tuple(WindowMark(0, 4_096, 1, inode) for inode in (7, 8))
    monkeypatch.setattr(parts.backend, "prepare", lambda *args, **more: marks)
    there = [Window(mark, -1) for mark in marks[:handed_back_count]]
    monkeypatch.setattr(parts.backend, "windows", lambda lease_id: there)
    lease = await parts.acquire(units(2))
    await ended_politely(parts, lease, how)
    assert (parts.held(), parts.ledger.leases) == (set(), {})
    if handed_back_count == len(marks):
        assert (parts.quarantined(), parts.backend.fenced) == (set(), [])
        return
    assert (parts.quarantined(), parts.backend.fenced) == ({0, 1}, [(lease.id, False)])
    parts.backend.on_quiet[lease.id]()
    await settle()
    assert (parts.quarantined(), differences(parts.ledger)) == (set(), [])
