"""Shows that the model machine has teeth: it must fail on a ledger with a fault planted in it, whatever the fault."""

from itertools import islice

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from rm.core import deadlines, fit, placement
from rm.core.bitmap import UnitBitmap
from rm.core.dedupe import Requests
from rm.core.ledger import Ledger
from rm.core.pool import Pool
from rm.core.types import UnitRange, UnitSet, ranges_of
from support.comparison import Disagreement
from support.machine import LedgerMachine
from support.strategies import SAME_EVERY_RUN

# No shrinking: that the machine fails is all that is asked. It stops at the first failure, so that many examples cost
# nothing; they are many because Hypothesis draws from the constants of all modules that happen to be loaded.
HUNT = settings(
    SAME_EVERY_RUN,
    max_examples=2_000,
    stateful_step_count=40,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def plant_a_unit_granted_twice(patch: pytest.MonkeyPatch) -> None:
    """Units are given whether they are taken or not, and nobody asserts otherwise."""

    def lowest(bits, bit_count, *, slices_per_unit):
        return ranges_of(list(islice(range(len(bits)), bit_count)))

    patch.setattr(placement, "fit_units", lowest)
    patch.setattr(UnitBitmap, "insert", lambda self, units: self.fill(units, 1))


def plant_reserved_units_for_a_plain_claim(patch: pytest.MonkeyPatch) -> None:
    """A plain claim sees only what is held or in quarantine."""
    view_for = placement._Placer._view

    def view(self, ask):
        if ask.reservation is not None:
            return view_for(self, ask)
        seen = ask.pool.blocked.copy()
        seen.bits &= ~ask.pool.reserved.bits | ask.pool.held.bits | ask.pool.quarantined.bits
        pending = self._pending.get(ask.pool.spec.name)
        if pending is not None:
            seen.bits |= pending.bits
        return seen, None

    patch.setattr(placement._Placer, "_view", view)


def plant_a_lease_that_lives_at_its_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deadlines, "is_live", lambda deadline_ns, now_ns: deadline_ns is None or now_ns <= deadline_ns)


def plant_a_common_claim_that_skips_a_site(patch: pytest.MonkeyPatch) -> None:
    def at_all_but_the_last(blocked, sites, **shape):
        return fit.fit_common(blocked, sites[:-1] or sites, **shape)

    patch.setattr(placement, "fit_common", at_all_but_the_last)


def plant_a_bit_left_set_after_release(patch: pytest.MonkeyPatch) -> None:
    """The last bit of what is dropped stays held, and the books stay in step with that."""
    drop = Pool.drop

    def all_but_one(self, units, *, to_quarantine):
        drop(self, units, to_quarantine=to_quarantine)
        if not to_quarantine:
            runs = units.runs[-1][-1]
            self.hold(UnitSet(units.sites[-1:], ((UnitRange(runs.stop - 1, runs.stop),),)))

    patch.setattr(Pool, "drop", all_but_one)


def plant_an_alignment_that_is_ignored(patch: pytest.MonkeyPatch) -> None:
    def unaligned(bits, bit_count, *, align_count, **shape):
        return fit.fit_run(bits, bit_count, align_count=shape["slices_per_unit"], **shape)

    patch.setattr(placement, "fit_run", unaligned)


def plant_a_death_without_quarantine(patch: pytest.MonkeyPatch) -> None:
    drop = Pool.drop
    patch.setattr(Pool, "drop", lambda self, units, *, to_quarantine: drop(self, units, to_quarantine=False))
    patch.setattr(Pool, "quiet", lambda self, units: None)


def plant_a_keepalive_that_saves_what_is_told_to_end(patch: pytest.MonkeyPatch) -> None:
    renew = Ledger.decide_renew

    def saved(self, lease_ids, session, *, now_ns):
        revoking, self.revoking = self.revoking, {}
        try:
            return renew(self, lease_ids, session, now_ns=now_ns)
        finally:
            self.revoking = revoking

    patch.setattr(Ledger, "decide_renew", saved)


def plant_a_restart_that_forgets_who_asked_for_what(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Requests, "restore", lambda self, requests: None)


def plant_a_second_mode_beside_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(placement, "check_mode_free", lambda *asked: None)


FAULTS = [
    plant_a_unit_granted_twice,
    plant_reserved_units_for_a_plain_claim,
    plant_a_lease_that_lives_at_its_deadline,
    plant_a_common_claim_that_skips_a_site,
    plant_a_bit_left_set_after_release,
    plant_an_alignment_that_is_ignored,
    plant_a_death_without_quarantine,
    plant_a_keepalive_that_saves_what_is_told_to_end,
    plant_a_restart_that_forgets_who_asked_for_what,
    plant_a_second_mode_beside_the_first,
]


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
def test_the_model_machine_finds(plant, monkeypatch) -> None:
    plant(monkeypatch)
    with pytest.raises(Disagreement):
        run_state_machine_as_test(LedgerMachine, settings=HUNT)
