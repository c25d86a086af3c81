"""Runs simulations: one seed is one run, which is the same every time."""

import asyncio
import selectors
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rm.core import limits
from rm.core.snapshot import differences, take
from rm.store.recovery import recover
from sim.steps import Steps
from sim.world import TURNS, Violation, World

STEPS_PER_SEED = 80
TRACE_LINES_SHOWN = 60
_REQUESTS_REMEMBERED = 8  # few, so that some are forgotten


@dataclass(frozen=True)
class Run:
    """What became of a seed. ``fault`` is empty where nothing was wrong."""

    seed: int
    fault: str
    trace: list[str]
    seen: Counter[str]

    def report(self) -> str:
        """The fault, the end of the trace, and how to see it again."""
        lines = self.trace[-TRACE_LINES_SHOWN:]
        return "\n".join([*lines, f"seed {self.seed}: {self.fault}", f"again: make sim SEED={self.seed}"])


class _NoSelector(selectors.SelectSelector):
    """Nothing comes from outside, so nobody is asked."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []


def run(seed: int) -> Run:
    """Runs one seed to its end, or to the first fault."""
    world = World(seed)
    loop = asyncio.SelectorEventLoop(_NoSelector())
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(repr(context.get("exception") or context)))
    try:
        with _small_limits():
            loop.run_until_complete(_run_to_the_end(world, faults))
        fault = ""
    except Violation as violation:
        fault = str(violation)
    except Exception as stopped:  # whatever it is: a daemon that does not start, or an assert of ours
        *_, place = traceback.extract_tb(stopped.__traceback__)
        fault = f"{type(stopped).__name__} in {Path(place.filename).name}, line {place.lineno}: {stopped}"
    finally:
        loop.close()
    return Run(seed, fault, world.trace, world.seen)


def run_some(seeds: Iterable[int]) -> tuple[int, Run | None, Counter[str]]:
    """Stops at the first seed with a fault."""
    seen = Counter[str]()
    count = 0
    for seed in seeds:
        done = run(seed)
        if done.fault:
            return count, done, seen
        seen += done.seen
        count += 1
    return count, None, seen


async def _run_to_the_end(world: World, faults: list[str]) -> None:
    try:
        await _run(world, faults)
    finally:
        if world.daemon is not None:
            world.daemon.kill()
        for _ in range(TURNS):
            await asyncio.sleep(0)


async def _run(world: World, faults: list[str]) -> None:
    steps = Steps(world)
    world.start()
    for _ in range(world.random.randint(1, 3)):
        steps.clients.spawn()
    if world.random.random() < 0.5:
        await world.settle()
        steps.admin.reserve()
    for _ in range(STEPS_PER_SEED):
        steps.step()
        if world.daemon is not None and world.random.random() < world.sync_chance:
            world.daemon.store.sync()
        await world.settle()
        world.oracle.faults += faults
        world.check()
    await _come_to_rest(world)


async def _come_to_rest(world: World) -> None:
    """Nothing goes wrong any more, everybody dies, and nothing may be left."""
    world.note("everything comes to rest")
    world.loss, world.delay, world.sync_chance = 0, 0, 1
    if world.daemon is not None and world.daemon.store.has_failed:
        world.crash()
    if world.daemon is None:
        world.start()
    daemon = world.daemon
    assert daemon is not None
    daemon.store.make_room()
    await world.settle()
    for client in world.clients.values():
        if not client.is_dead:
            world.kill(client)
    for _ in range(4):
        daemon.store.make_room()
        world.notice_deaths()
        for _ in range(16):
            world.tick()
        await world.settle()
        for lease_id in daemon.backend.ready():
            daemon.backend.quiet(lease_id)
        await world.settle()
        world.check()
    daemon.store.sync()
    await world.settle()
    world.check()
    ledger, oracle = daemon.engine.ledger, world.oracle
    for what, left in (("leases", ledger.leases), ("sessions", ledger.sessions), ("quarantine", ledger.quarantine)):
        if left:
            oracle.fault(f"{what} are left though everybody is dead: {sorted(left)}")
    for card in ledger.cards.values():
        for name, pool in card.pools.items():
            if pool.free_count + pool.reserved_count != pool.total_count:
                oracle.fault(f"pool {name} of card {card.id} leaks: {pool.counts()}")
    if len(daemon.engine.waitlist):
        oracle.fault("somebody still waits though everybody is dead")
    oracle.faults += differences(take(ledger), take(recover(world.disk.read())))  # type: ignore[arg-type]
    kept = await daemon.store.read_back()
    assert kept is not None
    oracle.faults += differences(take(ledger), take(kept))
    world.check()


@contextmanager
def _small_limits() -> Iterator[None]:
    """Lowers what no run of this length would reach."""
    before = limits.REQUESTS_REMEMBERED_PER_SESSION
    limits.REQUESTS_REMEMBERED_PER_SESSION = _REQUESTS_REMEMBERED
    try:
        yield
    finally:
        limits.REQUESTS_REMEMBERED_PER_SESSION = before
