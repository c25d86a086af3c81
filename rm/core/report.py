"""What the books say when they are asked: whether they agree with themselves, and what would happen to a request."""

from collections.abc import Sequence
from dataclasses import dataclass

from rm.core.bitmap import UnitBitmap
from rm.core.books import Books
from rm.core.card import Allotment, Card
from rm.core.claims import Wish
from rm.core.errors import NotNow, Refusal
from rm.core.events import Granted
from rm.core.ledger import Ledger
from rm.core.types import CardId, PoolName


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``decide_acquire`` would answer: an outcome, or a refusal."""

    card: CardId | None
    allotments: tuple[Allotment, ...]
    refusal: Refusal | None


def explain(ledger: Ledger, wish: Wish, *, cards: Sequence[CardId] | None = None) -> Explanation:
    """Asks for ``wish`` without taking it, from ``cards`` where they are given. Who waits in front is not looked at."""
    try:
        outcome = ledger.decide_acquire(wish, now_ns=0, now_wall_ns=0, cards=cards)
    except Refusal as refusal:
        return Explanation(None, (), refusal)
    lease = outcome.lease if isinstance(outcome, Granted) else outcome
    return Explanation(lease.card, lease.allotments, None)


def check_possible(ledger: Ledger, wish: Wish) -> None:
    """Refuses at once what could never be granted, however short the queue.

    Raises:
        Refusal: any but those that another time may mend.
    """
    refusal = explain(ledger, wish).refusal
    if refusal is not None and not isinstance(refusal, NotNow):
        raise refusal


def differences(books: Books) -> list[str]:
    """Compares the bitmaps with the leases, reservations and quarantine, unit by unit; one sentence a difference.

    Costs a pass over every bitmap: for ``rmctl check`` and for tests, which call it after every step.
    """
    faults = []
    for card in books.cards.values():
        for pool in card.pools.values():
            faults += [f"card {card.id}: {fault}" for fault in pool.check()]
            if pool.gated != {pool.site_index[site] for site in card.gated_sites if site in pool.site_index}:
                faults.append(f"card {card.id}: the clocks of pool {pool.spec.name} differ from those of the card")
        faults += _held_without_clock(books, card)
        held = [(lease.id, lease.allotments) for lease in books.leases.values() if lease.card == card.id]
        faults += _compare(card, "held", held)
        quarantined = [(lease.id, lease.allotments) for lease in books.quarantine.values() if lease.card == card.id]
        faults += _compare(card, "quarantined", quarantined)
        faults += _compare_reservations(books, card)
    faults += _compare_indexes(books)
    return faults


def unit_count(books: Books) -> int:
    """Bits of all pools of all cards."""
    return sum(pool.total_count for card in books.cards.values() for pool in card.pools.values())


def _compare(card: Card, what: str, owners: Sequence[tuple[str, tuple[Allotment, ...]]]) -> list[str]:
    """Compares one bitmap of each pool with the union of what its owners say they have."""
    faults = []
    expected = {name: UnitBitmap(pool.spec.bits_per_site, pool.spec.site_count) for name, pool in card.pools.items()}
    for owner, allotments in owners:
        for allotment in allotments:
            if not expected[allotment.pool].has_none(allotment.units):
                faults.append(f"card {card.id}: a unit of pool {allotment.pool} is {what} by {owner} and by another")
            expected[allotment.pool].fill(allotment.units, 1)
    for name, pool in card.pools.items():
        truth: UnitBitmap = getattr(pool, what)
        only_bits = (truth.bits & ~expected[name].bits).count()
        only_books = (expected[name].bits & ~truth.bits).count()
        if only_bits:
            faults.append(f"card {card.id}: {only_bits} units of pool {name} are {what} by nobody")
        if only_books:
            faults.append(f"card {card.id}: {only_books} units of pool {name} belong to somebody but are not {what}")
    return faults


def _held_without_clock(books: Books, card: Card) -> list[str]:
    """Clock-gated sites at which somebody has units; what the system keeps there needs no clock."""
    faults = []
    for name, pool in card.pools.items():
        if not pool.gated:
            continue
        for lease_id in books.leases_by_pool.get((card.id, name), ()):
            lease = books.leases[lease_id]
            sites = {site for one in lease.allotments if one.pool == name for site in one.units.sites}
            if sites & pool.gated and not books.is_kept_by_system(lease):
                faults.append(f"card {card.id}: {lease_id} holds units of pool {name} at a clock-gated site")
    return faults


def _compare_reservations(books: Books, card: Card) -> list[str]:
    faults = []
    mine = [reservation for reservation in books.reservations.values() if reservation.spec.card == card.id]
    for name, pool in card.pools.items():
        named = UnitBitmap(pool.spec.bits_per_site, pool.spec.site_count)
        for reservation in mine:
            if name in reservation.units:
                if (named.bits & reservation.units[name].bits).any():
                    faults.append(f"card {card.id}: a unit of pool {name} is named by two reservations")
                named.bits |= reservation.units[name].bits
        if named.bits != pool.reserved.bits:
            faults.append(f"card {card.id}: what is reserved in pool {name} differs from what the reservations name")
    return faults


def _compare_indexes(books: Books) -> list[str]:
    by_pool: dict[tuple[CardId, PoolName], set[str]] = {}
    by_session: dict[str, set[str]] = {}
    for lease in books.leases.values():
        by_session.setdefault(lease.session, set()).add(lease.id)
        for pool in lease.pools:
            by_pool.setdefault((lease.card, pool), set()).add(lease.id)
    faults = []
    if by_pool != {key: set(leases) for key, leases in books.leases_by_pool.items() if leases}:
        faults.append("the index of leases by pool differs from the leases")
    if by_session != {key: set(leases) for key, leases in books.leases_by_session.items()}:
        faults.append("the index of leases by session differs from the leases")
    if any(lease.token > books.last_token for lease in books.leases.values()):
        faults.append("a lease has a token above the last that was given")
    return faults
