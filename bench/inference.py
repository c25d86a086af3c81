"""One inference of Magika under a lease against the same model in bare onnxruntime, on the same core.

Both live in this process: the lease's model runs on the lease's stream, whose thread is pinned to the leased core; the
bare session runs on this thread, pinned to the same CPU for as long as it runs. Each has one thread of onnxruntime.
They take turns, and every other pair begins with the other one.
"""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np

import leasehold
from bench.harness import Bar, Round, Row, run_rounds
from bench.models import LEASE_MEMORY, MODEL_MEMORY, bare_session, equal_outputs, magika, sample_input
from bench.processes import daemon

ROUND_COUNT = 15
PAIRS_PER_ROUND = 30
WARM_UP_COUNT = 20
RATIO_MOST = 1.05


def run() -> list[Row]:
    """The rows of this benchmark."""
    everywhere = os.sched_getaffinity(0)
    with (
        daemon("--card-memory", "64MiB") as run_directory,
        leasehold.connect(run_directory) as client,
        client.acquire(memory=LEASE_MEMORY, cores=1) as lease,
    ):
        os.sched_setaffinity(0, lease.cores)
        try:
            return [_compare(lease)]
        finally:
            os.sched_setaffinity(0, everywhere)


def _compare(lease: leasehold.Lease) -> Row:
    assert lease.memory is not None
    model = lease.load(magika(), memory=MODEL_MEMORY)
    session = bare_session(1)
    names = [output.name for output in session.get_outputs()]
    plain = sample_input()
    leased = {name: lease.memory.array(array.dtype, array.shape) for name, array in plain.items()}
    for name, array in plain.items():
        leased[name][:] = array

    def under_lease() -> dict[str, np.ndarray]:
        return model.run(leased)

    def bare() -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, plain), strict=True))

    assert equal_outputs(under_lease(), bare()), "the lease's model says something else"
    _pairs(under_lease, bare, WARM_UP_COUNT)

    def measure(_: int) -> Round:
        lease_ms, bare_ms = _pairs(under_lease, bare, PAIRS_PER_ROUND)
        return {"lease": statistics.median(lease_ms), "bare": statistics.median(bare_ms)}

    rounds = run_rounds(ROUND_COUNT, measure, what="inference")
    leased.clear()  # or the window could not be closed
    return rounds.row(
        f"inference: Magika under a lease against bare onnxruntime, one thread, CPU {lease.cores[0]}",
        "lease",
        "bare",
        "ms",
        Bar(RATIO_MOST),
        note="input read from the lease's window, output copied out; same answer as bare",
    )


def _pairs(one: Callable[[], object], other: Callable[[], object], count: int) -> tuple[list[float], list[float]]:
    """Times both ``count`` times in turn, the first of a pair by turns too; in milliseconds."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(count):
        for index in (0, 1) if number % 2 == 0 else (1, 0):
            began = time.perf_counter_ns()
            (one, other)[index]()
            spent[index].append((time.perf_counter_ns() - began) / 1e6)
    return spent
