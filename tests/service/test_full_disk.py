"""A full disk: nothing new is granted and everybody is told why, while what is held can be kept and given back."""

import pytest

from rm.core.errors import LeaseGone, PoolExhausted, StoreFull, WaitTimedOut
from rm.core.events import Request
from rm.core.types import NS_PER_S
from rmapi.v1 import resource_manager_pb2 as pb
from support.books import NO_REQUEST, asker, pool, record
from support.daemon_parts import GatedStore, make_engine, run_async, settle, units
from support.served import greeting, refusal_of, serving, streams

FULL = "the disk is full; nothing new is granted until there is room"
TTL_NS = 10 * NS_PER_S


@pytest.fixture
def store():
    return GatedStore(is_held=False)


@pytest.fixture
def parts(store):
    return make_engine(pool("u", 4), store=store)


@run_async
async def test_nothing_new_is_granted_on_a_full_disk_and_the_reason_is_told(parts, store) -> None:
    lease = await parts.acquire(units(1))
    store.full_because = FULL
    revision = parts.ledger.revision
    with pytest.raises(StoreFull, match="the disk is full"):
        await parts.acquire(units(1), request_id=1)
    with pytest.raises(StoreFull):
        await parts.engine.extend(lease.id, (units(1),), asker("s1"), NO_REQUEST)
    with pytest.raises(StoreFull):
        parts.engine.open_session(record("s9"))
    assert (parts.held(), parts.ledger.revision, parts.backend.prepared) == ({0}, revision, {lease.id: 1})
    store.has_room()
    assert (await parts.acquire(units(1), request_id=1)).token == 2


@run_async
async def test_what_is_held_can_be_given_back_released_forgone_revoked_and_lost_on_a_full_disk(parts, store) -> None:
    shrinks = await parts.acquire(units(2))
    forgone = await parts.acquire(units(1), session="s2", request_id=3)
    store.full_because = FULL
    assert await parts.engine.give_back(shrinks.id, asker("s1"), NO_REQUEST, pool="u", ids=[0]) is not None
    assert await parts.engine.revoke(shrinks.id, asker("root", uid=0, is_admin=True), "asked to", notice_ns=5)
    assert await parts.engine.release(shrinks.id, asker("s1"))
    assert await parts.engine.forgo("s2", 3)
    parts.engine.end_session("s2", "process died", is_violent=True)
    assert (parts.held(), parts.ledger.leases, parts.failures) == (set(), {}, [])
    assert forgone.id not in parts.ledger.quarantine


@run_async
async def test_leases_are_kept_alive_and_end_in_time_on_a_full_disk(parts, store) -> None:
    kept, lost = [await parts.acquire(units(1), ttl_ns=TTL_NS) for _ in range(2)]
    store.full_because = FULL
    parts.clock.advance(ns=TTL_NS - 1)
    parts.engine.keep_alive("s1", [kept.id])
    parts.clock.advance(ns=1)
    parts.overdue()
    assert list(parts.ledger.leases) == [kept.id]
    assert parts.losses == [("s1", lost.id, "keepalive missed")]


@run_async
async def test_the_same_request_again_finds_its_lease_on_a_full_disk(parts, store) -> None:
    lease = await parts.acquire(units(1), request_id=1)
    grown = await parts.engine.extend(lease.id, (units(1),), asker("s1"), Request("s1", 2, b"x"))
    store.full_because = FULL
    assert await parts.acquire(units(1), request_id=1) == grown
    assert await parts.engine.extend(lease.id, (units(1),), asker("s1"), Request("s1", 2, b"x")) == grown


@run_async
async def test_what_could_not_be_granted_anyway_is_refused_for_its_own_reason(parts, store) -> None:
    held = await parts.acquire(units(4))
    store.full_because = FULL
    with pytest.raises(PoolExhausted):
        await parts.acquire(units(1))
    await parts.engine.release(held.id, asker("s1"))


@run_async
async def test_who_may_wait_queues_and_is_served_in_order_when_there_is_room(parts, store) -> None:
    store.full_because = FULL
    waiting = [await parts.waiter(units(2), session=f"s{index}") for index in range(1, 4)]
    with pytest.raises(PoolExhausted, match="3 waiting in front"):
        await parts.acquire(units(1), session="s9")
    store.has_room()
    await settle()
    assert [task.done() for task in waiting] == [True, True, False]
    assert [task.result().token for task in waiting[:2]] == [1, 2]
    await parts.engine.release("L1", asker("s1"))
    assert (await waiting[2]).token == 3


@run_async
async def test_a_release_on_a_full_disk_serves_nobody_until_there_is_room(parts, store) -> None:
    held = await parts.acquire(units(4))
    waiting = await parts.waiter(units(4), session="s2")
    store.full_because = FULL
    await parts.engine.release(held.id, asker("s1"))
    await settle()
    assert not waiting.done()
    store.has_room()
    assert (await waiting).session == "s2"


@run_async
async def test_who_waited_long_enough_for_room_is_told_so(parts, store) -> None:
    store.full_because = FULL
    waiting = await parts.waiter(units(1), wait_s=5)
    parts.clock.advance(s=5)
    parts.engine.tick()
    with pytest.raises(WaitTimedOut, match="the disk is full"):
        await waiting
    store.has_room()
    assert parts.ledger.leases == {}


@run_async
async def test_a_wait_that_was_given_up_is_not_served_when_there_is_room(parts, store) -> None:
    store.full_because = FULL
    waiting = await parts.waiter(units(1), request_id=1)
    await parts.engine.forgo("s1", 1)
    with pytest.raises(LeaseGone):
        await waiting
    store.has_room()
    assert parts.ledger.leases == {}


def test_both_doors_say_that_the_disk_is_full_and_serve_whom_they_know(tmp_path, store, door) -> None:
    with serving(tmp_path, store=store, door=door) as served:
        client = served.open_session()
        lease = client.acquire(streams(), request_id=1)
        store.full_because = FULL
        code, detail = refusal_of(client.call, "Acquire", pb.AcquireRequest(request_id=2, claims=[streams()]))
        assert (code.name, detail.reason) == ("RESOURCE_EXHAUSTED", "STORE_FULL")
        assert FULL in client.call("GetStatus", pb.GetStatusRequest()).warnings
        stranger = served.connect()
        refused = stranger.ask(open_session={"protocol_version": 1})
        assert refused.fault.detail.reason == "STORE_FULL"
        assert stranger.is_closed_by_peer()
        assert client.is_served()
        assert client.call("Release", pb.ReleaseRequest(lease_id=lease.id)).released is True
        assert (len(served.server._sessions), len(served.engine.ledger.sessions)) == (1, 1)
        served.call(store.has_room)
        assert greeting(served.connect()).session_opened.pid
