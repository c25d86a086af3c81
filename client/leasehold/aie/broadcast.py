"""Broadcast channels across tiles: one channel id that is free everywhere on a path, or in the whole array."""

from collections.abc import Sequence

from leasehold.aie.array import Tile
from leasehold.aie.claimed import PlainResource
from leasehold.aie.device import CHANNEL_POOL, Device
from leasehold.aie.event import Event
from leasehold.claims import Claim, Common, Ids, Site
from leasehold.errors import Invalid


class Broadcast(PlainResource):
    """A broadcast channel (``XAieBroadcast``): the same ``bcast_channel`` at all modules of every tile it passes.

    A path is a list of modules, from where the event is raised to where it is wanted: each next one belongs to a tile
    beside (left, right, above or below), or is the other module of the same tile. No path means the whole array, but
    for tiles whose clock is off. It needs no configuring.
    """

    pool = CHANNEL_POOL

    def __init__(self, device: Device, path: Sequence[Site] = (), *, reservation: str = "") -> None:
        """Claims nothing, and is initialized. ``reservation`` names what a compiler set aside for it.

        Raises:
            Invalid: a module that is not there, or no step from one to the next.
        """
        self._path = tuple(device.tile(site) for site in path)
        for here, there in zip(self._path, self._path[1:], strict=False):
            _check_step(here, there)
        first = self._path[0] if self._path else min(device.sites(CHANNEL_POOL))
        super().__init__(device, first, reservation=reservation)
        self._is_configured = True

    @property
    def path(self) -> tuple[Tile, ...]:
        """The modules it was made for; empty for the whole array."""
        return self._path

    @property
    def tiles(self) -> tuple[Site, ...]:
        """Every module at which it has the channel.

        Raises:
            WrongState: it is not reserved.
        """
        return self._held_part("tiles").allotments[0].at

    def event(self, site: Site) -> Event:
        """The event that it raises at a module.

        Raises:
            WrongState: it is not reserved.
            Invalid: it does not pass there.
        """
        tile = self._device.tile(site)
        if tile not in self.tiles:
            where = ",".join(map(str, tile))
            raise Invalid(f"{self} does not pass {where}", facts={"site": where})
        stem = "BROADCAST_A" if tile[2] == "pl" else "BROADCAST"
        return self._device.event(tile, f"{stem}_{self.id}")

    def _claim(self) -> Claim:
        passed = tuple(dict.fromkeys(module for tile in self._path for module in self._device.modules(tile)))
        if self._preferred_id is None:
            return Common(CHANNEL_POOL, at=passed, reservation=self._reservation)
        at = passed or self._device.open_modules()
        return Ids(CHANNEL_POOL, [self._preferred_id], at=at, reservation=self._reservation)

    def __str__(self) -> str:
        if not self._path:
            return "Broadcast everywhere"
        ends = [",".join(map(str, end)) for end in (self._path[0], self._path[-1])]
        return f"Broadcast {' to '.join(dict.fromkeys(ends))}"


def _check_step(here: Tile, there: Tile) -> None:
    """Refuses a step that no wire takes.

    Raises:
        Invalid: the next module is the same, or of a tile that is not beside.
    """
    columns, rows = abs(here[0] - there[0]), abs(here[1] - there[1])
    is_inside = (columns, rows) == (0, 0) and here[2] != there[2]
    if columns + rows != 1 and not is_inside:
        came, goes = (",".join(map(str, tile)) for tile in (here, there))
        raise Invalid(
            f"no step leads from {came} to {goes}: tiles must be side by side", facts={"from": came, "to": goes}
        )
