"""SIGKILL of a daemon with 10,000 leases, its start, and its first answer: how long nobody was served.

The leases belong to 100 sessions of two living processes; a thousand more have memory, whose windows their clients hand
back meanwhile. The baseline is the same with one lease: the interpreter, imports, and sockets.
"""

import time
from itertools import count

import leasehold
from bench.harness import Bar, Round, Rounds, Row, progress, run_rounds
from bench.processes import Daemon, Worker, answer, orders, restartable_daemon

LEASE_COUNT = 10_000
WINDOW_COUNT = 1_000
PROCESS_COUNT = 2
SESSIONS_PER_PROCESS = 50
ROUND_COUNT = 5
RESTART_S_MOST = 1.5
PROFILE = """
name = "bench"
[pools.slots]
unit_count = 65536
[pools.memory]
memory_mib = 1024
"""


def run() -> list[Row]:
    """The rows of this benchmark."""
    with restartable_daemon(profile=PROFILE) as small, leasehold.connect(small.run_directory) as client:
        client.acquire(slots=1)
        alone = _rounds(small, what="restart: one lease")
    with restartable_daemon(profile=PROFILE) as large:
        holders = [Worker("bench.restart:hold", large.run_directory) for _ in range(PROCESS_COUNT)]
        try:
            for holder in holders:
                holder.hear()
            full = _rounds(large, what=f"restart: {LEASE_COUNT} leases")
            for holder in holders:
                holder.tell("check")
            lost_count = sum(int(holder.hear()) for holder in holders)
        finally:
            for holder in holders:
                holder.kill()
                holder.close()
    what = f"restart: {LEASE_COUNT:,} leases and {WINDOW_COUNT:,} with a window, in {PROCESS_COUNT} processes"
    return [
        Row(
            f"{what}: start of the daemon to the first grant, against one lease",
            full.figure("granted", "s"),
            alone.figure("granted", "s"),
            None,
            Bar(RESTART_S_MOST, of_figure=True),
            note=f"ready after {full.figure('ready', 's')}, with one lease {alone.figure('ready', 's')}",
        ),
        Row("restart: all of them are valid after the last one", is_checked=not lost_count),
    ]


def _rounds(daemon: Daemon, *, what: str) -> Rounds:
    labels = count()

    def measure(_: int) -> Round:
        daemon.kill()
        began = time.monotonic()
        daemon.start()
        ready_s = time.monotonic() - began
        with leasehold.connect(daemon.run_directory) as client:
            client.acquire(slots=1, label=str(next(labels))).release()
            granted_s = time.monotonic() - began
        return {"ready": ready_s, "granted": granted_s}

    return run_rounds(ROUND_COUNT, measure, what=what)


def hold(run_directory: str) -> None:
    """A worker: holds its share of the leases over many sessions, and says how many it has lost when it is asked."""
    clients = [leasehold.connect(run_directory) for _ in range(SESSIONS_PER_PROCESS)]
    share = LEASE_COUNT // PROCESS_COUNT
    leases = []
    for number in range(share):
        leases.append(clients[number % len(clients)].acquire(slots=1))
        if not number % 1_000:
            progress(f"restart: {number} of {share} leases taken")
    leases += [
        clients[number % len(clients)].acquire(memory="64KiB") for number in range(WINDOW_COUNT // PROCESS_COUNT)
    ]
    answer("held")
    for _ in orders():
        answer(sum(not lease.valid for lease in leases))
