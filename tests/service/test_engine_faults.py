"""What stops the daemon and what does not: mistakes of our own, a card that fails, and the order to stop."""

import pytest

from rm.core.errors import CardFailed, ShuttingDown
from rm.core.events import Request
from rm.core.report import differences
from support.books import asker, pool
from support.daemon_parts import card_failed, make_engine, run_async, settle, units


@run_async
async def test_a_card_that_fails_to_prepare_a_grant_changes_nothing() -> None:
    parts = make_engine(pool("u", 4))
    parts.backend.fault = card_failed()
    with pytest.raises(CardFailed):
        await parts.acquire(units(2), request_id=1)
    assert (parts.held(), parts.ledger.revision, parts.ledger.last_token) == (set(), 0, 0)
    assert (await parts.acquire(units(2), request_id=1)).token == 1
    assert parts.failures == []


@run_async
async def test_a_card_that_fails_to_prepare_an_extension_leaves_the_lease_as_it_was() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(2))
    parts.backend.fault = card_failed()
    with pytest.raises(CardFailed):
        await parts.engine.extend(lease.id, (units(1),), asker("s1"), Request("s1", 2, b""))
    assert parts.ledger.leases == {lease.id: lease}
    await parts.engine.extend(lease.id, (units(1),), asker("s1"), Request("s1", 2, b""))
    assert parts.held() == {0, 1, 2}


@run_async
async def test_a_card_that_fails_for_one_waiter_tells_it_and_serves_the_next() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(4))
    unlucky = await parts.waiter(units(4), session="s2")
    next_one = await parts.waiter(units(4), session="s3")
    parts.backend.fault = card_failed()
    assert await parts.engine.release(held.id, asker("s1")) is True
    with pytest.raises(CardFailed):
        await unlucky
    assert (await next_one).session == "s3"
    assert parts.failures == []


@run_async
async def test_a_failed_assert_stops_the_daemon_once_and_nothing_changes_after_it() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    held = await parts.acquire(units(4, "v"))
    waiting = await parts.waiter(units(1, "v"), session="s2")
    parts.pool("u").held.bits[0] = 1  # the books are wrong: by hand, or by a mistake of our own
    for _ in range(2):
        with pytest.raises((AssertionError, ShuttingDown)):
            await parts.acquire(units(1))
    assert parts.failures == ["failed"]
    with pytest.raises(ShuttingDown):
        await parts.acquire(units(1, "v"))
    with pytest.raises(ShuttingDown):
        await parts.engine.release(held.id, asker("s1"))
    await settle()
    assert not waiting.done()
    assert parts.held("v") == {0, 1, 2, 3}
    parts.engine.stop()
    with pytest.raises(ShuttingDown):
        await waiting
    assert parts.failures == ["failed"]


@run_async
async def test_a_failed_assert_while_a_cancelled_call_leaves_the_queue_stops_the_daemon_too() -> None:
    parts = make_engine(pool("u", 4))
    await parts.acquire(units(3))
    big = await parts.waiter(units(4), session="s2")
    await parts.waiter(units(1), session="s3")
    parts.pool("u").held.bits[3] = 1
    big.cancel()
    await settle()
    assert parts.failures == ["failed"]
    with pytest.raises(AssertionError):
        await big


@run_async
async def test_an_unexpected_exception_before_any_change_costs_only_its_own_call() -> None:
    parts = make_engine(pool("u", 4))
    parts.backend.fault = OSError("nobody thought of this")
    with pytest.raises(OSError, match="nobody thought"):
        await parts.acquire(units(1))
    assert (parts.failures, parts.held()) == ([], set())
    assert (await parts.acquire(units(1))).token == 1
    assert differences(parts.ledger) == []


@run_async
async def test_an_unexpected_exception_after_a_change_stops_the_daemon() -> None:
    parts = make_engine(pool("u", 4))
    held = await parts.acquire(units(1))
    parts.backend.end_fault = OSError("nobody thought of this")
    with pytest.raises(OSError, match="nobody thought"):
        await parts.engine.release(held.id, asker("s1"))
    assert parts.failures == ["failed"]
    with pytest.raises(ShuttingDown):
        await parts.acquire(units(1))


@run_async
async def test_refusals_never_stop_the_daemon() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4), request_id=1)
    for _ in range(3):
        with pytest.raises(Exception, match="pool"):
            await parts.acquire(units(1))
    with pytest.raises(Exception, match="belongs to another"):
        await parts.engine.release(lease.id, asker("s2"))
    assert parts.failures == []


@run_async
async def test_stopping_sends_everybody_who_waits_away_and_grants_nothing_more() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    held = await parts.acquire(units(4))
    waiting = [await parts.waiter(units(1), session=f"s{index}") for index in range(2, 12)]
    parts.engine.stop()
    for one in waiting:
        with pytest.raises(ShuttingDown):
            await one
    assert len(parts.engine.waitlist) == 0
    with pytest.raises(ShuttingDown):
        await parts.acquire(units(1, "v"))
    with pytest.raises(ShuttingDown):
        await parts.engine.extend(held.id, (units(1, "v"),), asker("s1"), Request("s1", 2, b""))
    assert list(parts.ledger.leases) == [held.id], "leases stay"
    assert await parts.engine.release(held.id, asker("s1")) is True
    assert parts.failures == []
