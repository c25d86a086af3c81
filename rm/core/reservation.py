"""Units that a compiler set aside under a name and a content hash, before any process ran."""

from dataclasses import dataclass

from rm.core.bitmap import UnitBitmap
from rm.core.claims import Asker
from rm.core.errors import NotOwner
from rm.core.pool import Pool
from rm.core.types import CardId, PoolName, UnitSet


@dataclass(frozen=True, slots=True)
class ReservationSpec:
    """A reservation as it is made. ``owner_uid`` None means shared: anybody may claim from it."""

    name: str
    content_hash: str
    card: CardId
    units: tuple[tuple[PoolName, UnitSet], ...]
    owner_uid: int | None = None


class Reservation:
    """A reservation as it stands: units that were given to the pool have left it."""

    __slots__ = ("spec", "units")

    def __init__(self, spec: ReservationSpec, pools: dict[PoolName, Pool]) -> None:
        """Takes note of the units of ``spec``; ``pools`` are those of its card."""
        self.spec = spec
        self.units: dict[PoolName, UnitBitmap] = {}
        for name, units in spec.units:
            if name not in self.units:
                self.units[name] = UnitBitmap(pools[name].spec.bits_per_site, pools[name].spec.site_count)
            self.units[name].insert(units)

    def may_be_used_by(self, asker: Asker) -> bool:
        """Whether ``asker`` may claim its units, and give them to the pool."""
        return asker.is_admin or self.spec.owner_uid is None or self.spec.owner_uid == asker.holder.uid

    def names_any(self, pool: PoolName, units: UnitSet) -> bool:
        """Whether one of ``units`` belongs to it."""
        return pool in self.units and not self.units[pool].has_none(units)

    def lose(self, pool: PoolName, units: UnitSet) -> None:
        """Forgets those of ``units`` that belong to it: they were given to the pool."""
        if pool in self.units:
            self.units[pool].fill(units, 0)

    def blocked_view(self, pool: Pool) -> UnitBitmap:
        """The pool as a claim from this reservation sees it: all is blocked but its own units that nobody holds."""
        view = pool.blocked.copy()
        mine = self.units.get(pool.spec.name)
        if mine is None:
            view.bits.setall(1)
        else:
            view.bits = ~mine.bits | pool.held.bits | pool.quarantined.bits
        return view


def check_may_use(reservation: Reservation, asker: Asker) -> None:
    """Refuses those to whom a reservation does not belong.

    Raises:
        NotOwner: it is another user's, and not shared.
    """
    if not reservation.may_be_used_by(asker):
        owner = reservation.spec.owner_uid
        assert owner is not None, "a shared reservation may be used by anybody"
        name = reservation.spec.name
        raise NotOwner(f"reservation {name} belongs to uid {owner}", reservation=name, owner_uid=owner)
