"""A second ledger made of dicts: what the tests hold the real one against.

It follows the rules of the design, not the code: it looks at every unit one by one, keeps no index, and is slow on
purpose. A spot is one bit: (card, pool, site, bit). Answers have the plain form of ``support.books.Spots``.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from rm.core.card import CardSpec
from rm.core.claims import Asker, Claim, Common, FirstOf, Ids, PlainClaim, Run, Units
from rm.core.pool import PoolSpec
from support.books import Spots

Spot = tuple[str, str, int, int]
Part = tuple[str, Spots]

INVALID, EXHAUSTED, HELD, NOT_OWNER = "INVALID_REQUEST", "POOL_EXHAUSTED", "UNIT_HELD", "NOT_OWNER"
NOT_FOUND, GONE = "LEASE_NOT_FOUND", "LEASE_GONE"
MODES = "vnpu"  # the pool whose sites are modes: no two of them at a time


class Refused(Exception):
    """What the model answers where the ledger must refuse; holds the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class ModelLease:
    session: str
    card: str
    parts: list[Part]
    ttl_ns: int | None
    deadline_ns: int | None


@dataclass
class ModelReservation:
    card: str
    content_hash: str
    owner_uid: int | None


class Model:
    def __init__(self, cards: tuple[CardSpec, ...]) -> None:
        self.pools: dict[str, dict[str, PoolSpec]] = {c.id: {p.name: p for p in c.pools} for c in cards}
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
        return [(s, b) for s in sites for b in range(_units_at(spec, s) * spec.slices_per_unit)]

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
        reasons = []
        for card in cards:
            for chosen in product(*(c.alternatives if isinstance(c, FirstOf) else (c,) for c in claims)):
                try:
                    return card, _Placement(self, card, asker).place(chosen)
                except Refused as refused:
                    reasons.append(refused.reason)
            # A card that is only busy may fit later; one that can never fit is not worth a wait.
        busy = [reason for reason in reasons if reason in {EXHAUSTED, HELD}]
        raise Refused((busy or reasons)[0])

    def must_own(self, spots: set[Spot], asker: Asker) -> None:
        for spot in spots & self.reserved.keys():
            self.may_use(self.reserved[spot], asker)

    def may_use(self, name: str, asker: Asker) -> None:
        owner = self.reservations[name].owner_uid
        if not asker.is_admin and owner is not None and owner != asker.holder.uid:
            raise Refused(NOT_OWNER)

    def units_to_give_back(self, lease_id: str, pool: str, ids: list[int], at: list[str]) -> set[Spot]:
        lease = self.leases[lease_id]
        spec = self.pools[lease.card][pool]
        wanted = {(site, unit) for site in _sites(spec, at) for unit in ids}
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


