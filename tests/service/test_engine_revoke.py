"""Ending somebody's lease: it is told, may let go, is fenced when its time is over, and killed where it must be."""

import asyncio
import os
import subprocess
import sys
import time

import pytest

from rm.core import limits
from rm.core.errors import InvalidRequest, LeaseNotFound, NotOwner
from rm.core.types import NS_PER_S
from rm.devices.backend import Fence
from rm.service.server import Server
from rm.service.sessions import Peer
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2
from support.books import NO_REQUEST, asker, pool
from support.daemon_parts import GatedStore, make_engine, run_async, settle, units
from support.served import refusal_of, seconds, serving, streams

TTL_NS = 10 * NS_PER_S
NOTICE_NS = 3 * NS_PER_S
ADMIN = asker("root", uid=0, is_admin=True)


def waiting_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


async def revoke(parts, lease, *, who=ADMIN, cause="asked to", notice_ns=NOTICE_NS) -> bool:
    return await parts.engine.revoke(lease.id, who, cause, notice_ns=notice_ns)


@run_async
async def test_a_holder_is_told_why_and_how_long_it_has_and_is_fenced_when_that_is_over() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4), ttl_ns=None)
    assert await revoke(parts, lease)
    assert parts.notices == [(lease.id, "asked to", 3.0)]
    parts.clock.advance(ns=NOTICE_NS - 1)
    parts.engine.tick()
    assert (parts.held(), parts.losses) == ({0, 1, 2, 3}, [])
    parts.clock.advance(ns=1)
    parts.engine.tick()
    assert (parts.held(), parts.losses) == (set(), [("s1", lease.id, "asked to")])
    assert parts.backend.fenced == [(lease.id, False)]


@run_async
async def test_who_lets_go_in_time_is_not_fenced_and_its_units_serve_others_at_once() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4), ttl_ns=TTL_NS)
    waiting = await parts.waiter(units(4), session="s2")
    await revoke(parts, lease)
    assert await parts.engine.release(lease.id, asker("s1"))
    assert (await waiting).session == "s2"
    parts.clock.advance(ns=NOTICE_NS)
    parts.engine.tick()
    assert (parts.backend.fenced, parts.losses) == ([], [])


@run_async
async def test_keepalives_go_on_and_do_not_save_it_and_giving_back_does_not_either() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(2), ttl_ns=TTL_NS)
    await revoke(parts, lease)
    for _ in range(3):
        assert parts.engine.keep_alive("s1", [lease.id]) == (lease.id,)
    assert await parts.engine.give_back(lease.id, asker("s1"), NO_REQUEST, pool="u", ids=[0]) is not None
    parts.clock.advance(ns=NOTICE_NS)
    parts.engine.tick()
    assert (parts.ledger.leases, parts.held()) == ({}, set())


@run_async
async def test_a_client_that_stops_naming_a_lease_that_is_to_end_has_its_whole_notice() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(2), ttl_ns=None)
    await revoke(parts, lease, notice_ns=600 * NS_PER_S)
    for _ in range(10):
        assert parts.engine.keep_alive("s1", []) == ()
        parts.clock.advance(s=30)
        parts.engine.tick()
    assert list(parts.ledger.leases) == [lease.id], "it is not taken for one that nobody claims"


@run_async
async def test_with_no_notice_it_ends_at_the_next_tick() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1))
    await revoke(parts, lease, notice_ns=0)
    assert (parts.notices, parts.held()) == ([(lease.id, "asked to", 0.0)], {0})
    parts.engine.tick()
    assert parts.losses == [("s1", lease.id, "asked to")]


@run_async
async def test_revoking_twice_or_what_has_ended_does_nothing_more() -> None:
    parts = make_engine(pool("u", 4))
    lease, gone = await parts.acquire(units(1)), await parts.acquire(units(1))
    await parts.engine.release(gone.id, asker("s1"))
    assert [await revoke(parts, one) for one in (lease, lease, gone)] == [True, False, False]
    assert len(parts.notices) == 1


@run_async
async def test_only_an_admin_may_and_only_what_was_granted() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1))
    revision = parts.ledger.revision
    for who in (asker("s1"), asker("s2")):
        with pytest.raises(NotOwner):
            await revoke(parts, lease, who=who)
    with pytest.raises(LeaseNotFound):
        await parts.engine.revoke("L9", ADMIN, "asked to", notice_ns=0)
    with pytest.raises(InvalidRequest):
        await revoke(parts, lease, notice_ns=limits.NOTICE_NS_MAX + 1)
    assert (parts.ledger.revision, parts.notices) == (revision, [])


@run_async
async def test_the_answer_to_a_revoke_waits_for_the_disk_and_so_does_the_notice() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    lease = await parts.acquire(units(1))
    store.is_held = True
    asked = asyncio.create_task(revoke(parts, lease))
    await settle()
    assert (asked.done(), parts.notices) == (False, [])
    store.sync()
    assert await asked
    assert len(parts.notices) == 1


