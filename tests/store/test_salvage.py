"""A damaged store is refused; salvage is an operator's act, gives nothing out and never goes back in numbers."""

import sqlite3
from pathlib import Path

import pytest

from rm.core.events import Granted
from rm.core.ledger import Ledger
from rm.core.snapshot import SALVAGE_LEAP, take
from rm.core.types import CardId
from rm.store import codec
from rm.store.damage import StoreDamaged
from rm.store.database import BALLAST, FILE, Database, DiskFull
from rm.store.opening import MARKER, open_database
from rm.store.recovery import recover
from rm.store.salvage import NothingToSalvage, salvage
from support.history import CARDS, history, states

EVENTS = history(60)
STATES = states(EVENTS)
LAST_TOKEN = max(event.lease.token for event in EVENTS if isinstance(event, Granted))


@pytest.fixture
def directory(tmp_path) -> Path:
    """A store of a whole history, with a snapshot at 25, that was closed."""
    database = open_database(tmp_path)
    database.write([(index + 1, codec.encode_event(event)) for index, event in enumerate(EVENTS[:25])])
    snapshot = STATES[25]
    database.compact([codec.encode_part(part) for part in (snapshot.head, *snapshot.parts)], 25)
    database.write([(index + 26, codec.encode_event(event)) for index, event in enumerate(EVENTS[25:])])
    database.close()
    return tmp_path


def change(directory: Path, statement: str) -> None:
    """Does something to the rows behind the store's back."""
    with sqlite3.connect(directory / FILE) as connection:
        connection.execute(statement)
    connection.close()


def found(directory: Path) -> Ledger:
    database = open_database(directory)
    try:
        return recover(database)
    finally:
        database.close()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


DAMAGES = {
    "another event in its place": (
        "UPDATE event SET body = (SELECT body FROM event WHERE revision = 41) WHERE revision = 40"
    ),
    "an event and its digest in another's place": (
        "UPDATE event SET (digest, body) = (SELECT digest, body FROM event WHERE revision = 41) WHERE revision = 40"
    ),
    "a missing event": "DELETE FROM event WHERE revision = 40",
    "a missing end": "DELETE FROM event WHERE revision >= 58",
    "no events at all": "DELETE FROM event",
    "a missing part of the snapshot": "DELETE FROM snapshot WHERE part = 2",
    "a missing last part of the snapshot": "DELETE FROM snapshot WHERE part = (SELECT max(part) FROM snapshot)",
    "a missing head": "DELETE FROM snapshot WHERE part = 0",
    "no snapshot at all": "DELETE FROM snapshot",
    "text for bytes": "UPDATE event SET body = 'text' WHERE revision = 50",
    "a missing table": "DROP TABLE event",
    "a missing tail": "DELETE FROM tail",
    "another tail": "UPDATE tail SET revision = revision - 1",
}


@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES)
def test_what_was_changed_behind_its_back_is_refused_and_can_be_salvaged(directory, statement) -> None:
    change(directory, statement)
    with pytest.raises(StoreDamaged, match=r"salvage.*docs/operations.md"):
        found(directory)
    report = salvage(directory, CARDS)
    assert report.put_aside == (directory / f"{FILE}.damaged-1",)
    check_nothing_is_free(found(directory))


def test_the_revision_that_is_damaged_is_named(directory) -> None:
    change(directory, "UPDATE event SET body = x'00' WHERE revision = 40")
    with pytest.raises(StoreDamaged, match=r"event 40 of .*state.db is not as it was written"):
        found(directory)
    change(directory, "DELETE FROM event WHERE revision = 40")
    with pytest.raises(StoreDamaged, match=r"event 40 of .*state.db is missing, 41 is there"):
        found(directory)


def test_an_event_that_cannot_have_happened_is_refused(directory) -> None:
    database = open_database(directory)
    database.write([(61, codec.encode_event(next(event for event in EVENTS if isinstance(event, Granted))))])
    database.close()
    with pytest.raises(StoreDamaged, match=r"event 61 of .* cannot have happened"):
        found(directory)


@pytest.mark.parametrize(
    ("pragma", "words"),
    [
        ("application_id = 7", "no state of rmd"),
        ("user_version = 2", "newer rmd: it has schema 2, this rmd knows 1"),
        ("user_version = 0", "schema 0"),
    ],
)
def test_the_file_of_another_program_or_of_a_newer_rmd_is_refused(directory, pragma, words) -> None:
    change(directory, f"PRAGMA {pragma}")
    with pytest.raises(StoreDamaged, match=words):
        found(directory)


# A store that is gone.


@pytest.mark.parametrize("left", [MARKER, BALLAST, f"{FILE}-wal"])
def test_a_lost_store_is_no_first_start(directory, left) -> None:
    for name in names(directory):
        (directory / name).unlink()
    (directory / left).write_bytes(b"x")
    with pytest.raises(StoreDamaged, match=f"gone, but {left}"):
        found(directory)
    assert names(directory) == {left}


