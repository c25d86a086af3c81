"""Requests on an AI Engine array in the ledger alone: on 50x9 (850 modules) against the same on 10x3 (50 modules).

A figure is the median of many requests: ``decide_acquire`` and ``apply``, without a store, a daemon or a call. Each
request is made anew before its clock starts, with site names of its own, as one that came over the wire has them. What
carries a request costs more than all of that: a bare gRPC echo is measured beside it.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import Bar, Round, Row, run_rounds
from bench.peers import echo
from rm.core.claims import Asker, Claim, Common, Units, Wish
from rm.core.events import Granted
from rm.core.ledger import Ledger
from rm.core.types import CardId, Holder, PoolName, SessionId, SiteName
from rm.devices.profiles import load_profile

ROUND_COUNT = 5
REQUEST_COUNT = 1_000  # a round, of each kind on each array
TILE_COUNT = 8
BROADCAST_US_MOST = 100.0
ECHO_COUNT = 500  # calls a round
LARGE, SMALL = "aie", "aie:10x3"
PERFCNT, CHANNEL = PoolName("perfcnt"), PoolName("bcast_channel")
_ASKER = Asker(SessionId("bench"), Holder(1, 0, "bench"))


class _Array:
    """A ledger of one array of which nothing is held."""

    def __init__(self, profile: str) -> None:
        spec = load_profile(profile).card(CardId("0"), backend="bench", memory_bytes=0, cpus=())
        self.ledger = Ledger((spec,))
        self.modules = self.ledger.cards[spec.id].pools[CHANNEL].spec.sites
        self.tiles = [site for site in self.modules if site.endswith("core")][:TILE_COUNT]

    def request_us(self, make_claim: Callable[["_Array"], Claim]) -> tuple[float, float]:
        """Medians in microseconds: of grants, and of the releases that follow them."""
        ledger, granted_ns, released_ns = self.ledger, [], []
        for _ in range(REQUEST_COUNT):
            wish = Wish(_ASKER, (make_claim(self),))
            began = time.perf_counter_ns()
            event = ledger.decide_acquire(wish, now_ns=0, now_wall_ns=0)
            ledger.apply(event)  # type: ignore[arg-type]
            granted = time.perf_counter_ns()
            assert isinstance(event, Granted), "every request is a new one"
            ended = ledger.decide_release(event.lease.id, _ASKER)
            assert ended is not None, "the lease is live"
            ledger.apply(ended)
            released_ns.append(time.perf_counter_ns() - granted)
            granted_ns.append(granted - began)
        return statistics.median(granted_ns) / 1e3, statistics.median(released_ns) / 1e3


# What is asked for, how it is made, and the most that it may take on the large array.
REQUESTS: dict[str, tuple[Callable[[_Array], Claim], float | None]] = {
    f"1 counter on each of {TILE_COUNT} tiles": (lambda array: Units(PERFCNT, 1, _anew(array.tiles)), None),
    "a broadcast channel over all modules, none named": (lambda _: Common(CHANNEL), BROADCAST_US_MOST),
    "a broadcast channel over all modules, each named": (
        lambda array: Common(CHANNEL, _anew(array.modules)),
        BROADCAST_US_MOST,
    ),
}


def run() -> list[Row]:
    """The rows of this benchmark."""
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root, echo.Server(Path(root)) as server:
        client = echo.Client(server.address, 0)
        try:
            return _rows(client)
        finally:
            client.close()


def _rows(client: echo.Client) -> list[Row]:
    arrays = {profile: _Array(profile) for profile in (LARGE, SMALL)}

    def measure(_: int) -> Round:
        measured: Round = {"echo": _call_us(client)}
        gc.collect()
        for what, (make_claim, _most) in REQUESTS.items():
            for profile, array in arrays.items():
                granted_us, released_us = array.request_us(make_claim)
                measured[f"{what} {profile}"] = granted_us
                measured[f"{what} {profile} released"] = released_us
        return measured

    measure(0)  # the first requests fill caches
    rounds = run_rounds(ROUND_COUNT, measure, what="array")
    return [
        rounds.row(
            f"array: {what}: decide and apply on 50x9 against 10x3",
            f"{what} {LARGE}",
            f"{what} {SMALL}",
            "us",
            None if most_us is None else Bar(most_us, of_figure=True),
            note=f"a bare gRPC call: {rounds.figure('echo', 'us')}; "
            f"its release: {rounds.figure(f'{what} {LARGE} released', 'us')} against "
            f"{rounds.figure(f'{what} {SMALL} released', 'us')}",
        )
        for what, (_, most_us) in REQUESTS.items()
    ]


def _call_us(client: echo.Client) -> float:
    """Median of bare calls, in microseconds."""
    taken_ns = []
    for _ in range(ECHO_COUNT):
        began = time.perf_counter_ns()
        client.acquire()
        taken_ns.append(time.perf_counter_ns() - began)
    return statistics.median(taken_ns) / 1e3


def _anew(sites: "list[SiteName] | tuple[SiteName, ...]") -> tuple[SiteName, ...]:
    """The same names as new strings, of which no hash is known yet."""
    return tuple(SiteName("".join((site[:1], site[1:]))) for site in sites)
