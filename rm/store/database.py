"""The file of a store: a few tables of SQLite, and a ballast beside it. Nothing else here knows SQLite.

``event`` and ``snapshot`` say everything; ``tail`` has one row: the last revision that was written. So a lost end of
the others is seen, and every transaction writes one page in common, which is how rm/store/wal.py tells them apart.

A row's digest covers its table, its key and its body: a flipped bit is found, and a row in another's place.
One connection, used by one thread at a time. Every write is one transaction and one fsync.
"""

import errno
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

from rm.core import limits
from rm.store import wal
from rm.store.damage import StoreDamaged

FILE = "state.db"
BALLAST = "ballast"
SCHEMA = 1

_APPLICATION_ID = 0x6C656173  # "leas"
_CREATE = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA}",
    "CREATE TABLE event (revision INTEGER PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE snapshot (part INTEGER PRIMARY KEY, digest BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE tail (one INTEGER PRIMARY KEY, revision INTEGER NOT NULL, digest BLOB NOT NULL)",
)
_EVENT, _PART, _TAIL = b"event", b"snapshot", b"tail"
_PAGES_BETWEEN_CHECKPOINTS = 1_000  # 4 MiB, a tenth of a second to read at the next start

# Errors that say nothing of the file: it is locked, may not be read, or the host has no memory for it.
_NOT_ITS_FAULT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
}

Rows = Sequence[tuple[int, bytes]]


class DiskFull(Exception):
    """Nothing was written, for the disk has no room. What was to be written can be tried again."""


