"""The store of a running daemon: one commit for all that queued up, snapshots between, and an end at any fault."""

import asyncio
import threading

import pytest

from rm.core import limits
from rm.core.errors import ShuttingDown
from rm.core.events import SessionForgotten
from rm.core.ledger import Ledger
from rm.core.snapshot import take
from rm.store import sqlite_store
from rm.store.damage import StoreDamaged
from rm.store.database import BALLAST
from rm.store.opening import open_database
from rm.store.sqlite_store import SqliteStore
from support.daemon_parts import run_async
from support.descriptors import descriptor_count
from support.faulty import broken, full
from support.stores import EVENTS, STATES, Gate, append, idle, on_disk, store_on


def test_a_new_store_has_empty_books_and_an_old_one_has_them_again(tmp_path) -> None:
    store, ledger = SqliteStore.open(tmp_path)
    assert take(ledger) == take(Ledger(()))
    assert store.is_durable
    assert not store.full_because
    assert (tmp_path / BALLAST).stat().st_blocks * 512 >= limits.BALLAST_BYTES

    async def use() -> None:
        append(store, 0, 60)
        await store.synced.wait(60)
        await store.close()
        await store.close()

    asyncio.run(use())
    assert asyncio.run(on_disk(tmp_path)) == STATES[60]
    again, ledger = SqliteStore.open(tmp_path)
    assert again.synced.revision == ledger.revision == 60
    asyncio.run(again.close())


@run_async
async def test_all_that_queued_up_is_one_commit(tmp_path) -> None:
    gate = Gate()
    store = store_on(tmp_path, gate)
    append(store, 0, 1)
    await gate.wait_until_reached()
    append(store, 1, 150)
    gate.opened.set()
    await store.synced.wait(150)
    assert gate.commits == 2
    await store.close()


