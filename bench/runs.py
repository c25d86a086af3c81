"""Runs of units in pools of 2^10 to 2^24 units: does the cost of taking and giving back grow with the pool?

The way is the real one: ``Pool.free_runs.first_fit``, ``Pool.hold`` and ``Pool.drop``, with their asserts. Sizes are
log-uniform from 1 to N/64; a pool is filled until a claim fails, random leases are dropped down to the fill, and then
leases come and go at that fill. The peer is ``bitarray.find(zeros(k))`` on the same bits with the same wishes.
"""

import gc
import math
import os
import random
import select
import signal
import statistics
import struct
import time

from bitarray.util import zeros

from bench.harness import SEED, Bar, Round, Rounds, Row, progress, run_rounds
from rm.core.pool import Pool, PoolSpec
from rm.core.types import PoolName, UnitRange, UnitSet

EXPONENTS = range(10, 25, 2)
FILLS = (0.5, 0.9)
ROUND_COUNT = 25
PAIRS_PER_ROUND = 150
PAIRS_TO_AGE = 3_000
GROWTH_MOST = 2.5

RUN_COUNTS = (10, 100, 1_000, 10_000)
RUN_COUNTS_UNITS = 1 << 20
SHORT_RUN = 64
MISS_COUNT = 20

SEARCH_EXPONENTS = (10, 21)
SEARCH_ROUND_COUNT = 5
SEARCH_COUNT = 200
SEARCH_RATIO_MOST = 0.01  # of the mean at the largest of them: a hundred times as quick
SEARCH_BUDGET_S = 2.0  # of the peer, a round: a single search can take seconds

_now = time.perf_counter_ns


class Churn:
    """One pool in use: leases of random sizes come and go, and the pool stays near its fill."""

    def __init__(self, unit_count: int, fill: float, seed: int) -> None:
        """Fills a pool to failure, empties it down to ``fill``, and lets it age."""
        self.pool = Pool(PoolSpec(PoolName("memory"), unit_count))
        self._random = random.Random(seed)
        self._held: list[UnitSet] = []
        self._held_count_most = int(unit_count * fill)
        self._size_most = unit_count // 64
        while (units := self._take(self.size())) is not None:
            self._held.append(units)
        self._drop_down()
        self.pairs(PAIRS_TO_AGE)

    def size(self) -> int:
        """The size of the next lease, log-uniform."""
        return int(math.exp(self._random.uniform(0, math.log(self._size_most + 1))))

    def pairs(self, count: int) -> float:
        """Takes and gives back until ``count`` leases were granted; answers microseconds a granted lease.

        That is the mean of taking plus the mean of giving back. Wishes that found no room are not timed.
        """
        take_ns, granted_count = 0, 0
        drop_ns, dropped_count = 0, 0
        while granted_count < count:
            size = self.size()
            began = _now()
            units = self._take(size)
            if units is not None:
                take_ns += _now() - began
                granted_count += 1
                self._held.append(units)
            spent_ns, number = self._drop_down()
            drop_ns += spent_ns
            dropped_count += number
        return (take_ns / granted_count + drop_ns / max(1, dropped_count)) / 1e3

    def _take(self, size: int) -> UnitSet | None:
        assert self.pool.free_runs is not None
        start = self.pool.free_runs.first_fit(size)
        if start < 0:
            return None
        units = UnitSet((0,), ((UnitRange(start, start + size),),))
        self.pool.hold(units)
        return units

    def _drop_down(self) -> tuple[int, int]:
        spent_ns = count = 0
        while self.pool.held_count > self._held_count_most:
            index = self._random.randrange(len(self._held))
            self._held[index], self._held[-1] = self._held[-1], self._held[index]
            units = self._held.pop()
            began = _now()
            self.pool.drop(units, to_quarantine=False)
            spent_ns += _now() - began
            count += 1
        return spent_ns, count


def run() -> list[Row]:
    """The rows of this benchmark."""
    gc.disable()  # a collection in the middle would be counted to one size by chance
    try:
        return [*_growth_with_units(), *_growth_with_runs(), *_against_search()]
    finally:
        gc.enable()


