"""What can happen to the books, as facts in the past tense. ``Books.apply`` takes each, and none other changes a bit.

An event says everything that applying it needs, so that the same events make the same books again. Times on the
monotonic clock (``deadline_ns``) hold for one run of the daemon only: they are not stored.
"""

from dataclasses import dataclass

from rm.core import limits
from rm.core.card import Allotment, CardSpec
from rm.core.lease import Lease, WindowMark
from rm.core.reservation import ReservationSpec
from rm.core.session import SessionRecord
from rm.core.types import CardId, LeaseId, SessionId, SiteName, UnitSet


@dataclass(frozen=True, slots=True)
class Request:
    """The request that an event answers. Id 0: none that would be asked again."""

    session: SessionId
    id: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Started:
    """A daemon began to run: the first event of its run, before any answer. ``epoch`` counts these.

    ``incarnations`` has a word for each card that changes when the card was reset.
    """

    epoch: int
    boot_id: str
    cards: tuple[CardSpec, ...]
    incarnations: tuple[tuple[CardId, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A client process said who it is."""

    session: SessionRecord


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
    windows: tuple[WindowMark, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowsRemade:
    """Memory files of a lease that nobody had yet were lost with the last daemon, and made anew."""

    lease_id: LeaseId
    windows: tuple[WindowMark, ...]


@dataclass(frozen=True, slots=True)
class UnitsReturned:
    """A lease gave back some units, but not its last. ``lost`` has one entry for each of its allotments."""

    lease_id: LeaseId
    lost: tuple[UnitSet, ...]
    to_pool: bool
    request: Request


@dataclass(frozen=True, slots=True)
class RevocationBegan:
    """A lease is to end though its owner did not ask: it has until ``deadline_ns`` to let go, then it is fenced.

    After a restart its ``notice_ns`` begins anew.
    """

    lease_id: LeaseId
    cause: str
    deadline_ns: int | None
    notice_ns: int = limits.NOTICE_NS_DEFAULT


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
    """A session ended with all its leases, and nobody will ask again under its request ids."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class Reserved:
    """Units were set aside."""

    spec: ReservationSpec


@dataclass(frozen=True, slots=True)
class ReservationReplaced:
    """The reservation of this name gave its units back, and has those of ``spec`` now."""

    spec: ReservationSpec


@dataclass(frozen=True, slots=True)
class SitesGated:
    """The clocks of exactly these sites of a card are off."""

    card: CardId
    sites: tuple[SiteName, ...]


@dataclass(frozen=True, slots=True)
class Unreserved:
    """A reservation was taken away."""

    name: str
    card: CardId


Event = (
    Started
    | SessionOpened
    | Granted
    | Extended
    | WindowsRemade
    | UnitsReturned
    | RevocationBegan
    | LeaseEnded
    | UnitsQuiet
    | Renewed
    | RequestForgone
    | SessionForgotten
    | Reserved
    | ReservationReplaced
    | Unreserved
    | SitesGated
)
