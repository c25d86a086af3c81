"""The array that objects are made for: a manager in this process or a daemon's card, with the same claims."""

import inspect
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeGuard, cast

from leasehold.aie.array import Tile
from leasehold.aie.event import Event
from leasehold.aie.grants import DaemonGrant, Grant, LocalGrant
from leasehold.claims import Claim, Site, site_from
from leasehold.errors import Invalid

if TYPE_CHECKING:
    from leasehold.aie.group import Shared
    from leasehold.aie.resource import Resource
    from leasehold.client import Client
    from leasehold.local import Manager

# Where a driver writes registers: told ``"start"`` or ``"stop"`` and which object, before its state changes.
OnProgram = Callable[[str, "Resource"], object]

CHANNEL_POOL = "bcast_channel"  # every module has some, so its sites are all modules of the array
LABEL_CHARS_MAX = 128


class Device:
    """One array. Any thread may use it and its objects; one at a time gets its turn.

    ``card=None`` is the first card that is an array; whatever is made for a device comes from that one card.
    ``on_program(action, resource)`` is called when an object starts or stops: there a driver writes its registers, as
    this library does not. Left as a context manager, it ends every object made for it that still has units.
    """

    def __init__(
        self,
        manager: "Manager | Client",
        card: str | None = None,
        *,
        on_program: OnProgram | None = None,
        label: str = "",
    ) -> None:
        """Looks the card up; claims nothing. ``label`` is shown beside every lease, ahead of what it is for.

        Raises:
            Invalid: no such card, or none that is an array.
            DaemonUnavailable: no daemon answers.
        """
        if inspect.iscoroutinefunction(manager.acquire):
            raise Invalid("these objects need a blocking client: leasehold.connect(), or leasehold.local.Manager")
        self.lock = threading.RLock()
        self.shared_groups: dict[tuple[Tile, int], Shared] = {}
        self._manager = manager
        self._on_program = on_program
        self._label = label
        self._sites: dict[str, frozenset[Tile]] = {}
        self._made: weakref.WeakSet[Resource] = weakref.WeakSet()
        self._orphans: deque[Resource] = deque()  # dropped without an end
        self.card = self._find_card(card)
        self._modules: dict[tuple[int, int], list[Tile]] = {}
        for tile in sorted(self.sites(CHANNEL_POOL), key=lambda tile: (tile[:2], tile[2] != "mem")):
            self._modules.setdefault(tile[:2], []).append(tile)
        _devices.add(self)

    # The shape of the array.

    def sites(self, pool: str) -> frozenset[Tile]:
        """The modules that have units of a pool.

        Raises:
            Invalid: the card has no such pool.
        """
        if pool not in self._sites:
            names = self._manager.bitmap(pool, self.card).sites
            self._sites[pool] = frozenset(cast(Tile, site_from(name)) for name in names)
        return self._sites[pool]

    def tile(self, site: Site, pool: str = CHANNEL_POOL) -> Tile:
        """A module as a tuple, which has units of ``pool``; it may be given as ``"3,1,core"`` too.

        Raises:
            Invalid: there is no such module here, or it has no such units.
        """
        found = site_from(site) if isinstance(site, str) else site
        if not isinstance(found, tuple) or len(found) != 3 or found not in self.sites(CHANNEL_POOL):
            text = f"card {self.card} has no module {site!r}; a module is (column, row, 'core', 'mem' or 'pl')"
            raise Invalid(text, facts={"site": str(site)})
        if found not in self.sites(pool):
            where = ",".join(map(str, found))
            raise Invalid(f"module {where} has no units of pool {pool}", facts={"site": where, "pool": pool})
        return found

    def modules(self, tile: Tile) -> tuple[Tile, ...]:
        """All modules of the tile that one of them belongs to, ``mem`` before ``core``."""
        return tuple(self._modules[tile[:2]])

    def open_modules(self) -> list[Tile]:
        """All modules of the array whose clock runs now."""
        (card,) = (one for one in self._manager.cards() if one.id == self.card)
        return sorted(self.sites(CHANNEL_POOL) - set(card.gated_sites))

    def event(self, tile: Tile, stem: str) -> Event:
        """The event that the driver calls ``XAIE_EVENT_`` and ``stem``, with the module behind it."""
        suffix = tile[2].upper()
        if tile[2] == "mem" and len(self.modules(tile)) == 1:
            suffix = "MEM_TILE"
        return Event(tile[2], f"{stem}_{suffix}")

    # What its objects ask of it.

    def acquire(self, claims: Sequence[Claim], what: str) -> Grant:
        """Takes everything that is claimed, or nothing, as one lease.

        Raises:
            Refused: one of its kinds says why; nothing was taken.
        """
        with self.lock:
            label = f"{self._label} {what}".strip()[:LABEL_CHARS_MAX]
            if _is_local(self._manager):
                return LocalGrant(self._manager, self._manager.acquire(*claims, label=label))
            return DaemonGrant(cast("Client", self._manager).acquire(*claims, card=self.card, label=label))

    def program(self, action: str, resource: "Resource") -> None:
        """Tells the driver, where there is one."""
        if self._on_program is not None:
            self._on_program(action, resource)

    def note(self, resource: "Resource") -> None:
        """Knows of an object that has units from now on, so that ``close`` ends it."""
        with self.lock:
            self._made.add(resource)

    def abandon(self, resource: "Resource") -> None:
        """Keeps an object that is being dropped with units, so that the next call may end it.

        Called while Python collects garbage, in the middle of anything: it takes no lock.
        """
        self._orphans.append(resource)

    def end_orphans(self) -> None:
        """Ends the objects that were dropped with units.

        Raises:
            Exception: what an ``on_program`` raised.
        """
        with self.lock:
            while self._orphans:
                resource = self._orphans[0]
                try:
                    resource.close()
                finally:
                    if not resource.is_reserved:
                        self._orphans.popleft()

    def resources(self) -> "list[Resource]":
        """The objects made for it that hold units or a slot, in no order."""
        with self.lock:
            return [resource for resource in self._made if resource.is_reserved]

    # Ending.

    def close(self) -> None:
        """Ends every object made for it: running ones stop, reserved units go back to their reservation.

        Raises:
            Exception: what an ``on_program`` raised; every object has ended all the same.
        """
        with self.lock, ExitStack() as stack:  # each of them is ended, whatever the others raise
            stack.callback(self.end_orphans)
            for resource in list(self._made):
                stack.callback(resource.close)

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Device card {self.card}>"

    def _find_card(self, card: str | None) -> str:
        cards = self._manager.cards()
        arrays = [one.id for one in cards if any(pool.name == CHANNEL_POOL for pool in one.pools)]
        if card is None and arrays:
            return arrays[0]
        if card in arrays:
            return card
        there = ", ".join(f"{one.id} ({one.profile})" for one in cards)
        wanted = "no card here is" if card is None else f"card {card!r} is not"
        raise Invalid(f"{wanted} an AI Engine array; there are {there}", facts={"card": card or "", "cards": there})


_devices: weakref.WeakSet[Device] = weakref.WeakSet()


def _free_locks() -> None:
    """In a forked child: whoever held a lock is not here."""
    for device in list(_devices):
        device.lock = threading.RLock()


os.register_at_fork(after_in_child=_free_locks)


def _is_local(manager: "Manager | Client") -> TypeGuard["Manager"]:
    """Whether leases are plain values that their manager gives back; those of a daemon do so themselves."""
    return hasattr(manager, "give_back")
