"""Shows that the simulation has teeth: each fault that is planted in the daemon is found within 200 seeds."""

import sys
from collections.abc import Callable

import pytest

from rm.core import reserving, snapshot
from rm.core.books import Books
from rm.core.dedupe import Requests
from rm.core.errors import LeaseNotFound
from rm.core.lookup import Lookup
from rm.service.commits import Commits
from rm.service.timer import Timer
from sim.runner import run

SEEDS_MAX = 200


def plant_requests_that_are_not_known_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Requests, "find", lambda self, request: None)


def plant_leases_that_anybody_may_end(patch: pytest.MonkeyPatch) -> None:
    def whoever_asks(self, lease_id, session):
        if lease_id not in self.leases:
            raise LeaseNotFound(f"there is no live lease {lease_id!r}")
        return self.leases[lease_id]

    patch.setattr(Lookup, "lease_of", whoever_asks)


def plant_a_token_taken_from_live_leases(patch: pytest.MonkeyPatch) -> None:
    """After a snapshot the last token is that of the youngest lease that still lives."""
    restore = snapshot.restore

    def without_the_last_token(books, head, parts):
        restore(books, head, parts)
        books.last_token = max((lease.token for lease in books.leases.values()), default=0)

    patch.setattr(snapshot, "restore", without_the_last_token)


def plant_an_answer_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    async def at_once(self):
        return self._ledger.revision

    patch.setattr(Commits, "synced", at_once)


def plant_an_expiry_without_pause_guard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timer, "tick", lambda self: self._engine.tick())


def plant_a_reserved_unit_that_death_makes_free(patch: pytest.MonkeyPatch) -> None:
    drop = Books._drop

    def to_the_pool(self, card, name, units, *, to_pool, to_quarantine):
        drop(self, card, name, units, to_pool=to_pool or to_quarantine, to_quarantine=to_quarantine)

    patch.setattr(Books, "_drop", to_the_pool)


def plant_clocks_that_a_snapshot_forgets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshot, "_gated", lambda books: [])


def plant_a_reservation_that_anybody_may_replace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reserving, "check_may_take_away", lambda reservation, asker: None)


FAULTS = [
    plant_requests_that_are_not_known_again,
    plant_leases_that_anybody_may_end,
    plant_a_token_taken_from_live_leases,
    plant_an_answer_before_the_commit,
    plant_an_expiry_without_pause_guard,
    plant_a_reserved_unit_that_death_makes_free,
    plant_clocks_that_a_snapshot_forgets,
    plant_a_reservation_that_anybody_may_replace,
]


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
def test_the_simulation_finds(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch, capsys) -> None:
    plant(monkeypatch)
    found = next((done for done in map(run, range(SEEDS_MAX)) if done.fault), None)
    assert found is not None, f"{SEEDS_MAX} seeds went by"
    with capsys.disabled():
        sys.stdout.write(f"\n{plant.__name__}: found by seed {found.seed}: {found.fault}")
