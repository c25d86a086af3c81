"""Where the model puts the claims of a request: unit by unit, one choice of alternatives on one card at a time."""

from collections import Counter
from fractions import Fraction

from rm.core.claims import Asker, Claim, Common, FirstOf, Ids, PlainClaim, Run, Units, Whole
from rm.core.pool import PoolSpec
from support.books import Spots
from support.model_words import EXHAUSTED, HELD, INVALID, MODES, Part, Refused, Spot, sites_of, units_at


class Placement:
    """One choice of alternatives on one card. ``taken`` is what its earlier claims will get.

    With ``freed`` the claims set units aside, and these count as if no reservation had them.
    """

    def __init__(self, model, card: str, asker: Asker, *, freed: set[Spot] | None = None) -> None:
        self.model, self.card, self.asker = model, card, asker
        self.freed, self.is_to_reserve = freed or set(), freed is not None
        self.taken: set[Spot] = set()

    def place(self, claims: tuple[PlainClaim, ...]) -> list[Part]:
        for claim in claims:
            self._check(claim)
        self._check_together(claims)
        parts: dict[int, Part] = {}
        for kinds in ((Ids, Whole), (Common,), (Run,), (Units,)):
            for index, claim in enumerate(claims):
                if type(claim) in kinds:
                    parts[index] = (claim.pool, self._spots(claim))
        return [parts[index] for index in range(len(claims))]

    # What no wait can heal.

    def _check(self, claim: PlainClaim) -> None:
        if claim.pool not in self.model.pools[self.card]:
            raise Refused(INVALID)
        if self.is_to_reserve and claim.reservation:
            raise Refused(INVALID)
        if isinstance(claim, Whole):
            self.model.may_use(self._reservation(claim.reservation), self.asker)
            sites = {site for _, _, site, _ in self._named(claim)}
            if not sites or not sites <= set(self.model.open_sites(self.card, claim.pool)):
                raise Refused(INVALID)
            return
        spec, sites = self._spec(claim), self._sites(claim)
        most = min(units_at(spec, site) for site in sites)
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
        elif isinstance(claim, Ids) and not self.is_to_reserve:
            named = set(self._named(claim))
            if self.asker.needs_reserved and not named <= self.model.reserved.keys():
                raise Refused(INVALID)
            self.model.must_own(named, self.asker)

    def _check_together(self, claims: tuple[PlainClaim, ...]) -> None:
        named: list[Spot] = [spot for claim in claims if isinstance(claim, Ids | Whole) for spot in self._named(claim)]
        modes = {site for claim in claims if claim.pool == MODES for site in self._sites_of(claim)}
        if len(set(named)) < len(named) or len(modes) > 1:
            raise Refused(INVALID)
        asked: dict[tuple[str, int], int] = {}
        for claim in claims:
            if isinstance(claim, Whole):
                for _, pool, site, _ in self._named(claim):
                    asked[pool, site] = asked.get((pool, site), 0) + 1
                continue
            sites = self._sites(claim)
            for site in set(sites) if isinstance(claim, Common) else sites:
                asked[claim.pool, site] = asked.get((claim.pool, site), 0) + int(self._bits_a_site(claim))
        for (pool, site), bits in asked.items():
            spec = self.model.pools[self.card][pool]
            if bits > units_at(spec, site) * spec.slices_per_unit:
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

    def asks_other(self, claims: tuple[Claim, ...], mine: set[Spot]) -> bool:
        """Whether claims want other units than ``mine``, or more or fewer of them; alternatives may have been any."""
        wanted: Counter[tuple[str, int]] = Counter()
        for claim in claims:
            if isinstance(claim, FirstOf):
                return False
            self._check(claim)
            if isinstance(claim, Ids) and not set(self._named(claim)) <= mine:
                return True
            sites = self._sites(claim)
            for site in dict.fromkeys(sites) if isinstance(claim, Common) else sites:
                wanted[claim.pool, site] += int(self._bits_a_site(claim))
        return wanted != Counter((pool, site) for _, pool, site, _ in mine)

    # Where it goes.

    def _sites_of(self, claim: PlainClaim) -> list[int]:
        return [site for _, _, site, _ in self._named(claim)] if isinstance(claim, Whole) else self._sites(claim)

    def _spots(self, claim: PlainClaim) -> Spots:
        in_use = self.model.in_pool(self.model.holder | self.model.quarantined, self.card, claim.pool)
        if claim.pool == MODES and not self.is_to_reserve:
            mode = self._sites_of(claim)[0]
            if any(site != mode for site, _ in in_use):
                raise Refused(HELD)
        if isinstance(claim, Ids | Whole):
            return self._exactly(claim)
        sites = self._sites(claim)
        if isinstance(claim, Common):
            sites = list(dict.fromkeys(sites))
            most = min(units_at(self._spec(claim), site) for site in sites)
            for unit in range(most):
                if all(unit in self._whole_units(claim, site) for site in sites):
                    return tuple((site, self._take(claim, site, [unit])) for site in sites)
            raise Refused(EXHAUSTED)
        return tuple((site, self._at_site(claim, site)) for site in sites)

    def _exactly(self, claim: Ids | Whole) -> Spots:
        spots = self._named(claim)
        for spot in spots:
            is_reserved = self.is_to_reserve and spot in self.model.reserved and spot not in self.freed
            if spot in self.model.holder or spot in self.model.quarantined or is_reserved:
                raise Refused(HELD)
        self.taken |= set(spots)
        sites = list(dict.fromkeys(site for _, _, site, _ in spots))
        return tuple((site, tuple(sorted(bit for _, _, at, bit in spots if at == site))) for site in sites)

    def _at_site(self, claim: Units | Run, site: int) -> tuple[int, ...]:
        slices = self._spec(claim).slices_per_unit
        bits = int(self._bits_a_site(claim))
        if isinstance(claim, Run):
            return self._take(claim, site, self._row(claim, site, bits // slices))
        if bits % slices:
            for unit in range(units_at(self._spec(claim), site)):
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
        for start in range(0, units_at(self._spec(claim), site) - count + 1, claim.align_count):
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
        units = range(units_at(self._spec(claim), site))
        return [u for u in units if all(self._is_free(claim, site, b) for b in range(u * k, (u + 1) * k))]

    def _is_free(self, claim: PlainClaim, site: int, bit: int) -> bool:
        spot = (self.card, claim.pool, site, bit)
        if spot in self.taken or spot in self.model.holder or spot in self.model.quarantined:
            return False
        wanted = self._reservation(claim.reservation) if claim.reservation else None
        return spot in self.freed or self.model.reserved.get(spot) == wanted

    def _take(self, claim: PlainClaim, site: int, units: list[int]) -> tuple[int, ...]:
        k = self._spec(claim).slices_per_unit
        bits = tuple(bit for unit in units for bit in range(unit * k, (unit + 1) * k))
        self.taken |= {(self.card, claim.pool, site, bit) for bit in bits}
        return bits

    # What the claim names.

    def _spec(self, claim: PlainClaim) -> PoolSpec:
        return self.model.pools[self.card][claim.pool]

    def _sites(self, claim: PlainClaim) -> list[int]:
        running = self.model.open_sites(self.card, claim.pool)
        if isinstance(claim, Common) and not claim.at:
            if not running:
                raise Refused(INVALID)
            return running
        sites = sites_of(self._spec(claim), list(claim.at))
        if not self.is_to_reserve and not set(sites) <= set(running):
            raise Refused(INVALID)
        return sites

    def _named(self, claim: Ids | Whole) -> list[Spot]:
        if isinstance(claim, Whole):
            mine = self._reservation(claim.reservation)
            every = (spot for spot, name in self.model.reserved.items() if name == mine)
            return sorted(spot for spot in every if spot[:2] == (self.card, claim.pool))
        k = self._spec(claim).slices_per_unit
        bits = [bit for unit in claim.ids for bit in range(unit * k, (unit + 1) * k)]
        return [(self.card, claim.pool, site, bit) for site in self._sites(claim) for bit in bits]

    def _reservation(self, key: str) -> str:
        here = {name: kept for name, kept in self.model.reservations.items() if kept.card == self.card}
        same = [name for name, kept in here.items() if key in {name, kept.content_hash}]
        same.sort(key=lambda name: name != key)
        own = [name for name in same if here[name].owner_uid == self.asker.holder.uid]
        usable = [name for name in same if self.model.is_usable(name, self.asker)]
        if not same:
            raise Refused(INVALID)
        return (own or usable or same)[0]
