"""Two processes that each run Magika: on one core together, or each on a leased core of its own.

Own cores: a daemon with one card of all CPUs, where two leases of one core never get the same one. One core: a second
daemon with twice as many cards as CPUs, so that CPUs are shared; leases of card 0 and of card N then lie on the same
CPU, which is what two processes do that pin themselves without asking anybody.
"""

import os
import time

import leasehold
from bench.harness import Round, Row, run_rounds
from bench.models import LEASE_MEMORY, MODEL_MEMORY, magika, sample_input
from bench.processes import Worker, answer, ask_all, daemon, orders

ROUND_COUNT = 6
ROUND_S = 0.7


def run() -> list[Row]:
    """The rows of this benchmark."""
    cpu_count = len(os.sched_getaffinity(0))
    if cpu_count < 2:
        return [Row("cores: not measured, it needs two CPUs")]
    memory = ("--card-memory", "64MiB")
    with (
        daemon(*memory) as alone,
        daemon(*memory, "--cards", str(2 * cpu_count)) as shared,
        Worker("bench.cores:infer", alone, "0") as first,
        Worker("bench.cores:infer", alone, "0") as second,
        Worker("bench.cores:infer", shared, "0") as third,
        Worker("bench.cores:infer", shared, str(cpu_count)) as fourth,
    ):
        pairs = {"own": [first, second], "one": [third, fourth]}
        own_cpus, one_cpus = ([worker.hear() for worker in pair] for pair in pairs.values())
        assert own_cpus[0] != own_cpus[1], f"two leases have CPU {own_cpus[0]}"
        assert one_cpus[0] == one_cpus[1], f"CPUs {one_cpus} where one was wanted"

        def measure(number: int) -> Round:
            order = sorted(pairs, reverse=bool(number % 2))
            return {name: sum(map(float, ask_all(pairs[name], str(ROUND_S)))) for name in order}

        rounds = run_rounds(ROUND_COUNT, measure, what="cores")
    return [
        rounds.row(
            f"cores: two processes, leased CPUs {' and '.join(own_cpus)} against both on CPU {one_cpus[0]}",
            "own",
            "one",
            "inferences/s",
        )
    ]


def infer(run_directory: str, card: str) -> None:
    """A worker: says which CPU it leased, then for each order of seconds how many inferences a second it made."""
    inputs = sample_input()
    with (
        leasehold.connect(run_directory) as client,
        client.acquire(memory=LEASE_MEMORY, cores=1, card=card) as lease,
    ):
        model = lease.load(magika(), memory=MODEL_MEMORY)
        model.run(inputs)
        answer(lease.cores[0])
        for seconds in orders():
            count, began = 0, time.monotonic()
            while (spent_s := time.monotonic() - began) < float(seconds):
                model.run(inputs)
                count += 1
            answer(count / spent_s)
