"""A second ledger made of dicts: what the tests hold the real one against.

It follows the rules of the design, not the code: it looks at every unit one by one, keeps no index, and is slow on
purpose. A spot is one bit: (card, pool, site, bit). Answers have the plain form of ``support.books.Spots``.
"""

from collections.abc import Callable
from itertools import product

from rm.core.card import CardSpec
from rm.core.claims import Asker, Claim, FirstOf
from rm.core.pool import PoolSpec
from rm.core.reserving import ReserveWish
from support.model_placement import Placement
from support.model_words import (
    EXHAUSTED,
    GONE,
    HELD,
    INVALID,
    NOT_FOUND,
    NOT_OWNER,
    ModelLease,
    ModelReservation,
    Part,
    Refused,
    Spot,
    sites_of,
    units_at,
)


class Model:
    def __init__(self, cards: tuple[CardSpec, ...]) -> None:
        self.pools: dict[str, dict[str, PoolSpec]] = {c.id: {p.name: p for p in c.pools} for c in cards}
        self.profiles: dict[str, str] = {card.id: card.profile for card in cards}
        self.gated: dict[str, set[str]] = {card.id: set() for card in cards}  # sites whose clock is off
        self.holder: dict[Spot, str] = {}
        self.reserved: dict[Spot, str] = {}
        self.quarantined: dict[Spot, str] = {}
        self.leases: dict[str, ModelLease] = {}
        self.revoking: dict[str, tuple[str, int]] = {}  # why, and with which notice
        self.sessions: set[str] = set()
        self.reservations: dict[str, ModelReservation] = {}
        self.answers: dict[tuple[str, int], tuple[bytes, str | None]] = {}
        self.token = 0

    # What is so.

    def spots_of_pool(self, card: str, pool: str) -> list[tuple[int, int]]:
        spec = self.pools[card][pool]
        sites = range(max(1, len(spec.sites)))
        return [(s, b) for s in sites for b in range(units_at(spec, s) * spec.slices_per_unit)]

    def in_pool(self, facts: dict[Spot, str], card: str, pool: str) -> set[tuple[int, int]]:
        return {(site, bit) for c, p, site, bit in facts if (c, p) == (card, pool)}

    def counts(self, card: str, pool: str) -> tuple[int, int, int, int, int, int]:
        """Total, free, held, reserved, quarantined, longest run: as ``PoolCounts`` has them."""
        every = self.spots_of_pool(card, pool)
        held, reserved, quiet = (self.in_pool(f, card, pool) for f in (self.holder, self.reserved, self.quarantined))
        free = set(every) - held - reserved - quiet
        longest = 0
        for site, bit in free:
            length = 0
            while (site, bit + length) in free:
                length += 1
            longest = max(longest, length)
        return len(every), len(free), len(held), len(reserved), len(quiet), longest

    def spots_of(self, lease_id: str) -> list[Spot]:
        lease = self.leases[lease_id]
        return [(lease.card, pool, site, bit) for pool, spots in lease.parts for site, bits in spots for bit in bits]

    # What happens.

    def grant(self, session: str, card: str, parts: list[Part], ttl_ns: int | None, now_ns: int) -> str:
        self.token += 1
        lease_id = f"L{self.token}"
        self.leases[lease_id] = ModelLease(
            session, card, list(parts), ttl_ns, None if ttl_ns is None else now_ns + ttl_ns
        )
        self._hold(lease_id)
        return lease_id

    def extend(self, lease_id: str, parts: list[Part]) -> None:
        self.leases[lease_id].parts += parts
        self._hold(lease_id)

    def give_back(self, lease_id: str, spots: set[Spot], *, to_pool: bool) -> None:
        lease = self.leases[lease_id]
        for spot in spots:
            del self.holder[spot]
            if to_pool:
                self.reserved.pop(spot, None)
        kept = []
        for pool, sites in lease.parts:
            left = [(s, tuple(b for b in bits if (lease.card, pool, s, b) not in spots)) for s, bits in sites]
            kept.append((pool, tuple((s, bits) for s, bits in left if bits)))
        lease.parts = kept
        if not any(sites for _, sites in kept):
            del self.leases[lease_id]
            self.revoking.pop(lease_id, None)

    def revoke(self, lease_id: str, cause: str, *, notice_ns: int, now_ns: int) -> None:
        self.revoking[lease_id] = (cause, notice_ns)
        self.leases[lease_id].deadline_ns = now_ns + notice_ns

    def end(self, lease_id: str, *, is_violent: bool, to_pool: bool = False) -> None:
        spots = set(self.spots_of(lease_id))
        self.give_back(lease_id, spots, to_pool=to_pool)
        if is_violent:
            self.quarantined |= dict.fromkeys(spots, lease_id)

    def quiet(self, lease_id: str) -> None:
        self.quarantined = {spot: owner for spot, owner in self.quarantined.items() if owner != lease_id}

    def expired(self, now_ns: int) -> list[str]:
        due = [
            (lease.deadline_ns, lease_id) for lease_id, lease in self.leases.items() if lease.deadline_ns is not None
        ]
        return [lease_id for deadline, lease_id in sorted(due) if not now_ns < deadline]

    def reserve(self, name: str, made: ModelReservation) -> None:
        """Makes a reservation; one of this name gives its units back before."""
        self.unreserve(name)
        self.reservations[name] = made
        self.reserved |= dict.fromkeys(made.made, name)

    def unreserve(self, name: str) -> None:
        self.reservations.pop(name, None)
        self.reserved = {spot: owner for spot, owner in self.reserved.items() if owner != name}

    def open_sites(self, card: str, pool: str) -> list[int]:
        """The sites of a pool whose clock runs."""
        spec = self.pools[card][pool]
        return [s for s in range(max(1, len(spec.sites))) if not spec.sites or spec.sites[s] not in self.gated[card]]

    def _hold(self, lease_id: str) -> None:
        self.holder |= dict.fromkeys(self.spots_of(lease_id), lease_id)

    # What must be answered.

    def known(self, session: str, request_id: int, fingerprint: bytes) -> str | None:
        """The lease a repeated request got; None where the request is new."""
        if (session, request_id) not in self.answers:
            return None
        known_print, lease_id = self.answers[session, request_id]
        if lease_id is None:
            raise Refused(GONE)
        if known_print != fingerprint:
            raise Refused(INVALID)
        return lease_id

    def mine(self, lease_id: str, session: str) -> ModelLease:
        if lease_id not in self.leases:
            raise Refused(NOT_FOUND)
        if self.leases[lease_id].session != session:
            raise Refused(NOT_OWNER)
        return self.leases[lease_id]

    def growing(self, lease_id: str, session: str) -> ModelLease:
        lease = self.mine(lease_id, session)
        if lease_id in self.revoking:
            raise Refused(GONE)
        return lease

    def place(self, claims: tuple[Claim, ...], cards: list[str], asker: Asker) -> tuple[str, list[Part]]:
        """The first card and the first choice of alternatives that fit, and what each claim gets."""
        return self._first(claims, cards, lambda card: Placement(self, card, asker))

    def _first(
        self, claims: tuple[Claim, ...], cards: list[str], placement: Callable[[str], Placement]
    ) -> tuple[str, list[Part]]:
        reasons = []
        for card in cards:
            for chosen in product(*(c.alternatives if isinstance(c, FirstOf) else (c,) for c in claims)):
                try:
                    return card, placement(card).place(chosen)
                except Refused as refused:
                    reasons.append(refused.reason)
            # A card that is only busy may fit later; one that can never fit is not worth a wait.
        busy = [reason for reason in reasons if reason in {EXHAUSTED, HELD}]
        raise Refused((busy or reasons)[0])

    def set_aside(self, wish: ReserveWish) -> str | tuple[str, list[Part]]:
        """The name of what was set aside for the same before, or else the card and what each claim sets aside."""
        old = self.reservations.get(wish.name)
        for name in ([wish.name] if old else []) + list(self.reservations):
            if self._is_same(wish, name):
                return name
        if old and not wish.replaces:
            raise Refused(INVALID)
        if old:
            self.may_end(wish.name, wish.asker)
        freed = {spot for spot, owner in self.reserved.items() if owner == wish.name}

        def placement(card: str) -> Placement:
            if wish.profile not in {"", self.profiles[card]}:
                raise Refused(INVALID)
            return Placement(self, card, wish.asker, freed=freed)

        return self._first(wish.claims, [wish.card] if wish.card else list(self.pools), placement)

    def _is_same(self, wish: ReserveWish, name: str) -> bool:
        one = self.reservations[name]
        is_complete = all(self.reserved.get(spot) == name for spot in one.made)
        is_such = (
            wish.content_hash not in {"", None}
            and (one.content_hash, one.owner_uid) == (wish.content_hash, wish.asker.holder.uid)
            and wish.card in {None, one.card}
            and wish.profile in {"", self.profiles[one.card]}
        )
        if not (is_such and wish.replaces and name == wish.name):
            return is_such
        placement = Placement(self, one.card, wish.asker, freed=set())
        return is_complete and one.is_shared == wish.is_shared and not placement.asks_other(wish.claims, one.made)

    def must_own(self, spots: set[Spot], asker: Asker) -> None:
        for spot in spots & self.reserved.keys():
            self.may_use(self.reserved[spot], asker)

    def may_use(self, name: str, asker: Asker) -> None:
        if not self.is_usable(name, asker):
            raise Refused(NOT_OWNER)

    def is_usable(self, name: str, asker: Asker) -> bool:
        return self.reservations[name].is_shared or self.is_owned(name, asker)

    def is_owned(self, name: str, asker: Asker) -> bool:
        return asker.is_admin or self.reservations[name].owner_uid in {None, asker.holder.uid}

    def may_end(self, name: str, asker: Asker) -> None:
        """Whether a reservation may be taken away, or another be put in its place."""
        if name not in self.reservations:
            raise Refused(INVALID)
        if not self.is_owned(name, asker):
            raise Refused(NOT_OWNER)
        mine = {spot for spot, owner in self.reserved.items() if owner == name}
        if mine & (self.holder.keys() | self.quarantined.keys()):
            raise Refused(HELD)

    def may_gate(self, card: str, names: list[str]) -> None:
        """Whether the clocks of these sites may be turned off."""
        for name in names:
            having = [pool for pool, spec in self.pools[card].items() if name in spec.sites]
            if not having:
                raise Refused(INVALID)
            for pool in having:
                if self.pools[card][pool].sites.index(name) in {s for s, _ in self.in_pool(self.holder, card, pool)}:
                    raise Refused(HELD)

    def units_to_give_back(self, lease_id: str, pool: str, ids: list[int], at: list[str]) -> set[Spot]:
        lease = self.leases[lease_id]
        spec = self.pools[lease.card][pool]
        wanted = {(site, unit) for site in sites_of(spec, at) for unit in ids}
        if not ids or len(wanted) < len(ids) * max(1, len(at)):
            raise Refused(INVALID)
        spots: set[Spot] = set()
        for part_pool, sites in lease.parts:
            if part_pool != pool:
                continue
            every = {(site, bit) for site, bits in sites for bit in bits}
            lost = {(site, bit) for site, bit in every if (site, bit // spec.slices_per_unit) in wanted}
            if spec.unit_bytes and lost and lost != every:
                raise Refused(INVALID)
            spots |= {(lease.card, pool, site, bit) for site, bit in lost}
        if {(site, bit // spec.slices_per_unit) for _, _, site, bit in spots} != wanted:
            raise Refused(INVALID)
        return spots
