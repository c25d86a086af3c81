"""Units handed out inside a lease, in the client's own process, against a pair of acquire and release over gRPC.

One lease of 512 MiB and 32 streams, of which a quarter of the memory is out in parts of random sizes, every other one
of them given back, so that the search has gaps to look at. A pair takes and gives back 256 KiB, or a stream. The peer
takes and gives back a stream from a daemon that keeps nothing on disk, by the same library.
"""

import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import leasehold
from bench.harness import SEED, Bar, Round, Row, run_rounds
from bench.processes import daemon
from leasehold.partition import Part, Partition

ROUND_COUNT = 9
PAIRS_PER_ROUND = 20_000
LONG_PAIRS_PER_ROUND = 200
PIECES_PER_ROUND = 20
CALLS_PER_ROUND = 300
PAIR_US_MOST = 3.0
GRPC_RATIO_MOST = 1e-3

_now = time.perf_counter_ns


def run() -> list[Row]:
    """The rows of this benchmark."""
    with (
        daemon("--durability", "none", "--card-memory", "1GiB") as run_directory,
        leasehold.connect(run_directory, door="grpc") as client,
        client.acquire(memory="512MiB", streams=32) as lease,
        lease.partition() as partition,
    ):
        _fill(partition)
        claim = leasehold.Run("memory", 4)
        ways: dict[str, tuple[Callable[[], Part | _Exchange | leasehold.Lease], int]] = {
            "claim": (lambda: partition.acquire(claim), PAIRS_PER_ROUND),
            "streams": (lambda: partition.acquire(streams=1), PAIRS_PER_ROUND),
            "churn": (_churn(partition), PAIRS_PER_ROUND),
            "long": (lambda: partition.acquire(memory="256KiB", streams=2), LONG_PAIRS_PER_ROUND),
            "grpc": (lambda: client.acquire(streams=1), CALLS_PER_ROUND),
        }

        def measure(number: int) -> Round:
            order = sorted(ways, reverse=bool(number % 2))
            return {name: _pair_us(*ways[name]) for name in order}

        gc.disable()  # a collection in the middle would be counted to one of them by chance
        try:
            rounds = run_rounds(ROUND_COUNT, measure, what="partition")
        finally:
            gc.enable()
        for part in partition.parts:
            part.release()
    names = {
        "claim": "a run of 4 units of memory",
        "streams": "a stream, by keyword",
        "churn": "1 to 8 units of memory, where one of 32 parts comes back at random",
        "long": "memory and 2 streams together (the long way)",
    }
    rows = [
        rounds.row(
            f"partition: take + give back, {what}, against a pair over gRPC",
            name,
            "grpc",
            "us",
            bar=Bar(PAIR_US_MOST, of_figure=True) if name in {"claim", "streams"} else None,
        )
        for name, what in names.items()
    ]
    times = 1 / rounds.ratio("claim", "grpc").median
    against = Row(
        "partition: how much of a pair over gRPC a run of memory costs",
        ratio=rounds.ratio("claim", "grpc"),
        bar=Bar(GRPC_RATIO_MOST),
        note=f"{times:,.0f} pairs in the time of one",
    )
    return [*rows, against]


def _fill(partition: Partition) -> None:
    chosen = random.Random(SEED)
    parts = []
    while partition.free("memory") > 6_144:
        parts.append(partition.acquire(memory=chosen.randint(1, 32) * 65_536))
    for part in parts[::2]:
        part.release()


class _Exchange(NamedTuple):
    """A part that was taken now; releasing it releases another, which was taken before."""

    release: Callable[[], None]


def _churn(partition: Partition) -> Callable[[], _Exchange]:
    """Takes a part of one of eight sizes; what comes back in its place is one of 32, which were taken before."""
    chosen = random.Random(SEED)
    claims = [leasehold.Run("memory", count) for count in range(1, 9)]
    picks = [(chosen.randrange(8), chosen.randrange(32)) for _ in range(1_000)]
    out = [partition.acquire(claims[size]) for size, _ in picks[:32]]
    turns = itertools.cycle(picks)

    def exchange() -> _Exchange:
        size, place = next(turns)
        before, out[place] = out[place], partition.acquire(claims[size])
        return _Exchange(before.release)

    return exchange


def _pair_us(acquire: Callable[[], Part | _Exchange | leasehold.Lease], count: int) -> float:
    """Microseconds of a pair: the median of pieces of a round, each short beside the kernel's slices of time."""
    pieces = []
    for _ in range(PIECES_PER_ROUND):
        began = _now()
        for _ in range(count // PIECES_PER_ROUND):
            acquire().release()
        pieces.append((_now() - began) / (count // PIECES_PER_ROUND) / 1e3)
    return statistics.median(pieces)
