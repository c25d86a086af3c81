"""Pairs of acquire and release a second, by 1 to 64 clients, durable and not: Leasehold, what carries it, and peers.

Every client is a process of its own with the blocking library as users have it and one call in flight. All servers run
all the time; who is measured takes turns within a round, in an order that is drawn anew for each.
"""

import random
from contextlib import ExitStack
from typing import NamedTuple

from bench import harness
from bench.chart import Chart, Point, Series
from bench.contestants import OURS, PEERS, Contestant, contestants, drawn_label
from bench.harness import SEED, Bar, Round, Rounds, Row, progress, run_rounds
from bench.peers.rmd import GRPC, SESSION
from bench.swarm import Swarm

ROUND_COUNT = 5
ROUND_COUNT_CROWDED = 3  # of the largest number of clients, of which a round takes half a minute
ROUND_S = 0.5
CLIENT_COUNTS = (1, 4, 16, 64)
ECHO, FRAMES, FLOCK, LABGRID = "bare gRPC echo", "bare frames", "flock", "labgrid"
SESSION_DOOR, SESSION_DURABLE = OURS[SESSION, False], OURS[SESSION, True]
GRPC_DOOR, GRPC_DURABLE = OURS[GRPC, False], OURS[GRPC, True]


class Comparison(NamedTuple):
    """A row for each number of clients: one contestant against another, with a bar where there is one."""

    one: str
    other: str
    bars: dict[int, Bar]
    of_latency: bool = False  # the median of one acquire, else pairs a second
    limit: str = ""  # what stands in the way of the bars


OUR_WORK = "what a grant and its end take in Python, which the other does not do (see anatomy)"
TWO_COMMITS = "two commits a pair, each with an fsync (see anatomy)"
TWO_COMMITS_IN_PYTHON = "two commits a pair, and what is decided between them, on one thread of Python (see anatomy)"
COMPARISONS = (
    Comparison(GRPC_DOOR, ECHO, dict.fromkeys((1, 4, 16), Bar(least=0.85)), limit=OUR_WORK),
    Comparison(GRPC_DURABLE, GRPC_DOOR, {1: Bar(least=0.7), 16: Bar(least=0.9)}, limit=TWO_COMMITS),
    Comparison(SESSION_DOOR, GRPC_DOOR, {4: Bar(least=5.0)}, limit="the work that both doors lead to (see anatomy)"),
    Comparison(SESSION_DOOR, FRAMES, {1: Bar(1.8)}, of_latency=True, limit=OUR_WORK),
    Comparison(SESSION_DOOR, FRAMES, {}),
    Comparison(SESSION_DURABLE, SESSION_DOOR, {}),
    Comparison(SESSION_DOOR, "Redis, not durable", dict.fromkeys((1, 4), Bar(least=1.0)), limit=OUR_WORK),
    Comparison(SESSION_DURABLE, "Redis, durable", {}),
    Comparison(SESSION_DOOR, "PostgreSQL, not durable", {}),
    Comparison(SESSION_DURABLE, "PostgreSQL, durable", {4: Bar(least=2.0)}, limit=TWO_COMMITS_IN_PYTHON),
    Comparison(SESSION_DOOR, "etcd, not durable", {}),
    Comparison(SESSION_DURABLE, "etcd, durable", {4: Bar(least=5.0)}, limit=TWO_COMMITS_IN_PYTHON),
    Comparison(SESSION_DOOR, LABGRID, dict.fromkeys((1, 4), Bar(least=10.0)), limit=OUR_WORK),
    Comparison(SESSION_DOOR, FLOCK, {}),
)


def run() -> list[Row]:
    """The rows of this benchmark."""
    with ExitStack() as stack:
        found = stack.enter_context(contestants(*PEERS))
        swarms: dict[str, Swarm] = {}
        for label, contestant in found.items():
            swarms[label] = Swarm(contestant.server)
            stack.callback(swarms[label].close)
        all_rounds = {count: _rounds(swarms, count) for count in CLIENT_COUNTS}
    harness.charts.extend(_charts(found, all_rounds))
    return [row for one in COMPARISONS for row in _rows(one, found, all_rounds)]


