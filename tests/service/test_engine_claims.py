"""A grant that reached nobody comes back, and one that is on its way is neither late nor left out."""

import asyncio

import pytest

from rm.core import limits
from rm.core.errors import LeaseGone
from rm.core.types import NS_PER_S
from rm.core.unclaimed import patience_ns
from rm.devices.backend import Fence
from support.books import asker, pool
from support.daemon_parts import GatedStore, make_engine, run_async, settle, units

TTL_NS = 30 * NS_PER_S


def heard(parts, *leases) -> tuple[str, ...]:
    return parts.engine.keep_alive("s1", [lease.id for lease in leases])


def pass_time(parts, time_ns: int) -> None:
    parts.clock.advance(ns=time_ns)
    parts.engine.tick()


@run_async
async def test_a_lease_that_its_session_leaves_out_for_long_comes_back() -> None:
    parts = make_engine(pool("u", 4))
    kept, lost = [await parts.acquire(units(1), ttl_ns=TTL_NS) for _ in range(2)]
    heard(parts, kept)
    pass_time(parts, patience_ns(lost) - 1)
    assert heard(parts, kept) == ()
    assert set(parts.ledger.leases) == {kept.id, lost.id}
    pass_time(parts, limits.UNCLAIMED_LOOKS_NS)  # keepalives in a row are not looked at one by one
    heard(parts, kept)
    assert (set(parts.ledger.leases), parts.held()) == ({kept.id}, {0})
    assert parts.losses == [("s1", lost.id, "nobody claimed it")]
    assert parts.backend.fenced == [(lost.id, False)]


@run_async
async def test_its_units_are_in_quarantine_until_the_card_is_quiet_for_its_process_lives() -> None:
    parts = make_engine(pool("u", 4))
    parts.backend.fence_answer = Fence.SOON
    lost = await parts.acquire(units(4), ttl_ns=None)
    waiting = await parts.waiter(units(4), session="s2")
    heard(parts)
    pass_time(parts, patience_ns(lost))
    heard(parts)
    assert parts.quarantined() == {0, 1, 2, 3}
    parts.backend.on_quiet[lost.id]()
    assert (await waiting).session == "s2"


@run_async
async def test_a_retry_of_the_lost_acquire_finds_it_and_begins_anew() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS, request_id=1)
    heard(parts)
    pass_time(parts, patience_ns(lease) - 1)
    assert await parts.acquire(units(1), ttl_ns=TTL_NS, request_id=1) == lease
    pass_time(parts, 1)
    heard(parts)
    pass_time(parts, patience_ns(lease) - 1)
    heard(parts)
    assert list(parts.ledger.leases) == [lease.id]


@run_async
async def test_the_time_in_which_the_daemon_stood_still_counts_for_nobody() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1), ttl_ns=None)
    heard(parts)
    parts.clock.advance(s=3_600)
    parts.engine.postpone(3_600 * NS_PER_S)
    parts.engine.tick()
    heard(parts)
    assert list(parts.ledger.leases) == [lease.id]


@run_async
async def test_a_session_that_has_ended_leaves_nothing_behind() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(1))
    heard(parts)
    parts.engine.end_session("s1", "session closed", is_violent=False)
    assert parts.engine._unclaimed._since_ns == {}


# Grants on their way.


@run_async
async def test_the_clock_of_a_lease_begins_when_its_client_can_hear_of_it() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    coming = asyncio.create_task(parts.acquire(units(1), ttl_ns=limits.TTL_NS_MIN))
    await settle()
    pass_time(parts, 60 * NS_PER_S)
    assert (list(parts.ledger.leases), parts.ledger.revoking) == (["L1"], {})
    store.sync()
    lease = await coming
    assert parts.ledger.deadlines.get(lease.id) == parts.clock.now_ns + limits.TTL_NS_MIN


@run_async
async def test_a_grant_that_is_not_safe_yet_is_not_missed_in_a_keepalive() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    coming = asyncio.create_task(parts.acquire(units(1), ttl_ns=None))
    await settle()
    for _ in range(3):
        heard(parts)
        pass_time(parts, limits.TTL_NS_DEFAULT)
    store.sync()
    assert list(parts.ledger.leases) == [(await coming).id]


@run_async
async def test_a_lease_that_ended_before_its_client_was_told_is_gone_and_no_answer() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    coming = asyncio.create_task(parts.acquire(units(1), request_id=1))
    await settle()
    forgone = asyncio.create_task(parts.engine.forgo("s1", 1))
    await settle()
    store.sync()
    assert await forgone is True
    with pytest.raises(LeaseGone):
        await coming
    assert (parts.held(), parts.failures) == (set(), [])


@run_async
async def test_a_lease_that_ended_before_it_was_safe_gets_no_clock() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    coming = asyncio.create_task(parts.acquire(units(1), ttl_ns=TTL_NS))
    await settle()
    parts.engine.end_session(asker("s1").session, "process died", is_violent=True)
    store.sync()
    with pytest.raises(LeaseGone):
        await coming
    assert parts.ledger.deadlines.get("L1") is None
    assert parts.engine._coming == set()
