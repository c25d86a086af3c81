"""What a partition stands on: a card of the core that has nothing but units of one lease, and where its memory lies."""

import os
from collections.abc import Iterable, Iterator, Sequence

from leasehold.card import Allotment, allotment_from
from leasehold.errors import Invalid, Refused, refused
from rm.core import limits
from rm.core.asks import ids_text
from rm.core.bitmap import UnitBitmap
from rm.core.card import Allotment as CoreAllotment
from rm.core.card import Card, CardSpec
from rm.core.claims import Asker, Claim
from rm.core.errors import NotNow, Refusal
from rm.core.placement import place
from rm.core.pool import PoolSpec, amount_text
from rm.core.types import CardId, Holder, PoolName, SessionId, SiteName, UnitRange, UnitSet
from rm.service import convert
from rmapi.v1 import types_pb2 as pb

_ASKER = Asker(SessionId("partition"), Holder(0, 0, "partition"))  # whom nobody asks: nothing is reserved here
Taken = Sequence[tuple[str, tuple[CoreAllotment, ...]]]  # of the parts that are out, label and what they have


class Ground:
    """The units of ``covered``, allotments of one lease, as a card. Ids are those of the lease's own card."""

    def __init__(self, lease_id: str, card_id: str, covered: Sequence[pb.Allotment]) -> None:
        self._lease_id, self._card_id = lease_id, card_id
        self._covered = covered
        self.card = self._make_card()
        self._empty: Card | None = None  # the same without any part, for what can never be

    def place(self, claims: tuple[Claim, ...], taken: Taken) -> tuple[CoreAllotment, ...]:
        """Where ``claims`` would go, beside what is taken.

        Raises:
            Exhausted, Held: not now.
            Invalid: the units of this lease can never meet them.
        """

        def find_holders(card: Card, pool: PoolName, units: UnitSet | None) -> list[dict[str, str | int]]:
            return self._find_holders(card, pool, units, taken)

        try:
            return place(claims, card=self.card, reservations={}, asker=_ASKER, find_holders=find_holders)
        except Refusal as refusal:
            raise self._told(refusal, claims) from refusal

    def hold(self, allotments: tuple[CoreAllotment, ...]) -> None:
        """Marks what a part got as held."""
        for one in allotments:
            self.card.pools[one.pool].hold(one.units)

    def drop(self, allotments: tuple[CoreAllotment, ...]) -> None:
        """Takes the hold off what a part had."""
        for one in allotments:
            self.card.pools[one.pool].drop(one.units, to_quarantine=False)

    def allotment(self, taken: CoreAllotment) -> Allotment:
        """What a claim got, in the library's words."""
        return allotment_from(convert.allotment_to(taken, self.card))

    def places(self, taken: Iterable[CoreAllotment]) -> Iterator[tuple[int, int]]:
        """Where memory lies in the window: offset and size in bytes, a pair for each run of units."""
        for one in taken:
            unit_bytes = self.card.pools[one.pool].spec.unit_bytes
            for run in one.units.runs[0] if unit_bytes else ():
                offset = 0
                for extent in (
                    extent for window in self._covered if window.unit_bytes for extent in window.units[0].ranges
                ):
                    if extent.start <= run.start < extent.stop:
                        assert run.stop <= extent.stop, f"{run} crosses the end of a piece of the window"
                        yield offset + (run.start - extent.start) * unit_bytes, len(run) * unit_bytes
                    offset += (extent.stop - extent.start) * unit_bytes

    # What is said of it.

    def _told(self, refusal: Refusal, wanted: tuple[Claim, ...]) -> Refused:
        """The error for a refusal: what is refused beside no part as well can never be."""
        facts = {**refusal.facts, "card": self._card_id, "lease": self._lease_id}
        is_never = "unit_count" in facts  # more than there is, or an id past the last
        if isinstance(refusal, NotNow):
            self._empty = self._empty or self._make_card()
            try:
                place(wanted, card=self._empty, reservations={}, asker=_ASKER, find_holders=lambda *_: [])
            except Refusal:
                is_never = True
        if is_never:
            sizes = [
                (name, sum(units.unit_count for units in self._units_in(name, self.card))) for name in self.card.pools
            ]
            has = ", ".join(f"{name} {amount_text(self.card.pools[name].spec, count)}" for name, count in sizes)
            text = f"the units of lease {self._lease_id} never meet this; it hands out {has}"
            return Invalid(text, facts={**facts, "holders": []})
        text = str(refusal).replace(f"card {self.card.id}", f"lease {self._lease_id}")  # the card is the lease here
        return refused(refusal.reason, text, facts)

    def _find_holders(
        self, card: Card, pool: PoolName, units: UnitSet | None, taken: Taken
    ) -> list[dict[str, str | int]]:
        """Which parts hold units of a pool, or one of ``units``: a few of them, oldest first."""
        asked = card.pools[pool]
        wanted = UnitBitmap(asked.spec.bits_per_site, asked.spec.site_count)
        if units is not None:
            wanted.fill(units, 1)
        found: list[dict[str, str | int]] = []
        for label, allotments in taken:
            mine = [one.units for one in allotments if one.pool == pool]
            if mine and (units is None or not all(wanted.has_none(one) for one in mine)):
                text = f"a part '{label}'" if label else "a part"
                text += f" with {pool} {', '.join(ids_text(one, asked) for one in mine)}"
                found.append({"lease": self._lease_id, "label": label, "pid": os.getpid(), "text": text})
                if len(found) == limits.HOLDERS_PER_REFUSAL_MAX:
                    break
        return found

    # How it is made.

    def _make_card(self) -> Card:
        """A card on which everything is held but the units of the lease. Ids are those of the lease's own card."""
        specs = []
        for name in dict.fromkeys(one.pool for one in self._covered):
            mine = [one for one in self._covered if one.pool == name]
            slices = mine[0].slices_per_unit or 1
            stop = max(run.stop for one in mine for runs in one.units for run in runs.ranges)
            sites = tuple(dict.fromkeys(SiteName(site) for one in mine for site in one.sites))
            spec = PoolSpec(
                PoolName(name), -(-stop // slices), sites, unit_bytes=mine[0].unit_bytes, slices_per_unit=slices
            )
            specs.append(spec)
        card = Card(CardSpec(CardId(self._lease_id), "partition", "partition", tuple(specs)))
        for name, pool in card.pools.items():
            others = UnitBitmap(pool.spec.bits_per_site, pool.spec.site_count)
            others.bits.setall(1)
            for units in self._units_in(name, card):
                others.remove(units)
            if (rest := others.all_set()).sites:
                pool.hold(rest)
        return card

    def _units_in(self, name: PoolName, card: Card) -> Iterator[UnitSet]:
        """The units of a pool, allotment by allotment."""
        index = card.pools[name].site_index
        for one in self._covered:
            if one.pool == name:
                sites = tuple(index[SiteName(site)] for site in one.sites) or (0,)
                runs = tuple(tuple(UnitRange(run.start, run.stop) for run in ranges.ranges) for ranges in one.units)
                yield UnitSet(sites, runs)
