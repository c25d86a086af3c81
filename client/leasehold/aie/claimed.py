"""Objects that have units of their own in the card's bitmaps, and how several of them are reserved in one request."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import cast

from leasehold.aie.array import Tile
from leasehold.aie.device import Device
from leasehold.aie.grants import Part
from leasehold.aie.resource import Resource, State
from leasehold.claims import Claim, Ids, Run, Site, Units
from leasehold.errors import Exhausted, Held, Invalid, Refused

PLANS_TOGETHER_MAX = 64  # requests that one reserve may try; a daemon's limit for alternatives in a request is the same


# Pool, module and id of a unit.
Unit = tuple[str, Tile, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to get what an object needs: its own units first, channels behind. ``tile`` is where those lie."""

    tile: Tile
    claims: tuple[Claim, ...]


class ClaimedResource(Resource):
    """An object whose units are a lease, or its part of one."""

    pool: str

    def __init__(self, device: Device, tile: Site, *, reservation: str = "") -> None:
        """Claims nothing. ``reservation`` names what a compiler set aside: all its units are to come from there.

        Raises:
            Invalid: there is no such tile, or it has no such units.
        """
        self._tile = device.tile(tile, self.pool)
        self._part: Part | None = None
        super().__init__(device, reservation=reservation)

    @property
    def tile(self) -> Tile:
        """The module that it belongs to."""
        return self._tile

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of its own units, without those of channels.

        Raises:
            WrongState: it is not reserved.
        """
        return self._held_part("id").allotments[0].ids

    @property
    def lease_id(self) -> str:
        """Id of the lease that has its units.

        Raises:
            WrongState: it is not reserved.
        """
        return self._held_part("lease").grant.id

    @property
    def units(self) -> frozenset[Unit]:
        """Everything that it holds, channels too: pool, module and id of each unit. Empty where it is not reserved."""
        with self._device.lock:
            return units_of(self._parts())

    def _parts(self) -> Sequence[Part]:
        return [] if self._part is None else [self._part]

    # What each kind says of itself.

    @abstractmethod
    def _plans(self) -> Sequence[Plan]:
        """The ways to get what it needs, the best liked first; one without claims needs nothing from the card."""

    def _take(self, plan: Plan, part: Part | None) -> None:
        """Becomes reserved with what ``plan`` got; None where it claimed nothing. Raises nothing."""
        self._part = part
        self._become_reserved()

    # What they share.

    def _reserve(self) -> None:
        reserve_together(self._device, [self])

    def _end(self, *, to_pool: bool) -> None:
        if self._part is not None:
            self._part.end(to_pool=to_pool)
        if self.is_reserved:
            self._forget()

    def _forget(self) -> None:
        """Becomes initialized: its units are back. Raises nothing."""
        self._part = None
        self._state = State.INITIALIZED

    def _is_held(self) -> bool:
        return self._part is not None and self._part.grant.is_held

    def _check_held(self) -> None:
        self._held_part("start").grant.check()

    def _unit_claim(self, tile: Tile) -> Claim:
        """One unit at a tile: the preferred one, or any."""
        if self._preferred_id is not None:
            return Ids(self.pool, [self._preferred_id], at=[tile], reservation=self._reservation)
        return Units(self.pool, 1, at=[tile], reservation=self._reservation)

    def _held_part(self, what: str) -> Part:
        self._check_reserved(what)
        assert self._part is not None, f"{self} is reserved and has nothing"
        return self._part

    def __str__(self) -> str:
        return f"{type(self).__name__} {','.join(map(str, self._tile))}"


class PlainResource(ClaimedResource):
    """An object that knows from the start what it claims, and needs one claim."""

    def __init__(self, device: Device, tile: Site, *, reservation: str = "") -> None:
        """Claims nothing, and is initialized. ``reservation`` names what a compiler set aside for it.

        Raises:
            Invalid: there is no such tile, or it has no such units.
        """
        super().__init__(device, tile, reservation=reservation)
        self.initialize()

    def initialize(self) -> None:
        """Makes it ready to be reserved; done once by its making.

        Raises:
            WrongState: it is reserved.
        """
        with self._device.lock:
            self._initialize()

    def _claim(self) -> Claim:
        return self._unit_claim(self._tile)

    def _run_claim(self, count: int) -> Claim:
        """``count`` units in a row at its tile, the first a multiple of ``count``: the preferred one, or any."""
        first = self._preferred_id
        if first is None:
            return Run(self.pool, count, align=count, at=[self._tile], reservation=self._reservation)
        if first % count:
            text = f"{self} takes {count} units in a row from a multiple of {count}, not from {first}"
            raise Invalid(text, facts={"preferred_id": first, "count": count})
        return Ids(self.pool, range(first, first + count), at=[self._tile], reservation=self._reservation)

    def _plans(self) -> Sequence[Plan]:
        return [Plan(self._tile, (self._claim(),))]


def units_of(parts: Iterable[Part]) -> frozenset[Unit]:
    """The units that parts of leases have."""
    return frozenset(
        (allotment.pool, cast(Tile, tile), unit)
        for part in parts
        for allotment in part.allotments
        for tile, runs in zip(allotment.at, allotment.ranges, strict=True)
        for run in runs
        for unit in run
    )


def counts_of(resources: Iterable[ClaimedResource]) -> dict[tuple[Tile, str], int]:
    """How many units ``resources`` hold together, by module and pool; what they share counts once, 0 is left out."""
    units = frozenset(unit for resource in resources for unit in resource.units)
    return dict(Counter((tile, pool) for pool, tile, _ in units))


def reserve_together(device: Device, resources: Sequence[ClaimedResource]) -> None:
    """Reserves all of ``resources``, in one request as one lease, or none of them. The device's lock is held.

    Raises:
        Refused: nothing was taken; of several ways, the text is that of the best liked which may come free.
    """
    device.end_orphans()
    choices = [resource._plans() for resource in resources]
    if prod(map(len, choices)) > PLANS_TOGETHER_MAX:
        text = f"there are {prod(map(len, choices))} ways to reserve these, more than {PLANS_TOGETHER_MAX}: take fewer"
        raise Invalid(text, facts={"way_count": prod(map(len, choices)), "most": PLANS_TOGETHER_MAX})
    what = str(resources[0]) if len(resources) == 1 else f"{len(resources)} resources"
    not_now: Refused | None = None
    never: Refused | None = None
    for plans in product(*choices):
        try:
            _reserve_by(device, resources, plans, what)
            return
        except (Exhausted, Held) as refusal:
            not_now = not_now or refusal
        except Invalid as refusal:
            never = never or refusal
    refused = not_now or never
    assert refused is not None, "there is one way at least"
    raise refused


def _reserve_by(device: Device, resources: Sequence[ClaimedResource], plans: Sequence[Plan], what: str) -> None:
    claims = [claim for plan in plans for claim in plan.claims]
    grant = device.acquire(claims, what) if claims else None
    try:
        first = 0
        for resource, plan in zip(resources, plans, strict=True):
            indexes = tuple(range(first, first + len(plan.claims)))
            first += len(plan.claims)
            resource._take(plan, Part(grant, indexes) if grant is not None and indexes else None)
    except BaseException:  # Ctrl-C between two of them
        for resource in resources:
            resource._forget()
        if grant is not None:
            grant.end(range(len(claims)), to_pool=False)
        raise
