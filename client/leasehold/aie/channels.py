"""Broadcast channels inside one tile: what carries an event from a module to the other, for whom it starts and stops.

A channel belongs to a tile as a whole, so one id is taken at all its modules.
"""

from collections.abc import Mapping

from leasehold.aie.array import Tile
from leasehold.aie.device import CHANNEL_POOL, Device
from leasehold.aie.event import Event, EventLike, event_of, module_of
from leasehold.claims import Common
from leasehold.errors import Invalid

Modules = Mapping[str, str]  # for each role (start, stop, reset), the module of its event


def modules_of(device: Device, tile: Tile, roles: Mapping[str, EventLike | str]) -> dict[str, str]:
    """The module of the event in each role.

    Raises:
        Invalid: it is no module of the tile; from another tile, ``Broadcast`` carries an event.
    """
    found = {role: module_of(value) for role, value in roles.items()}
    for role, module in found.items():
        check_module(device, tile, module, role)
    return found


def named(roles: Mapping[str, EventLike | str]) -> dict[str, Event]:
    """The events of those roles in which one is named, and not only its module."""
    return {role: event_of(value) for role, value in roles.items() if not isinstance(value, str)}


def check_module(device: Device, tile: Tile, module: str, role: str) -> None:
    """Refuses an event of a module that the tile does not have.

    Raises:
        Invalid: it has none such.
    """
    there = [one[2] for one in device.modules(tile)]
    if module not in there:
        where = ",".join(map(str, tile[:2]))
        text = f"the {role} event is of module {module}, and tile {where} has {' and '.join(there)}"
        raise Invalid(text, facts={"tile": where, "module": module, "role": role})


def roles_across(modules: Modules, home: Tile) -> tuple[str, ...]:
    """The roles whose events live in another module than ``home``, in their order."""
    return tuple(role for role, module in modules.items() if module != home[2])


def channel_claim(device: Device, tile: Tile, reservation: str) -> Common:
    """One channel at all modules of a tile."""
    return Common(CHANNEL_POOL, at=device.modules(tile), reservation=reservation)
