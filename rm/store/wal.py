"""A look at SQLite's log before SQLite takes one: it cuts a log off at the first bad frame, and says nothing.

Every commit is synced before the next one begins, so a crash can tear the last transaction, and no other. Where a whole
transaction stands behind another one that cannot be read, something that was answered for is damaged. SQLite must not
see such a log: it would drop both, and write over them.

The log has a header, then frames: 24 bytes and one page each. A frame belongs to it if it has the header's salts (what
stands behind the last one is older); its checksum covers all frames before it; the last of a transaction is marked.
A transaction writes no page twice, and all of them write one page in common (the tail, see rm/store/database.py): so a
page that comes again begins another one, even where the mark between the two is damaged.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from operator import mul
from pathlib import Path

from rm.store.damage import StoreDamaged

_HEADER = struct.Struct(">8I")  # magic, version, page bytes, checkpoint number, 2 salts, 2 checksums
_FRAME = struct.Struct(">6I")  # page, pages in the file if it commits, 2 salts, 2 checksums
_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}  # of the words that a checksum adds, told by the magic
_U32 = 0xFFFF_FFFF

_Checksum = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Frame:
    """``is_of_log``: it has the salts. ``follows``: its checksum fits the frame before it, read or as it should be.

    ``follows`` is None where the frame before it is not of this log, so that it cannot be told.
    """

    page: int
    is_commit: bool
    is_of_log: bool
    follows: bool | None
    is_readable: bool


def check(path: Path) -> int:
    """Counts the frames that SQLite will take from the log ``path``; 0 where there is none.

    Raises:
        StoreDamaged: it would lose a transaction that was synced.
    """
    try:
        log = path.read_bytes()
    except FileNotFoundError:
        return 0
    if len(log) <= _HEADER.size:
        return 0  # the header is synced before the first frame is written
    count, behind = 0, list[_Frame]()
    for index, frame in enumerate(_frames(log, path), start=1):
        behind.append(frame)
        if frame.is_readable and frame.is_commit:
            count, behind = index, []
    if _has_whole_transaction_behind_another(behind):
        raise StoreDamaged(f"{path} is damaged behind frame {count}: a transaction that was synced cannot be read")
    return count


def _has_whole_transaction_behind_another(frames: list[_Frame]) -> bool:
    is_first = True
    pages: set[int] = set()
    for frame in frames:
        if not frame.is_of_log:
            continue
        if frame.page in pages:
            is_first, pages = False, set()
        pages.add(frame.page)
        if frame.is_commit:
            if frame.follows is not False and not is_first:  # what a full disk left unfinished does not follow
                return True
            is_first, pages = False, set()
    return False


def _frames(log: bytes, path: Path) -> Iterator[_Frame]:
    page_bytes, salts, order, checksum = _read_header(log, path)
    stored = computed = checksum
    is_readable = was_of_log = True
    for start in range(_HEADER.size, len(log) - page_bytes - _FRAME.size + 1, _FRAME.size + page_bytes):
        page, size_after, *frame_salts, first, second = _FRAME.unpack_from(log, start)
        is_of_log = frame_salts == salts and page > 0
        follows = None
        if is_of_log:
            body = log[start : start + 8] + log[start + _FRAME.size : start + _FRAME.size + page_bytes]
            expected = _checksum(body, stored, order)
            as_it_should_be = expected if computed == stored else _checksum(body, computed, order)
            follows = (first, second) in {expected, as_it_should_be} if was_of_log else None
            is_readable = is_readable and (first, second) == expected
            computed = expected
        else:
            is_readable = False
        stored, was_of_log = (first, second), is_of_log
        yield _Frame(page, size_after > 0, is_of_log, follows, is_readable)


def _read_header(log: bytes, path: Path) -> tuple[int, list[int], str, _Checksum]:
    magic, _, page_bytes, _, *salts, first, second = _HEADER.unpack_from(log)
    order = _ORDERS.get(magic)
    if order is None or _checksum(log[: _HEADER.size - 8], (0, 0), order) != (first, second):
        raise StoreDamaged(f"the header of {path} is damaged, and frames stand behind it")
    return page_bytes, salts, order, (first, second)


def _checksum(data: bytes, start: _Checksum, order: str) -> _Checksum:
    """SQLite's checksum of ``data``, whose words have the byte order ``order``, going on from ``start``.

    Each step adds a word and the last two sums, so a word weighs a Fibonacci number: as a product of two vectors
    that takes half the time of the loop.
    """
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    weights = _fibonacci_numbers(len(words) + 2)
    first = start[1] * weights[1] + start[0] * weights[2] + sum(map(mul, words, weights[2:]))
    second = start[1] * weights[0] + start[0] * weights[1] + sum(map(mul, words, weights[1:]))
    return first & _U32, second & _U32


@cache
def _fibonacci_numbers(count: int) -> tuple[int, ...]:
    """The first ``count`` of them, modulo 2**32, the last one first."""
    numbers = [0, 1]
    while len(numbers) < count:
        numbers.append((numbers[-1] + numbers[-2]) & _U32)
    return tuple(reversed(numbers))
