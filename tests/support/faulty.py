"""A connection to SQLite that does as the test says: fails, waits, counts or dies at a statement."""

import sqlite3
from collections.abc import Callable

Look = Callable[[str], None]


def connection_that(before: Look = lambda statement: None, after: Look = lambda statement: None) -> type:
    """A class of connections that shows each statement to ``before``, does it, and shows it to ``after``."""

    class Watched(sqlite3.Connection):
        def execute(self, statement, *values):
            before(statement)
            answer = super().execute(statement, *values)
            after(statement)
            return answer

        def executemany(self, statement, rows):
            before(statement)
            answer = super().executemany(statement, rows)
            after(statement)
            return answer

    return Watched


def full() -> sqlite3.OperationalError:
    """What SQLite raises on a full disk."""
    return _fault("database or disk is full", sqlite3.SQLITE_FULL)


def broken() -> sqlite3.OperationalError:
    """What SQLite raises where a write or a sync fails."""
    return _fault("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)


def _fault(text: str, code: int) -> sqlite3.OperationalError:
    fault = sqlite3.OperationalError(text)
    fault.sqlite_errorcode = code
    return fault
