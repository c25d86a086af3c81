"""Moves bytes between addresses of this process, as the copy engine of a card would: a bad address is an answer.

The kernel does it (``process_vm_readv`` on the process itself), so an address that is not mapped, or memory that the
daemon has taken back, is refused with ``BadAddress``; a plain copy would end the process. Other threads run meanwhile.
"""

import ctypes
import errno
import os

CHUNK_BYTES = 1 << 20  # of scratch memory a thread
_VECTORS_MAX = 1_024  # IOV_MAX


class BadAddress(Exception):
    """Some of the memory is not there, or not any more."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_readv.restype = ctypes.c_ssize_t
_libc.process_vm_readv.argtypes = [
    ctypes.c_int,
    ctypes.POINTER(_Vector),
    ctypes.c_ulong,
    ctypes.POINTER(_Vector),
    ctypes.c_ulong,
    ctypes.c_ulong,
]
_libc.memcmp.restype = ctypes.c_int
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def copy(target: int, source: int, byte_count: int) -> None:
    """Copies; where the two overlap, as if by way of other memory.

    Raises:
        BadAddress: some of either is not there; what was copied before that stays copied.
    """
    if source < target < source + byte_count or target < source < target + byte_count:
        _copy_overlapping(target, source, byte_count)
        return
    while byte_count:
        done = _move(_Vector(target, byte_count), [_Vector(source, byte_count)])
        target, source, byte_count = target + done, source + done, byte_count - done


def fill(target: int, value: int, byte_count: int) -> None:
    """Writes ``value`` into every byte.

    Raises:
        BadAddress: some of it is not there.
    """
    pattern = ctypes.create_string_buffer(bytes([value]) * min(byte_count, CHUNK_BYTES), min(byte_count, CHUNK_BYTES))
    size, base = len(pattern), ctypes.addressof(pattern)
    while byte_count:
        count = min(_VECTORS_MAX, -(-byte_count // size))
        span = min(byte_count, count * size)
        sources = [_Vector(base, min(size, span - index * size)) for index in range(count)]
        done = _move(_Vector(target, span), sources)
        target, byte_count = target + done, byte_count - done


def are_equal(one: int, other: int, byte_count: int) -> bool:
    """Whether two stretches of memory hold the same bytes.

    Raises:
        BadAddress: some of either is not there.
    """
    mine, theirs = (ctypes.create_string_buffer(min(byte_count, CHUNK_BYTES)) for _ in range(2))
    while byte_count:
        size = min(byte_count, CHUNK_BYTES)
        copy(ctypes.addressof(mine), one, size)
        copy(ctypes.addressof(theirs), other, size)
        if _libc.memcmp(mine, theirs, size):
            return False
        one, other, byte_count = one + size, other + size, byte_count - size
    return True


def _copy_overlapping(target: int, source: int, byte_count: int) -> None:
    """Copies by way of a scratch buffer, from the end where the target lies behind the source."""
    scratch = ctypes.create_string_buffer(min(byte_count, CHUNK_BYTES))
    starts = range(0, byte_count, CHUNK_BYTES)
    for start in reversed(starts) if target > source else starts:
        size = min(CHUNK_BYTES, byte_count - start)
        copy(ctypes.addressof(scratch), source + start, size)
        copy(target + start, ctypes.addressof(scratch), size)


def _move(target: _Vector, sources: list[_Vector]) -> int:
    """Copies ``sources``, one behind the other, and answers how many bytes, at least one."""
    vectors = (_Vector * len(sources))(*sources)
    done = _libc.process_vm_readv(os.getpid(), target, 1, vectors, len(sources), 0)
    if done > 0:
        return int(done)
    number = ctypes.get_errno()
    if number in {errno.ENOSYS, errno.EPERM}:  # a sandbox without the call: a copy that trusts its addresses
        at = target.base
        for source in sources:
            ctypes.memmove(at, source.base, source.length)
            at += source.length
        return int(target.length)
    raise BadAddress(os.strerror(number))
