"""Who still has a memory file that the daemon has no descriptor of: asks the kernel, process by process.

After a restart of the daemon a window may be out of its reach: its holder did not hand it back, or a forked child of a
dead holder has it. Such a window is quiet when no process maps it or has it open. Looking costs some 50 us a process,
so it is done in a thread, for all such windows at once, and only while there are any.

A process that the daemon may not look into is taken to have the window where it is the holder itself, else not. What is
at stake is memory of the host, never another holder's data: every holder has a file of its own.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from rm.core.lease import ANY_WINDOW, WindowMark
from rm.core.types import LeaseId

NAME_PREFIX = "/memfd:leasehold-"
GRACE_S = 1.0  # for who lets go as soon as it is told
_PERIOD_S = 0.25

_File = tuple[int, int]  # device and inode


@dataclass(slots=True, eq=False)
class _Watched:
    """Windows of one lease, whom to tell when nobody has them, and when they were first seen to be in use."""

    lease_id: LeaseId
    holder_pid: int
    marks: tuple[WindowMark, ...]
    on_quiet: Callable[[], None]
    seen_s: float = math.inf


class Inheritors:
    """Watches windows until nobody has them.

    ``on_in_use`` is called, from a thread of its own, after every look that began GRACE_S after the first that saw a
    process with a window of a lease, and still sees one; with the time of that, as ``time.monotonic`` has it.
    """

    def __init__(self, on_in_use: Callable[[LeaseId, float], None] = lambda lease_id, seen_s: None) -> None:
        self._on_in_use = on_in_use
        self._changed = threading.Condition()
        self._watched: list[_Watched] = []
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def watch(
        self, lease_id: LeaseId, holder_pid: int, marks: tuple[WindowMark, ...], on_quiet: Callable[[], None]
    ) -> None:
        """Calls ``on_quiet`` from a thread of its own once no process has any of ``marks``, windows of a lease."""
        with self._changed:
            self._watched.append(_Watched(lease_id, holder_pid, marks, on_quiet))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="inheritors", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Watches no longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched or self._is_closed)
                if self._is_closed:
                    return
                watched = list(self._watched)
            quiet: set[_Watched] = set()
            with suppress(OSError):  # this host has no descriptor left, say: it is looked again
                begun_s = time.monotonic()
                files, hidden = _files_in_use()
                quiet = {one for one in watched if not _has_any(one.holder_pid, one.marks, files, hidden)}
                for one in watched:
                    if one not in quiet:
                        one.seen_s = min(one.seen_s, begun_s)
                        if begun_s - one.seen_s >= GRACE_S:
                            self._on_in_use(one.lease_id, time.monotonic())
            with self._changed:
                self._watched = [one for one in self._watched if one not in quiet]
                if not quiet:
                    self._changed.wait_for(lambda: self._is_closed, _PERIOD_S)
                if self._is_closed:
                    return
            for one in quiet:
                one.on_quiet()


def are_in_use(marks: tuple[WindowMark, ...]) -> bool:
    """Whether a process is seen to have one of these windows."""
    files, _ = _files_in_use()
    return _has_any(0, marks, files, ())


def _has_any(holder_pid: int, marks: tuple[WindowMark, ...], files: Collection[_File], hidden: Collection[int]) -> bool:
    if ANY_WINDOW in marks:
        return bool(files)
    return holder_pid in hidden or any((mark.device, mark.inode) in files for mark in marks)


def _files_in_use() -> tuple[set[_File], set[int]]:
    """The windows that some process but this one has, and the processes that cannot be looked into."""
    files: set[_File] = set()
    hidden: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                files.update(_mapped_by(name))
                files.update(_opened_by(name))
            except PermissionError:
                hidden.add(int(name))
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue
    return files, hidden


def _mapped_by(pid: str) -> Iterator[_File]:
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if NAME_PREFIX in line:
                addresses, _, _, device, inode, _ = line.split(maxsplit=5)
                major, minor = device.split(":")
                with suppress(PermissionError, FileNotFoundError):  # where the kernel does not tell, it may be one
                    if not _may_be_window(os.stat(f"/proc/{pid}/map_files/{addresses}")):
                        continue
                yield os.makedev(int(major, 16), int(minor, 16)), int(inode)


def _opened_by(pid: str) -> Iterator[_File]:
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(entry.path).startswith(NAME_PREFIX):
                status = os.stat(entry.path)
                if _may_be_window(status):
                    yield status.st_dev, status.st_ino


def _may_be_window(status: os.stat_result) -> bool:
    """Whether a file may be a window: of the daemon's own, for anybody may call a file so, and not truncated yet."""
    return status.st_uid == os.geteuid() and status.st_size > 0
