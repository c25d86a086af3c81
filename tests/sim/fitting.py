"""Whether what was granted is what was asked, and was there to be granted: the rules of claims, stated once more."""

from collections.abc import Iterator, Sequence

from rm.core.card import Allotment
from rm.core.claims import Claim, Common, FirstOf, Ids, PlainClaim, Run, Units, Whole
from rm.core.lease import Lease
from sim.card import SITE_COUNTS, PoolKey, mask_of
from sim.model import Model

_SITES = {"a": 0, "b": 1}


def fault_of_allotments(
    model: Model, claims: Sequence[Claim], lease: Lease, allotments: Sequence[Allotment]
) -> Iterator[str]:
    """What is wrong with ``allotments`` as an answer to ``claims``, in the state of ``model``."""
    if len(claims) != len(allotments):
        yield f"{len(allotments)} allotments for {len(claims)} claims"
        return
    taken: dict[PoolKey, int] = {}
    for claim, one in zip(claims, allotments, strict=True):
        key, mask = (lease.card, one.pool), mask_of(one.pool, one.units)
        if mask & (taken.get(key, 0) | model.bits("held", key)):
            yield f"pool {one.pool}: a unit is held by two"
        if mask & model.bits("quarantined", key):
            yield f"pool {one.pool}: a unit is given out of quarantine"
        if mask & model.gated_bits(key):
            yield f"pool {one.pool}: a unit of a site is given whose clock is off"
        taken[key] = taken.get(key, 0) | mask
        ways = claim.alternatives if isinstance(claim, FirstOf) else (claim,)
        fitting = (way for way in ways if way.pool == one.pool and fits(model, way, key, mask))
        if not any(_may(model, way, lease, key, mask) for way in fitting):
            yield f"{one} is no answer to {claim}"


def fits(model: Model, claim: PlainClaim, key: PoolKey, mask: int) -> bool:
    """Whether units are such as a claim asks for."""
    if isinstance(claim, Whole):
        return claim.reservation in model.reserved and mask == model.reserved[claim.reservation][1].get(key, 0) != 0
    site_count = SITE_COUNTS[claim.pool]
    bits = [divmod(bit, site_count) for bit in range(mask.bit_length()) if mask >> bit & 1]
    by_site: dict[int, list[int]] = {}
    for unit, site in bits:
        by_site.setdefault(site, []).append(unit)
    gated = {_SITES[name] for name in model.gated.get(key[0], ())} if site_count > 1 else set()
    sites = {_SITES[name] for name in claim.at} or set(range(site_count)) - gated
    if set(by_site) != sites:
        return False
    match claim:
        case Units(_, count):
            return all(len(units) == count for units in by_site.values())
        case Run(_, count, align_count=align):
            return all(
                len(units) == count == units[-1] - units[0] + 1 and units[0] % align == 0 for units in by_site.values()
            )
        case Ids(_, ids):
            return all(units == sorted(ids) for units in by_site.values())
        case Common():
            return {len(units) for units in by_site.values()} == {1} and len({*map(tuple, by_site.values())}) == 1


def _may(model: Model, claim: PlainClaim, lease: Lease, key: PoolKey, mask: int) -> bool:
    """Whether the claim may have these units, be they reserved or not."""
    for name, (spec, masks) in model.reserved.items():
        if mask & masks.get(key, 0):
            is_by_name = claim.reservation == name or isinstance(claim, Ids)
            if not is_by_name or not (spec.is_shared or spec.owner_uid in {None, lease.holder.uid}):
                return False
    named = model.reserved[claim.reservation][1] if claim.reservation in model.reserved else None
    if claim.reservation:
        return named is not None and mask & ~named.get(key, 0) == 0
    return True