def _growth_with_units() -> list[Row]:
    churns: dict[tuple[float, int], Churn] = {}
    for fill in FILLS:
        for exponent in EXPONENTS:
            progress(f"runs: filling 2^{exponent} units to {fill:.0%}")
            churns[fill, exponent] = Churn(1 << exponent, fill, SEED + exponent)

    def measure(number: int) -> Round:
        order = random.Random(SEED + number).sample(list(churns), len(churns))
        return {_key(*key): churns[key].pairs(PAIRS_PER_ROUND) for key in order}

    rounds = run_rounds(ROUND_COUNT, measure, what="runs: churn")
    return [row for fill in FILLS for row in _rows_of_fill(rounds, fill)]


def _rows_of_fill(rounds: Rounds, fill: float) -> list[Row]:
    least = _key(fill, EXPONENTS[0])
    rows = []
    for exponent in EXPONENTS[1:]:
        key = _key(fill, exponent)
        rows.append(
            rounds.row(
                f"runs: take + give back, 2^{exponent} units against 2^{EXPONENTS[0]}, {fill:.0%} full",
                key,
                least,
                "us",
                Bar(GROWTH_MOST) if exponent == EXPONENTS[-1] else None,
            )
        )
    return rows


def _key(fill: float, exponent: int) -> str:
    return f"{fill}/{exponent}"


def _growth_with_runs() -> list[Row]:
    """Pools of one size with few or many free runs: those of random lengths, apart from each other by held units."""
    pools = {count: _pool_with_runs(count) for count in RUN_COUNTS}
    short_pools = {count: _pool_with_runs(count, length=SHORT_RUN) for count in (RUN_COUNTS[0], RUN_COUNTS[-1])}
    assert all(len(list(pool.free_runs or ())) == count for count, pool in pools.items())

    def measure(number: int) -> Round:
        costs = {str(count): _hold_and_drop(pool, SEED + number) for count, pool in pools.items()}
        return costs | {f"miss {count}": _miss(pool) for count, pool in short_pools.items()}

    rounds = run_rounds(ROUND_COUNT, measure, what="runs: many free runs")
    least, most = str(RUN_COUNTS[0]), str(RUN_COUNTS[-1])
    rows = [
        rounds.row(
            f"runs: take + give back, {count:,} free runs against {least}, 2^20 units",
            str(count),
            least,
            "us",
        )
        for count in RUN_COUNTS[1:]
    ]
    worst = rounds.row(
        f"runs: refusal, {RUN_COUNTS[-1]:,} free runs against {least}, every run one unit too short",
        f"miss {most}",
        f"miss {least}",
        "us",
        note="the worst case: the search looks at every run of its bin",
    )
    return [*rows, worst]


def _miss(pool: Pool) -> float:
    """Microseconds of a search that finds nothing, although every run is in the bin it must look through."""
    assert pool.free_runs is not None
    began = _now()
    for _ in range(MISS_COUNT):
        start = pool.free_runs.first_fit(SHORT_RUN + 1)
        assert start < 0
    return (_now() - began) / MISS_COUNT / 1e3


