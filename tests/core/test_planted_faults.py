"""Shows that the model machine has teeth: it must fail on a ledger with a fault planted in it, whatever the fault."""

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from rm.core import asks, deadlines, fit, placement, reserving
from rm.core.bitmap import UnitBitmap
from rm.core.books import Books
from rm.core.claims import Whole
from rm.core.dedupe import Requests
from rm.core.events import ReservationReplaced, SitesGated
from rm.core.ledger import Ledger
from rm.core.pool import Pool
from rm.core.reservation import Reservation
from rm.core.reserving import Reserving
from rm.core.types import UnitRange, UnitSet, ranges_of
from support.comparison import Disagreement
from support.machine import LedgerMachine
from support.strategies import SAME_EVERY_RUN

# No shrinking: that the machine fails is all that is asked. It stops at the first failure, so that many examples cost
# nothing.
HUNT = settings(
    SAME_EVERY_RUN,
    max_examples=20_000,
    stateful_step_count=40,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


@seed(3)
class Hunter(LedgerMachine):
    """The machine with a seed of its own: by its name it would begin with hundreds of examples that find nothing."""


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
        if ask.pool.spec.name in self._pending:
            seen.bits |= ask.pool.spare.pending.bits
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


def plant_a_replaced_reservation_that_leaks_a_unit(patch: pytest.MonkeyPatch) -> None:
    """What the old reservation had and the new one has not stays reserved, by nobody."""
    apply = Books.apply

    def leaking(self, event):
        old = self.reservations.get(event.spec.name) if isinstance(event, ReservationReplaced) else None
        had = [] if old is None else [(name, old.units_in(name)) for name in old.units]
        apply(self, event)
        for name, units in had:
            pool = self.cards[old.spec.card].pools[name]
            if (left := pool.blocked.part(units, 0)).sites:
                pool.reserve(left)

    patch.setattr(Books, "apply", leaking)


def plant_a_common_claim_of_all_that_takes_gated_sites(patch: pytest.MonkeyPatch) -> None:
    resolve_sites = asks.resolve_sites

    def all_of_them(pool, names, **how):
        if how.get("none_means_all") and not names:
            return tuple(range(pool.spec.site_count))
        return resolve_sites(pool, names, **how)

    patch.setattr(asks, "resolve_sites", all_of_them)


def plant_a_site_that_is_gated_while_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "decide_gate", lambda self, card, sites: SitesGated(card, tuple(sorted(set(sites)))))


def plant_a_whole_claim_that_does_not_look_who_holds_it(patch: pytest.MonkeyPatch) -> None:
    place = placement._Placer._place
    patch.setattr(
        placement._Placer, "_place", lambda self, ask: ask.units if isinstance(ask.claim, Whole) else place(self, ask)
    )


def plant_a_shared_reservation_that_a_stranger_takes_away(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reserving, "check_may_take_away", reserving.check_may_use)


def plant_a_shared_reservation_that_only_its_owner_may_use(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reservation, "may_be_used_by", Reservation.is_owned_by)


def plant_a_strict_rule_that_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    may_name = asks._check_may_name

    def lenient(units, pool, reservations, asker):
        may_name(units, pool, reservations, replace(asker, needs_reserved=False))

    patch.setattr(asks, "_check_may_name", lenient)


def plant_what_another_user_set_aside_found_by_its_content(patch: pytest.MonkeyPatch) -> None:
    same_content = Reserving._same_content

    def whoever(self, wish, old):
        mine = [old] if old is not None else []
        mine += self.reservations.values()
        found = (one for one in mine if wish.content_hash and one.spec.content_hash == wish.content_hash)
        return next(found, None) or same_content(self, wish, old)

    patch.setattr(Reserving, "_same_content", whoever)


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
    plant_a_replaced_reservation_that_leaks_a_unit,
    plant_a_common_claim_of_all_that_takes_gated_sites,
    plant_a_site_that_is_gated_while_held,
    plant_a_whole_claim_that_does_not_look_who_holds_it,
    plant_a_shared_reservation_that_a_stranger_takes_away,
    plant_a_shared_reservation_that_only_its_owner_may_use,
    plant_a_strict_rule_that_is_not_kept,
    plant_what_another_user_set_aside_found_by_its_content,
    plant_a_second_mode_beside_the_first,
]


# The long limit is for a busy machine: a hunt takes up to a quarter of a minute of CPU time.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
def test_the_model_machine_finds(plant, monkeypatch) -> None:
    plant(monkeypatch)
    with pytest.raises(Disagreement):
        run_state_machine_as_test(Hunter, settings=HUNT)
