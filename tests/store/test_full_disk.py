"""A full disk: what ends is still written, from the room of the ballast; nothing is lost, and room is noticed."""

import asyncio
import errno
import os
import subprocess

import pytest

from rm.core.errors import ShuttingDown
from rm.core.events import LeaseEnded
from rm.core.ledger import Ledger
from rm.core.snapshot import take
from rm.store import sqlite_store
from rm.store.database import BALLAST
from rm.store.opening import open_database
from rm.store.sqlite_store import SqliteStore
from support.daemon_parts import run_async
from support.faulty import full
from support.stores import EVENTS, STATES, append, idle, on_disk, store_on


@pytest.fixture(autouse=True)
def _impatient(monkeypatch) -> None:
    monkeypatch.setattr(sqlite_store, "FULL_RETRY_S", 0.005)
    monkeypatch.setattr(sqlite_store, "FULL_AT_CLOSE_S", 0.05)


class FullDisk:
    """Refuses every commit while it is full; ``room`` more are let through once the ballast is gone."""

    def __init__(self, directory) -> None:
        self.ballast = directory / BALLAST
        self.is_full = False
        self.room = 0

    def __call__(self, statement: str) -> None:
        if self.is_full and (statement == "COMMIT" or "checkpoint" in statement):
            if statement == "COMMIT" and self.room and not self.ballast.exists():
                self.room -= 1
                return
            raise full()


@run_async
async def test_on_a_full_disk_the_ballast_makes_room_for_the_batch_and_grants_are_refused(tmp_path) -> None:
    disk = FullDisk(tmp_path)
    store, has_room = store_on(tmp_path, disk), asyncio.Event()
    store.on_room = has_room.set
    append(store, 0, 5)
    await store.synced.wait(5)
    await idle(store)
    disk.is_full, disk.room = True, 1
    append(store, 5, 9)
    await store.synced.wait(9)
    assert "full" in store.full_because
    assert str(tmp_path) in store.full_because
    assert not disk.ballast.exists()
    assert not has_room.is_set()
    disk.is_full = False
    await has_room.wait()
    assert not store.full_because
    assert disk.ballast.exists()
    await store.close()
    assert await on_disk(tmp_path) == STATES[9]


@run_async
async def test_with_no_room_at_all_the_batch_waits_and_is_written_once(tmp_path) -> None:
    disk = FullDisk(tmp_path)
    store, has_room = store_on(tmp_path, disk), asyncio.Event()
    store.on_room = has_room.set
    disk.is_full = True
    append(store, 0, 5)
    waiter = asyncio.create_task(store.synced.wait(5))
    while disk.ballast.exists():
        await asyncio.sleep(0.001)
    assert not waiter.done()
    disk.is_full = False
    await waiter
    await has_room.wait()
    await store.close()
    assert await on_disk(tmp_path) == STATES[5]


@run_async
async def test_a_disk_that_stays_full_does_not_keep_the_daemon_from_ending(tmp_path) -> None:
    disk = FullDisk(tmp_path)
    store, failures = store_on(tmp_path, disk), []
    store.on_failure = failures.append
    disk.is_full = True
    append(store, 0, 5)
    waiter = asyncio.create_task(store.synced.wait(5))
    await store.close()
    with pytest.raises(ShuttingDown):
        await waiter
    assert len(failures) == 1


def test_a_store_without_room_for_its_ballast_starts_as_full(tmp_path, monkeypatch) -> None:
    open_database(tmp_path).close()

    def no_room(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    store, _ = SqliteStore.open(tmp_path)
    assert store.full_because
    asyncio.run(store.close())


@pytest.fixture
def small_disk(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"only root mounts a small disk: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.root
@run_async
async def test_on_a_real_full_disk_ends_are_still_written_and_room_is_noticed(small_disk) -> None:
    directory = small_disk
    store, ledger = SqliteStore.open(directory)
    has_room = asyncio.Event()
    store.on_room = has_room.set
    append(store, 0, 60)
    await store.synced.wait(60)
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            pass
    revision, ledger = 60, Ledger(())
    for event in EVENTS[:60]:
        ledger.apply(event)
    for lease_id in list(ledger.leases):  # what a full disk must not hold up
        event = LeaseEnded(lease_id, "released", is_violent=False)
        ledger.apply(event)
        revision += 1
        store.append(revision, event)
        await store.synced.wait(revision)
    assert store.full_because
    assert not (directory / BALLAST).exists()
    filler.unlink()
    await has_room.wait()
    assert not store.full_because
    assert (directory / BALLAST).exists()
    await store.close()
    again, recovered = SqliteStore.open(directory)
    assert take(recovered) == take(ledger)
    await again.close()
