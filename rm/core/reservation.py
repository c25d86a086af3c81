"""Units that a compiler set aside under a name and a content hash, before any process ran."""

from dataclasses import dataclass

from rm.core.bitmap import UnitBitmap
from rm.core.claims import Asker
from rm.core.errors import NotOwner
from rm.core.pool import Pool
from rm.core.types import NO_UNITS, CardId, PoolName, UnitSet


@dataclass(frozen=True, slots=True)
class ReservationSpec:
    """A reservation as it is made. Only its owner may claim from it, or anybody where it ``is_shared``.

    ``owner_uid`` None means nobody's: anybody may claim from it, and take it away.
    """

    name: str
    content_hash: str
    card: CardId
    units: tuple[tuple[PoolName, UnitSet], ...]
    owner_uid: int | None = None
    is_shared: bool = False


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

    @property
    def is_complete(self) -> bool:
        """Whether none of its units was given to the pool."""
        return all(self.units[name].has_all(units) for name, units in self.spec.units)

    def text(self) -> str:
        """One phrase for people: its name, and whose it is."""
        owner_uid = self.spec.owner_uid
        return self.spec.name if owner_uid is None else f"{self.spec.name} of uid {owner_uid}"

    def may_be_used_by(self, asker: Asker) -> bool:
        """Whether ``asker`` may claim its units, and give them to the pool."""
        return self.spec.is_shared or self.is_owned_by(asker)

    def is_owned_by(self, asker: Asker) -> bool:
        """Whether ``asker`` may take it away, or put another in its place."""
        return asker.is_admin or self.spec.owner_uid is None or self.spec.owner_uid == asker.holder.uid

    def names_any(self, pool: PoolName, units: UnitSet) -> bool:
        """Whether one of ``units`` belongs to it."""
        return pool in self.units and not self.units[pool].has_none(units)

    def names_all(self, pool: PoolName, units: UnitSet) -> bool:
        """Whether all of ``units`` belong to it."""
        return pool in self.units and self.units[pool].has_all(units)

    def lose(self, pool: PoolName, units: UnitSet) -> None:
        """Forgets those of ``units`` that belong to it: they were given to the pool."""
        if pool in self.units:
            self.units[pool].fill(units, 0)

    def units_in(self, pool: PoolName) -> UnitSet:
        """All units of a pool that belong to it, held or not."""
        return self.units[pool].all_set() if pool in self.units else NO_UNITS

    def block_others(self, view: UnitBitmap, pool: Pool) -> None:
        """Makes ``view`` the pool as a claim from here sees it: all is blocked but its own units that nobody holds."""
        mine = self.units.get(pool.spec.name)
        if mine is None:
            view.bits.setall(1)
            return
        view.becomes(mine)
        view.bits.invert()
        view.bits |= pool.held.bits
        view.bits |= pool.quarantined.bits


def check_may_use(reservation: Reservation, asker: Asker) -> None:
    """Refuses those to whom a reservation does not belong.

    Raises:
        NotOwner: it is another user's, and not shared.
    """
    if not reservation.may_be_used_by(asker):
        raise _not_owner(reservation)


def check_may_take_away(reservation: Reservation, asker: Asker) -> None:
    """Refuses those who neither own a reservation nor are admins, also where it is shared.

    Raises:
        NotOwner: it is another user's.
    """
    if not reservation.is_owned_by(asker):
        raise _not_owner(reservation)


def _not_owner(reservation: Reservation) -> NotOwner:
    owner, name = reservation.spec.owner_uid, reservation.spec.name
    assert owner is not None, "nobody's reservation may be used by anybody"
    return NotOwner(f"reservation {name} belongs to uid {owner}", reservation=name, owner_uid=owner)
