"""A disk that forgets what was not synced: a row of transactions, each a frame that is there whole or not at all.

What a crash leaves behind ends somewhere in the bytes that were on their way. ``read`` finds the frame that was torn
by its length and its checksum, and cuts it off, as SQLite does with its log.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from struct import Struct

_FRAME = Struct("<IIq")  # bytes of the payload, checksum, the last revision that is then written
_ROW = Struct("<BqI")  # whether it is an event, its key, bytes of its body
_ROOM_IN_BALLAST = 12  # events

Row = tuple[bool, int, bytes]


def frame_of(revision: int, rows: Iterable[Row]) -> bytes:
    """One transaction, after which ``revision`` is the last, as bytes."""
    payload = b"".join(_ROW.pack(is_event, key, len(body)) + body for is_event, key, body in rows)
    return _FRAME.pack(len(payload), zlib.crc32(payload, revision), revision) + payload


class Image:
    """What can be read of a disk; asked by the recovery as the file of a store is."""

    path = Path("the simulated disk")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.events: list[tuple[int, bytes]] = []
        self.revision = 0

    def add(self, revision: int, rows: Sequence[Row]) -> None:
        """Adds a transaction: events, or a snapshot that takes the place of all before it."""
        if rows[0][0]:
            self.events += [(key, body) for _, key, body in rows]
        else:
            self.parts, self.events = [body for _, _, body in rows], []
        self.revision = revision

    def read_parts(self) -> Iterator[tuple[int, bytes]]:
        return iter(enumerate(self.parts))

    def read_events(self, *, after: int) -> Iterator[tuple[int, bytes]]:
        return ((revision, body) for revision, body in self.events if revision > after)

    def read_tail(self) -> int:
        return self.revision


class Disk:
    """The bytes that are safe, and whether there is room for more."""

    def __init__(self) -> None:
        self.data = b""
        self.is_full = False
        self.has_ballast = True
        self._room = 0  # events that fit into what the ballast gave back
        self.torn_count = 0

    def write(self, revision: int, rows: Sequence[Row]) -> bool:
        """Makes events safe, all or none; says whether there was room."""
        if self.is_full:
            if len(rows) > self._room:
                return False
            self._room -= len(rows)
        self.data += frame_of(revision, rows)
        return True

    def compact(self, revision: int, rows: Sequence[Row]) -> bool:
        """Puts a snapshot in the place of everything; says whether there was room."""
        if not self.is_full:
            self.data = frame_of(revision, rows)
        return not self.is_full

    def drop_ballast(self) -> bool:
        """Gives room for a few events; says whether there was any to give."""
        self._room = _ROOM_IN_BALLAST if self.has_ballast else self._room
        had_one, self.has_ballast = self.has_ballast, False
        return had_one

    def crash(self, on_their_way: Sequence[bytes], random: Random) -> None:
        """Keeps some of the frames that were being written: all, none, or up to any byte of them."""
        late = b"".join(on_their_way)
        kept = random.choice((0, len(late), random.randrange(len(late) + 1)))
        late = late[:kept]
        if late and random.random() < 0.2:  # the last sector is rubbish
            late = late[:-1] + bytes([late[-1] ^ 0x5A])
        self.data += late

    def read(self) -> Image:
        """What is there; from now on, what was torn is gone."""
        image, offset = Image(), 0
        while (frame := _frame_at(self.data, offset)) is not None:
            revision, payload = frame
            image.add(revision, list(_rows_of(payload)))
            offset += _FRAME.size + len(payload)
        if offset < len(self.data):
            self.torn_count += 1
            self.data = self.data[:offset]
        return image


def _frame_at(data: bytes, offset: int) -> tuple[int, bytes] | None:
    if len(data) < offset + _FRAME.size:
        return None
    length, checksum, revision = _FRAME.unpack_from(data, offset)
    payload = data[offset + _FRAME.size : offset + _FRAME.size + length]
    is_whole = len(payload) == length and zlib.crc32(payload, revision) == checksum
    return (revision, payload) if is_whole else None


def _rows_of(payload: bytes) -> Iterator[Row]:
    offset = 0
    while offset < len(payload):
        is_event, key, length = _ROW.unpack_from(payload, offset)
        offset += _ROW.size + length
        yield bool(is_event), key, payload[offset - length : offset]
