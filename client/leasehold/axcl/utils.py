"""Between the bytes of Python and addresses."""

import ctypes


def bytes_to_ptr(data: bytes) -> int:
    """Where ``data`` lies, for as long as the program refers to it; not to be written to."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def ptr_to_bytes(ptr: int, size: int) -> bytes:
    """A copy of ``size`` bytes of host memory at ``ptr``, which must be there."""
    return ctypes.string_at(ptr, size)
