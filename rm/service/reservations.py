"""What a compiler set aside, and which sites have their clock off: decided, committed and told once that is safe."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from rm.core.claims import Asker, pools_of
from rm.core.errors import NotOwner
from rm.core.ledger import Ledger
from rm.core.reservation import Reservation
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, SiteName
from rm.core.waitlist import QueueKey
from rm.service.commits import Commits
from rm.service.waiting import WaitingRoom


@dataclass(frozen=True, slots=True)
class Desk:
    """What the engine lends: its check that it serves and has room, and its way to serve who waits."""

    check_open: Callable[[], None]
    serve: Callable[[Iterable[QueueKey]], None]


class Reservations:
    """Sets units aside and gives them back. Part of the engine: the one writer."""

    def __init__(self, ledger: Ledger, commits: Commits, waiting: WaitingRoom, desk: Desk) -> None:
        self._ledger = ledger
        self._commits = commits
        self._waiting = waiting
        self._desk = desk

    async def reserve(self, wish: ReserveWish) -> tuple[Reservation, bool]:
        """Sets aside what ``wish`` claims; answers the reservation, and whether it was there before.

        Raises:
            Refusal: as ``Ledger.decide_reserve_claims``; PoolExhausted also where somebody waits for the same pools.
        """
        with self._changing():
            event = self._ledger.decide_reserve_claims(wish)
            existed = isinstance(event, Reservation)
            if not isinstance(event, Reservation):
                spec, pools = event.spec, pools_of(wish.claims)
                old = self._ledger.reservations.get(wish.name)
                if not self._waiting.waitlist.open_cards((spec.card,), pools):
                    raise self._waiting.in_front((spec.card,), pools)
                self._commits.commit(event)
                if old is not None:
                    self._desk.serve([(old.spec.card, pool) for pool in old.units])
            found = event if isinstance(event, Reservation) else self._ledger.reservations[wish.name]
        await self._commits.synced()
        return found, existed

    async def unreserve(self, name: str, asker: Asker) -> None:
        """Takes a reservation away, and serves who waits for its units.

        Raises:
            Refusal: as ``Ledger.decide_unreserve``.
        """
        with self._changing():
            event = self._ledger.decide_unreserve(name, asker)
            pools = list(self._ledger.reservations[name].units)
            self._commits.commit(event)
            self._desk.serve([(event.card, pool) for pool in pools])
        await self._commits.synced()

    async def gate(self, card_id: CardId, sites: list[SiteName], asker: Asker) -> None:
        """Turns the clocks of exactly these sites off, and serves who waits for others.

        Raises:
            NotOwner: the asker is no admin.
            Refusal: as ``Ledger.decide_gate``.
        """
        if not asker.is_admin:
            uid = asker.holder.uid
            raise NotOwner(f"only root and the daemon's own user may gate clocks, not uid {uid}", uid=uid)
        with self._changing():
            event = self._ledger.decide_gate(card_id, sites)
            card = self._ledger.cards[card_id]
            if event.sites != card.gated_sites:
                self._commits.commit(event)
                self._desk.serve([(card_id, pool) for pool in card.pools])
        await self._commits.synced()

    def _changing(self) -> AbstractContextManager[None]:
        self._desk.check_open()
        return self._commits
