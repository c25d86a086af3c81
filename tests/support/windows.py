"""Windows of the embedded card: a back end, leases of which only the windows matter, and processes that keep one."""

import os
import subprocess
import sys
from types import TracebackType

from rm.core.card import Allotment
from rm.core.lease import Lease, WindowMark
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, UnitRange, UnitSet
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import load_profile

UNIT = 65_536
DEADLINE_S = 60.0

KEEPER = """
import mmap, os, sys
way, fds = sys.argv[1], [int(fd) for fd in sys.argv[2:]]
if way in ("maps", "maps in a child"):
    views = [mmap.mmap(fd, 0) for fd in fds]
    for fd in fds:
        os.close(fd)
if way.endswith("in a child") and os.fork():
    os._exit(0)
sys.stdout.write(f"{os.getpid()}\\n")
sys.stdout.flush()
sys.stdin.read()
"""


class Keeper:
    """A real process that has windows until the block ends, in one of the WAYS, and nothing else."""

    WAYS = ("opens", "maps", "opens in a child", "maps in a child")

    def __init__(self, way: str, *fds: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, way, *map(str, fds)],
            pass_fds=fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first_pid = self._process.pid
        self.pid = int(self._process.stdout.readline())
        if way.endswith("in a child"):
            self._process.wait(DEADLINE_S)
            assert self.pid != self.first_pid

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ends it; idempotent. It is gone when this returns: its output ends with the last process that has it."""
        if not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.stdout.read()
            self._process.stdout.close()
        self._process.wait(DEADLINE_S)


def make(card_count: int = 1, cpus: tuple[int, ...] = (0, 1), profile: str = "embedded") -> EmbeddedBackend:
    """A back end with cards of 64 units of memory."""
    return EmbeddedBackend(load_profile(profile), card_count=card_count, memory_bytes=64 * UNIT, cpus=cpus)


def memory(start: int, stop: int) -> Allotment:
    """An allotment of memory."""
    return Allotment(PoolName("memory"), UnitSet((0,), ((UnitRange(start, stop),),)))


def lease_of(lease_id: str, *windows: WindowMark, pid: int = 0) -> Lease:
    """A lease as the books would have it; its holder is this process unless ``pid`` says another."""
    holder = Holder(pid or os.getpid(), 0, "test")
    return Lease(LeaseId(lease_id), 1, CardId("0"), (), SessionId("s1"), holder, None, "", 0, windows)


def never() -> None:
    """What a back end must not call."""
    raise AssertionError("it was quiet already")