@run_async
async def test_a_batch_has_a_largest_size(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_PER_BATCH_MAX", 10)
    gate = Gate()
    store = store_on(tmp_path, gate)
    append(store, 0, 1)
    await gate.wait_until_reached()
    append(store, 1, 26)
    gate.opened.set()
    await store.synced.wait(26)
    assert gate.commits == 1 + 3
    await store.close()


@run_async
async def test_a_slow_disk_does_not_hold_the_loop_and_nothing_is_safe_before_its_commit(tmp_path) -> None:
    gate = Gate()
    store = store_on(tmp_path, gate)
    append(store, 0, 3)
    waiter = asyncio.create_task(store.synced.wait(3))
    await gate.wait_until_reached()
    for _ in range(1_000):
        await asyncio.sleep(0)  # the loop goes round while the disk stands still
    assert not waiter.done()
    assert store.synced.revision == 0
    gate.opened.set()
    await waiter
    await store.close()


@run_async
async def test_what_a_turn_has_queued_is_safe_in_the_next_while_the_disk_is_quick(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_store, "QUICK_S", 20)
    commits = []
    store = store_on(tmp_path, lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    append(store, 0, 1)
    await store.synced.wait(1)
    await idle(store)
    before = len(commits)
    append(store, 1, 90)
    assert store.synced.revision == 1, "others may still add to it in this turn"
    await asyncio.sleep(0)
    assert (store.synced.revision, len(commits) - before) == (90, 1)
    await store.close()


@run_async
async def test_after_a_slow_commit_the_loop_waits_for_no_more_of_them_for_a_while(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_store, "QUICK_S", -1)
    gate = Gate()
    gate.opened.set()
    store = store_on(tmp_path, gate)
    append(store, 0, 1)
    await store.synced.wait(1)
    assert store._unawaited_left == sqlite_store._UNAWAITED_COUNT
    monkeypatch.setattr(sqlite_store, "QUICK_S", 20)
    gate.opened.clear()
    gate.reached.clear()
    append(store, 1, 2)
    await gate.wait_until_reached()  # the loop goes round though the disk stands still
    assert store.synced.revision == 1
    gate.opened.set()
    await store.synced.wait(2)
    assert store._unawaited_left == sqlite_store._UNAWAITED_COUNT - 1
    await store.close()


@run_async
async def test_after_a_commit_of_several_changes_the_loop_hears_others_while_the_next_are_written(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(sqlite_store, "QUICK_S", 20)
    gate = Gate()
    gate.opened.set()
    store = store_on(tmp_path, gate)
    append(store, 0, 1)
    await store.synced.wait(1)
    await idle(store)
    append(store, 1, 3)
    await store.synced.wait(3)
    assert store._unawaited_left == sqlite_store._UNAWAITED_COUNT
    gate.opened.clear()
    gate.reached.clear()
    append(store, 3, 4)
    await gate.wait_until_reached()  # the loop goes round, and can queue more
    append(store, 4, 6)
    gate.opened.set()
    await store.synced.wait(6)
    for revision in range(6, 6 + sqlite_store._UNAWAITED_COUNT):
        append(store, revision, revision + 1)
        await store.synced.wait(revision + 1)
    assert store._unawaited_left == 0, "one client alone is waited for again"
    await store.close()


@run_async
async def test_a_store_that_fails_while_the_loop_waits_for_it_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_store, "QUICK_S", 20)
    is_broken = []

    def look(statement: str) -> None:
        if is_broken and statement == "COMMIT":
            raise broken()

    store = store_on(tmp_path, look)
    append(store, 0, 1)
    await store.synced.wait(1)
    await idle(store)
    is_broken.append(True)
    append(store, 1, 2)
    with pytest.raises(ShuttingDown):
        await store.synced.wait(2)
    await store.close()


@run_async
async def test_what_is_read_back_has_all_that_was_queued_before(tmp_path) -> None:
    store = store_on(tmp_path)
    append(store, 0, 90)
    assert take(await store.read_back()) == STATES[90]
    append(store, 90, 100)
    await store.close()
    with pytest.raises(StoreDamaged, match="closed"):
        await store.read_back()


@run_async
async def test_a_store_that_was_never_used_can_be_closed(tmp_path) -> None:
    store, _ = SqliteStore.open(tmp_path)
    await store.close()
    await store.close()


# Snapshots.


@run_async
async def test_a_snapshot_takes_the_place_of_the_events_before_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_BETWEEN_SNAPSHOTS_MIN", 40)
    store = store_on(tmp_path)
    append(store, 0, 39)
    assert not store.wants_snapshot
    append(store, 39, 40)
    assert store.wants_snapshot
    store.put_snapshot(STATES[40])
    append(store, 40, 90)
    assert not store.wants_snapshot, "one is on its way"
    assert take(await store.read_back()) == STATES[90]
    assert store.wants_snapshot, "fifty events are behind the last one"
    await store.close()
    database = open_database(tmp_path)
    assert database.counts() == (len(STATES[40].parts), 50)
    database.close()
    again, ledger = SqliteStore.open(tmp_path)
    assert take(ledger) == STATES[90]
    assert again.wants_snapshot, "those of the last run count"
    await again.close()


@run_async
async def test_a_large_snapshot_is_not_followed_by_another_before_it_pays(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_BETWEEN_SNAPSHOTS_MIN", 1)
    store = store_on(tmp_path)
    append(store, 0, 60)
    store.put_snapshot(STATES[60])
    await store.read_back()
    pause = 2 * len(STATES[60].parts)
    append(store, 60, 59 + pause)
    assert not store.wants_snapshot
    append(store, 59 + pause, 60 + pause)
    assert store.wants_snapshot
    await store.close()


@run_async
async def test_a_snapshot_that_finds_the_disk_full_is_left_for_later(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "EVENTS_BETWEEN_SNAPSHOTS_MIN", 10)

    def before(statement: str) -> None:
        if statement.startswith("DELETE FROM event"):
            raise full()

    store = store_on(tmp_path, before)
    append(store, 0, 20)
    store.put_snapshot(STATES[20])
    append(store, 20, 22)
    assert take(await store.read_back()) == STATES[22]
    assert not store.wants_snapshot
    await store.close()
    assert await on_disk(tmp_path) == STATES[22]


# A disk that fails.


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT INTO event VALUES (?, ?, ?)", "COMMIT"])
@pytest.mark.parametrize("fault", [broken(), OSError(5, "Input/output error"), AssertionError("ours")], ids=repr)
def test_any_other_fault_ends_the_store_at_once_and_is_told_once(tmp_path, statement, fault) -> None:
    asyncio.run(_fail_at(tmp_path, statement, fault))
    assert asyncio.run(on_disk(tmp_path)) == STATES[5], "nothing was tried again"


async def _fail_at(directory, statement: str, fault: Exception) -> None:
    is_failing = False

    def before(seen: str) -> None:
        if is_failing and seen == statement:
            raise fault

    store, failures = store_on(directory, before), []
    store.on_failure = failures.append
    append(store, 0, 5)
    await store.synced.wait(5)
    is_failing = True
    append(store, 5, 9)
    with pytest.raises(ShuttingDown, match="failed"):
        await store.synced.wait(9)
    is_failing = False
    append(store, 9, 12)
    with pytest.raises(ShuttingDown):
        await store.synced.wait(12)
    with pytest.raises(StoreDamaged, match="failed"):
        await store.read_back()
    assert store.synced.revision == 5
    assert not store.wants_snapshot
    await store.close()
    assert len(failures) == 1
    assert str(directory) in failures[0]


@run_async
async def test_an_event_that_cannot_be_written_down_ends_the_store_and_not_only_its_thread(tmp_path) -> None:
    store, failures = store_on(tmp_path), []
    store.on_failure = failures.append
    store.append(1, SessionForgotten("s" * (limits.RECORD_BYTES_MAX + 1)))
    with pytest.raises(ShuttingDown):
        await store.synced.wait(1)
    assert len(failures) == 1
    await store.close()


@run_async
async def test_who_reads_back_from_a_store_that_fails_meanwhile_is_told(tmp_path) -> None:
    gate = Gate()

    def before(statement: str) -> None:
        gate(statement)
        if statement == "COMMIT":
            raise broken()

    store = store_on(tmp_path, before)
    append(store, 0, 1)
    await gate.wait_until_reached()
    reader = asyncio.create_task(store.read_back())
    await asyncio.sleep(0)
    gate.opened.set()
    with pytest.raises(StoreDamaged, match="failed"):
        await reader
    await store.close()


@run_async
async def test_events_are_numbered_without_a_gap(tmp_path) -> None:
    store = store_on(tmp_path)
    with pytest.raises(AssertionError):
        store.append(2, EVENTS[1])
    with pytest.raises(AssertionError):
        store.put_snapshot(STATES[1])
    await store.close()


def test_the_thread_and_its_connection_are_gone_after_close(tmp_path) -> None:
    before = descriptor_count()

    async def use() -> None:
        store, _ = SqliteStore.open(tmp_path)
        append(store, 0, 3)
        await store.close()

    asyncio.run(use())
    assert "store" not in {thread.name for thread in threading.enumerate()}
    assert descriptor_count() == before
