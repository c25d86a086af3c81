"""Where the claims of a request go: all of them, decided together against one state, or a refusal. Changes nothing.

Claims are placed by how little choice they have: ``Ids``, ``Common``, ``Run``, ``Units``, and those of one kind in the
order of the request; a claim sees what the claims before it will get. Each combination of the ``FirstOf`` alternatives
is tried in the order in which it is liked. This is greedy: it can refuse several runs that some other order would fit.
What no wait can heal is looked for in all claims first, so that a request that can never be is not called busy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod

from rm.core import limits
from rm.core.bitmap import UnitBitmap
from rm.core.card import Allotment, Card
from rm.core.claims import Asker, Claim, Common, Ids, PlainClaim, Run, Units, alternatives_of
from rm.core.errors import Facts, InvalidRequest, NotNow, NotOwner, PoolExhausted, UnitHeld
from rm.core.fit import fit_common, fit_run, fit_units
from rm.core.free_runs import FreeRuns
from rm.core.mode import check_mode_free, check_one_mode
from rm.core.pool import Pool, amount_text
from rm.core.reservation import Reservation, check_may_use
from rm.core.types import PoolName, SiteName, UnitRange, UnitSet, ranges_of

# Who holds units of a pool (or, given some units, one of those): for the facts of a refusal, at most a few.
FindHolders = Callable[[Card, PoolName, UnitSet | None], list[dict[str, str | int]]]

_RIGIDITY = {Ids: 0, Common: 1, Run: 2, Units: 3}


def place(
    claims: tuple[Claim, ...],
    *,
    card: Card,
    reservations: dict[str, Reservation],
    asker: Asker,
    find_holders: FindHolders,
) -> tuple[Allotment, ...]:
    """What each claim gets from ``card``, in the order of the claims.

    Raises:
        InvalidRequest: no choice of alternatives can ever be met by this card.
        PoolExhausted, UnitHeld: not now.
        NotOwner: the claim needs a reservation that is another user's.
    """
    check_shape(claims)
    not_now: NotNow | None = None
    never: InvalidRequest | NotOwner | None = None
    for chosen in product(*(alternatives_of(claim) for claim in claims)):
        try:
            return _Placer(card, reservations, asker, find_holders).place_all(chosen)
        except NotNow as refusal:
            not_now = not_now or refusal
        except (InvalidRequest, NotOwner) as refusal:
            never = never or refusal
    refused = not_now or never
    assert refused is not None, "a request has at least one combination"
    raise refused


def check_shape(claims: tuple[Claim, ...]) -> None:
    """Refuses a request that asks for nothing, or for more than any request may.

    Raises:
        InvalidRequest: too few or too many claims, alternatives or combinations.
    """
    check_range("claims in a request", len(claims), limits.CLAIMS_PER_REQUEST_MAX)
    ways = [len(alternatives_of(claim)) for claim in claims]
    for count in ways:
        check_range("alternatives in a claim", count, limits.ALTERNATIVES_PER_CLAIM_MAX)
    check_range("combinations of alternatives", prod(ways), limits.COMBINATIONS_PER_REQUEST_MAX)


def check_range(what: str, count: int, most: int, least: int = 1) -> None:
    """Refuses a number that is out of ``[least, most]``.

    Raises:
        InvalidRequest: it is.
    """
    if not least <= count <= most:
        raise InvalidRequest(f"{what}: {least} to {most} are possible, not {count}", what=what, most=most, asked=count)


def resolve_sites(pool: Pool, names: Sequence[SiteName], *, none_means_all: bool = False) -> tuple[int, ...]:
    """Indices of the sites called ``names``.

    Raises:
        InvalidRequest: a site that the pool does not have, too many, or none where one must be named.
    """
    spec = pool.spec
    if not names and spec.site_count == 1:
        return (0,)
    if not names and none_means_all:
        return tuple(range(spec.site_count))
    check_range(f"sites named in pool {spec.name}", len(names), limits.SITES_PER_CLAIM_MAX)
    try:
        return tuple([pool.site_index[name] for name in names])
    except KeyError as fault:
        site = str(fault.args[0])
        raise InvalidRequest(f"pool {spec.name} has no site {site!r}", pool=spec.name, site=site) from fault


def units_of_ids(pool: Pool, ids: Sequence[int], sites: tuple[int, ...]) -> UnitSet:
    """Exactly the whole units ``ids`` at each of ``sites``.

    Raises:
        InvalidRequest: an id out of range, none, too many, or one twice.
    """
    spec, slices = pool.spec, pool.spec.slices_per_unit
    check_range(f"ids of pool {spec.name}", len(ids), limits.IDS_PER_CLAIM_MAX)
    in_order = sorted(ids)
    least_count = min(spec.unit_count_at(site) for site in sites)
    for wrong in (in_order[0], in_order[-1]):
        if not 0 <= wrong < least_count:
            raise InvalidRequest(
                f"pool {spec.name} has units 0 to {least_count - 1}, not {wrong}",
                pool=spec.name,
                unit=wrong,
                unit_count=least_count,
            )
    if len(set(in_order)) < len(in_order) or len(set(sites)) < len(sites):
        raise InvalidRequest(f"a unit of pool {spec.name} is named twice", pool=spec.name)
    runs = tuple(UnitRange(run.start * slices, run.stop * slices) for run in ranges_of(in_order))
    return UnitSet(sites, (runs,))


@dataclass(frozen=True, slots=True)
class _Ask:
    """A claim as one card understands it: ``bit_count`` bits at each of ``sites``, or exactly ``units``."""

    claim: PlainClaim
    pool: Pool
    sites: tuple[int, ...]
    bit_count: int
    reservation: Reservation | None
    units: UnitSet | None


class _Placer:
    """Places one choice of alternatives. ``_pending`` holds what its earlier claims will get."""

    def __init__(
        self, card: Card, reservations: dict[str, Reservation], asker: Asker, find_holders: FindHolders
    ) -> None:
        self._card = card
        self._reservations = reservations
        self._asker = asker
        self._find_holders = find_holders
        self._pending: dict[PoolName, UnitBitmap] = {}

    def place_all(self, claims: tuple[PlainClaim, ...]) -> tuple[Allotment, ...]:
        """What each claim gets, in the order of the claims."""
        asks = [self._understand(claim) for claim in claims]
        window_count = sum(1 for ask in asks if ask.pool.spec.unit_bytes)
        check_range("pieces of memory in a lease", window_count, limits.WINDOWS_PER_LEASE_MAX, least=0)
        _check_together(asks)
        placed: dict[int, Allotment] = {}
        for index in sorted(range(len(asks)), key=lambda index: _RIGIDITY[type(claims[index])]):
            ask = asks[index]
            units = self._place(ask)
            placed[index] = Allotment(ask.claim.pool, units)
            if len(asks) > 1:
                self._note_pending(ask.pool, units)
        return tuple(placed[index] for index in range(len(asks)))

    # What no wait can heal.

    def _understand(self, claim: PlainClaim) -> _Ask:
        pool = self._pool(claim.pool)
        sites = resolve_sites(pool, claim.at, none_means_all=isinstance(claim, Common))
        units = None
        match claim:
            case Ids():
                units = units_of_ids(pool, claim.ids, sites)
                bit_count = len(claim.ids) * pool.spec.slices_per_unit
            case Common():
                sites = tuple(dict.fromkeys(sites))
                bit_count = pool.spec.slices_per_unit
            case Run():
                bit_count = _bits_of_run(claim, pool)
            case Units():
                bit_count = _bits_of_units(claim, pool)
        for site in sites:
            _check_capacity(pool, site, bit_count)
        reservation = self._reservation(claim.reservation) if claim.reservation else None
        if units is not None:
            self._check_may_name(units, pool, reservation)
        return _Ask(claim, pool, sites, bit_count, reservation, units)

    def _check_may_name(self, units: UnitSet, pool: Pool, reservation: Reservation | None) -> None:
        name = pool.spec.name
        if reservation is not None:
            mine = reservation.units.get(name)
            if mine is None or not mine.has_all(units):
                key = reservation.spec.name
                text = f"reservation {key} does not name unit {_ids_text(units, pool)} of pool {name}"
                raise InvalidRequest(text, pool=name, reservation=key)
        elif not pool.reserved.has_none(units):
            for other in self._reservations.values():
                if other.spec.card == self._card.id and other.names_any(name, units):
                    check_may_use(other, self._asker)

    # Where a claim goes.

    def _place(self, ask: _Ask) -> UnitSet:
        check_mode_free(self._card, ask.pool, ask.sites[0], self._find_holders)
        if ask.units is not None:
            if not ask.pool.held.has_none(ask.units) or not ask.pool.quarantined.has_none(ask.units):
                raise self._held(ask.pool, ask.units)
            return ask.units
        blocked, free_runs = self._view(ask)
        if isinstance(ask.claim, Common):
            return self._place_common(ask, blocked)
        return self._place_site_by_site(ask, blocked, free_runs)

    def _place_site_by_site(self, ask: _Ask, blocked: UnitBitmap, free_runs: FreeRuns | None) -> UnitSet:
        claim, pool, slices = ask.claim, ask.pool, ask.pool.spec.slices_per_unit
        if len(set(ask.sites)) < len(ask.sites):  # a site that stands twice must not get one unit twice
            blocked, free_runs = blocked.copy(), None
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

    def _place_common(self, ask: _Ask, blocked: UnitBitmap) -> UnitSet:
        pool, sites, slices = ask.pool, ask.sites, ask.pool.spec.slices_per_unit
        unit_count = min(pool.spec.unit_count_at(site) for site in sites)
        fitted = fit_common(blocked, sites, unit_count=unit_count, slices_per_unit=slices)
        if fitted is None:
            raise PoolExhausted(
                f"pool {pool.spec.name} of card {self._card.id} has no unit that is free at all of {len(sites)} sites",
                **self._facts(pool, slices, pool.free_count),
                site_count=len(sites),
            )
        return UnitSet(sites, ((fitted,),))

    # What a claim sees.

    def _pool(self, name: PoolName) -> Pool:
        pool = self._card.pools.get(name)
        if pool is None:
            there = ", ".join(self._card.pools)
            raise InvalidRequest(f"card {self._card.id} has no pool {name!r}; it has {there}", pool=name, pools=there)
        return pool

    def _view(self, ask: _Ask) -> tuple[UnitBitmap, FreeRuns | None]:
        """What is blocked for a claim, and the index of it where there is one."""
        pool = ask.pool
        pending = self._pending.get(pool.spec.name)
        if ask.reservation is None and pending is None:
            return pool.blocked, pool.free_runs
        view = pool.blocked.copy() if ask.reservation is None else ask.reservation.blocked_view(pool)
        if pending is not None:
            view.bits |= pending.bits
        return view, None

    def _note_pending(self, pool: Pool, units: UnitSet) -> None:
        name, spec = pool.spec.name, pool.spec
        if name not in self._pending:
            self._pending[name] = UnitBitmap(spec.bits_per_site, spec.site_count)
        self._pending[name].insert(units)

    def _reservation(self, key: str) -> Reservation:
        here = [one for one in self._reservations.values() if one.spec.card == self._card.id]
        found = next((one for one in here if one.spec.name == key), None)
        if found is None:  # one compilation may be reserved on several cards, under several names
            found = next((one for one in here if one.spec.content_hash == key), None)
        if found is None:
            raise InvalidRequest(f"card {self._card.id} has no reservation {key!r}", reservation=key)
        check_may_use(found, self._asker)
        return found

    # How it is refused.

    def _exhausted(self, pool: Pool, site: int, bit_count: int, free_count: int, *, is_run: bool) -> PoolExhausted:
        facts = self._facts(pool, bit_count, free_count)
        name, at = pool.spec.name, f" at site {pool.spec.sites[site]}" if pool.spec.site_count > 1 else ""
        have = f"pool {name} of card {self._card.id} has {amount_text(pool.spec, free_count)} free{at}"
        if is_run:
            have += f", the longest run {amount_text(pool.spec, pool.largest_run())}"
        if pool.quarantined_count:
            have += f", {amount_text(pool.spec, pool.quarantined_count)} in quarantine until nobody uses it"
        return PoolExhausted(f"{have}; asked: {amount_text(pool.spec, bit_count)}{_held_by(facts)}", **facts)

    def _held(self, pool: Pool, units: UnitSet) -> UnitHeld:
        name = pool.spec.name
        is_held = not pool.held.has_none(units)
        holders = self._find_holders(self._card, name, units) if is_held else []
        facts: Facts = {
            "card": self._card.id,
            "pool": name,
            "state": "held" if is_held else "quarantined",
            "holders": holders,
        }
        unit = f"unit {_ids_text(units, pool)} of pool {name} of card {self._card.id}"
        if not is_held:
            return UnitHeld(f"{unit} is in quarantine until the card is proven quiet", **facts)
        return UnitHeld(f"{unit} is held in part or whole{_held_by(facts)}", **facts)

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


def _check_together(asks: list[_Ask]) -> None:
    """Refuses claims that cannot be met beside each other, whatever is free."""
    by_pool: dict[PoolName, list[_Ask]] = {}
    for ask in asks:
        by_pool.setdefault(ask.claim.pool, []).append(ask)
    for name, same_pool in by_pool.items():
        pool, spec = same_pool[0].pool, same_pool[0].pool.spec
        check_one_mode(spec, (site for ask in same_pool for site in ask.sites))
        if len(same_pool) == 1 and len(set(same_pool[0].sites)) == len(same_pool[0].sites):
            continue
        named = UnitBitmap(spec.bits_per_site, spec.site_count)
        bit_counts: dict[int, int] = {}
        for ask in same_pool:
            if ask.units is not None:
                if not named.has_none(ask.units):
                    raise InvalidRequest(f"a unit of pool {name} is claimed twice in one request", pool=name)
                named.insert(ask.units)
            for site in ask.sites:
                bit_counts[site] = bit_counts.get(site, 0) + ask.bit_count
        for site, bit_count in bit_counts.items():
            _check_capacity(pool, site, bit_count)


def _check_capacity(pool: Pool, site: int, bit_count: int) -> None:
    spec = pool.spec
    most = spec.unit_count_at(site) * spec.slices_per_unit
    if bit_count > most:
        at = f" at site {spec.sites[site]}" if spec.sites else ""
        text = f"pool {spec.name} has {amount_text(spec, most)} in all{at}, never {amount_text(spec, bit_count)}"
        raise InvalidRequest(text, pool=spec.name, asked_count=bit_count, unit_count=spec.unit_count_at(site))


def _bits_of_units(claim: Units, pool: Pool) -> int:
    spec, slices = pool.spec, pool.spec.slices_per_unit
    bit_count = Fraction(claim.count) * slices
    if bit_count <= 0:
        raise InvalidRequest(f"pool {spec.name}: at least one unit must be asked, not {claim.count}", pool=spec.name)
    if bit_count.denominator != 1:
        cut = f"units of pool {spec.name} are cut into {slices}" if slices > 1 else f"pool {spec.name} has whole units"
        raise InvalidRequest(f"{cut}; {claim.count} of one is not possible", pool=spec.name, slices_per_unit=slices)
    if claim.count > 1 and Fraction(claim.count).denominator != 1:
        raise InvalidRequest(f"a fraction is of one unit: {claim.count} is more than one", pool=spec.name)
    return int(bit_count)


def _bits_of_run(claim: Run, pool: Pool) -> int:
    spec = pool.spec
    check_range(f"alignment in pool {spec.name}", claim.align_count, limits.ALIGN_MAX)
    check_range(f"extents in pool {spec.name}", claim.extent_count_max, limits.EXTENTS_PER_CLAIM_MAX)
    if claim.size_bytes and not spec.unit_bytes:
        raise InvalidRequest(f"pool {spec.name} has no bytes: ask for units", pool=spec.name)
    unit_count = -(-claim.size_bytes // spec.unit_bytes) if claim.size_bytes else claim.unit_count
    if unit_count < 1:
        raise InvalidRequest(f"pool {spec.name}: at least one unit must be asked, not {unit_count}", pool=spec.name)
    return unit_count * spec.slices_per_unit


def _held_by(facts: Facts) -> str:
    holders = facts["holders"]
    assert isinstance(holders, list)
    return "; held by " + "; ".join(str(holder["text"]) for holder in holders) if holders else ""


def _ids_text(units: UnitSet, pool: Pool) -> str:
    slices = pool.spec.slices_per_unit
    return ", ".join(str(UnitRange(run.start // slices, run.stop // slices)) for run in units.runs[0])
