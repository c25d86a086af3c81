"""What a daemon does before it serves: takes up where the one before it ended.

The books come back from the store as they were. What may have changed meanwhile is the world: processes died, the
host was booted, a card was reset. Nothing here waits for anybody: a client that lives keeps its leases and comes back
when it notices, and units that no recovered lease holds are granted at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rm.core.card import CardSpec
from rm.core.events import LeaseEnded, Started
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.session import SessionRecord
from rm.service.engine import Engine


class CardsDiffer(Exception):
    """The state is of other cards than the daemon was told of, and units of those are in use."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """What was found."""

    epoch: int
    live_session_count: int
    dead_session_count: int
    lease_count: int


def resume(engine: Engine, *, boot_id: str, is_alive: Callable[[SessionRecord], bool]) -> Resumed:
    """Ends what died while no daemon ran, keeps the rest, and begins a new epoch. Sync it before anybody is served.

    Raises:
        CardsDiffer: units of cards that are not these are held, reserved or in quarantine.
    """
    ledger, backend = engine.ledger, engine.backend
    is_same_boot = ledger.boot_id == boot_id
    there = dict(backend.incarnations)
    here_or_gone = [card for card in ledger.incarnations if card in there or not is_same_boot]
    reset = {card for card in here_or_gone if there.get(card) != ledger.incarnations[card]}
    in_quarantine = list(ledger.quarantine.values())
    sessions = list(ledger.sessions.values())
    dead = [session for session in sessions if not (is_same_boot and is_alive(session))]
    dead_ids = {session.id for session in dead}
    _check_cards(ledger, backend.cards, but_for=lambda lease: lease.card in reset or lease.session in dead_ids)
    for lease in [*ledger.leases.values(), *in_quarantine]:
        if lease.card not in reset:  # else nothing is left of it
            backend.adopt(lease)

    for session in dead:
        cause = "process died" if is_same_boot else "the host was booted"
        engine.end_session(session.id, cause, is_violent=True)
    on_reset_cards = [lease.id for lease in ledger.leases.values() if lease.card in reset]
    with engine.commits:
        lost = [LeaseEnded(lease_id, "the card was reset", is_violent=True) for lease_id in on_reset_cards]
        engine.endings.end(lost, is_holder_dead=True)
    for lease in in_quarantine:
        is_dead = not is_same_boot or lease.session in dead_ids  # who said goodbye before may well live
        engine.endings.fence_again(lease, is_holder_dead=is_dead)

    _check_cards(ledger, backend.cards)  # again: what the dead had may be out of reach
    with engine.commits:
        engine.commits.commit(Started(ledger.epoch + 1, boot_id, backend.cards, backend.incarnations))
        ledger.apply(ledger.decide_deadlines(now_ns=engine.clock.monotonic_ns()))
    return Resumed(ledger.epoch, len(sessions) - len(dead), len(dead), len(ledger.leases))


def _check_cards(
    ledger: Ledger, cards: tuple[CardSpec, ...], *, but_for: Callable[[Lease], bool] = lambda lease: False
) -> None:
    """Refuses other cards than those in use; a lease for which ``but_for`` holds is about to be over."""
    before = tuple(card.spec for card in ledger.cards.values())
    leases = [lease for lease in ledger.leases.values() if not but_for(lease)]
    quarantine = [lease for lease in ledger.quarantine.values() if not but_for(lease)]
    in_use = [f"{len(leases)} leases"] if leases else []
    in_use += [f"{len(ledger.reservations)} reservations"] if ledger.reservations else []
    in_use += [f"{len(quarantine)} ended leases in quarantine"] if quarantine else []
    if before != cards and in_use:
        raise CardsDiffer(
            f"the state is of other cards ({_text(before)}) than these ({_text(cards)}), and has {', '.join(in_use)}; "
            "start with the options of before, or on another --state-dir"
        )


def _text(cards: tuple[CardSpec, ...]) -> str:
    if not cards:
        return "none"
    pools = ", ".join(f"{pool.name} {pool.unit_count * pool.slices_per_unit}" for pool in cards[0].pools)
    return f"{len(cards)} x {cards[0].profile}: {pools}"
