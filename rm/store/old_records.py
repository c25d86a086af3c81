"""Records as earlier versions wrote them, and what they are today. Nothing writes them any more."""

from dataclasses import dataclass
from typing import Any, Protocol

from rm.core.events import Reserved
from rm.core.reservation import ReservationSpec
from rm.core.snapshot import StandingReservation
from rm.core.types import CardId, PoolName, UnitSet


class OldRecord(Protocol):
    """A record of an earlier version."""

    def today(self) -> object:
        """What it is in the version of today."""


@dataclass(frozen=True, slots=True)
class ReservationSpec1:
    """Before a reservation of an owner could be shared: one without an owner was everybody's, as it is today."""

    name: str
    content_hash: str
    card: CardId
    units: tuple[tuple[PoolName, UnitSet], ...]
    owner_uid: int | None

    def today(self) -> ReservationSpec:
        """The same, not shared."""
        return ReservationSpec(self.name, self.content_hash, self.card, self.units, self.owner_uid)


@dataclass(frozen=True, slots=True)
class Reserved1:
    """The event, version 1."""

    spec: ReservationSpec1

    def today(self) -> Reserved:
        """The event."""
        return Reserved(self.spec.today())


@dataclass(frozen=True, slots=True)
class StandingReservation1:
    """The part of a snapshot, version 1."""

    spec: ReservationSpec1
    given: tuple[tuple[PoolName, UnitSet], ...]

    def today(self) -> StandingReservation:
        """The part."""
        return StandingReservation(self.spec.today(), self.given)


# By version and number of the kind.
OLD_KINDS: dict[tuple[int, int], type[Any]] = {(1, 12): Reserved1, (1, 66): StandingReservation1}
