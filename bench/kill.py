"""From SIGKILL of a holder to the grant of a waiter, as the waiter sees it; and what the dead left in the memory.

The holder is a process that leased the card's whole memory and wrote a pattern over it. The waiter is a thread of this
process inside ``acquire(wait=...)`` for the same memory; its time ends when ``acquire`` has returned, with the window
mapped. The baseline is a twin of the holder that has no lease: from its SIGKILL to its pidfd being readable.
"""

import os
import select
import signal
import threading
import time

import numpy as np

import leasehold
from bench.harness import Bar, Figure, Round, Rounds, Row, run_rounds, wait_until
from bench.processes import Worker, answer, daemon, orders

PATTERN = 0xA5
WAIT_S = 30.0
GRANT_MS_MOST = 20.0
BEYOND_MS_MOST = 3.0
MEMORY = "64MiB"  # that the bar is for
KILL_COUNT = 20
OTHER_MEMORIES = {"1MiB": 6, "512MiB": 6}  # with how many kills each: the kernel takes pages back one by one


def run() -> list[Row]:
    """The rows of this benchmark."""
    all_rounds = {memory: _rounds(memory, count) for memory, count in {MEMORY: KILL_COUNT, **OTHER_MEMORIES}.items()}
    rows = []
    for memory, rounds in all_rounds.items():
        grants = rounds.figure("grant", "ms")
        rows.append(
            Row(
                f"kill: holder of {memory}, SIGKILL to the waiter's grant, against a bare process's death",
                grants,
                rounds.figure("kernel", "ms"),
                rounds.ratio("grant", "kernel"),
                Bar(GRANT_MS_MOST, of_figure=True) if memory == MEMORY else None,
                note=f"difference {rounds.figure('more', 'ms')}; {grants.count} kills",
            )
        )
        rows.append(
            Row(
                f"kill: holder of {memory}, the waiter's grant beyond the death of the holder itself",
                rounds.figure("beyond", "ms"),
                rounds.figure("death", "ms"),
                None,
                Bar(BEYOND_MS_MOST, of_figure=True) if memory == MEMORY else None,
                note="the baseline is that death, the kernel's work on its memory included",
            )
        )
    dirty = [count for rounds in all_rounds.values() for count in rounds.column("dirty")]
    what = f"kill: bytes of the dead's pattern left in what the waiter got, {len(dirty)} kills"
    return [*rows, Row(what, Figure.of(dirty, "bytes"), is_checked=not any(dirty))]


def _rounds(memory: str, count: int) -> Rounds:
    with daemon("--card-memory", memory) as run_directory, leasehold.connect(run_directory) as client:

        def measure(number: int) -> Round:
            with Worker("bench.kill:hold", run_directory, memory) as holder, Worker("bench.kill:idle") as twin:
                holder.hear()
                twin.hear()
                kernel_ms = _death_ms(twin) if number % 2 else 0.0
                grant_ms, death_ms, dirty_bytes = _grant_ms(client, holder, memory)
                kernel_ms = kernel_ms or _death_ms(twin)
            return {
                "grant": grant_ms,
                "kernel": kernel_ms,
                "more": grant_ms - kernel_ms,
                "death": death_ms,
                "beyond": grant_ms - death_ms,
                "dirty": dirty_bytes,
            }

        return run_rounds(count, measure, what=f"kill: {memory}")


def hold(run_directory: str, memory: str) -> None:
    """A worker: leases ``memory``, writes the pattern over it, says so, and waits to be killed."""
    with leasehold.connect(run_directory) as client:
        lease = client.acquire(memory=memory)
        assert lease.memory is not None
        seen = np.frombuffer(lease.memory, np.uint8)
        seen[:] = PATTERN
        assert (seen == PATTERN).all()
        answer("held")
        list(orders())


def idle() -> None:
    """A worker: the holder's twin without a lease."""
    answer("idle")
    list(orders())


def _death_ms(worker: Worker) -> float:
    """Milliseconds from SIGKILL until the kernel reports the death."""
    pidfd = os.pidfd_open(worker.pid)
    try:
        began = time.monotonic_ns()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
        return (time.monotonic_ns() - began) / 1e6
    finally:
        os.close(pidfd)


def _grant_ms(client: leasehold.Client, holder: Worker, memory: str) -> tuple[float, float, int]:
    """Milliseconds from SIGKILL of the holder to the waiter's grant and to its death; its bytes that are not zero."""
    granted: list[tuple[int, leasehold.Lease]] = []

    def wait() -> None:
        lease = client.acquire(memory=memory, wait=WAIT_S)
        granted.append((time.monotonic_ns(), lease))

    waiter = threading.Thread(target=wait, name="waiter")
    waiter.start()
    wait_until(lambda: client.cards()[0].pool("memory").waiters == 1, what="the waiter is in the queue")
    assert not granted
    pidfd = os.pidfd_open(holder.pid)
    began = time.monotonic_ns()
    holder.kill()
    select.select([pidfd], [], [])
    died = time.monotonic_ns()
    os.close(pidfd)
    waiter.join(WAIT_S)
    ended, lease = granted[0]
    assert lease.memory is not None
    dirty_bytes = int(np.count_nonzero(np.frombuffer(lease.memory, np.uint8)))
    lease.release()
    return (ended - began) / 1e6, (died - began) / 1e6, dirty_bytes
