"""The simulated card: who really uses which unit, whatever the books say, and the back end that takes it away."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

from rm.core.card import Allotment, CardSpec
from rm.core.errors import CardFailed
from rm.core.lease import Lease, WindowMark
from rm.core.pool import PoolSpec
from rm.core.types import CardId, LeaseId, PoolName, SiteName, UnitSet
from rm.devices.backend import Fence, Window

PoolKey = tuple[CardId, PoolName]
Masks = dict[PoolKey, int]  # units of pools as bits, in the order of the pool's bitmap

POOLS = (
    PoolSpec(PoolName("u"), 6),
    PoolSpec(PoolName("mem"), 5, unit_bytes=65_536),
    PoolSpec(PoolName("ch"), 2, (SiteName("a"), SiteName("b"))),
)
SITE_COUNTS = {pool.name: pool.site_count for pool in POOLS}


@lru_cache(maxsize=4_096)
def mask_of(pool: PoolName, units: UnitSet) -> int:
    """Units as bits."""
    mask = 0
    for site, runs in units.by_site():
        for run in runs:
            for unit in range(run.start, run.stop):
                mask |= 1 << (unit * SITE_COUNTS[pool] + site)
    return mask


def masks_of(lease: Lease) -> Masks:
    """All units of a lease."""
    masks: Masks = {}
    for one in lease.allotments:
        key = (lease.card, one.pool)
        masks[key] = masks.get(key, 0) | mask_of(one.pool, one.units)
    return masks


class Hardware:
    """The cards themselves. They outlive every daemon; only a boot or a reset makes them forget."""

    def __init__(self, card_count: int) -> None:
        self.cards = tuple(CardSpec(CardId(str(index)), "test", "sim", POOLS) for index in range(card_count))
        self.boot_count = 1
        self.resets = {card.id: 0 for card in self.cards}
        self.uses: dict[LeaseId, Masks] = {}  # what clients work with now
        self.fenced: set[LeaseId] = set()  # leases with which nobody can work any more
        self.inode_count = 0

    def use(self, lease_id: LeaseId, key: PoolKey, mask: int) -> None:
        """A client begins to work with units, unless they are out of its reach already."""
        if lease_id not in self.fenced:
            masks = self.uses.setdefault(lease_id, {})
            masks[key] = masks.get(key, 0) | mask

    def leave(self, lease_id: LeaseId, key: PoolKey, mask: int) -> None:
        """A client lets some units of a lease be."""
        masks = self.uses.get(lease_id)
        if masks is not None:
            masks[key] = masks.get(key, 0) & ~mask

    def leave_all(self, lease_id: LeaseId) -> None:
        """A client lets a lease be, or is dead."""
        self.uses.pop(lease_id, None)

    def fence(self, lease_id: LeaseId) -> None:
        """Nobody can work with this lease from now on."""
        self.fenced.add(lease_id)
        self.uses.pop(lease_id, None)

    def users_of(self, key: PoolKey, mask: int) -> list[LeaseId]:
        """Whose work some units are in."""
        return [lease_id for lease_id, masks in self.uses.items() if masks.get(key, 0) & mask]

    def reset(self, card: CardId) -> None:
        """Stops all work on a card."""
        self.resets[card] += 1
        for masks in self.uses.values():
            for key in [key for key in masks if key[0] == card]:
                del masks[key]


class SimBackend:
    """What one daemon has of the cards. A fence may take its time, and a window of a daemon before may be missing."""

    warnings: tuple[str, ...] = ()

    def __init__(self, hardware: Hardware, random: Random, *, on_fence: Callable[[Lease, bool], None]) -> None:
        """``on_fence`` hears of every fence that is asked for, and whether the holder is said to be dead."""
        self.hardware = hardware
        self.cards = hardware.cards
        self.incarnations = tuple((card, f"{hardware.boot_count}.{count}") for card, count in hardware.resets.items())
        self.pending: dict[LeaseId, Callable[[], None]] = {}
        self.missing: dict[LeaseId, set[int]] = {}
        self._random = random
        self._out_of_reach: set[LeaseId] = set()
        self.on_in_use: Callable[[LeaseId, float], None] = lambda lease_id, seen_s: None
        self._on_fence = on_fence
        self._here: dict[LeaseId, set[int]] = {}

    def prepare(
        self, lease_id: LeaseId, card: CardId, allotments: Sequence[Allotment], *, first_index: int
    ) -> tuple[WindowMark, ...]:
        memory = [index for index, one in enumerate(allotments, first_index) if one.pool == "mem"]
        if memory and self._random.random() < 0.03:
            raise CardFailed("no memory file could be made")
        return self._make(lease_id, memory)

    def _make(self, lease_id: LeaseId, indexes: Sequence[int]) -> tuple[WindowMark, ...]:
        marks = []
        for index in indexes:
            self.hardware.inode_count += 1
            marks.append(WindowMark(index, 65_536, 1, self.hardware.inode_count))
            self._here.setdefault(lease_id, set()).add(index)
        return tuple(marks)

    def adopt(self, lease: Lease) -> None:
        self.missing[lease.id] = {mark.allotment_index for mark in lease.windows}

    def hand_back(self, lease: Lease, allotment_index: int, fd: int) -> None:
        self.missing.get(lease.id, set()).discard(allotment_index)
        self._here.setdefault(lease.id, set()).add(allotment_index)

    def remake(self, lease: Lease) -> tuple[WindowMark, ...]:
        missing = self.missing.pop(lease.id, set())
        made = {mark.allotment_index: mark for mark in self._make(lease.id, sorted(missing))}
        return tuple(made.get(mark.allotment_index, mark) for mark in lease.windows)

    def windows(self, lease_id: LeaseId) -> list[Window]:
        return [Window(WindowMark(index, 65_536, 1, 0), -1) for index in sorted(self._here.get(lease_id, ()))]

    def used_bytes(self, lease_id: LeaseId) -> int:
        return 0

    def give_back(self, lease_id: LeaseId, allotment_index: int) -> None:
        self._here.get(lease_id, set()).discard(allotment_index)
        self.missing.get(lease_id, set()).discard(allotment_index)

    def end(self, lease_id: LeaseId) -> None:
        self._here.pop(lease_id, None)
        self.missing.pop(lease_id, None)

    def fence(self, lease: Lease, on_quiet: Callable[[], None], *, is_holder_dead: bool) -> Fence:
        self._on_fence(lease, is_holder_dead)
        self._here.pop(lease.id, None)
        if self.missing.pop(lease.id, None):
            self.pending[lease.id] = on_quiet
            self._out_of_reach.add(lease.id)
            return Fence.OUT_OF_REACH
        if self._random.random() < (0.8 if is_holder_dead else 0.4):
            self.hardware.fence(lease.id)
            return Fence.QUIET
        self.pending[lease.id] = on_quiet
        return Fence.SOON

    def close(self) -> None:
        """Has nothing to let go of."""

    # What the simulation does.

    def quiet(self, lease_id: LeaseId) -> None:
        """A fence is done, and says so."""
        on_quiet = self.pending.pop(lease_id)
        self.hardware.fence(lease_id)
        on_quiet()

    def ready(self) -> list[LeaseId]:
        """Fences that may be done now; what is out of reach must wait until its holder is dead or lets go."""
        uses = self.hardware.uses
        return [lease_id for lease_id in self.pending if lease_id not in self._out_of_reach or lease_id not in uses]
