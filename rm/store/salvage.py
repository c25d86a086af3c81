"""What an operator may do with a damaged store: put it aside, and begin again with nothing free.

Everything is read from a copy, so that what is put aside is as it was found. The new file is complete before the old
one is moved; whoever is interrupted between the two finds no store, is refused, and salvages once more.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rm.core import snapshot
from rm.core.books import Books
from rm.core.card import CardSpec
from rm.core.events import Granted, Started
from rm.core.ledger import Ledger
from rm.core.snapshot import Head, LiveLease, QuarantinedLease, StandingReservation
from rm.store import codec
from rm.store.damage import StoreDamaged
from rm.store.database import BALLAST, FILE, Database, sync_directory
from rm.store.opening import MARKER, make_database, open_database, write_marker
from rm.store.recovery import check_agreement, recover, replayed, restored

_SUFFIXES = ("", "-wal", "-journal")  # the file, and what SQLite has beside it
_SALVAGED = f"{FILE}.salvaged"
_PUT_ASIDE = re.compile(re.escape(FILE) + r"\.damaged-(\d+)")


class NothingToSalvage(Exception):
    """The store can be read, or there is none: there is nothing that salvage would mend."""


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What salvage kept. ``revision``: up to where the old store could be read; ``put_aside``: where it is now."""

    revision: int
    reservations: tuple[str, ...]
    put_aside: tuple[Path, ...]


def salvage(directory: Path, cards: tuple[CardSpec, ...]) -> SalvageReport:
    """Puts the damaged store in ``directory`` aside and makes another, in which all units of ``cards`` are quarantined.

    Needs the directory's lock.

    Raises:
        NothingToSalvage: the store is whole, or there never was one. Nothing was changed.
        DiskFull, OSError: no copy, or no new store, could be made. The old one is where it was.
    """
    path, salvaged = directory / FILE, directory / _SALVAGED
    if not _is_damaged(directory):
        raise NothingToSalvage(f"the store in {directory} can be read: there is nothing to salvage")
    known, readable_revision = _what_can_be_read(path if path.exists() else salvaged)
    number = 1 + max((int(name.group(1)) for name in map(_PUT_ASIDE.match, os.listdir(directory)) if name), default=0)
    # Where nothing at all could be read, the leaps of those before it still count.
    for name in ("last_token", "revision", "epoch"):
        setattr(known, name, max(getattr(known, name), (number - 1) * snapshot.SALVAGE_LEAP))
    whole = snapshot.everything_in_quarantine(cards, known)
    make_database(salvaged, [codec.encode_part(part) for part in (whole.head, *whole.parts)], whole.head.revision)
    put_aside = _put_aside(path, number)
    salvaged.rename(path)
    sync_directory(directory)
    write_marker(directory)
    kept = tuple(part.spec.name for part in whole.parts if isinstance(part, StandingReservation))
    return SalvageReport(readable_revision, kept, put_aside)


def _is_damaged(directory: Path) -> bool:
    with _copy_of(directory / FILE, MARKER, BALLAST) as copy:
        try:
            database = open_database(copy.parent)
            try:
                recover(database)
            finally:
                database.close()
        except StoreDamaged:
            return True
    return False


def _put_aside(path: Path, number: int) -> tuple[Path, ...]:
    """The file goes first: without it nothing starts, while without its log it would seem to be whole."""
    moved = []
    for suffix in _SUFFIXES:
        old = path.with_name(path.name + suffix)
        if old.exists():
            moved.append(old.rename(path.with_name(f"{path.name}.damaged-{number}{suffix}")))
            sync_directory(path.parent)
    return tuple(moved)


# Reading what is left.


def _what_can_be_read(path: Path) -> tuple[Books, int]:
    """The books of the longest prefix that can be read, and its revision; they get the highest numbers found at all."""
    with _copy_of(path) as copy:
        try:
            database = Database.open_damaged(copy)
        except StoreDamaged:
            return Ledger(()), 0
        try:
            books = _longest_prefix(database)
            readable_revision = books.revision
            for revision, body in database.read_what_is_left():
                books.revision = max(books.revision, revision)
                _note_numbers(books, body)
        finally:
            database.close()
    return books, readable_revision


def _longest_prefix(database: Database) -> Ledger:
    last = 0
    books = _start(database)
    try:
        for last in replayed(books, database):  # noqa: B007 - it is wanted when this ends
            pass
    except StoreDamaged:
        # The event that failed may have been applied in part. Once more, up to the one before it.
        books = _start(database)
        if last > books.revision:
            next(revision for revision in replayed(books, database) if revision == last)
    try:
        check_agreement(books, database)
    except StoreDamaged:
        return Ledger(())
    return books


def _start(database: Database) -> Ledger:
    try:
        return restored(database)
    except StoreDamaged:
        return Ledger(())


def _note_numbers(books: Books, body: bytes) -> None:
    for decode in (codec.decode_event, codec.decode_part):
        with suppress(StoreDamaged):
            match decode(body):
                case Granted(lease) | LiveLease(lease) | QuarantinedLease(lease):
                    books.last_token = max(books.last_token, lease.token)
                case Started(epoch):
                    books.epoch = max(books.epoch, epoch)
                case Head() as head:
                    books.last_token = max(books.last_token, head.last_token)
                    books.epoch = max(books.epoch, head.epoch)
                    books.revision = max(books.revision, head.revision)


@contextmanager
def _copy_of(path: Path, *beside: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="salvage-", dir=path.parent) as copies:
        for name in (*(path.name + suffix for suffix in _SUFFIXES), *beside):
            with suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(name), Path(copies) / name)
        yield Path(copies) / path.name
