"""What may become of reservations, and of the clocks of sites: decided here, as everything else is in ``ledger``."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rm.core import limits
from rm.core.asks import bits_by_site, check_range, check_shown, understand
from rm.core.bitmap import UnitBitmap
from rm.core.card import Card
from rm.core.claims import Asker, Claim, FirstOf
from rm.core.conflict import held_by, unit_held
from rm.core.errors import InvalidRequest, NotNow, Refusal, UnitHeld
from rm.core.events import ReservationReplaced, Reserved, SitesGated, Unreserved
from rm.core.lookup import Lookup
from rm.core.placement import place_to_reserve
from rm.core.pool import Pool
from rm.core.reservation import Reservation, ReservationSpec, check_may_take_away, check_may_use
from rm.core.types import CardId, PoolName, SiteName, UnitSet


@dataclass(frozen=True, slots=True)
class ReserveWish:
    """A request to set units aside under a name.

    ``content_hash`` stands for what they are for: who sets the same aside again finds what is there. ``profile`` is the
    kind of card it was made for, where it matters. ``card`` None means the first that fits.
    """

    name: str
    claims: tuple[Claim, ...]
    asker: Asker
    content_hash: str = ""
    card: CardId | None = None
    profile: str = ""
    is_shared: bool = False
    replaces: bool = False


class Reserving(Lookup):
    """The books, and the rules by which reservations change."""

    def decide_reserve_claims(self, wish: ReserveWish) -> Reserved | ReservationReplaced | Reservation:
        """Sets aside what ``wish`` claims, all of it or nothing, or finds what was set aside for the same before.

        Raises:
            InvalidRequest: it can never be as it is written, or the name is in use for something else.
            PoolExhausted, UnitHeld: not now; the text names who is in the way.
            NotOwner: it would replace another user's.
        """
        _check_names(wish.name, wish.content_hash)
        check_shown("a profile's name", wish.profile)
        old = self.reservations.get(wish.name)
        if known := self._same_content(wish, old):
            return known
        if old is not None and not wish.replaces:
            text = f"reservation {wish.name} is there, for something else; replace it, or choose another name"
            raise InvalidRequest(text, reservation=wish.name)
        if old is not None:
            check_may_take_away(old, wish.asker)
            self._check_unused(old)
        else:
            check_range("reservations", len(self.reservations) + 1, limits.RESERVATIONS_MAX)
        cards = [self.card_of(wish.card)] if wish.card is not None else list(self.cards.values())
        spec = self._place_on_first_of(cards, wish, old)
        return Reserved(spec) if old is None else ReservationReplaced(spec)

    def decide_reserve(self, spec: ReservationSpec, *, held_too: bool = False) -> Reserved:
        """Sets exactly these units aside, all of them or none; ``held_too`` also those that somebody holds.

        Raises:
            InvalidRequest: a name in use, an unknown card, pool or unit, a unit named twice, or too many reservations.
            UnitHeld: one of the units is held, reserved or in quarantine.
        """
        _check_names(spec.name, spec.content_hash)
        if spec.name in self.reservations:
            raise InvalidRequest(f"a reservation named {spec.name!r} is there", reservation=spec.name)
        check_range("reservations", len(self.reservations) + 1, limits.RESERVATIONS_MAX)
        card = self.card_of(spec.card)
        named: dict[PoolName, UnitBitmap] = {}
        for name, units in spec.units:
            pool = card.pools.get(name)
            if pool is None:
                raise InvalidRequest(f"card {card.id} has no pool {name!r}", pool=name)
            _check_exist(pool, units)
            seen = named.setdefault(name, UnitBitmap(pool.spec.bits_per_site, pool.spec.site_count))
            before_count = seen.count()
            seen.fill(units, 1)
            if seen.count() < before_count + units.unit_count:
                raise InvalidRequest(f"a unit of pool {name} is reserved twice", pool=name)
        for name, units in spec.units:
            pool = card.pools[name]
            if not (pool.reserved if held_too else pool.blocked).has_none(units):
                raise unit_held(
                    card,
                    pool,
                    units,
                    reservations=self.reservations.values(),
                    find_holders=self.find_holders,
                    states=("reserved",) if held_too else ("held", "quarantined", "reserved"),
                )
        return Reserved(spec)

    def decide_unreserve(self, name: str, asker: Asker, *, held_too: bool = False) -> Unreserved:
        """Takes a reservation away; its units go to the pool. With ``held_too`` those in use stay with their holders.

        Raises:
            InvalidRequest: no such reservation.
            NotOwner: it is another user's.
            UnitHeld: some of its units are held, or in quarantine.
        """
        reservation = self.reservations.get(name)
        if reservation is None:
            raise InvalidRequest(f"there is no reservation {name!r}", reservation=name)
        check_may_take_away(reservation, asker)
        if not held_too:
            self._check_unused(reservation)
        return Unreserved(name, reservation.spec.card)

    def decide_gate(self, card_id: CardId, sites: Sequence[SiteName]) -> SitesGated:
        """Turns the clocks of exactly these sites of a card off, and those of all others on.

        What the system keeps for itself at a site does not need its clock.

        Raises:
            InvalidRequest: no such card or site.
            UnitHeld: somebody else holds a unit there.
        """
        card = self.card_of(card_id)
        check_range("gated sites", len(sites), limits.SITES_PER_POOL_MAX, least=0)
        for site in sites:
            pools = [pool for pool in card.pools.values() if site in pool.site_index]
            if not pools:
                raise InvalidRequest(f"card {card.id} has no site {site!r}", card=card.id, site=site)
            for pool in pools:
                at = pool.site_index[site]
                if pool.held.at_site(at).any():
                    units = pool.held.part(pool.all_at(at))
                    if holders := self.find_holders(card, pool.spec.name, units, but_system=True):
                        who = held_by({"holders": holders})
                        text = f"units of pool {pool.spec.name} at site {site} are held: its clock must run{who}"
                        raise UnitHeld(text, card=card.id, pool=pool.spec.name, site=site, holders=holders)
        return SitesGated(card.id, tuple(sorted(set(sites))))

    # What the decisions share.

    def check_may_give_to_pool(self, card: Card, given: Iterable[tuple[PoolName, UnitSet]], asker: Asker) -> None:
        """Refuses those to whom a reservation does not belong that one of ``given`` would leave.

        Raises:
            NotOwner: it is another user's, and not shared.
        """
        for pool, units in given:
            for reservation in self.reservations.values():
                if reservation.spec.card == card.id and reservation.names_any(pool, units):
                    check_may_use(reservation, asker)

    def _same_content(self, wish: ReserveWish, old: Reservation | None) -> Reservation | None:
        """What was set aside for the same content by the same user, on a card that the wish may use.

        Who would replace a reservation does not find it where it has lost units, others may use it while they should
        not or the other way round, or something else is claimed than what it was made with.
        """
        if not wish.content_hash:
            return None
        mine = [old] if old is not None else []
        mine += self.reservations.values()
        for one in mine:
            is_same = one.spec.content_hash == wish.content_hash and one.spec.owner_uid == wish.asker.holder.uid
            is_there = wish.card in {None, one.spec.card}
            is_such = wish.profile in {"", self.cards[one.spec.card].spec.profile}
            if not (is_same and is_there and is_such):
                continue
            if not (wish.replaces and one is old and self._is_outdated(one, wish)):
                return one
        return None

    def _is_outdated(self, old: Reservation, wish: ReserveWish) -> bool:
        """Whether ``old`` is not what ``wish`` would set aside. What has alternatives may have been any of them."""
        if not old.is_complete or old.spec.is_shared != wish.is_shared:
            return True
        card = self.cards[old.spec.card]
        wanted: Counter[tuple[PoolName, int]] = Counter()
        for claim in wish.claims:
            if isinstance(claim, FirstOf):
                return False
            ask = understand(claim, card, self.reservations, wish.asker, to_reserve=True)
            if ask.units is not None and not old.names_all(claim.pool, ask.units):
                return True
            for site, bit_count in bits_by_site(ask):
                wanted[claim.pool, site] += bit_count
        return wanted != Counter(
            {
                (name, site): bits.at_site(site).count()
                for name, bits in old.units.items()
                for site in range(card.pools[name].spec.site_count)
            }
        )

    def _check_unused(self, reservation: Reservation) -> None:
        card = self.cards[reservation.spec.card]
        for name, bits in reservation.units.items():
            pool = card.pools[name]
            if (pool.held.bits & bits.bits).any() or (pool.quarantined.bits & bits.bits).any():
                holders = self.find_holders(card, name, bits.all_set())
                told = held_by({"holders": holders})
                text = f"units of reservation {reservation.spec.name} in pool {name} are in use{told}"
                raise UnitHeld(text, reservation=reservation.spec.name, pool=name, holders=holders)

    def _place_on_first_of(
        self, cards: Sequence[Card], wish: ReserveWish, replaced: Reservation | None
    ) -> ReservationSpec:
        not_now: NotNow | None = None
        never: Refusal | None = None
        for card in cards:
            try:
                if wish.profile and wish.profile != card.spec.profile:
                    text = (
                        f"it was made for profile {wish.profile}, and card {card.id} is of profile {card.spec.profile}"
                    )
                    raise InvalidRequest(text, card=card.id, profile=card.spec.profile, wanted=wish.profile)
                allotments = place_to_reserve(
                    wish.claims,
                    card=card,
                    reservations=self.reservations,
                    asker=wish.asker,
                    find_holders=self.find_holders,
                    replaced=replaced if replaced is not None and replaced.spec.card == card.id else None,
                )
            except NotNow as refusal:
                not_now = not_now or refusal
            except Refusal as refusal:
                never = never or refusal
            else:
                units = tuple((one.pool, one.units) for one in allotments)
                owner_uid = wish.asker.holder.uid
                return ReservationSpec(wish.name, wish.content_hash, card.id, units, owner_uid, wish.is_shared)
        refused = not_now or never
        assert refused is not None, "a reservation may use one card at least"
        raise refused


def _check_names(name: str, content_hash: str) -> None:
    check_range("characters in a reservation's name", len(name), limits.NAME_CHARS_MAX)
    check_shown("a reservation's name", name)
    check_shown("a content hash", content_hash)


def _check_exist(pool: Pool, units: UnitSet) -> None:
    spec = pool.spec
    if len(set(units.sites)) < len(units.sites) and units.is_same_everywhere:
        raise InvalidRequest(f"a unit of pool {spec.name} is reserved twice", pool=spec.name)
    for site, runs in units.by_site():
        most = spec.unit_count_at(site) * spec.slices_per_unit if 0 <= site < spec.site_count else 0
        if any(not 0 <= run.start < run.stop <= most for run in runs):
            raise InvalidRequest(f"pool {spec.name} has no such units", pool=spec.name, site_index=site)
