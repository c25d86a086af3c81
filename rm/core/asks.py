"""What a claim means on one card: which pool, which sites, how many bits or exactly which units. Changes nothing.

What no wait can heal is found here, before anything is placed, so that a request that can never be is not called busy.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from rm.core import limits
from rm.core.card import Card
from rm.core.claims import Asker, Claim, Common, Ids, PlainClaim, Run, Units, Whole, alternatives_of
from rm.core.errors import InvalidRequest
from rm.core.mode import check_one_mode
from rm.core.pool import Pool, amount_text
from rm.core.reservation import Reservation, check_may_use
from rm.core.types import PoolName, SiteName, UnitRange, UnitSet, ranges_of


@dataclass(frozen=True, slots=True)
class Ask:
    """A claim as one card understands it: ``bit_count`` bits at each of ``sites``, or exactly ``units``."""

    claim: PlainClaim
    pool: Pool
    sites: tuple[int, ...]
    bit_count: int
    reservation: Reservation | None
    units: UnitSet | None

    @property
    def has_a_site_twice(self) -> bool:
        """Whether it asks for units of a site and then for others of the same site: ``Units`` and ``Run`` may."""
        return isinstance(self.claim, Units | Run) and not _are_distinct(self.sites)


def understand(
    claim: PlainClaim,
    card: Card,
    reservations: Mapping[str, Reservation],
    asker: Asker,
    *,
    to_reserve: bool = False,
) -> Ask:
    """What ``claim`` means on ``card``. What is to be reserved may lie on gated sites, and is nobody's yet.

    Raises:
        InvalidRequest: this card can never meet it.
        NotOwner: it needs a reservation that is another user's.
    """
    pool = _pool_of(card, claim.pool)
    if to_reserve and claim.reservation:
        raise InvalidRequest("what is to be reserved comes from the pool, not from a reservation", pool=claim.pool)
    if isinstance(claim, Whole):
        whole = _find_reservation(claim.reservation, card, reservations, asker)
        units = _all_of(whole, pool)
        _check_not_gated(pool, units.sites)
        return Ask(claim, pool, units.sites, 0, whole, units)
    sites = resolve_sites(pool, claim.at, none_means_all=isinstance(claim, Common), gated_too=to_reserve)
    named = None
    match claim:
        case Ids():
            named = units_of_ids(pool, claim.ids, sites)
            bit_count = len(claim.ids) * pool.spec.slices_per_unit
        case Common():
            is_clear = sites is pool.open_sites or _are_distinct(sites)
            sites = sites if is_clear else tuple(dict.fromkeys(sites))
            bit_count = pool.spec.slices_per_unit
        case Run():
            bit_count = _bits_of_run(claim, pool)
        case Units():
            bit_count = _bits_of_units(claim, pool)
    _check_capacity(pool, sites, bit_count)
    reservation = _find_reservation(claim.reservation, card, reservations, asker) if claim.reservation else None
    if named is not None and reservation is not None:
        _check_named_by(reservation, named, pool)
    elif named is not None and not to_reserve:
        _check_may_name(named, pool, [one for one in reservations.values() if one.spec.card == card.id], asker)
    return Ask(claim, pool, sites, bit_count, reservation, named)


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


def check_together(asks: Sequence[Ask]) -> None:
    """Refuses claims that cannot be met beside each other, whatever is free.

    Raises:
        InvalidRequest: a unit claimed twice, or more in all than a site has.
    """
    if len(asks) == 1 and not asks[0].has_a_site_twice:  # what most requests are
        check_one_mode(asks[0].pool.spec, asks[0].sites)
        return
    by_pool: dict[PoolName, list[Ask]] = {}
    for ask in asks:
        by_pool.setdefault(ask.claim.pool, []).append(ask)
    for name, same_pool in by_pool.items():
        check_one_mode(same_pool[0].pool.spec, (site for ask in same_pool for site in ask.sites))
        if len(same_pool) == 1 and not same_pool[0].has_a_site_twice:
            continue
        pool, named = same_pool[0].pool, None
        bit_counts: dict[int, int] = {}
        for ask in same_pool:
            if ask.units is not None:
                named = named or pool.spare.named.emptied()
                if not named.has_none(ask.units):
                    raise InvalidRequest(f"a unit of pool {name} is claimed twice in one request", pool=name)
                named.insert(ask.units)
            for site, bit_count in bits_by_site(ask):
                bit_counts[site] = bit_counts.get(site, 0) + bit_count
        for site, bit_count in bit_counts.items():
            _check_capacity(pool, (site,), bit_count)


def check_range(what: str, count: int, most: int, least: int = 1) -> None:
    """Refuses a number that is out of ``[least, most]``.

    Raises:
        InvalidRequest: it is.
    """
    if not least <= count <= most:
        raise InvalidRequest(f"{what}: {least} to {most} are possible, not {count}", what=what, most=most, asked=count)


def check_shown(what: str, text: str) -> None:
    """Refuses a text that cannot be shown to others, in tables and in their terminals.

    Raises:
        InvalidRequest: it is too long, or has characters that do not print.
    """
    check_range(f"characters in {what}", len(text), limits.LABEL_CHARS_MAX, least=0)
    if not text.isprintable():
        raise InvalidRequest(f"{what} has printable characters only, not {text!a}", shown=ascii(text))


def resolve_sites(
    pool: Pool, names: Sequence[SiteName], *, none_means_all: bool = False, gated_too: bool = False
) -> tuple[int, ...]:
    """Indices of the sites called ``names``. All means all whose clock runs.

    Raises:
        InvalidRequest: a site that the pool does not have, or whose clock is gated; too many, or none where one must be
            named.
    """
    spec = pool.spec
    if not names and none_means_all:
        if not pool.open_sites:
            raise InvalidRequest(f"every site of pool {spec.name} is clock-gated", pool=spec.name)
        return pool.open_sites
    try:
        if not names and spec.site_count == 1:
            sites: tuple[int, ...] = (0,)
        else:
            check_range(f"sites named in pool {spec.name}", len(names), limits.SITES_PER_CLAIM_MAX)
            sites = tuple(map(pool.site_index.__getitem__, names))
    except KeyError as fault:
        site = str(fault.args[0])
        raise InvalidRequest(f"pool {spec.name} has no site {site!r}", pool=spec.name, site=site) from fault
    if not gated_too:
        _check_not_gated(pool, sites)
    return sites


def units_of_ids(pool: Pool, ids: Sequence[int], sites: tuple[int, ...]) -> UnitSet:
    """Exactly the whole units ``ids`` at each of ``sites``.

    Raises:
        InvalidRequest: an id out of range, none, too many, or one twice.
    """
    spec, slices = pool.spec, pool.spec.slices_per_unit
    check_range(f"ids of pool {spec.name}", len(ids), limits.IDS_PER_CLAIM_MAX)
    in_order = sorted(ids)
    least_count = spec.least_unit_count(sites)
    for wrong in (in_order[0], in_order[-1]):
        if not 0 <= wrong < least_count:
            raise InvalidRequest(
                f"pool {spec.name} has units 0 to {least_count - 1}, not {wrong}",
                pool=spec.name,
                unit=wrong,
                unit_count=least_count,
            )
    if not _are_distinct(in_order) or not _are_distinct(sites):
        raise InvalidRequest(f"a unit of pool {spec.name} is named twice", pool=spec.name)
    runs = tuple(UnitRange(run.start * slices, run.stop * slices) for run in ranges_of(in_order))
    return UnitSet(sites, (runs,))


def _are_distinct(numbers: Sequence[int]) -> bool:
    return len(set(numbers)) == len(numbers)


def bits_by_site(ask: Ask) -> Iterable[tuple[int, int]]:
    """How many bits a claim takes at each of its sites; a site that stands twice is told twice."""
    if isinstance(ask.claim, Whole) and ask.units is not None:
        return ((site, sum(map(len, runs))) for site, runs in ask.units.by_site())
    return ((site, ask.bit_count) for site in ask.sites)


def _pool_of(card: Card, name: PoolName) -> Pool:
    pool = card.pools.get(name)
    if pool is None:
        there = ", ".join(card.pools)
        raise InvalidRequest(f"card {card.id} has no pool {name!r}; it has {there}", pool=name, pools=there)
    return pool


def _find_reservation(key: str, card: Card, reservations: Mapping[str, Reservation], asker: Asker) -> Reservation:
    """The reservation of this name, else of this content hash; the asker's own before others' that it may use."""
    uid = asker.holder.uid
    found = reservations.get(key)
    if found is None or found.spec.card != card.id or found.spec.owner_uid != uid:
        same = [one for one in reservations.values() if key in (one.spec.name, one.spec.content_hash)]
        here = [one for one in same if one.spec.card == card.id]
        if not here:
            raise InvalidRequest(f"card {card.id} has no reservation {key!r}", reservation=key)
        found = min(
            here, key=lambda one: (one.spec.owner_uid != uid, not one.may_be_used_by(asker), one.spec.name != key)
        )
    check_may_use(found, asker)
    return found


def _all_of(reservation: Reservation, pool: Pool) -> UnitSet:
    """Every unit of ``pool`` that a reservation still names."""
    name = pool.spec.name
    units = reservation.units_in(name)
    if not units.sites:
        key = reservation.spec.name
        raise InvalidRequest(f"reservation {key} has no units of pool {name}", pool=name, reservation=key)
    return units


def _check_named_by(reservation: Reservation, units: UnitSet, pool: Pool) -> None:
    name = pool.spec.name
    if not reservation.names_all(name, units):
        key = reservation.spec.name
        text = f"reservation {key} does not name unit {ids_text(units, pool)} of pool {name}"
        raise InvalidRequest(text, pool=name, reservation=key)


def _check_may_name(units: UnitSet, pool: Pool, reservations: Iterable[Reservation], asker: Asker) -> None:
    """Who may name units by id: anybody those that are free, and reserved ones whoever may use the reservation."""
    name = pool.spec.name
    if asker.needs_reserved and not pool.reserved.has_all(units):
        text = f"unit {ids_text(units, pool)} of pool {name} is not reserved, as a claim by id needs here"
        raise InvalidRequest(text, pool=name)
    if not pool.reserved.has_none(units):
        for other in reservations:
            if other.names_any(name, units):
                check_may_use(other, asker)


def _check_not_gated(pool: Pool, sites: tuple[int, ...]) -> None:
    if pool.gated and (gated := [site for site in sites if site in pool.gated]):
        site = pool.spec.sites[gated[0]]
        raise InvalidRequest(f"site {site} of pool {pool.spec.name} is clock-gated", pool=pool.spec.name, site=site)


def _check_capacity(pool: Pool, sites: Sequence[int], bit_count: int) -> None:
    spec = pool.spec
    if bit_count <= min(spec.site_unit_counts, default=spec.unit_count) * spec.slices_per_unit:
        return
    for site in sites if spec.site_unit_counts else sites[:1]:
        most = spec.unit_count_at(site) * spec.slices_per_unit
        if bit_count > most:
            at = f" at site {spec.sites[site]}" if spec.sites else ""
            text = f"pool {spec.name} has {amount_text(spec, most)} in all{at}, never {amount_text(spec, bit_count)}"
            raise InvalidRequest(text, pool=spec.name, asked_count=bit_count, unit_count=spec.unit_count_at(site))


def _bits_of_units(claim: Units, pool: Pool) -> int:
    spec, slices = pool.spec, pool.spec.slices_per_unit
    if isinstance(claim.count, int) and claim.count > 0:  # a Fraction is slow to make
        return claim.count * slices
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


def ids_text(units: UnitSet, pool: Pool) -> str:
    """Units in words: their ids (at the first site), and the site where the pool has several."""
    slices = pool.spec.slices_per_unit
    few = units.runs[0][: limits.HOLDERS_PER_REFUSAL_MAX]
    ids = ", ".join(str(UnitRange(run.start // slices, -(-run.stop // slices))) for run in few)
    ids += ", ..." if len(units.runs[0]) > len(few) else ""
    if not pool.spec.sites:
        return ids
    more = f" and {len(units.sites) - 1} more sites" if len(units.sites) > 1 else ""
    return f"{ids} at {pool.spec.sites[units.sites[0]]}{more}"
