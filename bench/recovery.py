"""SIGKILL of a server that holds 10,000 leases, its start, and its first answer to a new client: rmd and its peers.

All are durable and come back with every one of them; labgrid, which forgets who holds what, is left out. The first
answer is to an acquire. ``restart`` measures rmd with many sessions and windows.
"""

import importlib
import time
from contextlib import ExitStack

from bench import harness
from bench.chart import Chart, Series
from bench.contestants import OURS, Contestant, contestants, drawn_label
from bench.harness import Round, Row, progress, run_rounds
from bench.peers.rmd import GRPC, SESSION
from bench.processes import Worker, answer, orders

ROUND_COUNT = 5
LEASE_COUNT = 10_000
PEERS = ("redis", "etcd", "postgres")


def run() -> list[Row]:
    """The rows of this benchmark."""
    with ExitStack() as stack:
        found = stack.enter_context(contestants(*PEERS, durable=(True,)))
        ours = next(OURS[door, True] for door in (SESSION, GRPC) if OURS[door, True] in found)
        wanted = {label: one for label, one in found.items() if label == ours or not one.is_ours}
        for label, one in wanted.items():
            progress(f"recovery: {label}: {LEASE_COUNT} leases")
            arguments = (one.server.module, one.server.address, LEASE_COUNT)
            worker = stack.enter_context(Worker("bench.recovery:fill", *arguments, python=one.server.python))
            assert worker.hear() == "filled"
        rounds = run_rounds(ROUND_COUNT, lambda number: _measure(wanted, number), what="recovery")
    bars = [Series(drawn_label(wanted[label]), (rounds.point("", label),), wanted[label].is_ours) for label in wanted]
    title = f"From the start of a server with {LEASE_COUNT:,} leases, after SIGKILL, to its first answer"
    harness.charts.append(Chart("recovery", title, "s", tuple(bars), has_lines=False))
    return [
        rounds.row(
            f"recovery: {ours}, {LEASE_COUNT:,} leases: start after SIGKILL to the first answer, against {label}",
            ours,
            label,
            "s",
        )
        for label in wanted
        if label != ours
    ]


def _measure(wanted: dict[str, Contestant], number: int) -> Round:
    measured: Round = {}
    for label in sorted(wanted, reverse=bool(number % 2)):
        progress(f"recovery: {label}")
        server, module = wanted[label].server, wanted[label].module
        server.kill()
        began = time.monotonic()
        server.start()
        client = module.Client(server.address, 1_000 + number)
        client.release(client.acquire())
        measured[label] = time.monotonic() - began
        client.close()
    return measured


def fill(module: str, address: str, count: str) -> None:
    """A worker: takes so many leases and keeps them."""
    clients = importlib.import_module(module).fill(address, int(count))
    answer("filled")
    list(orders())
    del clients
