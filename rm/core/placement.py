"""Where the claims of a request go: all of them, decided together against one state, or a refusal. Changes nothing.

Claims are placed by how little choice they have: ``Ids``, ``Common``, ``Run``, ``Units``, and those of one kind in the
order of the request; a claim sees what the claims before it will get. Each combination of the ``FirstOf`` alternatives
is tried in the order in which it is liked. This is greedy: it can refuse several runs that some other order would fit.
No map is made here: what claims will get, and what they see, is written into the spare maps of their pools.
"""

from collections.abc import Callable, Mapping
from itertools import product

from rm.core import limits
from rm.core.asks import Ask, check_range, check_shape, check_together, understand
from rm.core.bitmap import UnitBitmap
from rm.core.card import Allotment, Card
from rm.core.claims import Asker, Claim, Common, Ids, PlainClaim, Run, Units, Whole, alternatives_of
from rm.core.conflict import FindHolders, held_by, unit_held
from rm.core.errors import Facts, InvalidRequest, NotNow, NotOwner, PoolExhausted, UnitHeld
from rm.core.fit import fit_common, fit_run, fit_units
from rm.core.free_runs import FreeRuns
from rm.core.mode import check_mode_free
from rm.core.pool import Pool, amount_text
from rm.core.reservation import Reservation
from rm.core.types import PoolName, UnitSet

_RIGIDITY = {Ids: 0, Whole: 0, Common: 1, Run: 2, Units: 3}
_NOTHING: Mapping[PoolName, UnitBitmap] = {}


def place(
    claims: tuple[Claim, ...],
    *,
    card: Card,
    reservations: Mapping[str, Reservation],
    asker: Asker,
    find_holders: FindHolders,
) -> tuple[Allotment, ...]:
    """What each claim gets from ``card``, in the order of the claims.

    Raises:
        InvalidRequest: no choice of alternatives can ever be met by this card.
        PoolExhausted, UnitHeld: not now.
        NotOwner: the claim needs a reservation that is another user's.
    """
    return _first_that_fits(claims, lambda: _Placer(card, reservations, asker, find_holders))


def place_to_reserve(
    claims: tuple[Claim, ...],
    *,
    card: Card,
    reservations: Mapping[str, Reservation],
    asker: Asker,
    find_holders: FindHolders,
    replaced: Reservation | None,
) -> tuple[Allotment, ...]:
    """Which units each claim would set aside, in the order of the claims; those of ``replaced`` count as free.

    Raises:
        InvalidRequest, PoolExhausted, UnitHeld: as ``place``. A unit that is reserved counts as held.
    """
    freed = _NOTHING if replaced is None else replaced.units
    return _first_that_fits(
        claims, lambda: _Placer(card, reservations, asker, find_holders, to_reserve=True, freed=freed)
    )


def _first_that_fits(claims: tuple[Claim, ...], placer: "Callable[[], _Placer]") -> tuple[Allotment, ...]:
    check_shape(claims)
    not_now: NotNow | None = None
    never: InvalidRequest | NotOwner | None = None
    for chosen in product(*(alternatives_of(claim) for claim in claims)):
        try:
            return placer().place_all(chosen)
        except NotNow as refusal:
            not_now = not_now or refusal
        except (InvalidRequest, NotOwner) as refusal:
            never = never or refusal
    refused = not_now or never
    assert refused is not None, "a request has at least one combination"
    raise refused


