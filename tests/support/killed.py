"""Run as a program: writes a history into one new store after another, and each time dies at the next call to SQLite.

Takes a directory and "before" or "after" the call. Leaves ``DIRECTORY/K`` for each K, with a file ``answered`` of the
revisions that were said to be safe, one a line. Ends when a history comes to its end. It forks, as that is fast.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from itertools import count
from pathlib import Path

from rm.store import database
from rm.store.sqlite_store import SqliteStore
from support.faulty import connection_that
from support.history import history, states

EVENTS = history(60)
BATCH_ENDS = (1, 2, 3, 8, 9, 12, 20, 21, 25, 26, 27, 34, 40, 41, 48, 49, 55, 56, 60)
SNAPSHOT_AT = 25
SNAPSHOT = states(EVENTS[:SNAPSHOT_AT])[-1]


async def write(directory: Path) -> None:
    store, _ = SqliteStore.open(directory)
    answered = os.open(directory / "answered", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    start = 0
    for stop in BATCH_ENDS:
        for revision in range(start, stop):
            store.append(revision + 1, EVENTS[revision])
        if stop == SNAPSHOT_AT:
            store.put_snapshot(SNAPSHOT)
        await store.synced.wait(stop)
        os.write(answered, f"{stop}\n".encode())
        start = stop
    await store.close()


def die_at_call(number: int, *, is_after: bool) -> None:
    """Makes every connection of this process count its calls, and the process die at one of them."""
    calls = count()

    def look(statement: str) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    watched = connection_that(**{"after" if is_after else "before": look})
    connect = sqlite3.connect
    sqlite3.connect = lambda *places, **more: connect(*places, **{**more, "factory": watched})


def main(place: Path, when: str) -> None:
    database._PAGES_BETWEEN_CHECKPOINTS = 12
    for number in count():
        directory = place / str(number)
        directory.mkdir()
        child = os.fork()
        if not child:
            die_at_call(number, is_after=when == "after")
            asyncio.run(write(directory))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
