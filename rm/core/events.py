"""What can happen to the books, as facts in the past tense. ``Books.apply`` takes each, and none other changes a bit.

An event says everything that applying it needs, so that the same events make the same books again. Times on the
monotonic clock (``deadline_ns``) hold for one run of the daemon only.
"""

from dataclasses import dataclass

from rm.core.card import Allotment
from rm.core.lease import Lease
from rm.core.reservation import ReservationSpec
from rm.core.types import CardId, LeaseId, SessionId, UnitSet


@dataclass(frozen=True, slots=True)
class Request:
    """The request that an event answers. Id 0: none that would be asked again."""

    session: SessionId
    id: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease began."""

    lease: Lease
    request: Request
    deadline_ns: int | None


@dataclass(frozen=True, slots=True)
class Extended:
    """A lease got more units."""

    lease_id: LeaseId
    allotments: tuple[Allotment, ...]
    request: Request


@dataclass(frozen=True, slots=True)
class UnitsReturned:
    """A lease gave back some units, but not its last. ``lost`` has one entry for each of its allotments."""

    lease_id: LeaseId
    lost: tuple[UnitSet, ...]
    to_pool: bool
    request: Request


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """A lease ended. After a violent end its units stay in quarantine until ``UnitsQuiet``."""

    lease_id: LeaseId
    cause: str
    is_violent: bool
    to_pool: bool = False


@dataclass(frozen=True, slots=True)
class UnitsQuiet:
    """The card has proven that nothing uses the units of an ended lease any more."""

    lease_id: LeaseId
    card: CardId
    allotments: tuple[Allotment, ...]


@dataclass(frozen=True, slots=True)
class Renewed:
    """Leases were kept alive. Holds for this run of the daemon only."""

    deadlines: tuple[tuple[LeaseId, int], ...]


@dataclass(frozen=True, slots=True)
class RequestForgone:
    """The client gave up a request that may still arrive: it must not be granted."""

    request: Request


@dataclass(frozen=True, slots=True)
class SessionForgotten:
    """A session ended, and nobody will ask again under its request ids."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class Reserved:
    """Units were set aside."""

    spec: ReservationSpec


@dataclass(frozen=True, slots=True)
class Unreserved:
    """A reservation was taken away."""

    name: str
    card: CardId


Event = (
    Granted
    | Extended
    | UnitsReturned
    | LeaseEnded
    | UnitsQuiet
    | Renewed
    | RequestForgone
    | SessionForgotten
    | Reserved
    | Unreserved
)
