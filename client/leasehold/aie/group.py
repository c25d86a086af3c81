"""Group events: many events of a module behind one mask, shared by all handles of a process that want the same mask."""

from collections.abc import Sequence
from dataclasses import dataclass

from leasehold.aie.array import Tile
from leasehold.aie.claimed import ClaimedResource, Plan
from leasehold.aie.device import Device
from leasehold.aie.event import EventLike, event_of
from leasehold.aie.grants import Part
from leasehold.claims import Ids, Site
from leasehold.errors import Invalid, WrongState

MASK_MAX = 0xFFFF_FFFF  # a register has 32 bits
# The driver's group events whose place among the groups of a module is known here; others go by that number.
_NAMED = {("core", "GROUP_CORE_STALL"): 2, ("core", "GROUP_CORE_STALL_CORE"): 2}


@dataclass(slots=True)
class Shared:
    """A group event that handles of one device share: what it is held by, its mask, and how many have and run it."""

    part: Part
    mask: int
    handle_count: int = 0
    running_count: int = 0


class GroupEvent(ClaimedResource):
    """A handle on a group event (``XAieGroupEventHandle``): exactly the ``group_event`` of that number.

    The first handle of a device to be reserved takes it; others attach to it where their mask is the same. It is given
    back with the last, started with the first that starts, and stopped with the last that runs.
    """

    pool = "group_event"

    def __init__(self, device: Device, tile: Site, group: int | EventLike, *, reservation: str = "") -> None:
        """Claims nothing. ``group`` is the number of the group in its module, or its event where that is known.

        Raises:
            Invalid: there is no such tile, or ``group`` is no group event.
        """
        super().__init__(device, tile, reservation=reservation)
        self._preferred_id = _number_of(group, self._tile[2])
        self._mask = 0
        self._shared: Shared | None = None

    @property
    def mask(self) -> int:
        """Which events of the group it passes on, a bit each."""
        return self._mask

    def set_preferred_id(self, unit: int | None, *, is_static: bool = False) -> None:
        """Asks for another group than it was made for. ``is_static`` says that it was set aside before.

        Raises:
            WrongState: it is reserved.
            Invalid: no id: a group event is always a certain one.
        """
        if unit is None:
            raise Invalid(f"{self} is a certain group event: its id cannot be any")
        super().set_preferred_id(unit, is_static=is_static)

    def initialize(self, mask: int) -> None:
        """Says which events of the group it passes on.

        Raises:
            WrongState: it is reserved.
            Invalid: no mask of 32 bits.
        """
        with self._device.lock:
            self._check_not_reserved("it is initialized anew")
            self._mask = _checked(mask)
            self._initialize(is_configured=True)

    def configure(self, mask: int) -> None:
        """Changes the mask.

        Raises:
            WrongState: it is not initialized, or runs.
            Invalid: no mask, or other handles share the group event with another.
        """
        with self._device.lock:
            if not self.is_initialized:
                raise WrongState(f"{self} is not initialized, and cannot be configured")
            self._check_stopped("change")
            shared, wanted = self._shared, _checked(mask)
            if shared is not None:
                if shared.handle_count > 1 and wanted != shared.mask:
                    raise _other_mask(self, wanted, shared)
                shared.mask = wanted
            self._mask = wanted

    # How it is reserved and given back.

    def _plans(self) -> Sequence[Plan]:
        shared = self._there()
        if shared is None:
            claim = Ids(self.pool, [self._key()[1]], at=[self._tile], reservation=self._reservation)
            return [Plan(self._tile, (claim,))]
        if shared.mask != self._mask:
            raise _other_mask(self, self._mask, shared)
        return [Plan(self._tile, ())]

    def _take(self, plan: Plan, part: Part | None) -> None:
        if part is not None:
            self._device.shared_groups[self._key()] = Shared(part, self._mask)
        self._shared = self._device.shared_groups[self._key()]
        self._shared.handle_count += 1
        super()._take(plan, self._shared.part)

    def _end(self, *, to_pool: bool) -> None:
        if self._shared is not None and self._shared.handle_count == 1:
            self._shared.part.end(to_pool=to_pool)
        if self.is_reserved:
            self._forget()

    def _forget(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.handle_count -= 1
            if not shared.handle_count and self._device.shared_groups.get(self._key()) is shared:
                del self._device.shared_groups[self._key()]
        super()._forget()

    def _program(self, action: str) -> None:
        assert self._shared is not None, "who starts or stops is reserved"
        change = 1 if action == "start" else -1
        running_count = self._shared.running_count
        if max(running_count, running_count + change) == 1:  # the first to start, or the last to stop
            super()._program(action)
        self._shared.running_count += change

    def _there(self) -> Shared | None:
        """The group event as this device has it; None where it has not, or has lost it."""
        shared = self._device.shared_groups.get(self._key())
        return shared if shared is not None and shared.part.grant.is_held else None

    def _key(self) -> tuple[Tile, int]:
        assert self._preferred_id is not None, "a group event has a number from the start"
        return self._tile, self._preferred_id


def _number_of(group: int | EventLike, module: str) -> int:
    if isinstance(group, int) and not isinstance(group, bool) and group >= 0:
        return group
    if isinstance(group, int):
        raise Invalid(f"a group event has a number from 0, not {group!r}")
    event = event_of(group)
    found = _NAMED.get((event.module, str(event.name)))
    if found is None or event.module != module:
        text = f"{event} is not known as a group event of module {module}; name it by its number there"
        raise Invalid(text, facts={"event": str(event), "module": module})
    return found


def _checked(mask: int) -> int:
    if isinstance(mask, bool) or not isinstance(mask, int) or not 0 <= mask <= MASK_MAX:
        raise Invalid(f"a mask has 32 bits, not {mask!r}", facts={"mask": str(mask)})
    return mask


def _other_mask(handle: GroupEvent, mask: int, shared: Shared) -> Invalid:
    text = f"{handle} is shared with mask {shared.mask:#x}, and {mask:#x} is asked for"
    return Invalid(text, facts={"mask": mask, "shared_mask": shared.mask})
