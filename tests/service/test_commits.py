"""Nothing is told to anybody before it is safe, and after a failure nothing changes any more."""

import asyncio

import pytest

from rm.core import limits
from rm.core.errors import ShuttingDown
from rm.core.types import NS_PER_S
from rm.devices.backend import Fence
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import session_pb2
from support.books import NO_REQUEST, asker, pool, record
from support.daemon_parts import GatedStore, make_engine, run_async, settle, units
from support.served import DEADLINE_S, MEMORY_UNITS, framed, memory, refusal_of, serving, streams

TTL_NS = 10 * NS_PER_S
NOTICE_NS = limits.NOTICE_NS_DEFAULT


@pytest.fixture
def store():
    return GatedStore(is_held=False)


@pytest.fixture
def served(tmp_path, store, door):
    with serving(tmp_path, store=store, door=door) as running:
        yield running
        running.call(store.sync)
        store.is_held = False


def hold(served, store) -> None:
    """From now on the disk does nothing, and something is on its way to it."""
    store.is_held = True
    before = served.engine.ledger.revision
    served.call(lambda: served.engine.end_session("nobody", "", is_violent=False))
    assert served.engine.ledger.revision == before + 1


def waiting_count(store) -> int:
    """How many wait for the disk."""
    return len(store.synced._then)


# Answers.

READS = [
    ("GetLease", pb.GetLeaseRequest(lease_id="L1")),
    ("ListLeases", pb.ListLeasesRequest()),
    ("ListCards", pb.ListCardsRequest()),
    ("GetBitmap", pb.GetBitmapRequest(pool="memory")),
    ("GetStatus", pb.GetStatusRequest()),
    ("Explain", pb.ExplainRequest(claims=[streams()])),
]
REFUSED = [
    ("Acquire", pb.AcquireRequest(request_id=9, claims=[memory(MEMORY_UNITS + 1)])),
    ("Release", pb.ReleaseRequest(lease_id="L77")),
    ("GetLease", pb.GetLeaseRequest(lease_id="L77")),
]


def test_no_answer_leaves_before_all_that_it_has_seen_is_safe(served, store) -> None:
    client = served.open_session()
    client.acquire(memory(1), request_id=1)
    hold(served, store)
    asked = {
        f"{method} {request}": getattr(client.stub, method).future(request, metadata=client.metadata, timeout=60)
        for method, request in [*READS, *REFUSED, ("Release", pb.ReleaseRequest(lease_id="L1"))]
    }
    together = len(asked) if served.door == "grpc" else 4  # over a session's own connection, reads go one by one
    served.until(lambda: waiting_count(store) == together + 2)  # the release has a keepalive and a watcher to tell
    assert client.is_served(), "a keepalive waits for nothing"
    early = [name for name, answer in asked.items() if answer.done()]
    served.call(store.sync)
    for answer in asked.values():
        assert answer.exception(DEADLINE_S) is None or answer.code().name in {"NOT_FOUND", "INVALID_ARGUMENT"}
    assert early == []
    assert store.synced.revision == served.engine.ledger.revision


@pytest.mark.parametrize(("method", "request_message"), READS, ids=[method for method, _ in READS])
def test_a_read_shows_the_books_of_one_moment_and_says_which(served, store, method, request_message) -> None:
    client = served.open_session()
    client.acquire(memory(1), request_id=1)
    hold(served, store)
    revision = served.engine.ledger.revision
    answer = getattr(client.stub, method).future(request_message, metadata=client.metadata, timeout=60)
    served.until(lambda: waiting_count(store) == 1)
    assert not answer.done()
    served.call(lambda: served.engine.end_session(client.id, "", is_violent=True))
    served.call(store.sync)
    answer = answer.result(DEADLINE_S)
    assert answer.revision == revision
    assert method != "ListLeases" or [lease.id for lease in answer.leases] == ["L1"]


def test_nobody_is_told_who_it_is_before_that_is_safe(served, store) -> None:
    store.is_held = True
    connection = served.connect()
    connection.send(framed(open_session=session_pb2.OpenSession(protocol_version=1)))
    served.until(lambda: waiting_count(store) == 1)
    connection.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        connection.receive()
    connection.socket.settimeout(DEADLINE_S)
    served.call(store.sync)
    assert connection.receive().session_opened.session_id in served.engine.ledger.sessions


# News, and what a holder would notice.


@run_async
async def test_an_event_is_told_to_watchers_when_it_is_safe_and_in_order() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    watcher = parts.engine.log.watch()
    tasks = [asyncio.create_task(parts.acquire(units(1))) for _ in range(3)]
    await settle()
    assert parts.engine.log.past(10) == []
    store.sync()
    assert [one.revision for one in await watcher.next()] == [1, 2, 3]
    await asyncio.gather(*tasks)


@run_async
async def test_a_holder_is_told_to_let_go_when_that_is_safe_and_its_time_runs_already() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS)
    store.is_held = True
    parts.clock.advance(ns=TTL_NS)
    parts.engine.tick()
    assert (list(parts.ledger.revoking), parts.notices) == ([lease.id], [])
    store.sync()
    assert parts.notices == [(lease.id, "keepalive missed", NOTICE_NS / NS_PER_S)]
    assert parts.ledger.deadlines.get(lease.id) == parts.clock.now_ns + NOTICE_NS


@run_async
async def test_a_living_holder_is_fenced_and_told_when_its_end_is_safe_and_not_before() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    lease = await parts.acquire(units(4), ttl_ns=TTL_NS)
    waiting = await parts.waiter(units(1), session="s2")
    parts.clock.advance(ns=TTL_NS)
    store.is_held = True
    parts.overdue()
    assert (parts.ledger.leases, parts.quarantined()) == ({}, {0, 1, 2, 3})
    assert (parts.backend.fenced, parts.backend.prepared, parts.losses) == ([], {lease.id: 1}, [])
    store.sync()
    assert parts.backend.fenced == [(lease.id, False)]
    assert parts.losses == [("s1", lease.id, "keepalive missed")]
    store.sync()
    assert (await waiting).session == "s2"