@pytest.mark.parametrize("size", [0, 1, 100, 4_096, 9_000])
def test_a_file_that_was_cut_short_is_refused_and_can_be_salvaged(directory, size) -> None:
    path = directory / FILE
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreDamaged):
        found(directory)
    salvage(directory, CARDS)
    check_nothing_is_free(found(directory))


def test_a_start_that_was_broken_off_while_the_store_was_made_is_a_first_start(tmp_path) -> None:
    (tmp_path / f"{FILE}.new").write_bytes(b"half")
    assert take(found(tmp_path)) == STATES[0]
    assert names(tmp_path) == {FILE, MARKER}


# Salvage.


def check_nothing_is_free(books: Ledger) -> None:
    assert not books.leases
    assert not books.sessions
    for pool in books.cards[CardId("0")].pools.values():
        assert pool.free_count == 0
        assert pool.quarantined_count == pool.total_count
    assert books.last_token > LAST_TOKEN
    assert books.last_token >= SALVAGE_LEAP
    assert books.epoch >= SALVAGE_LEAP


def test_salvage_of_a_whole_store_is_refused_and_changes_nothing(directory) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(NothingToSalvage):
        salvage(directory, CARDS)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_salvage_where_there_never_was_a_store_is_refused_and_makes_none(tmp_path) -> None:
    with pytest.raises(NothingToSalvage):
        salvage(tmp_path, CARDS)
    assert not names(tmp_path)


def test_salvage_keeps_what_could_be_read_up_to_the_damage(directory) -> None:
    change(directory, "UPDATE event SET body = x'00' WHERE revision = 40")
    report = salvage(directory, CARDS)
    assert report.revision == 39
    assert "kept" in report.reservations
    books = found(directory)
    assert set(books.reservations) == set(report.reservations)
    assert books.revision >= 60 + SALVAGE_LEAP, "the numbers behind the damage count"
    assert books.last_token == LAST_TOKEN + SALVAGE_LEAP
    check_nothing_is_free(books)


def test_what_is_put_aside_is_as_it_was_found(directory) -> None:
    path = directory / FILE
    damaged = path.read_bytes()[:-3_000] + bytes(3_000)
    path.write_bytes(damaged)
    (directory / f"{FILE}-wal").write_bytes(b"no log" * 100)
    report = salvage(directory, CARDS)
    assert [one.name for one in report.put_aside] == [f"{FILE}.damaged-1", f"{FILE}.damaged-1-wal"]
    assert report.put_aside[0].read_bytes() == damaged
    assert report.put_aside[1].read_bytes() == b"no log" * 100
    check_nothing_is_free(found(directory))


def test_what_is_no_database_at_all_can_be_salvaged(directory) -> None:
    (directory / FILE).write_bytes(b"what is this" * 1_000)
    report = salvage(directory, CARDS)
    assert report.revision == 0
    assert report.reservations == ()
    check_nothing_is_free(found(directory))


def test_a_second_salvage_keeps_the_first_file_and_never_goes_back_in_numbers(directory) -> None:
    tokens = []
    for number in (1, 2, 3):
        (directory / FILE).write_bytes(b"nothing can be read")
        report = salvage(directory, CARDS)
        assert report.put_aside == (directory / f"{FILE}.damaged-{number}",)
        tokens.append(found(directory).last_token)
    assert tokens == [SALVAGE_LEAP, 2 * SALVAGE_LEAP, 3 * SALVAGE_LEAP]


def test_a_salvage_that_was_broken_off_between_its_two_files_goes_on(directory) -> None:
    change(directory, "UPDATE event SET body = x'00' WHERE revision = 40")
    salvage(directory, CARDS)
    (directory / FILE).rename(directory / f"{FILE}.salvaged")
    with pytest.raises(StoreDamaged, match="gone"):
        found(directory)
    report = salvage(directory, CARDS)
    assert "kept" in report.reservations
    books = found(directory)
    assert books.last_token > LAST_TOKEN + SALVAGE_LEAP
    check_nothing_is_free(books)


def test_a_salvage_without_room_leaves_all_as_it_was(directory, monkeypatch) -> None:
    change(directory, "DELETE FROM event WHERE revision = 40")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}

    def full(path, *more) -> None:
        raise DiskFull(f"the disk of {path} is full")

    monkeypatch.setattr(Database, "create", full)
    with pytest.raises(DiskFull):
        salvage(directory, CARDS)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_cards_that_changed_lose_their_reservations(directory) -> None:
    change(directory, "DELETE FROM event WHERE revision = 40")
    other = (type(CARDS[0])(CardId("0"), "other", "fake", CARDS[0].pools),)
    assert salvage(directory, other).reservations == ()
    check_nothing_is_free(found(directory))
