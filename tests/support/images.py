"""What the files of a store looked like after each of its commits, and what recovers from such files."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rm.core.events import Event
from rm.core.snapshot import Snapshot, take
from rm.store import codec
from rm.store.database import FILE
from rm.store.opening import open_database
from rm.store.recovery import recover
from support.history import history, states


@dataclass(frozen=True)
class Image:
    """The bytes of the file and of its log when everything up to ``revision`` had been answered for."""

    revision: int
    file: bytes
    log: bytes


@dataclass
class Recording:
    """A history that was written to a real file, and an image after each call."""

    events: list[Event]
    states: list[Snapshot]
    images: list[Image] = field(default_factory=list)


def record(directory: Path, *, count: int = 60, compact_at: int = 25, checkpoint_at: int = 42) -> Recording:
    """Writes a history in batches of one to five, with one snapshot and one checkpoint on the way."""
    made, random = history(count), Random(1)
    recording = Recording(made, states(made))
    database = open_database(directory)
    revision = 0

    def note() -> None:
        path = directory / FILE
        log = path.with_name(f"{FILE}-wal")
        recording.images.append(Image(revision, path.read_bytes(), log.read_bytes() if log.exists() else b""))

    note()
    while revision < count:
        size = min(random.choice([1, 1, 1, 2, 5]), count - revision)
        rows = [(revision + 1 + index, codec.encode_event(made[revision + index])) for index in range(size)]
        before, revision = revision, revision + size
        database.write(rows)
        note()
        if before < compact_at <= revision:
            now = recording.states[revision]
            database.compact([codec.encode_part(part) for part in (now.head, *now.parts)], revision)
            note()
        if before < checkpoint_at <= revision:
            database.checkpoint()
            note()
    database.close()
    return recording


def recovered(directory: Path, file: bytes, log: bytes) -> Snapshot:
    """What a daemon would find that starts with these files."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / FILE).write_bytes(file)
    if log:
        (directory / f"{FILE}-wal").write_bytes(log)
    database = open_database(directory)
    try:
        return take(recover(database))
    finally:
        database.close()