@run_async
async def test_a_keepalive_reports_no_end_that_is_not_safe() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    told, ended = [await parts.acquire(units(1), ttl_ns=ttl_ns) for ttl_ns in (TTL_NS + NOTICE_NS, TTL_NS)]
    released = await parts.acquire(units(1))
    parts.clock.advance(ns=TTL_NS)
    parts.engine.tick()
    store.is_held = True
    parts.clock.advance(ns=NOTICE_NS)
    parts.engine.tick()
    release = asyncio.create_task(parts.engine.release(released.id, asker("s1")))
    await settle()
    everything = [told.id, ended.id, released.id, "L77"]
    assert (set(parts.ledger.revoking), set(parts.ledger.leases)) == ({told.id}, {told.id})
    assert parts.engine.keep_alive("s1", everything) == ("L77",)
    store.sync()
    assert parts.engine.keep_alive("s1", everything) == tuple(everything)
    assert await release


@run_async
async def test_a_snapshot_is_of_the_books_as_the_event_before_it_made_them() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    await parts.acquire(units(1))
    store.wants_snapshot = True
    await parts.acquire(units(1))
    (taken,) = store.snapshots
    assert (taken.head.revision, taken.head.last_token) == (2, 2)


# Fail-stop.


@run_async
async def test_when_the_disk_fails_nobody_is_told_what_was_not_safe_and_the_daemon_stops_once() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    held = await parts.acquire(units(2), ttl_ns=TTL_NS)
    overdue = await parts.acquire(units(1), ttl_ns=TTL_NS)
    parts.clock.advance(ns=TTL_NS)
    parts.engine.keep_alive("s1", [held.id])
    store.is_held = True
    parts.overdue()
    pending = [asyncio.create_task(parts.acquire(units(1))), asyncio.create_task(parts.engine.synced())]
    await settle()
    told = [(one.revision, one.kind) for one in parts.engine.log.past(99)]
    store.fail("the disk is broken")
    for task in pending:
        with pytest.raises(ShuttingDown, match="the disk is broken"):
            await task
    assert parts.failures == ["failed"]
    assert (parts.notices, parts.losses, parts.backend.fenced) == ([], [], [])
    assert [(one.revision, one.kind) for one in parts.engine.log.past(99)] == told
    assert parts.engine.keep_alive("s1", [overdue.id]) == ()


@pytest.mark.parametrize(
    ("method", "request_message"), [*READS, *REFUSED], ids=[method for method, _ in [*READS, *REFUSED]]
)
def test_whoever_asks_after_a_failure_is_told_that_the_daemon_stops(served, store, method, request_message) -> None:
    client = served.open_session()
    client.acquire(memory(1), request_id=1)
    hold(served, store)
    served.call(store.fail, "the disk is broken")
    code, detail = refusal_of(client.call, method, request_message)
    assert (code.name, detail.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
    answer = client.connection.ask(release=pb.ReleaseRequest(lease_id="L77"))
    assert answer.fault.detail.reason == "SHUTTING_DOWN"


@run_async
async def test_after_a_failure_nothing_changes_any_more() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4), store=store)
    held = await parts.acquire(units(2), ttl_ns=TTL_NS)
    store.fail("the disk is broken")
    revision, admin = parts.ledger.revision, asker("root", uid=0, is_admin=True)
    for change in (
        lambda: parts.acquire(units(1)),
        lambda: parts.acquire(units(3), wait_s=9),
        lambda: parts.engine.extend(held.id, (units(1),), asker("s1"), NO_REQUEST),
        lambda: parts.engine.give_back(held.id, asker("s1"), NO_REQUEST, pool="u", ids=[0]),
        lambda: parts.engine.release(held.id, asker("s1")),
        lambda: parts.engine.revoke(held.id, admin, "asked to", notice_ns=0),
        lambda: parts.engine.forgo("s1", 7),
    ):
        with pytest.raises(ShuttingDown):
            await change()
    with pytest.raises(ShuttingDown):
        parts.engine.open_session(record("s9"))
    parts.clock.advance(ns=TTL_NS)
    with pytest.raises(ShuttingDown):
        parts.engine.tick()
    assert (parts.ledger.revision, parts.held(), parts.failures) == (revision, {0, 1}, ["failed"])


@pytest.mark.parametrize("answer", [Fence.QUIET, Fence.SOON])
@run_async
async def test_what_becomes_safe_or_quiet_after_a_mistake_of_our_own_changes_nothing_and_holds_nobody_up(
    answer,
) -> None:
    store, faults = GatedStore(is_held=False), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    parts = make_engine(pool("u", 4), store=store)
    parts.backend.fence_answer = Fence.SOON
    gone = await parts.acquire(units(1), session="s2")
    parts.engine.end_session("s2", "process died", is_violent=True)
    lease = await parts.acquire(units(1), ttl_ns=TTL_NS)
    parts.clock.advance(ns=TTL_NS)
    store.is_held = True
    parts.overdue()
    release = asyncio.create_task(parts.engine.synced())
    await settle()
    parts.engine.commits.fail("a mistake")
    parts.backend.fence_answer = answer
    revision = parts.ledger.revision
    store.sync()
    parts.backend.on_quiet[gone.id]()
    await settle()
    assert (await release, parts.ledger.revision, faults) == (revision, revision, [])
    assert parts.backend.fenced == [(gone.id, True)], f"{lease.id} is left to the next daemon"
