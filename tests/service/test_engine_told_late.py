"""Answers that come late: where the disk or the daemon stood still, nobody loses a lease or is told of a dead one."""

import asyncio

import pytest

from rm.core.errors import LeaseGone
from rm.core.types import NS_PER_S
from rm.service.timer import TICK_NS, Timer
from support.books import asker, pool
from support.daemon_parts import GatedStore, make_engine, run_async, settle, units

TTL_NS = 3 * NS_PER_S


def tick(parts, timer, *, s: float) -> None:
    for _ in range(round(s * NS_PER_S) // TICK_NS):
        parts.clock.advance(ns=TICK_NS)
        timer.tick()


@run_async
async def test_a_request_that_was_granted_finds_its_lease_again_though_others_wait_in_front() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(3), request_id=1)
    await parts.waiter(units(4), session="s2")
    assert await parts.acquire(units(3), request_id=1) == lease
    assert await parts.acquire(units(3), request_id=1, wait_s=60) == lease
    await parts.engine.release(lease.id, asker("s1"))
    with pytest.raises(LeaseGone):
        await parts.acquire(units(3), request_id=1, wait_s=60)


@run_async
async def test_the_clock_of_a_lease_begins_when_its_grant_is_safe() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    timer = Timer(parts.engine)
    task = asyncio.create_task(parts.acquire(units(1), ttl_ns=TTL_NS))
    await settle()
    tick(parts, timer, s=20)
    store.sync()
    lease = await task
    tick(parts, timer, s=2.75)
    assert not parts.ledger.revoking
    tick(parts, timer, s=0.25)
    assert list(parts.ledger.revoking) == [lease.id]


@run_async
async def test_a_lease_that_nobody_could_know_of_is_not_called_unclaimed() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    timer = Timer(parts.engine)
    task = asyncio.create_task(parts.acquire(units(1), ttl_ns=TTL_NS))
    await settle()
    for _ in range(20):
        parts.engine.keep_alive("s1", [])
        tick(parts, timer, s=1)
    store.sync()
    lease = await task
    assert parts.engine.keep_alive("s1", [lease.id]) == ()
    assert lease.id in parts.ledger.leases


@run_async
async def test_a_lease_that_ended_before_its_grant_was_safe_is_not_told_as_granted() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    task = asyncio.create_task(parts.acquire(units(1)))
    await settle()
    released = asyncio.create_task(parts.engine.release("L1", asker("s1")))
    await settle()
    store.sync()
    with pytest.raises(LeaseGone, match="L1"):
        await task
    assert await released is True


@run_async
async def test_a_pause_of_the_daemon_makes_no_lease_unclaimed() -> None:
    parts = make_engine(pool("u", 4))
    timer = Timer(parts.engine)
    lease = await parts.acquire(units(1))
    parts.engine.keep_alive("s1", [])
    tick(parts, timer, s=1)
    parts.clock.advance(s=60)
    parts.engine.keep_alive("s1", [])
    timer.tick()
    parts.engine.keep_alive("s1", [])
    assert lease.id in parts.ledger.leases
    for _ in range(7):
        tick(parts, timer, s=1)
        parts.engine.keep_alive("s1", [])
    assert lease.id not in parts.ledger.leases
