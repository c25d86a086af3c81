"""What is asked of the books, and changes nothing: leases, cards and holders, found or refused in words."""

from itertools import islice

from rm.core import limits
from rm.core.books import Books
from rm.core.card import Card
from rm.core.claims import Wish
from rm.core.errors import InvalidRequest, LeaseNotFound, NotOwner
from rm.core.lease import Lease
from rm.core.pool import Pool
from rm.core.reservation import Reservation
from rm.core.types import CardId, LeaseId, PoolName, SessionId, UnitRange, UnitSet


class Lookup(Books):
    """The books, to be asked."""

    def card_of(self, card_id: CardId) -> Card:
        """A card.

        Raises:
            InvalidRequest: there is none of this id.
        """
        card = self.cards.get(card_id)
        if card is None:
            there = ", ".join(self.cards)
            raise InvalidRequest(f"there is no card {card_id!r}; there are {there}", card=card_id, cards=there)
        return card

    def card_named(self, card_id: str) -> Card:
        """A card by its id; the first where none is named.

        Raises:
            InvalidRequest: there is none of this id.
        """
        return self.card_of(CardId(card_id)) if card_id else next(iter(self.cards.values()))

    def pool_of(self, card: Card, name: PoolName) -> Pool:
        """A pool of a card.

        Raises:
            InvalidRequest: the card has none of this name.
        """
        pool = card.pools.get(name)
        if pool is None:
            there = ", ".join(card.pools)
            raise InvalidRequest(f"card {card.id} has no pool {name!r}; it has {there}", pool=name)
        return pool

    def reservations_of(self, key: str) -> list[Reservation]:
        """The reservations of a name or content hash, or all where it is empty, in the order of their names."""
        return [
            one for name, one in sorted(self.reservations.items()) if not key or key in {name, one.spec.content_hash}
        ]

    def cards_for(self, wish: Wish) -> tuple[CardId, ...]:
        """The cards that ``wish`` may use.

        Raises:
            InvalidRequest: it names a card that is not there.
        """
        return tuple(self.cards) if wish.card is None else (self.card_of(wish.card).id,)

    def lease_of(self, lease_id: LeaseId, session: SessionId) -> Lease:
        """A live lease of ``session``.

        Raises:
            LeaseNotFound: no live lease has this id.
            NotOwner: it is another session's.
        """
        lease = self.leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound(f"there is no live lease {lease_id!r}", lease=lease_id)
        if lease.session != session:
            raise not_owner(lease)
        return lease

    def was_granted(self, lease_id: LeaseId) -> bool:
        """Whether a lease of this id was ever granted."""
        number = lease_id[1:20]  # a token has 64 bits
        is_number = number.isascii() and number.isdigit()
        return is_number and 1 <= int(number) <= self.last_token and lease_id == f"L{int(number)}"

    def find_holders(
        self, card: Card, pool: PoolName, units: UnitSet | None, *, but_system: bool = False
    ) -> list[dict[str, str | int]]:
        """Who holds units of a pool, or one of ``units``: a few of them, oldest first, in words and numbers."""
        holding = (self.leases[lease_id] for lease_id in self.leases_by_pool.get((card.id, pool), ()))
        wanted = None if units is None else _by_site(units)
        asked = (lease for lease in holding if not (but_system and self.is_kept_by_system(lease)))
        found = (lease for lease in asked if wanted is None or _holds_any(lease, pool, wanted))
        return [
            {
                "lease": lease.id,
                "pid": lease.holder.pid,
                "uid": lease.holder.uid,
                "command": lease.holder.command,
                "label": lease.label,
                "since_wall_ns": str(lease.granted_wall_ns),
                "text": lease.text(),
            }
            for lease in islice(found, limits.HOLDERS_PER_REFUSAL_MAX)
        ]


def _by_site(units: UnitSet) -> dict[int, list[UnitRange]]:
    """The runs of ``units`` at each site, also where a site stands twice."""
    found: dict[int, list[UnitRange]] = {}
    for site, runs in units.by_site():
        found.setdefault(site, []).extend(runs)
    return found


def _holds_any(lease: Lease, pool: PoolName, wanted: dict[int, list[UnitRange]]) -> bool:
    """Whether ``lease`` has one of the wanted units."""
    return any(
        mine.start < other.stop and other.start < mine.stop
        for allotment in lease.allotments
        if allotment.pool == pool
        for site, runs in allotment.units.by_site()
        for mine in runs
        for other in wanted.get(site, ())
    )


def not_owner(lease: Lease) -> NotOwner:
    """Why somebody who does not own a lease may not change it."""
    text = f"{lease.id} belongs to another session, of pid {lease.holder.pid} and uid {lease.holder.uid}"
    return NotOwner(text, lease=lease.id, pid=lease.holder.pid, uid=lease.holder.uid)
