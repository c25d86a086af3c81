"""A client process as the books know it: enough to find out after a restart whether it still lives."""

from dataclasses import dataclass

from rm.core.types import Holder, SessionId


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """Tells a process from all others of this boot, also where a pid is used again.

    ``pidfd_inode`` is that of its pidfd, unique since Linux 6.9. Before that it is 0, and ``start_ticks`` (field 22 of
    /proc/PID/stat, 10 ms each) must do, which fast reuse of a pid can equal.
    """

    pid: int
    pidfd_inode: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """An open session. ``secret_hash`` is the SHA-256 of its secret, which the daemon does not keep."""

    id: SessionId
    secret_hash: bytes
    holder: Holder
    process: ProcessKey
