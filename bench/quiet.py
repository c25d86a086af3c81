"""How much of the CPUs went to processes that are not ours, while something was measured."""

import os
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # of the first line of /proc/stat: user, nice, system, irq, softirq, steal


class OthersMeter:
    """Measures a ``with`` block; ``share`` is then what others took of all CPUs: 0 to 1, steal included.

    Ours is this process and all that descend from it. The kernel counts in ticks of 10 ms, so blocks should take more
    than a few of these.
    """

    def __init__(self) -> None:
        self.share = 0.0

    def __enter__(self) -> "OthersMeter":
        self._began_s = time.monotonic()
        self._began_ticks = _other_ticks()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed_s = time.monotonic() - self._began_s
        spent_s = (_other_ticks() - self._began_ticks) / _TICKS_PER_S
        self.share = max(0.0, spent_s / elapsed_s / (os.cpu_count() or 1))


def _other_ticks() -> int:
    first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(first[index]) for index in _BUSY_FIELDS) - _own_ticks()


def _own_ticks() -> int:
    """Ticks of this process, of those that descend from it, and of children of all these that were waited for."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = (
                Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(entry)] = int(fields[1])
        ticks[int(entry)] = sum(int(fields[index]) for index in range(11, 15))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks.get(pid, 0) for pid in ours)