class _Placement:
    """One choice of alternatives on one card. ``taken`` is what its earlier claims will get."""

    def __init__(self, model: Model, card: str, asker: Asker) -> None:
        self.model, self.card, self.asker = model, card, asker
        self.taken: set[Spot] = set()

    def place(self, claims: tuple[PlainClaim, ...]) -> list[Part]:
        for claim in claims:
            self._check(claim)
        self._check_together(claims)
        parts: dict[int, Part] = {}
        for kind in (Ids, Common, Run, Units):
            for index, claim in enumerate(claims):
                if type(claim) is kind:
                    parts[index] = (claim.pool, self._spots(claim))
        return [parts[index] for index in range(len(claims))]

    # What no wait can heal.

    def _check(self, claim: PlainClaim) -> None:
        if claim.pool not in self.model.pools[self.card]:
            raise Refused(INVALID)
        spec, sites = self._spec(claim), self._sites(claim)
        most = min(_units_at(spec, site) for site in sites)
        if isinstance(claim, Ids):
            if not claim.ids or len(set(claim.ids)) < len(claim.ids) or len(set(sites)) < len(sites):
                raise Refused(INVALID)
            if not all(0 <= unit < most for unit in claim.ids):
                raise Refused(INVALID)
        if isinstance(claim, Run) and not (claim.align_count >= 1 and 1 <= claim.extent_count_max <= 16):
            raise Refused(INVALID)
        if isinstance(claim, Run) and claim.size_bytes and not spec.unit_bytes:
            raise Refused(INVALID)
        if isinstance(claim, Units):
            slices = Fraction(claim.count) * spec.slices_per_unit
            if slices.denominator > 1 or (claim.count > 1 and Fraction(claim.count).denominator > 1):
                raise Refused(INVALID)
        if not 0 < self._bits_a_site(claim) <= most * spec.slices_per_unit:
            raise Refused(INVALID)
        if claim.reservation:
            self.model.may_use(self._reservation(claim.reservation), self.asker)
            if isinstance(claim, Ids) and any(
                self.model.reserved.get(spot) != self._reservation(claim.reservation) for spot in self._named(claim)
            ):
                raise Refused(INVALID)
        elif isinstance(claim, Ids):
            self.model.must_own(set(self._named(claim)), self.asker)

    def _check_together(self, claims: tuple[PlainClaim, ...]) -> None:
        named: list[Spot] = [spot for claim in claims if isinstance(claim, Ids) for spot in self._named(claim)]
        modes = {site for claim in claims if claim.pool == MODES for site in self._sites(claim)}
        if len(set(named)) < len(named) or len(modes) > 1:
            raise Refused(INVALID)
        asked: dict[tuple[str, int], int] = {}
        for claim in claims:
            sites = self._sites(claim)
            for site in set(sites) if isinstance(claim, Common) else sites:
                asked[claim.pool, site] = asked.get((claim.pool, site), 0) + int(self._bits_a_site(claim))
        for (pool, site), bits in asked.items():
            spec = self.model.pools[self.card][pool]
            if bits > _units_at(spec, site) * spec.slices_per_unit:
                raise Refused(INVALID)

    def _bits_a_site(self, claim: PlainClaim) -> Fraction:
        spec = self._spec(claim)
        match claim:
            case Ids():
                count = Fraction(len(claim.ids))
            case Common():
                count = Fraction(1)
            case Run():
                by_size = -(-claim.size_bytes // spec.unit_bytes) if claim.size_bytes else 0
                count = Fraction(by_size or claim.unit_count)
            case Units():
                count = Fraction(claim.count)
        return count * spec.slices_per_unit

    # Where it goes.

    def _spots(self, claim: PlainClaim) -> Spots:
        sites = self._sites(claim)
        in_use = self.model.in_pool(self.model.holder | self.model.quarantined, self.card, claim.pool)
        if claim.pool == MODES and any(site != sites[0] for site, _ in in_use):
            raise Refused(HELD)
        if isinstance(claim, Ids):
            for spot in self._named(claim):
                if spot in self.model.holder or spot in self.model.quarantined:
                    raise Refused(HELD)
            return tuple((site, self._take(claim, site, sorted(claim.ids))) for site in sites)
        if isinstance(claim, Common):
            sites = list(dict.fromkeys(sites))
            most = min(_units_at(self._spec(claim), site) for site in sites)
            for unit in range(most):
                if all(unit in self._whole_units(claim, site) for site in sites):
                    return tuple((site, self._take(claim, site, [unit])) for site in sites)
            raise Refused(EXHAUSTED)
        return tuple((site, self._at_site(claim, site)) for site in sites)

    def _at_site(self, claim: Units | Run, site: int) -> tuple[int, ...]:
        slices = self._spec(claim).slices_per_unit
        bits = int(self._bits_a_site(claim))
        if isinstance(claim, Run):
            return self._take(claim, site, self._row(claim, site, bits // slices))
        if bits % slices:
            for unit in range(_units_at(self._spec(claim), site)):
                free = [b for b in range(unit * slices, (unit + 1) * slices) if self._is_free(claim, site, b)]
                if len(free) >= bits:
                    self.taken |= {(self.card, claim.pool, site, b) for b in free[:bits]}
                    return tuple(free[:bits])
            raise Refused(EXHAUSTED)
        units = self._whole_units(claim, site)[: bits // slices]
        if len(units) < bits // slices:
            raise Refused(EXHAUSTED)
        return self._take(claim, site, units)

    def _row(self, claim: Run, site: int, count: int) -> list[int]:
        """First fit by address; where that fails, the longest rows first, lowest of equal ones."""
        free = set(self._whole_units(claim, site))
        for start in range(0, _units_at(self._spec(claim), site) - count + 1, claim.align_count):
            if all(start + offset in free for offset in range(count)):
                return list(range(start, start + count))
        rows = []
        for first in sorted(free):
            if first - 1 not in free:
                row = [first]
                while row[-1] + 1 in free:
                    row.append(row[-1] + 1)
                while row and row[0] % claim.align_count:
                    row.pop(0)
                rows.append(row)
        rows.sort(key=lambda row: (-len(row), row))
        units = [unit for row in rows[: claim.extent_count_max] for unit in row][:count]
        if len(units) < count or claim.extent_count_max == 1:
            raise Refused(EXHAUSTED)
        return sorted(units)

    def _whole_units(self, claim: PlainClaim, site: int) -> list[int]:
        k = self._spec(claim).slices_per_unit
        units = range(_units_at(self._spec(claim), site))
        return [u for u in units if all(self._is_free(claim, site, b) for b in range(u * k, (u + 1) * k))]

    def _is_free(self, claim: PlainClaim, site: int, bit: int) -> bool:
        spot = (self.card, claim.pool, site, bit)
        if spot in self.taken or spot in self.model.holder or spot in self.model.quarantined:
            return False
        wanted = self._reservation(claim.reservation) if claim.reservation else None
        return self.model.reserved.get(spot) == wanted

    def _take(self, claim: PlainClaim, site: int, units: list[int]) -> tuple[int, ...]:
        k = self._spec(claim).slices_per_unit
        bits = tuple(bit for unit in units for bit in range(unit * k, (unit + 1) * k))
        self.taken |= {(self.card, claim.pool, site, bit) for bit in bits}
        return bits

    # What the claim names.

    def _spec(self, claim: PlainClaim) -> PoolSpec:
        return self.model.pools[self.card][claim.pool]

    def _sites(self, claim: PlainClaim) -> list[int]:
        spec = self._spec(claim)
        if isinstance(claim, Common) and not claim.at:
            return list(range(max(1, len(spec.sites))))
        return _sites(spec, list(claim.at))

    def _named(self, claim: Ids) -> list[Spot]:
        k = self._spec(claim).slices_per_unit
        bits = [bit for unit in claim.ids for bit in range(unit * k, (unit + 1) * k)]
        return [(self.card, claim.pool, site, bit) for site in self._sites(claim) for bit in bits]

    def _reservation(self, key: str) -> str:
        here = {name: kept for name, kept in self.model.reservations.items() if kept.card == self.card}
        if key in here:
            return key
        for name, kept in here.items():
            if kept.content_hash == key:
                return name
        raise Refused(INVALID)


def _units_at(spec: PoolSpec, site: int) -> int:
    return spec.site_unit_counts[site] if spec.site_unit_counts else spec.unit_count


def _sites(spec: PoolSpec, names: list[str]) -> list[int]:
    if not names and len(spec.sites) <= 1:
        return [0]
    if not names or any(name not in spec.sites for name in names):
        raise Refused(INVALID)
    return [spec.sites.index(name) for name in names]