class _Placer:
    """Places one choice of alternatives. The pools in ``_pending`` have in their spare map what earlier claims get."""

    def __init__(
        self,
        card: Card,
        reservations: Mapping[str, Reservation],
        asker: Asker,
        find_holders: FindHolders,
        *,
        to_reserve: bool = False,
        freed: Mapping[PoolName, UnitBitmap] = _NOTHING,
    ) -> None:
        self._card = card
        self._reservations = reservations
        self._asker = asker
        self._find_holders = find_holders
        self._to_reserve = to_reserve
        self._freed = freed
        self._pending: set[PoolName] = set()

    def place_all(self, claims: tuple[PlainClaim, ...]) -> tuple[Allotment, ...]:
        """What each claim gets, in the order of the claims."""
        asks = [
            understand(claim, self._card, self._reservations, self._asker, to_reserve=self._to_reserve)
            for claim in claims
        ]
        if not self._to_reserve:
            window_count = sum(1 for ask in asks if ask.pool.spec.unit_bytes)
            check_range("pieces of memory in a lease", window_count, limits.WINDOWS_PER_LEASE_MAX, least=0)
        check_together(asks)
        if len(asks) == 1:
            return (Allotment(asks[0].claim.pool, self._place(asks[0])),)
        placed: dict[int, Allotment] = {}
        for index in sorted(range(len(asks)), key=lambda index: _RIGIDITY[type(claims[index])]):
            ask = asks[index]
            units = self._place(ask)
            placed[index] = Allotment(ask.claim.pool, units)
            self._note_pending(ask.pool, units)
        return tuple(placed[index] for index in range(len(asks)))

    # Where a claim goes.

    def _place(self, ask: Ask) -> UnitSet:
        if not self._to_reserve:
            check_mode_free(self._card, ask.pool, ask.sites[0], self._find_holders)
        if ask.units is not None:
            return self._place_exactly(ask.pool, ask.units)
        blocked, free_runs = self._view(ask)
        if isinstance(ask.claim, Common):
            return self._place_common(ask, blocked)
        return self._place_site_by_site(ask, blocked, free_runs)

    def _place_exactly(self, pool: Pool, units: UnitSet) -> UnitSet:
        if not pool.held.has_none(units) or not pool.quarantined.has_none(units):
            raise self._held(pool, units)
        if self._to_reserve and not pool.reserved.has_none(units):
            taken = pool.reserved.part(units)
            freed = self._freed.get(pool.spec.name)
            if freed is None or not freed.has_all(taken):
                raise self._held(pool, taken)
        return units

    def _place_site_by_site(self, ask: Ask, blocked: UnitBitmap, free_runs: FreeRuns | None) -> UnitSet:
        claim, pool, slices = ask.claim, ask.pool, ask.pool.spec.slices_per_unit
        if blocked is pool.blocked and ask.has_a_site_twice:  # it gets other units the second time
            blocked, free_runs = pool.spare.view.becomes(blocked), None
        runs = []
        for site in ask.sites:
            bits = blocked.at_site(site)
            if isinstance(claim, Run):
                fitted = fit_run(
                    bits,
                    ask.bit_count,
                    align_count=claim.align_count * slices,
                    extent_count_max=claim.extent_count_max,
                    slices_per_unit=slices,
                    free_runs=free_runs,
                )
            else:
                fitted = fit_units(bits, ask.bit_count, slices_per_unit=slices)
            if fitted is None:
                is_plain_row = blocked is pool.blocked and pool.spec.site_count == 1
                free_count = pool.free_count if is_plain_row else bits.count(0)
                raise self._exhausted(pool, site, ask.bit_count, free_count, is_run=isinstance(claim, Run))
            runs.append(fitted)
            if blocked is not pool.blocked:
                blocked.fill(UnitSet((site,), (fitted,)), 1)
        return UnitSet(ask.sites, tuple(runs))

    def _place_common(self, ask: Ask, blocked: UnitBitmap) -> UnitSet:
        pool, sites, slices = ask.pool, ask.sites, ask.pool.spec.slices_per_unit
        fitted = fit_common(blocked, sites, unit_count=pool.spec.unit_count, slices_per_unit=slices)
        if fitted is None:
            raise PoolExhausted(
                f"pool {pool.spec.name} of card {self._card.id} has no unit that is free at all of {len(sites)} sites",
                **self._facts(pool, slices, pool.free_count),
                site_count=len(sites),
            )
        return UnitSet(sites, ((fitted,),))

    # What a claim sees.

    def _view(self, ask: Ask) -> tuple[UnitBitmap, FreeRuns | None]:
        """What is blocked for a claim, and the index of it where there is one."""
        pool, name = ask.pool, ask.pool.spec.name
        freed = self._freed.get(name)
        if ask.reservation is None and freed is None and name not in self._pending:
            return pool.blocked, pool.free_runs
        view = pool.spare.view.becomes(pool.blocked)
        if ask.reservation is not None:
            ask.reservation.block_others(view, pool)
        if freed is not None:
            view.bits &= ~freed.bits
        if name in self._pending:
            view.bits |= pool.spare.pending.bits
        return view, None

    def _note_pending(self, pool: Pool, units: UnitSet) -> None:
        if pool.spec.name not in self._pending:
            self._pending.add(pool.spec.name)
            pool.spare.pending.emptied()
        pool.spare.pending.insert(units)

    # How it is refused.

    def _exhausted(self, pool: Pool, site: int, bit_count: int, free_count: int, *, is_run: bool) -> PoolExhausted:
        facts = self._facts(pool, bit_count, free_count)
        name, at = pool.spec.name, f" at site {pool.spec.sites[site]}" if pool.spec.site_count > 1 else ""
        have = f"pool {name} of card {self._card.id} has {amount_text(pool.spec, free_count)} free{at}"
        if is_run:
            have += f", the longest run {amount_text(pool.spec, pool.largest_run())}"
        if pool.quarantined_count:
            have += f", {amount_text(pool.spec, pool.quarantined_count)} in quarantine until nobody uses it"
        return PoolExhausted(f"{have}; asked: {amount_text(pool.spec, bit_count)}{held_by(facts)}", **facts)

    def _held(self, pool: Pool, units: UnitSet) -> UnitHeld:
        return unit_held(
            self._card, pool, units, reservations=self._reservations.values(), find_holders=self._find_holders
        )

    def _facts(self, pool: Pool, bit_count: int, free_count: int) -> Facts:
        return {
            "card": self._card.id,
            "pool": pool.spec.name,
            "asked_count": bit_count,
            "free_count": free_count,
            "quarantined_count": pool.quarantined_count,
            "largest_run_count": pool.largest_run(),
            "slices_per_unit": pool.spec.slices_per_unit,
            "unit_bytes": pool.spec.unit_bytes,
            "holders": self._find_holders(self._card, pool.spec.name, None),
        }