@run_async
async def test_the_death_of_a_holder_in_its_notice_ends_it_once() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(1))
    await revoke(parts, lease)
    parts.engine.end_session("s1", "process died", is_violent=True)
    parts.clock.advance(ns=NOTICE_NS)
    parts.engine.tick()
    assert (parts.backend.fenced, parts.losses, parts.ledger.revoking) == ([(lease.id, True)], [], {})


# Who cannot be fenced.


@run_async
async def test_a_living_holder_that_cannot_be_fenced_is_reported_and_keeps_its_units_from_others() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(units(4))
    waiting = await parts.waiter(units(1), session="s2")
    parts.backend.fence_answer = Fence.OUT_OF_REACH
    await revoke(parts, lease, notice_ns=0)
    parts.engine.tick()
    assert (parts.out_of_reach, parts.quarantined()) == ([lease.id], {0, 1, 2, 3})
    assert parts.losses == [("s1", lease.id, "asked to")]
    assert not waiting.done()
    parts.backend.on_quiet[lease.id]()
    assert (await waiting).session == "s2"


@pytest.mark.parametrize("kills", [True, False])
@run_async
async def test_such_a_holder_is_killed_where_the_daemon_was_told_to(tmp_path, kills) -> None:
    parts = make_engine(pool("u", 4))
    server = Server(parts.engine, admin_uids=frozenset(), kills_to_fence=kills)
    await server.start(tmp_path)
    with waiting_process() as child:
        pidfd = os.pidfd_open(child.pid)
        session = server._sessions.open(Peer(child.pid, os.getuid(), pidfd))
        parts.engine.open_session(session.record())
        lease = await parts.acquire(units(4), session=session.id)
        parts.backend.fence_answer = Fence.OUT_OF_REACH
        await revoke(parts, lease, notice_ns=0)
        parts.engine.tick()
        await settle()
        assert child.poll() is None, "nobody has seen yet that it has a window"
        parts.backend.on_in_use(lease.id, time.monotonic() - 3_600)
        await settle()
        assert child.poll() is None, "that was long ago: it may have let go since"
        if kills:
            while session.id in parts.ledger.sessions:  # until its pidfd tells that it is dead
                parts.backend.on_in_use(lease.id, time.monotonic())
                await asyncio.sleep(0.001)
        else:
            parts.backend.on_in_use(lease.id, time.monotonic())
            await settle()
            assert child.poll() is None
            assert session.id in parts.ledger.sessions
        assert parts.quarantined() == {0, 1, 2, 3}, "until the card says that it is quiet"
        os.close(pidfd)
        child.stdin.close()
        assert child.wait(30) == (-9 if kills else 0)
    await server.stop()


# Through the door.


def test_an_admin_revokes_through_the_door_and_readers_see_it(tmp_path, door) -> None:
    with serving(tmp_path, door=door, admin_uids=frozenset({os.getuid()})) as served:
        holder, admin = served.open_session(), served.open_session()
        lease = holder.acquire(streams(), request_id=1)
        request = pb.RevokeRequest(lease_id=lease.id, cause="maintenance", notice_duration=seconds(7))
        assert admin.call("Revoke", request).revoked is True
        assert admin.call("Revoke", request).revoked is False
        told = holder.connection.receive().lease_revoking
        assert (told.lease_id, told.cause, told.notice_duration) == (lease.id, "maintenance", seconds(7))
        seen = served.stub().GetLease(pb.GetLeaseRequest(lease_id=lease.id)).lease
        assert (seen.state, seen.revoked_because) == (types_pb2.Lease.STATE_REVOKING, "maintenance")
        assert holder.call("Release", pb.ReleaseRequest(lease_id=lease.id)).released is True


def test_without_a_word_a_revoked_lease_has_the_usual_notice(tmp_path, door) -> None:
    with serving(tmp_path, door=door, admin_uids=frozenset({os.getuid()})) as served:
        client = served.open_session()
        lease = client.acquire(streams(), request_id=1)
        client.call("Revoke", pb.RevokeRequest(lease_id=lease.id))
        told = client.connection.receive().lease_revoking
        assert (told.cause, told.notice_duration) == ("revoked", seconds(limits.NOTICE_NS_DEFAULT / NS_PER_S))


def test_who_is_no_admin_is_refused_at_the_door(served, witness) -> None:
    lease = witness.acquire(streams(), request_id=1)
    code, detail = refusal_of(served.open_session().call, "Revoke", pb.RevokeRequest(lease_id=lease.id))
    assert (code.name, detail.reason) == ("PERMISSION_DENIED", "NOT_OWNER")
