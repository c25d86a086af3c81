"""A request id stands for one lease, however often it is asked, and for none once it was given up."""

import asyncio

import pytest

from rm.core.errors import InvalidRequest, LeaseGone, WaitTimedOut
from rm.core.report import differences
from support.books import asker, pool
from support.daemon_parts import make_engine, run_async, settle, units


@run_async
async def test_the_same_request_after_its_grant_gets_the_same_lease() -> None:
    parts = make_engine(pool("u", 4))
    first = await parts.acquire(units(2), request_id=1)
    assert await parts.acquire(units(2), request_id=1) == first
    assert await parts.acquire(units(2), request_id=1, wait_s=60) == first
    assert parts.held() == {0, 1}


@run_async
async def test_the_same_request_while_it_waits_gets_the_same_lease() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(4), session="s2")
    first = await parts.waiter(units(2), request_id=1)
    again = asyncio.create_task(parts.acquire(units(2), request_id=1, wait_s=60))
    await settle()
    assert len(parts.engine.waitlist) == 1
    await parts.engine.release(held.id, asker("s2"))
    assert (await first) == (await again)
    assert parts.held() == {0, 1}


@run_async
async def test_a_request_that_is_asked_again_keeps_its_place_while_one_of_its_calls_is_left() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(4), session="s2")
    first = await parts.waiter(units(2), request_id=1)
    again = asyncio.create_task(parts.acquire(units(2), request_id=1, wait_s=60))
    await settle()
    first.cancel()
    await settle()
    assert len(parts.engine.waitlist) == 1
    await parts.engine.release(held.id, asker("s2"))
    assert (await again).token == 2


@run_async
async def test_a_request_whose_calls_are_all_gone_leaves_the_queue_and_may_be_asked_anew() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(4), session="s2")
    first = await parts.waiter(units(2), request_id=1)
    first.cancel()
    await settle()
    assert len(parts.engine.waitlist) == 0
    again = await parts.waiter(units(2), request_id=1)
    await parts.engine.release(held.id, asker("s2"))
    assert (await again).token == 2


@run_async
async def test_one_request_id_with_other_parameters_is_refused_while_it_waits_and_after_its_grant() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(4), session="s2")
    waiting = await parts.waiter(units(2), request_id=1, fingerprint=b"two")
    with pytest.raises(InvalidRequest, match="other parameters"):
        await parts.acquire(units(1), request_id=1, fingerprint=b"one", wait_s=60)
    assert not waiting.done()
    await parts.engine.release(held.id, asker("s2"))
    await waiting
    with pytest.raises(InvalidRequest, match="another request"):
        await parts.acquire(units(1), request_id=1, fingerprint=b"one")


@run_async
async def test_the_same_id_in_another_session_is_another_request() -> None:
    parts = make_engine(pool("u", 4))
    first = await parts.acquire(units(1), request_id=1, fingerprint=b"x")
    second = await parts.acquire(units(2), session="s2", request_id=1, fingerprint=b"y")
    assert first.id != second.id


@run_async
async def test_a_request_whose_lease_ended_is_gone_and_never_a_second_lease() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1), request_id=1)
    await parts.engine.release(lease.id, asker("s1"))
    with pytest.raises(LeaseGone):
        await parts.acquire(units(1), request_id=1, wait_s=60)
    assert parts.held() == set()


@run_async
async def test_a_refusal_is_decided_afresh_under_the_same_id() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(4), session="s2")
    waiting = await parts.waiter(units(1), request_id=1, wait_s=1)
    parts.clock.advance(s=1)
    parts.engine.tick()
    with pytest.raises(WaitTimedOut):
        await waiting
    await parts.engine.release(held.id, asker("s2"))
    assert (await parts.acquire(units(1), request_id=1)).token == 2


# Giving a request up.


@run_async
async def test_giving_up_a_granted_request_ends_its_lease() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(4), request_id=1)
    waiting = await parts.waiter(units(4), session="s2")
    assert await parts.engine.forgo("s1", 1) is True
    assert (await waiting).session == "s2"
    assert await parts.engine.forgo("s1", 1) is False
    with pytest.raises(LeaseGone):
        await parts.acquire(units(1), request_id=1)


@run_async
async def test_giving_up_a_waiting_request_takes_it_out_of_the_queue_and_serves_those_behind() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3), session="s2")
    waiting = await parts.waiter(units(4), request_id=1)
    behind = await parts.waiter(units(1), session="s3")
    assert await parts.engine.forgo("s1", 1) is False
    with pytest.raises(LeaseGone, match="given up"):
        await waiting
    assert (await behind).session == "s3"
    with pytest.raises(LeaseGone):
        await parts.acquire(units(4), request_id=1, wait_s=60)


@run_async
async def test_giving_up_a_request_that_never_arrived_makes_sure_that_it_gets_nothing_later() -> None:
    parts = make_engine(pool("u", 4))
    assert await parts.engine.forgo("s1", 1) is False
    with pytest.raises(LeaseGone):
        await parts.acquire(units(1), request_id=1)
    assert parts.held() == set()
    assert (await parts.acquire(units(1), request_id=2)).token == 1


@run_async
async def test_nobody_gives_up_anothers_request() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(2), request_id=1)
    assert await parts.engine.forgo("s2", 1) is False
    assert parts.held() == {0, 1}


@run_async
async def test_a_dead_session_takes_its_request_ids_with_it() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(2), request_id=1)
    parts.engine.end_session("s1", "process died", is_violent=True)
    assert parts.ledger.requests._sessions == {}
    assert differences(parts.ledger) == []
