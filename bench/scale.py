"""1,000 sessions with 10,000 leases, then 5,000 waiters beside them, then 100 watchers: memory, idle CPU, and latency.

The sessions are clients of ``leasehold.aio`` in sixteen processes, which renew their leases all the while. Memory is
what is resident above that of the same daemon with one session and after some calls. The p99 of an acquire is that of
one more client, against the same on a daemon that has no other.
"""

import asyncio
import os
import random
import statistics
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import leasehold
from bench.harness import SEED, Bar, Figure, Round, Rounds, Row, progress, run_rounds
from bench.processes import Daemon, Worker, answer, ask_all, cpu_s, orders, restartable_daemon
from leasehold import aio

SESSION_COUNT = 1_000
PROCESS_COUNT = 16  # a process may have 64 sessions
LEASES_PER_SESSION = 10
WAITERS_PER_SESSION = 5
WATCHER_COUNT = 100
ROUND_COUNT = 5
ACQUIRE_COUNT = 300  # a round, on each daemon
IDLE_S = 3.0  # a round
SESSION_KIB_MOST = 64.0
IDLE_PERCENT_MOST = 5.0
P99_RATIO_MOST = 4.0
WAITERS_MAX = 2_048  # of one session; beyond it they are refused
WAIT_S = 3_600.0
PROFILE = """
name = "bench"
[pools.slots]
unit_count = 65536
[pools.wanted]
unit_count = 1
[pools.memory]
memory_mib = 64
"""


def run() -> list[Row]:
    """The rows of this benchmark."""
    with ExitStack() as stack:
        large, small = (stack.enter_context(restartable_daemon(profile=PROFILE)) for _ in range(2))
        clients = [stack.enter_context(leasehold.connect(one.run_directory)) for one in (large, small)]
        clients[0].acquire(wanted=1)  # what the waiters will want
        for client in clients:
            _acquire_us(client, ACQUIRE_COUNT)  # memory and caches as they are after some calls
        empty_kib = _resident_kib(large)
        workers: list[Worker] = []
        for number in range(PROCESS_COUNT):
            progress(f"scale: {number} of {PROCESS_COUNT} processes")
            arguments = (large.run_directory, _share(SESSION_COUNT, number))
            worker = stack.enter_context(Worker("bench.scale:hold", *arguments))
            assert worker.hear() == "held"
            workers.append(worker)
        held_kib = _resident_kib(large) - empty_kib
        held = _rounds(large, clients, what="scale: leases")
        ask_all(workers, "wait")
        waiting_count = clients[0].cards()[0].pool("wanted").waiters
        waiting_kib = _resident_kib(large) - empty_kib
        waiting = _rounds(large, clients, what="scale: waiters")
        for number, worker in enumerate(workers):
            worker.tell(f"watch {_share(WATCHER_COUNT, number)}")
        watcher_count = sum(int(worker.hear()) for worker in workers)
        watching_kib = _resident_kib(large) - empty_kib
        watching = _rounds(large, clients, what="scale: watchers")
        refused = _refused_count(large)
    crowd = f"{SESSION_COUNT:,} sessions, {SESSION_COUNT * LEASES_PER_SESSION:,} leases"
    more = f"{crowd}, {waiting_count:,} waiters"
    most = f"{more}, {watcher_count} watchers"
    return [
        *_rows(crowd, held_kib, held, has_bars=True),
        *_rows(more, waiting_kib, waiting, has_bars=False),
        *_rows(most, watching_kib, watching, has_bars=False),
        Row(
            f"scale: of {WAITERS_MAX + 100:,} waiting requests of one session, 100 are refused at once",
            Figure.of([float(refused)], "refused"),
            is_checked=refused == 100,
        ),
    ]


def _share(count: int, number: int) -> int:
    """What process ``number`` has of something that all of them have ``count`` of."""
    return count // PROCESS_COUNT + (number < count % PROCESS_COUNT)


