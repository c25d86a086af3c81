"""The mode of a card: one at a time, for everybody on it.

Some cards are split one way or another as a whole; the NPU of an AX8850 is one core of three groups, three of one, or
two of two and one. A pool called ``vnpu`` has a site for each mode, and who uses the card in a mode holds a unit there.
So a mode is held, waited for, told of and given back like every unit; the one rule of its own is that units of two
sites are never held at the same time. The card goes over to another mode when the last unit of its mode is back.
"""

from collections.abc import Callable, Iterable

from rm.core.card import Card
from rm.core.errors import InvalidRequest, UnitHeld
from rm.core.pool import Pool, PoolSpec
from rm.core.types import NO_UNITS, PoolName, UnitSet, ranges_of

MODE_POOL = PoolName("vnpu")


def is_mode(spec: PoolSpec) -> bool:
    """Whether the sites of this pool are modes of its card."""
    return spec.name == MODE_POOL and spec.site_count > 1


def check_one_mode(spec: PoolSpec, sites: Iterable[int]) -> None:
    """Refuses a request for two modes of one card; of other pools, any sites may be asked together.

    Raises:
        InvalidRequest: ``sites`` are more than one.
    """
    if is_mode(spec) and len(asked := sorted(set(sites))) > 1:
        names = ", ".join(spec.sites[site] for site in asked)
        raise InvalidRequest(f"a card has one mode at a time, not {names} together", pool=spec.name, modes=names)


def check_mode_free(
    card: Card,
    pool: Pool,
    site: int,
    find_holders: Callable[[Card, PoolName, UnitSet | None], list[dict[str, str | int]]],
) -> None:
    """Refuses a mode while the card is in another; of other pools, nothing.

    Raises:
        UnitHeld: a unit of another mode is held, or not yet proven quiet; it says by whom.
    """
    others = _units_of_other_modes(pool, site) if is_mode(pool.spec) else NO_UNITS
    if not others.sites:
        return
    name, now, asked = pool.spec.name, pool.spec.sites[others.sites[0]], pool.spec.sites[site]
    holders = find_holders(card, name, others)
    by = f"held by {'; '.join(str(holder['text']) for holder in holders)}" if holders else "not yet proven quiet"
    text = f"card {card.id} is in mode {now} ({by}), asked: {asked}"
    raise UnitHeld(text, card=card.id, pool=name, mode=now, asked_mode=asked, holders=holders)


def _units_of_other_modes(pool: Pool, mode: int) -> UnitSet:
    sites, runs = [], []
    for site in range(pool.spec.site_count):
        in_use = pool.held.at_site(site) | pool.quarantined.at_site(site)
        if site != mode and in_use.any():
            sites.append(site)
            runs.append(ranges_of(list(in_use.search(1))))
    return UnitSet(tuple(sites), tuple(runs)) if sites else NO_UNITS
