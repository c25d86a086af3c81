"""How long a Release takes while 1,000 requests of another process wait, against the same while nobody waits.

All units of a pool are held, some of them by leases of one unit, which are then released one after the other. In the
first case the waiters want the whole pool, so that none is served; in the second each wants one unit, so that every
release serves the next of them. The waiters are tasks of one ``leasehold.aio`` client in one process.
"""

import asyncio
import math
import statistics
import sys
import time

import leasehold
from bench.harness import Bar, Round, Row, run_rounds, wait_until
from bench.processes import Worker, daemon
from leasehold import aio

ROUND_COUNT = 5
WAITER_COUNT = 1_000
UNIT_COUNT = 256  # streams of an embedded card
RELEASE_COUNT = 64
WAIT_S = 120.0
RATIO_MOST = 10.0
CASES = {UNIT_COUNT: "none of which it serves", 1: "each release serving one"}


def run() -> list[Row]:
    """The rows of this benchmark."""
    with daemon("--card-memory", "64MiB") as run_directory, leasehold.connect(run_directory) as client:

        def measure(_: int) -> Round:
            measured: Round = {}
            for wanted in CASES:
                measured[f"idle {wanted}"] = _release_ms(client)
                measured[f"busy {wanted}"] = _release_ms_beside_waiters(client, str(run_directory), wanted)
            return measured

        measure(0)  # the first calls of a daemon are slower
        rounds = run_rounds(ROUND_COUNT, measure, what="waiters")
    return [
        rounds.row(
            f"waiters: a Release beside {WAITER_COUNT:,} waiting requests, {what}, against none waiting",
            f"busy {wanted}",
            f"idle {wanted}",
            "ms",
            Bar(RATIO_MOST),
        )
        for wanted, what in CASES.items()
    ]


def wait(run_directory: str, unit_count: str, waiter_count: str) -> None:
    """A worker: sends the requests that wait, and keeps waiting until it is killed or its starter ends."""

    async def send_all() -> None:
        client = await aio.connect(run_directory)
        wanted = (client.acquire(streams=int(unit_count), wait=WAIT_S, ttl=math.inf) for _ in range(int(waiter_count)))
        await asyncio.gather(*wanted)
        await asyncio.to_thread(sys.stdin.read)  # holds what it got

    asyncio.run(send_all())


def _release_ms_beside_waiters(client: leasehold.Client, run_directory: str, wanted: int) -> float:
    def wait_count() -> int:
        return client.cards()[0].pool("streams").waiters

    def free_count() -> float:
        return client.cards()[0].pool("streams").free

    holding = _hold_all(client)
    with Worker("bench.waiters:wait", run_directory, wanted, WAITER_COUNT) as worker:
        wait_until(lambda: wait_count() == WAITER_COUNT, what="all wait")
        spent_ms = _release_all(holding)
        assert wait_count() == WAITER_COUNT - (RELEASE_COUNT if wanted == 1 else 0)
        worker.kill()
    wait_until(lambda: wait_count() == 0, what="nobody waits")
    holding[0].release()
    wait_until(lambda: free_count() == UNIT_COUNT, what="all units are back")
    return spent_ms


def _release_ms(client: leasehold.Client) -> float:
    holding = _hold_all(client)
    spent_ms = _release_all(holding)
    holding[0].release()
    return spent_ms


def _hold_all(client: leasehold.Client) -> list[leasehold.Lease]:
    """Takes every unit: most with one lease, the rest one by one."""
    rest = client.acquire(streams=UNIT_COUNT - RELEASE_COUNT, ttl=math.inf)
    return [rest, *(client.acquire(streams=1, ttl=math.inf) for _ in range(RELEASE_COUNT))]


def _release_all(holding: list[leasehold.Lease]) -> float:
    """Releases all but the first; answers the median of their times in milliseconds."""
    spent_ms = []
    for lease in holding[1:]:
        began = time.perf_counter_ns()
        lease.release()
        spent_ms.append((time.perf_counter_ns() - began) / 1e6)
    return statistics.median(spent_ms)
