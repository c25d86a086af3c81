"""What a daemon does before it serves: takes up where the one before it ended.

The books come back from the store as they were. What may have changed meanwhile is the world: processes died, the
host was booted, a card was reset. Nothing here waits for anybody: a client that lives keeps its leases and comes back
when it notices, and units that no recovered lease holds are granted at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rm.core.card import CardSpec
from rm.core.events import LeaseEnded, Started
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
    known = ledger.incarnations
    reset = {card for card, incarnation in backend.incarnations if known.get(card, incarnation) != incarnation}
    in_quarantine = list(ledger.quarantine.values())
    for lease in [*ledger.leases.values(), *in_quarantine]:
        if lease.card not in reset:  # else nothing is left of it
            backend.adopt(lease)

    sessions = list(ledger.sessions.values())
    dead = [session for session in sessions if not (is_same_boot and is_alive(session))]
    for session in dead:
        cause = "process died" if is_same_boot else "the host was booted"
        engine.end_session(session.id, cause, is_violent=True)
    on_reset_cards = [lease.id for lease in ledger.leases.values() if lease.card in reset]
    with engine.commits:
        lost = [LeaseEnded(lease_id, "the card was reset", is_violent=True) for lease_id in on_reset_cards]
        engine.endings.end(lost, is_holder_dead=True)
    for lease in in_quarantine:
        engine.endings.fence_again(lease, is_holder_dead=lease.session not in ledger.sessions)

    _check_cards(ledger, backend.cards)
    with engine.commits:
        engine.commits.commit(Started(ledger.epoch + 1, boot_id, backend.cards, backend.incarnations))
        ledger.apply(ledger.decide_deadlines(now_ns=engine.clock.monotonic_ns()))
    return Resumed(ledger.epoch, len(sessions) - len(dead), len(dead), len(ledger.leases))


def _check_cards(ledger: Ledger, cards: tuple[CardSpec, ...]) -> None:
    before = tuple(card.spec for card in ledger.cards.values())
    in_use = [f"{len(ledger.leases)} leases"] if ledger.leases else []
    in_use += [f"{len(ledger.reservations)} reservations"] if ledger.reservations else []
    in_use += [f"{len(ledger.quarantine)} ended leases in quarantine"] if ledger.quarantine else []
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
