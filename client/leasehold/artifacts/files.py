"""Files that are there whole or not at all, and files that are read only up to a size."""

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from leasehold.errors import Invalid


def read_limited(path: Path, bytes_max: int) -> bytes:
    """The bytes of a file that has not too many.

    Raises:
        Invalid: it has more.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise Invalid(f"{path} has more than the {bytes_max} bytes that are possible", facts={"path": str(path)})
    return data


def replace_file(target: Path, parts: Iterable[bytes], *, like: Path | None = None) -> None:
    """Writes a file beside ``target`` and puts it in its place once it is on disk; as readable as ``like``, if given.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    place = target.resolve()  # what a link leads to, and not the link
    mode = 0o666 & ~_umask() if like is None else like.stat().st_mode & 0o777
    try:
        fd, name = tempfile.mkstemp(prefix=".leasehold.", dir=place.parent)
    except OSError as fault:  # told of the file that was asked for, not of one that nobody knows
        raise OSError(fault.errno, fault.strerror, str(target)) from fault
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), mode)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, place)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
