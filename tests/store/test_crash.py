"""What recovers is a prefix: never less than what was answered for, and at most the one batch more that was not.

Every commit of a history is torn at every place that could matter, and bits are flipped all over the files.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from rm.store import wal
from rm.store.damage import StoreDamaged
from support.images import Image, Recording, record, recovered

HEADER, FRAME, PAGE = 32, 24, 4_096
SECTOR = 512
SEED = 20


@pytest.fixture(scope="module")
def recording(place) -> Recording:
    (place / "recorded").mkdir()
    return record(place / "recorded")


def test_at_every_commit_all_that_was_answered_recovers(place, recording) -> None:
    assert len(recording.images) > 30
    for image in recording.images:
        assert recovered(place / "x", image.file, image.log) == recording.states[image.revision]


def test_sqlite_takes_as_many_frames_as_the_look_at_the_log_found(place, recording) -> None:
    for image in recording.images:
        path = place / "count.db"
        path.write_bytes(image.file)
        log = place / "count.db-wal"
        log.write_bytes(image.log)
        counted = wal.check(log)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        assert connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1] == counted
        connection.close()


def test_a_commit_that_was_torn_anywhere_is_there_or_is_not(place, recording) -> None:
    torn_count = 0
    for before, after in _commits(recording):
        for cut in _cuts(after.log, before.log):
            log = after.log[:cut] + before.log[cut:]
            torn_count += 1
            assert recovered(place / "x", before.file, log) in _either(recording, before, after), f"cut at {cut}"
    assert torn_count > 300


def test_sectors_that_reached_the_disk_in_any_order_make_a_prefix(place, recording) -> None:
    random = Random(SEED)
    for before, after in _commits(recording):
        # The header of a log is synced before its first frame.
        old = after.log[:HEADER] + before.log[HEADER:].ljust(len(after.log) - HEADER, b"\0")
        for _ in range(4):
            log = bytearray(old)
            for start in range(0, len(after.log), SECTOR):
                if random.random() < 0.7:
                    log[start : start + SECTOR] = after.log[start : start + SECTOR]
            got = recovered(place / "x", before.file, bytes(log))
            assert got in _either(recording, before, after), f"seed {SEED}"


def test_a_flipped_bit_of_the_log_is_found_or_takes_the_last_transaction_at_most(place, recording) -> None:
    last, one_less = recording.images[-1], recording.images[-2]
    (place / "log").write_bytes(last.log)
    frame_count = wal.check(place / "log")
    outcomes = []
    for bit in _bits_of_log(last.log, frame_count):
        got = _recovered_or_damaged(place, last.file, _flipped(last.log, bit))
        assert got in (None, *_either(recording, one_less, last)), f"bit {bit}"
        outcomes.append(got)
    assert outcomes.count(None) > len(outcomes) / 2


@pytest.mark.parametrize("which", [0, 20, -1])
def test_a_flipped_bit_of_the_file_is_found_or_harmless(place, recording, which) -> None:
    image = recording.images[which]
    random = Random(SEED)
    bits = [
        random.randrange(start * 8, (start + PAGE) * 8) for start in range(0, len(image.file), PAGE) for _ in range(20)
    ]
    bits += range(0, 100 * 8, 5)  # the header of the file
    for bit in bits:
        got = _recovered_or_damaged(place, _flipped(image.file, bit), image.log)
        assert got in (None, recording.states[image.revision]), f"bit {bit}"


def test_a_page_of_zeros_anywhere_is_found_or_harmless(place, recording) -> None:
    last, one_less = recording.images[-1], recording.images[-2]
    for start in range(0, len(last.file), PAGE):
        file = last.file[:start] + bytes(PAGE) + last.file[start + PAGE :]
        got = _recovered_or_damaged(place, file, last.log)
        assert got in (None, recording.states[last.revision]), f"page at {start}"
    headers = range(HEADER, len(last.log), FRAME + PAGE)
    for start in [header // SECTOR * SECTOR + more for header in headers for more in (0, SECTOR)]:
        log = last.log[:start] + bytes(min(SECTOR, len(last.log) - start)) + last.log[start + SECTOR :]
        got = _recovered_or_damaged(place, last.file, log)
        assert got in (None, *_either(recording, one_less, last)), f"sector at {start}"


# How.


def _commits(recording: Recording) -> Iterator[tuple[Image, Image]]:
    """Each image with the next one, where something was written to the log between them."""
    pairs = zip(recording.images, recording.images[1:], strict=False)
    return ((before, after) for before, after in pairs if before.log != after.log)


def _cuts(new: bytes, old: bytes) -> list[int]:
    """Where a write of ``new`` over ``old`` may have stopped: round each frame that differs, and within it."""
    cuts = {0, 1, HEADER - 1, HEADER} if new[:HEADER] != old[:HEADER] and not old else set()
    for start in range(HEADER, len(new), FRAME + PAGE):
        if new[start : start + FRAME + PAGE] != old[start : start + FRAME + PAGE]:
            cuts |= {
                start,
                start + 1,
                start + 8,
                start + FRAME,
                start + FRAME + 1,
                start + 2_000,
                start + FRAME + PAGE - 1,
            }
    return sorted(cut for cut in {*cuts, len(new)} if cut <= len(new))


def _either(recording: Recording, before: Image, after: Image) -> tuple:
    return recording.states[before.revision], recording.states[after.revision]


def _bits_of_log(log: bytes, frame_count: int) -> list[int]:
    """All of the header, half of the last frames' headers, some of each other header and of each page."""
    random = Random(SEED)
    bits = list(range(HEADER * 8))
    for index in range(frame_count):
        start = HEADER + index * (FRAME + PAGE)
        header, page = range(start * 8, (start + FRAME) * 8), range((start + FRAME) * 8, (start + FRAME + PAGE) * 8)
        bits += random.sample(header, k=64 if index >= frame_count - 6 else 4)
        bits += random.sample(page, k=3)
    return bits


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _recovered_or_damaged(place: Path, file: bytes, log: bytes):
    try:
        return recovered(place / "x", file, log)
    except StoreDamaged:
        return None