def _pool_with_runs(run_count: int, length: int = 0) -> Pool:
    """Free runs of ``length`` units, or of random lengths; the units between them are held."""
    pool = Pool(PoolSpec(PoolName("memory"), RUN_COUNTS_UNITS))
    span = RUN_COUNTS_UNITS // run_count
    chosen = random.Random(SEED)
    for index in range(run_count):
        stop = (index + 1) * span if index < run_count - 1 else RUN_COUNTS_UNITS
        start = index * span + (
            length or chosen.randint(1, span // 2)
        )  # the free run begins the span, held units end it
        pool.hold(UnitSet((0,), ((UnitRange(start, stop),),)))
    return pool


def _hold_and_drop(pool: Pool, seed: int) -> float:
    """Microseconds to take and give back one run; sizes are log-uniform up to half a span of the finest pool."""
    assert pool.free_runs is not None
    chosen = random.Random(seed)
    size_most = RUN_COUNTS_UNITS // RUN_COUNTS[-1] // 2
    spent_ns = 0
    for _ in range(PAIRS_PER_ROUND):
        size = int(math.exp(chosen.uniform(0, math.log(size_most))))
        began = _now()
        start = pool.free_runs.first_fit(size)
        assert start >= 0
        units = UnitSet((0,), ((UnitRange(start, start + size),),))
        pool.hold(units)
        pool.drop(units, to_quarantine=False)
        spent_ns += _now() - began
    return spent_ns / PAIRS_PER_ROUND / 1e3


def _against_search() -> list[Row]:
    return [row for exponent in SEARCH_EXPONENTS for row in _against_search_at(exponent)]


def _against_search_at(exponent: int) -> list[Row]:
    churn = Churn(1 << exponent, FILLS[-1], SEED + exponent)
    ended_counts: list[int] = []
    slowest_us: list[float] = []

    def measure(number: int) -> Round:
        progress(f"runs: search at 2^{exponent}, round {number + 1}")
        churn.pairs(PAIRS_PER_ROUND)  # or every round would search the same bits
        sizes = [churn.size() for _ in range(SEARCH_COUNT)]
        theirs, answers = _search_in_child(churn.pool, sizes)
        ours = [_take_and_undo(churn.pool, size) for size in sizes[: len(theirs)]]
        for (start, _), found in zip(ours, answers, strict=False):
            assert start == found, f"first_fit says {start}, bitarray.find {found}"
        ended_counts.append(len(answers))
        slowest_us.append(max(theirs))
        ours_us = [spent for _, spent in ours]
        return {
            "ours": statistics.median(ours_us),
            "theirs": statistics.median(theirs),
            "ours mean": statistics.fmean(ours_us),
            "theirs mean": statistics.fmean(theirs),
        }

    rounds = run_rounds(SEARCH_ROUND_COUNT, measure, what=f"runs: search at 2^{exponent}")
    asked_count = SEARCH_COUNT * len(ended_counts)
    what = f"bitarray.find(zeros(k)), 2^{exponent} units, {FILLS[-1]:.0%} full"
    median = rounds.row(
        f"runs: take against {what}",
        "ours",
        "theirs",
        "us",
        note=f"same answers; {sum(ended_counts)} of {asked_count} finds ended within {SEARCH_BUDGET_S:g} s a round, "
        f"the slowest took {max(slowest_us) / 1e3:.3g} ms or more",
    )
    mean = rounds.row(
        f"runs: the mean of the same takes against {what}",
        "ours mean",
        "theirs mean",
        "us",
        Bar(SEARCH_RATIO_MOST) if exponent == SEARCH_EXPONENTS[-1] else None,
        note="the find that was cut off counts with the time it had",
    )
    return [median, mean]


def _take_and_undo(pool: Pool, size: int) -> tuple[int, float]:
    """Where a run of ``size`` was taken, or -1, and the microseconds of search and taking; then gives it back."""
    assert pool.free_runs is not None
    began = _now()
    start = pool.free_runs.first_fit(size)
    if start < 0:
        return start, (_now() - began) / 1e3
    units = UnitSet((0,), ((UnitRange(start, start + size),),))
    pool.hold(units)
    spent_us = (_now() - began) / 1e3
    pool.drop(units, to_quarantine=False)
    return start, spent_us


def _search_in_child(pool: Pool, sizes: list[int]) -> tuple[list[float], list[int]]:
    """Times ``bitarray.find(zeros(k))`` in a forked child, which is killed when the budget is used up.

    One call can take seconds and cannot be interrupted. Answers the microseconds (the call that was cut off counts with
    the time it had) and the answers of those calls that ended.
    """
    packed = struct.Struct("=qd")
    bits = pool.blocked.bits
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        for size in sizes:
            start = _now()
            found = bits.find(zeros(size, endian="little"))
            os.write(writing, packed.pack(found, (_now() - start) / 1e3))
        os._exit(0)
    os.close(writing)
    received = b""
    last = began
    while (left_s := began + SEARCH_BUDGET_S - time.monotonic()) > 0 and select.select([reading], [], [], left_s)[0]:
        chunk = os.read(reading, 65_536)
        last = time.monotonic()
        if not chunk:
            break
        received += chunk
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    results = list(packed.iter_unpack(received[: len(received) - len(received) % packed.size]))
    times = [spent_us for _, spent_us in results]
    if len(results) < len(sizes):
        times.append((time.monotonic() - last) * 1e6)
    return times, [found for found, _ in results]
