"""A store over a connection that a test watches, and a history to write to it."""

import asyncio
import threading
from pathlib import Path

from rm.core.snapshot import Snapshot, take
from rm.store.database import FILE, Database
from rm.store.opening import open_database
from rm.store.sqlite_store import SqliteStore
from support.faulty import Look, connection_that
from support.history import history, states

EVENTS = history(200)
STATES = states(EVENTS)


def store_on(directory: Path, before: Look = lambda statement: None) -> SqliteStore:
    """A new store over a connection that shows each statement first."""
    open_database(directory).close()
    database = Database.open(directory / FILE, connection_that(before))
    database.make_ballast()
    return SqliteStore(database)


def append(store: SqliteStore, start: int, stop: int) -> None:
    """Appends the events that lead from revision ``start`` to ``stop``."""
    for revision in range(start + 1, stop + 1):
        store.append(revision, EVENTS[revision - 1])


async def on_disk(directory: Path) -> Snapshot:
    """What the next daemon would find."""
    store, ledger = SqliteStore.open(directory)
    await store.close()
    return take(ledger)


class Gate:
    """Holds the store's thread at its next commit, until it is opened."""

    def __init__(self) -> None:
        self.commits = 0
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, statement: str) -> None:
        if statement == "COMMIT":
            self.commits += 1
            self.reached.set()
            self.opened.wait(20)

    async def wait_until_reached(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.reached.wait, 20)


async def idle(store: SqliteStore) -> None:
    """Returns once the store's thread waits for work, and no wake-up of earlier work is still on its way to it."""
    await store.read_back()
    while not store._is_idle:
        await asyncio.sleep(0)
