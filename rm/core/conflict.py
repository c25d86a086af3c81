"""Why units that were named cannot be had: who holds them, or which reservation has them, in words and facts."""

from collections.abc import Callable, Iterable

from rm.core import limits
from rm.core.asks import ids_text
from rm.core.card import Card
from rm.core.errors import Facts, UnitHeld
from rm.core.pool import Pool
from rm.core.reservation import Reservation
from rm.core.types import PoolName, UnitSet

# Who holds units of a pool (or, given some units, one of those): for the facts of a refusal, at most a few.
FindHolders = Callable[[Card, PoolName, UnitSet | None], list[dict[str, str | int]]]


def unit_held(
    card: Card,
    pool: Pool,
    units: UnitSet,
    *,
    reservations: Iterable[Reservation],
    find_holders: FindHolders,
    states: tuple[str, ...] = ("held", "quarantined", "reserved"),
) -> UnitHeld:
    """The refusal of ``units``, of which some are in one of ``states``: the first of these is told."""
    name = pool.spec.name
    state = next(state for state in states if not pool.truth(state).has_none(units))
    in_the_way = pool.truth(state).part(units)
    facts: Facts = {"card": card.id, "pool": name, "state": state, "units": ids_text(in_the_way, pool)}
    facts["holders"] = find_holders(card, name, in_the_way) if state == "held" else []
    unit = f"unit {facts['units']} of pool {name} of card {card.id}"
    if state == "quarantined":
        return UnitHeld(f"{unit} is in quarantine until the card is proven quiet", **facts)
    if state == "reserved":
        mine = (one for one in reservations if one.spec.card == card.id and one.names_any(name, in_the_way))
        named = [one.text() for one in mine]
        facts["reservations"] = ", ".join(named[: limits.HOLDERS_PER_REFUSAL_MAX])
        return UnitHeld(f"{unit} is reserved by {facts['reservations']}", **facts)
    return UnitHeld(f"{unit} is held{held_by(facts)}", **facts)


def held_by(facts: Facts) -> str:
    """The holders among ``facts`` in words, to stand behind what is refused."""
    holders = facts["holders"]
    assert isinstance(holders, list)
    return "; held by " + "; ".join(str(holder["text"]) for holder in holders) if holders else ""
