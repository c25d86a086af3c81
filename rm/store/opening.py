"""The files of a store, and how one is made: it never starts empty where there was one before.

``state.db`` appears whole, by a rename. ``format`` is written after it and never goes away, so that a lost ``state.db``
is told from a first start.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rm.store.damage import WHAT_TO_DO, StoreDamaged
from rm.store.database import BALLAST, FILE, SCHEMA, Database, sync_directory

MARKER = "format"


def open_database(directory: Path) -> Database:
    """Opens the store in ``directory``, or makes an empty one where there never was one.

    Raises:
        StoreDamaged: there was one, and it is gone or damaged. The text says what to do.
        DiskFull, OSError: a new one cannot be made.
    """
    path = directory / FILE
    try:
        if not path.exists():
            _check_never_was(directory)
            make_database(path)
        database = _open_checked(path)
    except StoreDamaged as fault:
        raise StoreDamaged(f"{fault}. {WHAT_TO_DO}") from fault
    write_marker(directory)
    return database


def make_database(path: Path, parts: Sequence[bytes] = (), revision: int = 0) -> None:
    """Makes a store with ``parts`` as its snapshot, taken at ``revision``.

    ``path`` is there when it is complete, and not before.

    Raises:
        DiskFull, OSError: it cannot be made.
    """
    coming = path.with_name(path.name + ".new")
    Database.create(coming, parts, revision)
    coming.rename(path)
    sync_directory(path.parent)


def write_marker(directory: Path) -> None:
    """Says, from now on, that there is a store in ``directory``."""
    path = directory / MARKER
    if path.exists():
        return
    with path.open("w", encoding="ascii") as file:
        file.write(f"leasehold state, schema {SCHEMA}\n")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def _open_checked(path: Path) -> Database:
    database = Database.open(path)
    try:
        database.check()
    except StoreDamaged:
        database.close()
        raise
    return database


def _check_never_was(directory: Path) -> None:
    for trace in (MARKER, BALLAST, f"{FILE}-wal"):
        if (directory / trace).exists():
            raise StoreDamaged(f"{directory / FILE} is gone, but {trace} beside it shows that there was a store")
