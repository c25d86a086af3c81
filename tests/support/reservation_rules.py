"""The rules by which the machine sets units aside, claims what is set aside, and turns the clocks of sites off."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from rm.core.card import Allotment
from rm.core.claims import Asker, Ids, Units, Whole
from rm.core.errors import Refusal
from rm.core.events import ReservationReplaced, SitesGated
from rm.core.reservation import Reservation, ReservationSpec
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, PoolName, SiteName, UnitSet, ranges_of
from support.comparison import ASKERS, Comparison, agree, parts_of
from support.model_words import HELD, INVALID, ModelReservation, Refused
from support.strategies import HASHES, RESERVATIONS, SITES, claims_on

askers = st.sampled_from(ASKERS)
picks = st.integers(0, 30)
profiles = st.sampled_from(("", "", "test", "other"))
gatings = st.sampled_from([(), (), *((site,) for site in SITES), SITES[1::2], SITES[:1], (SITES[0], SiteName("odd"))])
ways = st.tuples(st.sampled_from(("", "", *HASHES)), profiles, st.booleans(), st.booleans())


class ReservationRules(Comparison):
    """A part of the machine: see machine.py."""

    @precondition(lambda self: self.model.reserved)
    @rule(data=st.data(), who=askers, which=picks, by_hash=st.booleans())
    def acquire_reserved(self, data: st.DataObject, who: Asker, which: int, by_hash: bool) -> None:
        spots = sorted(self.model.reserved)
        spot = spots[which % len(spots)]
        card, pool, site, bit = spot
        spec = self.model.pools[card][pool]
        name = self.model.reserved[spot]
        key = self.model.reservations[name].content_hash if by_hash else name
        at = spec.sites[site : site + 1]
        by_id = Ids(spec.name, (bit // spec.slices_per_unit,), at, data.draw(st.sampled_from([key, ""])))
        one = Units(spec.name, 1, at, key)
        claim = data.draw(st.one_of(st.just(by_id), st.just(one), claims_on(spec)))
        claim = claim if claim in (by_id, one) else replace(claim, reservation=key)
        self.acquire_now(who, (claim,), None, CardId(card))

    @precondition(lambda self: self.model.reserved)
    @rule(data=st.data(), who=askers, which=picks, key=st.sampled_from((None, None, *RESERVATIONS, *HASHES)))
    def acquire_whole(self, data: st.DataObject, who: Asker, which: int, key: str | None) -> None:
        """All that a reservation has in one or two pools, often beside other claims."""
        spots = sorted(self.model.reserved)
        card, pool, _, _ = spot = spots[which % len(spots)]
        whole = Whole(PoolName(pool), key or self.model.reserved[spot])
        more = data.draw(st.sampled_from([(), (), (replace(whole, pool=PoolName(spots[-1][1])),)]) | self.requests)
        self.acquire_now(who, (whole, *more[:2]) if which % 3 else (*more[:2], whole), None, CardId(card))

    # Reservations.

    @precondition(lambda self: len(self.model.reservations) < len(RESERVATIONS))
    @rule(
        which=st.sampled_from((None, None, None, *RESERVATIONS)),
        on=st.tuples(picks, picks),
        units=st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True),
        how=st.tuples(
            st.sampled_from(("", *HASHES)), st.sampled_from([None, 1000, 1001]), st.booleans(), st.booleans()
        ),
    )
    def reserve(
        self, which: str | None, on: tuple[int, int], units: list, how: tuple[str, int | None, bool, bool]
    ) -> None:
        """Exactly these units, shared or not, and perhaps also those that somebody holds."""
        content_hash, owner_uid, is_shared, held_too = how
        which = which or next(name for name in RESERVATIONS if name not in self.model.reservations)
        card = self.cards[on[0] % len(self.cards)]
        pool = card.pools[on[1] % len(card.pools)]
        slices = pool.slices_per_unit
        sites = tuple(range(max(1, len(pool.sites))))[on[0] % 2 :] or (0,)
        most = min(pool.unit_count_at(site) for site in sites)
        bits = sorted(u * slices + cut for u in {u % most for u in units} for cut in range(slices)) if most else []
        named = UnitSet(sites, (ranges_of(bits),)) if bits else UnitSet((), ())
        spec = ReservationSpec(which, content_hash, card.id, ((pool.name, named),), owner_uid, is_shared)
        wanted = {(card.id, pool.name, site, bit) for site in sites for bit in bits}

        def expected() -> None:
            if which in self.model.reservations:
                raise Refused(INVALID)
            in_use = self.model.holder.keys() | self.model.quarantined.keys()
            if wanted & (self.model.reserved.keys() | (set() if held_too else in_use)):
                raise Refused(HELD)

        event = self.decide(expected, lambda: self.ledger.decide_reserve(spec, held_too=held_too))
        if not isinstance(event, Refusal):
            self.model.reserve(which, ModelReservation(card.id, content_hash, owner_uid, is_shared, wanted))
            self.apply(event)

    @rule(data=st.data(), who=askers, which=st.sampled_from(RESERVATIONS), on=picks, how=ways)
    def reserve_claims(
        self, data: st.DataObject, who: Asker, which: str, on: int, how: tuple[str, str, bool, bool]
    ) -> None:
        """What claims get, or what is there for the same content; perhaps in the place of what the name stood for."""
        content_hash, profile, is_shared, replaces = how
        claims, card = data.draw(self.requests), self._card_or_any(on)
        self._set_aside(ReserveWish(which, claims, who, content_hash, card, profile, is_shared, replaces))

    @precondition(lambda self: self.model.reservations)
    @rule(data=st.data(), which=picks, who=askers, is_shared=st.booleans(), is_of_old=st.integers(0, 3))
    def replace_reservation(self, data: st.DataObject, which: int, who: Asker, is_shared: bool, is_of_old: int) -> None:
        """Others in the place of what is reserved, mostly some of the same units, and for the same content or not."""
        name = sorted(self.model.reservations)[which % len(self.model.reservations)]
        old = self.model.reservations[name]
        spots = sorted(spot for spot in old.made if spot[0] == old.card)
        claims = data.draw(self.requests)
        if is_of_old and spots:
            _, pool, site, bit = spots[which % len(spots)]
            spec = self.model.pools[old.card][pool]
            at = spec.sites[site : site + 1]
            again = Ids(spec.name, (bit // spec.slices_per_unit,), at)
            claims = data.draw(st.sampled_from([(again,), (Units(spec.name, 1, at),), (again, *claims[:1])]))
        content_hash = data.draw(st.sampled_from(("", old.content_hash, *HASHES)))
        self._set_aside(ReserveWish(name, claims, who, content_hash, None, "", is_shared, replaces=True))

    def _set_aside(self, wish: ReserveWish) -> None:
        event = self.decide(lambda: self.model.set_aside(wish), lambda: self.ledger.decide_reserve_claims(wish))
        if isinstance(event, Refusal):
            return
        expected = self.model.set_aside(wish)
        if isinstance(event, Reservation):
            agree("set aside before", event.spec.name, expected)
            return
        spec, owner_uid = event.spec, wish.asker.holder.uid
        parts = parts_of([Allotment(name, units) for name, units in spec.units])
        agree("set aside", (spec.card, parts), expected)
        whose = (spec.name, spec.content_hash, spec.owner_uid, spec.is_shared)
        agree("whose", whose, (wish.name, wish.content_hash, owner_uid, wish.is_shared))
        agree("replaced", isinstance(event, ReservationReplaced), wish.name in self.model.reservations)
        made = {(spec.card, pool, s, b) for pool, at_sites in parts for s, bits in at_sites for b in bits}
        made_of = ModelReservation(spec.card, wish.content_hash, owner_uid, wish.is_shared, made)
        self.model.reserve(wish.name, made_of)
        self.apply(event)

    @precondition(lambda self: self.model.reservations)
    @rule(which=st.sampled_from(RESERVATIONS), who=askers)
    def unreserve(self, which: str, who: Asker) -> None:
        event = self.decide(lambda: self.model.may_end(which, who), lambda: self.ledger.decide_unreserve(which, who))
        if not isinstance(event, Refusal):
            self.model.unreserve(which)
            self.apply(event)

    # Clocks.

    @rule(which=picks, sites=gatings)
    def gate(self, which: int, sites: tuple[SiteName, ...]) -> None:
        """Turns the clocks of a few sites off, and those of all others on."""
        card = self.cards[which % len(self.cards)].id
        event = self.decide(
            lambda: self.model.may_gate(card, list(sites)), lambda: self.ledger.decide_gate(card, sites)
        )
        if not isinstance(event, Refusal):
            agree("gated", event, SitesGated(card, tuple(sorted(sites))))
            self.model.gated[card] = set(sites)
            self.apply(event)

    def _card_or_any(self, which: int) -> CardId | None:
        return None if which % 2 else self.cards[which // 2 % len(self.cards)].id
