"""The timer: leases end in time, and never because the daemon itself stood still."""

import pytest

from rm.core.errors import WaitTimedOut
from rm.core.lease import Lease
from rm.core.limits import NOTICE_NS_DEFAULT
from rm.core.types import NS_PER_S
from rm.service import timer as module
from rm.service.timer import TICK_NS, Timer
from support.books import pool
from support.daemon_parts import make_engine, run_async, settle, units

TTL_NS = 2 * NS_PER_S


@run_async
async def test_a_lease_is_told_to_end_and_ends_within_one_tick_of_its_deadlines() -> None:
    parts = make_engine(pool("u", 4))
    timer = Timer(parts.engine)
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS)
    for _ in range(TTL_NS // TICK_NS - 1):
        parts.clock.advance(ns=TICK_NS)
        timer.tick()
    assert parts.notices == []
    parts.clock.advance(ns=TICK_NS)
    timer.tick()
    assert parts.notices == [(lease.id, "keepalive missed", NOTICE_NS_DEFAULT / NS_PER_S)]
    for _ in range(NOTICE_NS_DEFAULT // TICK_NS - 1):
        parts.clock.advance(ns=TICK_NS)
        timer.tick()
    assert parts.held() == {0}
    parts.clock.advance(ns=TICK_NS)
    timer.tick()
    assert parts.held() == set()


@pytest.mark.parametrize("pause_s", [1, 60, 86_400])
@run_async
async def test_a_pause_of_the_daemon_costs_no_timely_client_its_lease(pause_s) -> None:
    parts = make_engine(pool("u", 20))
    timer = Timer(parts.engine)
    for _ in range(20):
        await parts.acquire(units(1), ttl_ns=NS_PER_S)
    parts.clock.advance(s=pause_s, ns=TICK_NS)
    timer.tick()
    assert len(parts.ledger.leases) == 20
    assert (parts.losses, parts.notices) == ([], [])


@run_async
async def test_after_a_pause_a_lease_has_the_time_left_that_it_had_before() -> None:
    parts = make_engine(pool("u", 4))
    timer = Timer(parts.engine)
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS)
    deadline_ns = parts.ledger.deadlines.get(lease.id)
    parts.clock.advance(s=100, ns=TICK_NS)
    timer.tick()
    assert parts.ledger.deadlines.get(lease.id) == deadline_ns + 100 * NS_PER_S
    for _ in range((TTL_NS + NOTICE_NS_DEFAULT) // TICK_NS):
        parts.clock.advance(ns=TICK_NS)
        timer.tick()
    assert parts.ledger.leases == {}, "nobody kept it alive after the pause either"


@run_async
async def test_two_pauses_are_both_made_good() -> None:
    parts = make_engine(pool("u", 4))
    timer = Timer(parts.engine)
    await parts.acquire(units(1), ttl_ns=TTL_NS)
    for _ in range(2):
        parts.clock.advance(s=30)
        timer.tick()
    assert parts.held() == {0}


@run_async
async def test_a_tick_that_is_a_little_late_is_a_tick() -> None:
    parts = make_engine(pool("u", 4))
    timer = Timer(parts.engine)
    await parts.acquire(units(1), ttl_ns=NS_PER_S)
    for _ in range(3 + NOTICE_NS_DEFAULT // (2 * TICK_NS)):
        parts.clock.advance(ns=2 * TICK_NS)
        timer.tick()
    assert parts.held() == set(), "a busy daemon still ends what is overdue"


@run_async
async def test_the_timer_sleeps_no_longer_than_until_the_next_wait_ends() -> None:
    parts = make_engine(pool("u", 1))
    timer = Timer(parts.engine)
    assert timer._seconds_to_next() == TICK_NS / NS_PER_S
    await parts.acquire(units(1))
    waiting = await parts.waiter(units(1), session="s2", wait_s=0.01)
    assert timer._seconds_to_next() == pytest.approx(0.01)
    parts.clock.advance(s=0.01)
    assert timer._seconds_to_next() == 0
    timer.tick()
    with pytest.raises(WaitTimedOut):
        await waiting
    assert timer._seconds_to_next() == TICK_NS / NS_PER_S


@run_async
async def test_a_wait_that_comes_while_the_timer_sleeps_longer_ends_in_time(monkeypatch) -> None:
    monkeypatch.setattr(module, "TICK_NS", 3_600 * NS_PER_S)  # which nobody waits for
    parts = make_engine(pool("u", 1))
    timer = Timer(parts.engine)
    await parts.acquire(units(1))
    timer.start()
    await settle()  # it sleeps for a whole period
    waiting = await parts.waiter(units(1), session="s2", wait_s=0.01)
    parts.clock.advance(s=0.01)
    with pytest.raises(WaitTimedOut):
        await waiting
    await timer.stop()


@run_async
async def test_waking_the_timer_early_hides_no_pause_and_makes_none() -> None:
    parts = make_engine(pool("u", 2))
    timer = Timer(parts.engine)
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS)
    deadline_ns = parts.ledger.deadlines.get(lease.id)
    for _ in range(50):  # ticks that come early
        parts.clock.advance(ns=TICK_NS // 50)
        timer.tick()
    assert parts.ledger.deadlines.get(lease.id) == deadline_ns
    parts.clock.advance(s=30, ns=TICK_NS)
    timer.tick()
    assert parts.ledger.deadlines.get(lease.id) == deadline_ns + 30 * NS_PER_S


@run_async
async def test_waits_longer_than_the_timer_sleeps_do_not_wake_it() -> None:
    parts = make_engine(pool("u", 1))
    timer = Timer(parts.engine)
    await parts.acquire(units(1))
    timer.start()
    await settle()
    waits = [await parts.waiter(units(1), session=f"s{n}", wait_s=100 - n) for n in range(20)]
    assert not timer._wake.is_set()
    await timer.stop()
    for waiting in waits:
        waiting.cancel()


@run_async
async def test_a_pause_ends_the_waits_that_ended_in_it_at_the_next_tick() -> None:
    parts = make_engine(pool("u", 1))
    timer = Timer(parts.engine)
    await parts.acquire(units(1))
    waiting = await parts.waiter(units(1), session="s2", wait_s=1)
    parts.clock.advance(s=100)
    timer.tick()
    timer.tick()
    with pytest.raises(WaitTimedOut):
        await waiting


@run_async
async def test_a_timer_that_dies_of_a_fault_stops_the_daemon() -> None:
    parts = make_engine(pool("u", 1))

    def broken(lease: Lease, cause: str, *, notice_ns: int) -> None:
        raise OSError("nobody thought of this")

    parts.engine.news.revoking = broken
    await parts.acquire(units(1), ttl_ns=NS_PER_S)
    parts.clock.advance(s=1)
    timer = Timer(parts.engine)
    waiting = await parts.waiter(units(1), session="s2", wait_s=0.000001)
    parts.clock.advance(ns=1_000)
    timer.start()
    await settle()
    await settle()
    assert parts.failures == ["failed"], "without a timer no lease would ever end"
    await timer.stop()
    waiting.cancel()


@run_async
async def test_a_timer_that_is_stopped_ticks_no_more() -> None:
    parts = make_engine(pool("u", 1))
    timer = Timer(parts.engine)
    timer.start()
    await settle()
    await timer.stop()
    assert parts.failures == []


@run_async
async def test_a_step_of_the_wall_clock_ends_nothing() -> None:
    parts = make_engine(pool("u", 1))
    timer = Timer(parts.engine)
    lease = await parts.acquire(units(), ttl_ns=NS_PER_S)
    for days in (1, -2, 400):
        parts.clock.wall_now_ns += days * 86_400 * NS_PER_S
        parts.clock.advance(ns=TICK_NS)
        timer.tick()
    assert list(parts.ledger.leases) == [lease.id]