class Database:
    """An open store. The calls below are all that is ever asked of the disk."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Takes over ``connection``; ``create`` and ``open`` make these."""
        self.path = path
        self._ballast = path.parent / BALLAST
        self._connection = connection
        self._page_count = 0  # written since the last checkpoint, at least

    @classmethod
    def create(cls, path: Path, parts: Sequence[bytes] = (), revision: int = 0) -> None:
        """Makes a complete file ``path``, closed and synced, with ``parts`` as its snapshot, taken at ``revision``.

        Raises:
            DiskFull, OSError: it cannot be made.
        """
        for leftover in (path, _beside(path, "-wal"), _beside(path, "-journal")):
            leftover.unlink(missing_ok=True)
        with _saying_what_failed(path):
            database = cls(path, _connect(path))
            try:
                with database._transaction():
                    for statement in _CREATE:
                        database._connection.execute(statement)
                    database._put_parts(parts)
                    database._put_tail(revision)
            finally:
                database.close()
        sync_directory(path.parent)

    @classmethod
    def open(cls, path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> "Database":
        """Opens a file that ``create`` made, after a look at its log.

        Raises:
            StoreDamaged: it is another file, a newer one, or SQLite finds fault with it.
        """
        wal.check(_beside(path, "-wal"))
        with ExitStack() as undo:
            try:
                connection = _connect(path, factory)
                undo.callback(connection.close)
                _check_is_ours(path, connection)
            except sqlite3.Error as fault:
                if getattr(fault, "sqlite_errorcode", 0) & 0xFF in _NOT_ITS_FAULT:
                    raise OSError(f"{path} cannot be opened: {fault}; is it open in another program?") from fault
                raise StoreDamaged(f"{path} cannot be opened: {fault}") from fault
            undo.pop_all()
        return cls(path, connection)

    @classmethod
    def open_damaged(cls, path: Path) -> "Database":
        """Opens whatever of ``path`` SQLite can make sense of, to read from; it will drop a part of the log.

        Raises:
            StoreDamaged: there is nothing.
        """
        if not path.exists():
            raise StoreDamaged(f"{path} is gone")
        try:
            return cls(path, _connect(path))
        except sqlite3.Error as fault:
            raise StoreDamaged(f"{path} cannot be opened: {fault}") from fault

    # Writing.

    def write(self, events: Rows) -> None:
        """Adds events, each with its revision; they are safe when this returns.

        Raises:
            DiskFull: nothing was written.
        """
        with self._transaction():
            rows = [(key, _digest(_EVENT, key, body), body) for key, body in events]
            self._connection.executemany("INSERT INTO event VALUES (?, ?, ?)", rows)
            self._put_tail(events[-1][0])
        self._note_written(body for _, body in events)

    def compact(self, parts: Sequence[bytes], revision: int) -> None:
        """Puts ``parts`` in the place of the snapshot before it, and of every event up to ``revision``.

        Raises:
            DiskFull: nothing was changed.
        """
        with self._transaction():
            self._connection.execute("DELETE FROM snapshot")
            self._put_parts(parts)
            self._connection.execute("DELETE FROM event WHERE revision <= ?", (revision,))
            self._put_tail(revision)
        self._note_written(parts)

    @property
    def wants_checkpoint(self) -> bool:
        """Whether so much stands in the log that the next start would be slow."""
        return self._page_count >= _PAGES_BETWEEN_CHECKPOINTS

    def checkpoint(self) -> None:
        """Copies the log into the file and begins a new one. Changes nothing that can be read.

        Raises:
            DiskFull: it stays as it was.
        """
        with _saying_what_failed(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._page_count = 0

    def close(self) -> None:
        """Copies the log into the file, as far as there is room, and ends."""
        self._connection.close()

    # Reading.

    def read_parts(self) -> Iterator[tuple[int, bytes]]:
        """The snapshot, part by part, each with its number.

        Raises:
            StoreDamaged: a row is not as it was written.
        """
        return self._read(_PART, "part of the snapshot", "SELECT part, digest, body FROM snapshot ORDER BY part", ())

    def read_events(self, *, after: int) -> Iterator[tuple[int, bytes]]:
        """The events behind revision ``after``, each with its own.

        Raises:
            StoreDamaged: a row is not as it was written.
        """
        query = "SELECT revision, digest, body FROM event WHERE revision > ? ORDER BY revision"
        return self._read(_EVENT, "event", query, (after,))

    def read_tail(self) -> int:
        """The last revision that was written.

        Raises:
            StoreDamaged: it cannot be told.
        """
        try:
            rows = self._connection.execute("SELECT revision, digest FROM tail").fetchall()
        except sqlite3.Error as fault:
            raise StoreDamaged(f"the last revision of {self.path} cannot be read: {fault}") from fault
        if len(rows) != 1 or not _is_as_written(_TAIL, rows[0][0], rows[0][1], b""):
            raise StoreDamaged(f"the last revision of {self.path} is not as it was written")
        return int(rows[0][0])

    def read_what_is_left(self) -> Iterator[tuple[int, bytes]]:
        """Rows that are as they were written, of a damaged file: events with their revision, parts with 0.

        In no order, and some twice: from both ends, up to where SQLite gives up.
        """
        for order in ("ASC", "DESC"):
            for table, key_name in ((_EVENT, "revision"), (_PART, "part")):
                query = f"SELECT {key_name}, digest, body FROM {table.decode()} ORDER BY {key_name} {order}"
                with suppress(sqlite3.Error):
                    for key, digest, body in self._connection.execute(query):
                        if _is_as_written(table, key, digest, body):
                            yield key if table == _EVENT else 0, body

    def counts(self) -> tuple[int, int]:
        """How many parts the snapshot has behind its head, and how many events there are."""
        (parts,) = self._connection.execute("SELECT count(*) FROM snapshot WHERE part > 0").fetchone()
        (events,) = self._connection.execute("SELECT count(*) FROM event").fetchone()
        return int(parts), int(events)

    def check(self) -> None:
        """Looks at every page.

        Raises:
            StoreDamaged: SQLite finds fault with one.
        """
        try:
            answers = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.Error as fault:
            raise StoreDamaged(f"{self.path} cannot be read: {fault}") from fault
        if answers != [(b"ok",)]:
            raise StoreDamaged(f"{self.path} is damaged: {answers[0][0].decode(errors='replace')}")

    # The ballast.

    def make_ballast(self) -> None:
        """Takes up room that ``drop_ballast`` can give back, unless it is taken.

        Raises:
            DiskFull: there is none.
        """
        if self._ballast.exists():
            return
        coming = _beside(self._ballast, ".new")
        with _saying_what_failed(self.path):
            try:
                fd = os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    os.posix_fallocate(fd, 0, limits.BALLAST_BYTES)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                coming.rename(self._ballast)
            except OSError:
                with suppress(OSError):
                    coming.unlink(missing_ok=True)
                raise
        sync_directory(self._ballast.parent)

    def drop_ballast(self) -> bool:
        """Gives the room back; says whether there was any to give."""
        had_one = self._ballast.exists()
        self._ballast.unlink(missing_ok=True)
        return had_one

    # What they share.

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _saying_what_failed(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:  # it failed, and SQLite has not rolled back by itself
                    self._connection.execute("ROLLBACK")

    def _put_parts(self, parts: Sequence[bytes]) -> None:
        rows = [(key, _digest(_PART, key, body), body) for key, body in enumerate(parts)]
        self._connection.executemany("INSERT INTO snapshot VALUES (?, ?, ?)", rows)

    def _put_tail(self, revision: int) -> None:
        row = (0, revision, _digest(_TAIL, revision, b""))
        self._connection.execute("INSERT OR REPLACE INTO tail VALUES (?, ?, ?)", row)

    def _note_written(self, bodies: Iterable[bytes]) -> None:
        self._page_count += 3 + sum(map(len, bodies)) // 4_096

    def _read(self, table: bytes, name: str, query: str, values: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
        place = f"the first {name}"
        try:
            for key, digest, body in self._connection.execute(query, values):
                if not _is_as_written(table, key, digest, body):
                    raise StoreDamaged(f"{name} {key} of {self.path} is not as it was written")
                yield key, body
                place = f"the {name} behind {key}"
        except sqlite3.Error as fault:
            raise StoreDamaged(f"{place} of {self.path} cannot be read: {fault}") from fault


def sync_directory(directory: Path) -> None:
    """Makes the names in ``directory`` safe."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _connect(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=factory, timeout=0)
    connection.text_factory = bytes  # a damaged row must not end in a UnicodeDecodeError
    with ExitStack() as undo:
        undo.callback(connection.close)
        # Exclusive comes first: then there is no shared memory file, and no second process ever has it open.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != b"wal":
            raise StoreDamaged(f"{path} cannot be opened: its journal mode is {mode!r}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # SQLite would pass over its failures in silence
        connection.execute("PRAGMA cache_spill = OFF")  # a transaction writes no page twice: see rm/store/wal.py
        undo.pop_all()
    return connection


def _check_is_ours(path: Path, connection: sqlite3.Connection) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != _APPLICATION_ID:
        raise StoreDamaged(f"{path} is no state of rmd: its application id is {application_id:#x}")
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema > SCHEMA:
        raise StoreDamaged(f"{path} was written by a newer rmd: it has schema {schema}, this rmd knows {SCHEMA}")
    if schema != SCHEMA:
        raise StoreDamaged(f"{path} has schema {schema}, which no rmd has written")


@contextmanager
def _saying_what_failed(path: Path) -> Iterator[None]:
    """Tells a full disk, which may be tried again, from all other failures, which must not."""
    try:
        yield
    except sqlite3.Error as fault:
        if getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DiskFull(f"the disk of {path} is full") from fault
        raise
    except OSError as fault:
        if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"the disk of {path} is full") from fault
        raise


def _digest(table: bytes, key: int, body: bytes) -> bytes:
    return blake2b(table + struct.pack("<q", key) + body, digest_size=8).digest()


def _is_as_written(table: bytes, key: object, digest: object, body: object) -> bool:
    return isinstance(key, int) and isinstance(body, bytes) and digest == _digest(table, key, body)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
