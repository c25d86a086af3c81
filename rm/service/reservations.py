"""What a compiler set aside, and which sites have their clock off: decided, committed and told once that is safe."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace

from rm.core.claims import Asker, pools_of
from rm.core.errors import NotOwner, Refusal
from rm.core.events import ReservationReplaced, Reserved
from rm.core.ledger import Ledger
from rm.core.reservation import Reservation
from rm.core.reserving import ReserveWish
from rm.core.types import CardId, SiteName
from rm.core.waitlist import QueueKey
from rm.service.commits import Commits
from rm.service.waiting import WaitingRoom

Change = Reserved | ReservationReplaced


@dataclass(frozen=True, slots=True)
class Desk:
    """What the engine lends: its checks that it serves and that the disk has room, and its way to serve who waits."""

    check_serving: Callable[[], None]
    check_room: Callable[[], None]
    serve: Callable[[Iterable[QueueKey]], None]


class Reservations:
    """Sets units aside and gives them back. Part of the engine: the one writer."""

    def __init__(self, ledger: Ledger, commits: Commits, waiting: WaitingRoom, desk: Desk) -> None:
        self._ledger = ledger
        self._commits = commits
        self._waiting = waiting
        self._desk = desk

    def reserve(self, wish: ReserveWish) -> tuple[Reservation, bool]:
        """Sets aside what ``wish`` claims; answers the reservation, and whether it was there before.

        To be told of once that is safe, as it was when this returned: what became of it since may not be.

        Raises:
            Refusal: as ``Ledger.decide_reserve_claims``; PoolExhausted also where somebody waits for the same pools.
        """
        with self._changing():
            event = self._ledger.decide_reserve_claims(wish)
            if isinstance(event, Reservation):
                return event, True
            event = self._behind_nobody(wish, event)
            self._desk.check_room()
            old = self._ledger.reservations.get(wish.name)
            self._commits.commit(event)
            if old is not None:
                self._desk.serve([(old.spec.card, pool) for pool in old.units])
            return self._ledger.reservations[wish.name], False

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
                self._desk.check_room()
                self._commits.commit(event)
                self._desk.serve([(card_id, pool) for pool in card.pools])
        await self._commits.synced()

    def _behind_nobody(self, wish: ReserveWish, event: Change) -> Change:
        """The change as it was decided, or on another card where nobody waits for the same pools.

        Raises:
            PoolExhausted: somebody waits on every card that would do.
        """
        card, pools, waitlist = event.spec.card, pools_of(wish.claims), self._waiting.waitlist
        if waitlist.open_cards((card,), pools):
            return event
        others = waitlist.open_cards(tuple(self._ledger.cards) if wish.card is None else (wish.card,), pools)
        for other in others:
            with suppress(Refusal):
                found = self._ledger.decide_reserve_claims(replace(wish, card=other))
                assert not isinstance(found, Reservation), "what is found on one card is found on any"
                return found
        raise self._waiting.in_front((card,), pools, may_queue=False)

    def _changing(self) -> AbstractContextManager[None]:
        self._desk.check_serving()
        return self._commits
