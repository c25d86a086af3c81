"""The directories that one daemon owns alone: made, checked and locked before anything else happens.

The lock is a ``flock`` that is held for life. It is free again the moment the daemon is dead, also after SIGKILL; two
servers on one socket path would take each other's clients in silence.
"""

import fcntl
import os
import stat
from pathlib import Path


class DirectoryTaken(Exception):
    """Another daemon has the directory."""


class DirectoryUnsafe(Exception):
    """The directory cannot be made, or others could put files into it."""


class OwnedDirectory:
    """A directory that belongs to this process until it is released."""

    def __init__(self, path: Path, *, mode: int) -> None:
        """Makes ``path`` with ``mode`` where it is missing, checks it, and locks it.

        Raises:
            DirectoryUnsafe: a link, not ours, writable by others, or it cannot be made.
            DirectoryTaken: another process has locked it.
        """
        self.path = path
        _make(path, mode)
        _check(path)
        self._lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            os.close(self._lock_fd)
            raise DirectoryTaken(f"another daemon runs in {path}") from fault
        os.register_at_fork(after_in_child=self.release)

    def release(self) -> None:
        """Lets the directory go. A forked child does so at once, or it would hold the lock for a dead parent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _make(path: Path, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode, exist_ok=True)
    except OSError as fault:
        raise DirectoryUnsafe(f"cannot make the directory {path}: {fault.strerror}") from fault


def _check(path: Path) -> None:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
        raise DirectoryUnsafe(f"{path} is a link or no directory; name a directory of the daemon's own")
    if status.st_uid != os.geteuid():
        raise DirectoryUnsafe(f"{path} belongs to uid {status.st_uid}, not to the daemon's uid {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DirectoryUnsafe(f"{path} is writable by others; 'chmod go-w {path}' mends it")
