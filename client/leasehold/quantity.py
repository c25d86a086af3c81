"""Sizes and durations as people write them: ``512MiB``, ``64KiB``, plain bytes; ``30s``, ``500ms``, plain seconds."""

import math
import re

_SIZES = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_SIZES |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", re.ASCII)
BYTES_MAX = (1 << 63) - 1


def parse_size(text: str | int) -> int:
    """Bytes from a size; a whole number of them, at least 1.

    Raises:
        ValueError: it is no size; the text says what is.
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f"{text!r} is no size; write 512MiB, 64KiB or a number of bytes")
    match = _QUANTITY.fullmatch(str(text))
    unit = _SIZES.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{text!r} is no size; write 512MiB, 64KiB or a number of bytes")
    whole, _, fraction = match[1].partition(".")
    scaled = int(whole + fraction) * unit
    scale: int = 10 ** len(fraction)
    size, rest = divmod(scaled, scale)
    if rest or not 1 <= size <= BYTES_MAX:
        raise ValueError(f"{text!r} is no whole number of bytes from 1 to 2^63 - 1")
    return size


def parse_duration(text: str | float) -> float:
    """Seconds from a duration, at least 0 and finite.

    Raises:
        ValueError: it is no duration; the text says what is.
    """
    match = _QUANTITY.fullmatch(str(text)) if isinstance(text, str) else None
    if isinstance(text, int | float) and not isinstance(text, bool):
        seconds = float(text)
    elif match is not None and match[2] in _SECONDS:
        seconds = float(match[1]) * _SECONDS[match[2]]
    else:
        raise ValueError(f"{text!r} is no duration; write 30s, 500ms, 5m or a number of seconds")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{text!r} is no duration from 0 seconds up")
    return seconds


def size_text(byte_count: int) -> str:
    """Bytes in the largest unit that fits: ``512 MiB``, ``7.5 GiB``, ``100 B``."""
    for name, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if byte_count >= size:
            return f"{byte_count / size:.4g} {name}"
    return f"{byte_count} B"


def duration_text(seconds: float) -> str:
    """Seconds in words short enough for a table: ``850 ms``, ``12 s``, ``3 min``, ``2 h``."""
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
