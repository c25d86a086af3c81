"""Whether what was set aside is what was asked, and was there to be set aside; and whether sites could be gated."""

from collections.abc import Iterator, Mapping, Sequence

from rm.core.claims import Claim, FirstOf
from rm.core.events import ReservationReplaced, Reserved, SitesGated
from rm.core.reservation import ReservationSpec
from rm.core.types import CardId, SiteName
from sim.card import POOLS, mask_of
from sim.client import Call
from sim.fitting import fits
from sim.model import Model, names_of


def faults_of_setting_aside(
    model: Model, event: Reserved | ReservationReplaced | SitesGated, asked: Mapping[str, Call]
) -> Iterator[str]:
    """What is wrong with a reservation or with gated sites, in the state of ``model``; each has a call of its name."""
    ((_, text),) = names_of(event)
    if text not in asked:
        yield f"nobody asked to {text}"
    elif isinstance(event, SitesGated):
        yield from (f"{text}: {fault}" for fault in _faults_of_gating(model, event.card, event.sites))
    else:
        is_new, claims = isinstance(event, Reserved), asked[text].claims
        yield from (f"{text}: {fault}" for fault in _faults_of_reservation(model, event.spec, claims, is_new=is_new))


def _faults_of_reservation(
    model: Model, spec: ReservationSpec, claims: Sequence[Claim], *, is_new: bool
) -> Iterator[str]:
    """What is wrong with a reservation that was made of ``claims`` (none: of exactly its units)."""
    if is_new == (spec.name in model.reserved):
        yield f"it is new: {is_new}, and was there: {not is_new}"
    if not is_new:
        old, masks = model.reserved[spec.name]
        if old.owner_uid not in {None, spec.owner_uid}:
            yield f"it was of uid {old.owner_uid}, and uid {spec.owner_uid} put another in its place"
        if any(mask & (model.bits("held", key) | model.bits("quarantined", key)) for key, mask in masks.items()):
            yield "it was replaced while in use"
    for name, units in spec.units:
        key, mask = (spec.card, name), mask_of(name, units)
        others = [masks.get(key, 0) for other, (_, masks) in model.reserved.items() if other != spec.name]
        if mask & (model.bits("held", key) | model.bits("quarantined", key)):
            yield f"pool {name}: a unit is set aside that is held, or in quarantine"
        if any(mask & other for other in others):
            yield f"pool {name}: a unit is set aside twice"
    for claim, (name, units) in zip(claims, spec.units if claims else (), strict=True):
        assert not isinstance(claim, FirstOf), "the simulation sets no alternatives aside"
        if claim.pool != name or not fits(model, claim, (spec.card, name), mask_of(name, units)):
            yield f"{units} of {name} is no answer to {claim}"


def _faults_of_gating(model: Model, card: CardId, sites: tuple[SiteName, ...]) -> Iterator[str]:
    """What is wrong with turning exactly these clocks off."""
    after = Model()
    after.gated[card] = sites
    for pool in POOLS:
        key = (card, pool.name)
        if model.bits("held", key) & after.gated_bits(key):
            yield f"units of pool {pool.name} are held at one of {sites}"
