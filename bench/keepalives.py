"""Keepalives a second: one lease a client renewed again and again, by whatever the peer has for it."""

import random
from contextlib import ExitStack

from bench.contestants import PEERS, contestants
from bench.harness import SEED, Round, Rounds, Row, progress, run_rounds
from bench.pairs import GRPC_DOOR, GRPC_DURABLE, SESSION_DOOR, SESSION_DURABLE
from bench.swarm import Swarm

ROUND_COUNT = 5
ROUND_S = 0.4
CLIENT_COUNTS = (1, 4)


def run() -> list[Row]:
    """The rows of this benchmark: a peer that never renews has none."""
    with ExitStack() as stack:
        found = stack.enter_context(contestants(*PEERS))
        swarms = {label: Swarm(one.server) for label, one in found.items() if one.has("keep_alive")}
        for swarm in swarms.values():
            stack.callback(swarm.close)
        all_rounds = {count: _rounds(swarms, count) for count in CLIENT_COUNTS}
    return [
        row
        for quicker, other in ((SESSION_DOOR, GRPC_DOOR), (SESSION_DURABLE, GRPC_DURABLE))
        for count, rounds in all_rounds.items()
        for row in _rows(quicker if quicker in found else other, list(swarms), count, rounds)
    ]


def _rounds(swarms: dict[str, Swarm], count: int) -> Rounds:
    def measure(number: int) -> Round:
        measured: Round = {}
        for label in random.Random(SEED + number).sample(list(swarms), len(swarms)):
            progress(f"keepalives: {label}, {count} clients")
            measured[label] = swarms[label].keepalives(count, ROUND_S).per_s
        return measured

    return run_rounds(ROUND_COUNT, measure, what=f"keepalives: {count} clients")


def _rows(ours: str, labels: list[str], count: int, rounds: Rounds) -> list[Row]:
    """Ours against those that are durable where it is, and not where it is not."""
    is_durable = ours.endswith(", durable")
    return [
        rounds.row(
            f"keepalives: {ours} against {label}, {count} client{'s' if count > 1 else ''}",
            ours,
            label,
            "/s",
        )
        for label in labels
        if label != ours and label.endswith(", durable") == is_durable
    ]
