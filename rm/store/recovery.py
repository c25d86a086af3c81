"""From what is on disk to the books: the snapshot, then every event behind it. What does not fit ends it."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from rm.core import snapshot
from rm.core.ledger import Ledger
from rm.core.snapshot import Head, Part
from rm.store import codec
from rm.store.damage import WHAT_TO_DO, StoreDamaged
from rm.store.database import Database

T = TypeVar("T")


def recover(database: Database) -> Ledger:
    """The books that everything in ``database`` makes.

    Raises:
        StoreDamaged: something is missing, or cannot be read, or cannot have happened. The text says what to do.
    """
    try:
        books = restored(database)
        for _ in replayed(books, database):
            pass
        tail = database.read_tail()
        if books.revision != tail:
            raise StoreDamaged(f"{database.path} ends at revision {books.revision}, and {tail} was written")
        check_agreement(books, database)
    except StoreDamaged as fault:
        raise StoreDamaged(f"{fault}. {WHAT_TO_DO}") from fault
    return books


def restored(database: Database) -> Ledger:
    """The books of the snapshot alone; empty ones where there is none.

    Raises:
        StoreDamaged: it cannot be read whole.
    """
    rows = database.read_parts()
    first = next(rows, None)
    if first is None:
        return Ledger(())
    key, body = first
    head = _decode(codec.decode_part, body, f"part {key} of the snapshot of {database.path}")
    if not isinstance(head, Head) or key != 0:
        raise StoreDamaged(f"the snapshot in {database.path} has no head")
    try:
        books = Ledger(head.cards)
        snapshot.restore(books, head, _parts(rows, database))
    except (AssertionError, LookupError, ValueError) as fault:
        raise StoreDamaged(f"the snapshot of revision {head.revision} in {database.path} cannot be: {fault}") from fault
    return books


def replayed(books: Ledger, database: Database) -> Iterator[int]:
    """Applies every event behind the revision of ``books``, one at a step: it answers with the event's revision.

    Raises:
        StoreDamaged: one is missing, or cannot be read or applied. The books are then of no use.
    """
    for revision, body in database.read_events(after=books.revision):
        place = f"event {revision} of {database.path}"
        if revision != books.revision + 1:
            raise StoreDamaged(f"event {books.revision + 1} of {database.path} is missing, {revision} is there")
        event = _decode(codec.decode_event, body, place)
        try:
            books.apply(event)
        except (AssertionError, LookupError, ValueError) as fault:
            raise StoreDamaged(f"{place} cannot have happened: {fault!r}") from fault
        yield revision


def check_agreement(books: Ledger, database: Database) -> None:
    """Compares what the pools count with their bits.

    Raises:
        StoreDamaged: they differ, so that some record named units that no pool has.
    """
    for card in books.cards.values():
        for pool in card.pools.values():
            for fault in pool.check():
                raise StoreDamaged(f"what {database.path} says does not agree: card {card.id}, {fault}")


def _parts(rows: Iterator[tuple[int, bytes]], database: Database) -> Iterator[Part]:
    for key, body in rows:
        part = _decode(codec.decode_part, body, f"part {key} of the snapshot of {database.path}")
        if isinstance(part, Head):
            raise StoreDamaged(f"part {key} of the snapshot in {database.path} is a second head")
        yield part


def _decode(decode: Callable[[bytes], T], body: bytes, place: str) -> T:
    try:
        return decode(body)
    except StoreDamaged as fault:
        raise StoreDamaged(f"{place} cannot be read: {fault}") from fault
