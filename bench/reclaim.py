"""From SIGKILL of a holder to the grant of a waiter, for Leasehold and for those peers that can do it at all.

Holder and waiter are processes. The waiter says by the common monotonic clock when it was granted; the death of the
holder itself is seen by its pidfd. A lease here has no memory; ``kill`` measures those that have.
"""

import importlib
import os
import select
import signal
import time
from functools import partial
from pathlib import Path

from bench import harness
from bench.chart import Chart, Series
from bench.contestants import OURS, Contestant, contestants, drawn_label
from bench.harness import Bar, Round, Rounds, Row, run_rounds, wait_until
from bench.peers.rmd import GRPC, SESSION
from bench.processes import Worker, answer, orders

ROUND_COUNT = 10
BEYOND_MS_MOST = 3.0
SLEEPING_LOOKS = 20  # in a row at which the waiter's threads all sleep: then it waits
PEERS = ("postgres", "flock", "etcd")
NOT_ABLE = "Redis and labgrid notice no death: bits stay set, a place stays acquired"


def run() -> list[Row]:
    """The rows of this benchmark."""
    with contestants(*PEERS) as found:
        wanted = {label: one for label, one in found.items() if not label.endswith(", not durable")}
        rounds = run_rounds(ROUND_COUNT, lambda number: _measure(wanted, number), what="reclaim")
    ours = next(OURS[door, True] for door in (SESSION, GRPC) if OURS[door, True] in wanted)
    others = [label for label in wanted if label != ours]
    bars = [Series(drawn_label(wanted[label]), (rounds.point("", label),), wanted[label].is_ours) for label in wanted]
    title = "From SIGKILL of a holder to the grant of the waiter"
    harness.charts.append(
        Chart("reclaim", title, "ms", tuple(bars), has_lines=False, note="etcd: a ttl of 2 s, its least")
    )
    first = Row(
        f"reclaim: {ours}, SIGKILL of a holder to the waiter's grant, beyond the death of the process itself",
        rounds.figure(f"{ours} beyond", "ms"),
        rounds.figure(f"{ours} death", "ms"),
        None,
        Bar(BEYOND_MS_MOST, of_figure=True),
        note=f"the baseline is that death; {NOT_ABLE}",
    )
    return [first, *(_row(rounds, ours, label) for label in others)]


def _row(rounds: Rounds, ours: str, other: str) -> Row:
    return rounds.row(
        f"reclaim: {ours}, SIGKILL of a holder to the waiter's grant, against {other}",
        ours,
        other,
        "ms",
        note="etcd ends a lease by its ttl alone, and 2 s is the least" if other.startswith("etcd") else "",
    )


def _measure(wanted: dict[str, Contestant], number: int) -> Round:
    measured: Round = {}
    for label in sorted(wanted, reverse=bool(number % 2)):
        harness.progress(f"reclaim: {label}")
        server = wanted[label].server
        arguments = (server.module, server.address)
        with Worker("bench.reclaim:hold", *arguments, python=server.python) as holder:
            assert holder.hear() == "held"
            with Worker("bench.reclaim:wait", *arguments, python=server.python) as waiter:
                assert waiter.hear() == "waiting"
                wait_until(partial(_sleeps, waiter.pid), what="the waiter waits")
                began, died = _kill(holder)
                granted = int(waiter.hear())
        measured[label] = (granted - began) / 1e6
        measured[f"{label} beyond"] = (granted - died) / 1e6
        measured[f"{label} death"] = (died - began) / 1e6
    return measured


def _kill(holder: Worker) -> tuple[int, int]:
    """When it was killed, and when the kernel said that it is dead; in nanoseconds of the monotonic clock."""
    pidfd = os.pidfd_open(holder.pid)
    try:
        began = time.monotonic_ns()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
        return began, time.monotonic_ns()
    finally:
        os.close(pidfd)


def _sleeps(pid: int) -> bool:
    """Whether all of its threads sleep, for a while."""
    for _ in range(SLEEPING_LOOKS):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "S":
                return False
        time.sleep(0.001)
    return True


def hold(module: str, address: str) -> None:
    """A worker: holds what the other one wants, and waits to be killed."""
    held = importlib.import_module(module).hold(address)
    answer("held")
    list(orders())
    del held


def wait(module: str, address: str) -> None:
    """A worker: waits for what the other one holds, and says when it was granted."""
    held = importlib.import_module(module).wait(address, lambda: answer("waiting"))
    answer(time.monotonic_ns())
    list(orders())
    held.close()
