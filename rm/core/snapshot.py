"""The books as a list of values: what a store keeps instead of the events that led there.

``take`` copies references only, for every value here is immutable: it may be written down by another thread meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rm.core.books import Books
from rm.core.card import Allotment, CardSpec
from rm.core.dedupe import SessionRequests
from rm.core.lease import ANY_WINDOW, Lease, Revocation
from rm.core.pool import PoolSpec
from rm.core.reservation import Reservation, ReservationSpec
from rm.core.session import SessionRecord
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, SiteName, UnitRange, UnitSet

SALVAGE_LEAP = 1 << 32  # more than any part of a store that could not be read may have counted


@dataclass(frozen=True, slots=True)
class Head:
    """The first part: what there is once. ``part_count`` counts the parts behind it, so that none goes missing."""

    revision: int
    last_token: int
    epoch: int
    boot_id: str
    cards: tuple[CardSpec, ...]
    incarnations: tuple[tuple[CardId, str], ...]
    part_count: int


@dataclass(frozen=True, slots=True)
class LiveLease:
    """A live lease, and its revocation where it is told to end."""

    lease: Lease
    revocation: Revocation | None


@dataclass(frozen=True, slots=True)
class QuarantinedLease:
    """An ended lease whose units are not proven quiet."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class StandingReservation:
    """A reservation, and those of its units that have left it since it was made."""

    spec: ReservationSpec
    given: tuple[tuple[PoolName, UnitSet], ...]


@dataclass(frozen=True, slots=True)
class GatedSites:
    """The sites of a card whose clocks are off, where there are any."""

    card: CardId
    sites: tuple[SiteName, ...]


Part = SessionRecord | GatedSites | StandingReservation | LiveLease | QuarantinedLease | SessionRequests


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The books at one revision. Deadlines are not in it: they hold for one run of the daemon only."""

    head: Head
    parts: tuple[Part, ...]


def take(books: Books) -> Snapshot:
    """Writes the books down."""
    parts: list[Part] = list(books.sessions.values())
    parts += _gated(books)
    parts += [StandingReservation(one.spec, _given(one)) for one in books.reservations.values()]
    parts += [LiveLease(lease, books.revoking.get(lease.id)) for lease in books.leases.values()]
    parts += [QuarantinedLease(lease) for lease in books.quarantine.values()]
    parts += books.requests.remembered()
    head = Head(
        revision=books.revision,
        last_token=books.last_token,
        epoch=books.epoch,
        boot_id=books.boot_id,
        cards=tuple(card.spec for card in books.cards.values()),
        incarnations=tuple(books.incarnations.items()),
        part_count=len(parts),
    )
    return Snapshot(head, tuple(parts))


def restore(books: Books, head: Head, parts: Iterable[Part]) -> None:
    """Makes empty ``books``, over the cards of ``head``, what a snapshot says. Its asserts find one that cannot be."""
    assert not books.revision, "only empty books can be restored"
    assert tuple(card.spec for card in books.cards.values()) == head.cards, "these are the books of other cards"
    count = 0
    for count, part in enumerate(parts, start=1):  # noqa: B007 - counts
        match part:
            case SessionRecord():
                assert part.id not in books.sessions, f"session {part.id} stands in the snapshot twice"
                books.sessions[part.id] = part
            case GatedSites(card_id, sites):
                books.cards[card_id].gate(sites)
            case StandingReservation(spec, given):
                books.restore_reservation(spec, given)
            case LiveLease(lease, revocation):
                books.restore_lease(lease)
                if revocation is not None:
                    books.revoking[lease.id] = revocation
            case QuarantinedLease(lease):
                books.restore_quarantine(lease)
            case SessionRequests():
                books.requests.restore(part)
    assert count == head.part_count, f"the snapshot has {count} parts of {head.part_count}"
    books.revision, books.last_token = head.revision, head.last_token
    books.epoch, books.boot_id = head.epoch, head.boot_id
    books.incarnations = dict(head.incarnations)
    assert all(lease.token <= books.last_token for lease in books.leases.values()), "a token above the last given"


def differences(mine: Snapshot, other: Snapshot) -> list[str]:
    """What is in only one of two snapshots that should be equal; one sentence a part."""
    faults = [] if mine.head == other.head else [f"the heads differ: {mine.head} here, {other.head} there"]
    here, there = set(mine.parts), set(other.parts)
    faults += [f"only here: {part}" for part in mine.parts if part not in there]
    faults += [f"only there: {part}" for part in other.parts if part not in here]
    return faults


def everything_in_quarantine(cards: tuple[CardSpec, ...], known: Books) -> Snapshot:
    """Books in which nothing is free, over ``cards``: what is left of a damaged store, of which ``known`` was readable.

    Every unit is in quarantine under a lease that nobody holds, until its card proves that no process uses any of it.
    Reservations that fit the cards stand, and what is clock-gated stays so; sessions, leases and requests are
    forgotten. The token leaps over all that the unreadable part may have given.
    """
    same = {spec.id for spec in cards if spec.id in known.cards and known.cards[spec.id].spec == spec}
    parts: list[Part] = [part for part in _gated(known) if part.card in same]
    standing = [one for one in known.reservations.values() if one.spec.card in same]
    parts += [StandingReservation(one.spec, _given(one)) for one in standing]
    parts += [QuarantinedLease(_nobodys_lease(spec)) for spec in cards]
    head = Head(
        revision=known.revision + SALVAGE_LEAP,
        last_token=known.last_token + SALVAGE_LEAP,
        epoch=known.epoch + SALVAGE_LEAP,
        boot_id=known.boot_id,
        cards=cards,
        incarnations=tuple(known.incarnations.items()),
        part_count=len(parts),
    )
    return Snapshot(head, tuple(parts))


def _nobodys_lease(spec: CardSpec) -> Lease:
    return Lease(
        id=LeaseId(f"salvage-{spec.id}"),
        token=0,
        card=spec.id,
        allotments=tuple(Allotment(pool.name, _all_units(pool)) for pool in spec.pools),
        session=SessionId(""),
        holder=Holder(0, 0, "unknown since the store was damaged"),
        ttl_ns=None,
        label="salvage",
        granted_wall_ns=0,
        windows=(ANY_WINDOW,),
    )


def _all_units(pool: PoolSpec) -> UnitSet:
    counts = [pool.unit_count_at(site) * pool.slices_per_unit for site in range(pool.site_count)]
    sites = tuple(site for site, count in enumerate(counts) if count)
    if len(set(counts)) == 1:
        return UnitSet(sites, ((UnitRange(0, counts[0]),),))
    return UnitSet(sites, tuple((UnitRange(0, counts[site]),) for site in sites))


def _gated(books: Books) -> list[GatedSites]:
    return [GatedSites(card.id, card.gated_sites) for card in books.cards.values() if card.gated_sites]


def _given(reservation: Reservation) -> tuple[tuple[PoolName, UnitSet], ...]:
    given = []
    for name, units in reservation.spec.units:
        gone = reservation.units[name].part(units, 0)
        if gone.sites:
            given.append((name, gone))
    return tuple(given)
