"""Some hundred seeds of the simulation: nothing may be wrong in any, and everything must have happened in some."""

import os
import subprocess
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from sim.runner import run

SEED_COUNT = 300
ONE_PART = 50  # seeds a test

# How often each of these comes up at least, in all seeds together: so that the simulation does not become tame unseen.
AT_LEAST = {
    "ReservationReplaced": 100,
    "Reserved": 300,
    "SitesGated": 100,
    "acquire: Lease": 1_000,
    "acquire: LeaseGone": 2,
    "acquire: PoolExhausted": 100,
    "acquire: StoreFull": 20,
    "acquire: WaitTimedOut": 50,
    "attack": 150,
    "boot": 10,
    "came back to lost leases": 5,
    "crash": 300,
    "crash that lost events": 60,
    "death while the daemon was down": 30,
    "death with a claimed reservation": 10,
    "extend: Lease": 50,
    "failed write": 30,
    "fence that took time": 60,
    "forgo: bool": 80,
    "give back: Lease": 70,
    "keepalive missed": 80,
    "lost answer": 200,
    "lost: an admin's wish": 60,
    "lost: keepalive missed": 50,
    "lost: nobody claimed it": 10,
    "other parameters": 20,
    "pause over leases": 100,
    "quarantine taken over": 20,
    "release: NotOwner": 20,
    "reserved once more": 100,
    "reset of a card": 15,
    "retry that found its lease": 30,
    "snapshot": 100,
    "torn record": 30,
    "window handed back": 10,
}

_seen: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(0, SEED_COUNT, ONE_PART))
def test_nothing_is_wrong_whatever_happens(first) -> None:
    for seed in range(first, first + ONE_PART):
        done = run(seed)
        assert not done.fault, done.report()
        _seen.update(done.seen)


def test_everything_that_matters_came_up() -> None:
    if not _seen:
        pytest.skip("the seeds were not run")
    missing = {what: (_seen[what], least) for what, least in AT_LEAST.items() if _seen[what] < least}
    assert missing == {}


def test_a_seed_is_the_same_run_every_time_and_whatever_the_order_of_hashes() -> None:
    code = "from sim.test_simulation import digest_of; print(digest_of(7), digest_of(8))"
    tests = Path(__file__).parents[1]
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{tests}:{tests.parent}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed == [f"{digest_of(7)} {digest_of(8)}\n"] * 2


def digest_of(seed: int) -> str:
    return sha256("\n".join(run(seed).trace).encode()).hexdigest()