def _rounds(swarms: dict[str, Swarm], count: int) -> Rounds:
    def measure(number: int) -> Round:
        measured: Round = {}
        for label in random.Random(SEED + number).sample(list(swarms), len(swarms)):
            progress(f"pairs: {label}, {count} clients")
            per_s, p50_us, p99_us = swarms[label].pairs(count, ROUND_S)
            measured |= {label: per_s, f"{label} p50": p50_us, f"{label} p99": p99_us}
        return measured

    round_count = ROUND_COUNT_CROWDED if count == max(CLIENT_COUNTS) else ROUND_COUNT
    return run_rounds(round_count, measure, what=f"pairs: {count} clients")


def _rows(one: Comparison, found: dict[str, Contestant], all_rounds: dict[int, Rounds]) -> list[Row]:
    """Nothing where the other one is absent, and the gRPC door where this version has no other."""
    ours = one.one
    if ours not in found:
        ours = {SESSION_DOOR: GRPC_DOOR, SESSION_DURABLE: GRPC_DURABLE}[ours]
    bars = one.bars if ours == one.one else {}
    if one.other not in found or ours == one.other:
        return []
    return [_row(ours, one, count, rounds, bars.get(count)) for count, rounds in all_rounds.items()]


def _row(ours: str, comparison: Comparison, count: int, rounds: Rounds, bar: Bar | None) -> Row:
    other, limit = comparison.other, comparison.limit
    clients = f"{count} client{'s' if count > 1 else ''}"
    if comparison.of_latency:
        upper, lower = f"{ours} p50", f"{other} p50"
        what = f"pairs: {ours}: p50 of one acquire against {other}, {clients}"
        return rounds.row(what, upper, lower, "us", bar, limit=limit)
    return rounds.row(
        f"pairs: {ours} against {other}, {clients}",
        ours,
        other,
        "pairs/s",
        bar,
        note=f"one acquire, p50 / p99: {_latency(rounds, ours)} against {_latency(rounds, other)}",
        limit=limit,
    )


def _latency(rounds: Rounds, label: str) -> str:
    p50, p99 = (rounds.figure(f"{label} {which}", "us").median for which in ("p50", "p99"))
    return f"{_us(p50)} / {_us(p99)}"


def _us(value: float) -> str:
    return f"{value / 1e3:.3g} ms" if value >= 1e3 else f"{value:.3g} us"


def _charts(found: dict[str, Contestant], all_rounds: dict[int, Rounds]) -> list[Chart]:
    charts = []
    for durable in (False, True):
        kind = "durable" if durable else "not durable"
        labels = [label for label in found if label.endswith(", durable") == durable]
        series = [
            Series(
                drawn_label(found[label]),
                tuple(rounds.point(str(count), label) for count, rounds in all_rounds.items()),
                found[label].is_ours,
            )
            for label in labels
        ]
        title = f"Pairs of acquire and release a second, by the number of clients, {kind}"
        charts.append(Chart(f"pairs-{kind.replace(' ', '-')}", title, "pairs/s", tuple(series)))
        bars = [
            Series(drawn_label(found[label]), (_p50_to_p99(all_rounds[min(all_rounds)], label),), found[label].is_ours)
            for label in labels
        ]
        title = f"One acquire of one client, {kind}: p50, and the line to p99"
        charts.append(Chart(f"latency-{kind.replace(' ', '-')}", title, "us", tuple(bars), has_lines=False))
    return charts


def _p50_to_p99(rounds: Rounds, label: str) -> Point:
    p50, p99 = (rounds.figure(f"{label} {which}").median for which in ("p50", "p99"))
    return Point("", p50, p50, p99)