def _rows(crowd: str, more_kib: float, rounds: Rounds, *, has_bars: bool) -> list[Row]:
    memory = Figure.of([more_kib / SESSION_COUNT], "KiB/session")
    idle, p99 = rounds.figure("idle", "% of a core"), rounds.figure("p99", "us")
    return [
        Row(
            f"scale: {crowd}: daemon memory above empty",
            memory,
            bar=Bar(SESSION_KIB_MOST, of_figure=True) if has_bars else None,
            note=f"{more_kib / 1024:.0f} MiB in all",
        ),
        Row(
            f"scale: {crowd}: CPU while they only renew",
            idle,
            bar=Bar(IDLE_PERCENT_MOST, of_figure=True) if has_bars else None,
        ),
        Row(
            f"scale: {crowd}: p99 of one more client's acquire, against one session alone",
            p99,
            rounds.figure("p99 alone", "us"),
            rounds.ratio("p99", "p99 alone"),
            Bar(P99_RATIO_MOST) if has_bars else None,
            note=f"p50 {rounds.figure('p50', 'us')} against {rounds.figure('p50 alone', 'us')}",
        ),
    ]


def _rounds(large: Daemon, clients: list[leasehold.Client], *, what: str) -> Rounds:
    def measure(number: int) -> Round:
        measured: Round = {}
        for label, client in random.Random(SEED + number).sample(list(zip(("", " alone"), clients, strict=True)), 2):
            spent_us = sorted(_acquire_us(client, ACQUIRE_COUNT))
            measured[f"p50{label}"] = statistics.median(spent_us)
            measured[f"p99{label}"] = spent_us[int(len(spent_us) * 0.99)]
        before, began = cpu_s(large.pid), time.monotonic()
        time.sleep(IDLE_S)
        measured["idle"] = 100 * (cpu_s(large.pid) - before) / (time.monotonic() - began)
        return measured

    return run_rounds(ROUND_COUNT, measure, what=what)


def _acquire_us(client: leasehold.Client, count: int) -> list[float]:
    spent_us = []
    for _ in range(count):
        began = time.perf_counter_ns()
        lease = client.acquire(slots=1)
        spent_us.append((time.perf_counter_ns() - began) / 1e3)
        lease.release()
    return spent_us


def _resident_kib(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def _refused_count(daemon: Daemon) -> int:
    """How many of too many waiting requests of one session are refused."""
    with Worker("bench.scale:flood", daemon.run_directory) as worker:
        return int(worker.hear())


def hold(run_directory: str, session_count: str) -> None:
    """A worker: opens sessions and takes their leases; adds waiters and its share of watchers when it is told to."""
    asyncio.run(_hold(run_directory, int(session_count)))


async def _hold(run_directory: str, session_count: int) -> None:
    clients = [await aio.connect(run_directory) for _ in range(session_count)]
    for client in clients:
        for _ in range(LEASES_PER_SESSION):
            await client.acquire(slots=1)
    answer("held")
    tasks: list[asyncio.Task[None]] = []
    while order := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if order == "wait":
            tasks += [asyncio.create_task(_wait(client)) for client in clients for _ in range(WAITERS_PER_SESSION)]
            while (await clients[0].cards())[0].pool("wanted").waiters < SESSION_COUNT * WAITERS_PER_SESSION:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # all processes' waiters are counted
            answer("waiting")
        else:
            watchers = [asyncio.Event() for _ in range(int(order.removeprefix("watch ")))]
            for client, has_seen in zip(clients, watchers, strict=False):
                tasks.append(asyncio.create_task(_watch(client, has_seen)))
                await has_seen.wait()
            answer(len(watchers))
    os._exit(0)  # sixty sessions and hundreds of calls under way need no farewell


async def _wait(client: aio.Client) -> None:
    with suppress(leasehold.LeaseholdError):
        await client.acquire(wanted=1, wait=WAIT_S)


async def _watch(client: aio.Client, has_seen: asyncio.Event) -> None:
    with suppress(leasehold.LeaseholdError):
        async for _ in client.events(past=1):
            has_seen.set()


def flood(run_directory: str) -> None:
    """A worker: sends more waiting requests than one session may have, and says how many were refused."""
    asyncio.run(_flood(run_directory))


async def _flood(run_directory: str) -> None:
    client = await aio.connect(run_directory)
    tasks = [asyncio.create_task(client.acquire(wanted=1, wait=WAIT_S)) for _ in range(WAITERS_MAX + 100)]
    done: set[asyncio.Task[aio.Lease]] = set()
    while len(done) < 100:
        more, tasks_left = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if not more:
            break
        done |= more
        tasks = list(tasks_left)
    answer(sum(isinstance(task.exception(), leasehold.QuotaExceeded) for task in done))
    list(orders())
    os._exit(0)
