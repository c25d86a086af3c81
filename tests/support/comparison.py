"""How a rule asks the ledger and the model the same thing, and how both are compared; the rules are in machine.py."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from rm.core import report
from rm.core.card import Allotment, CardSpec
from rm.core.claims import Asker, Wish
from rm.core.errors import Refusal
from rm.core.events import Event, Extended, Granted, Renewed, Request, UnitsReturned
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.snapshot import take
from rm.core.types import CardId
from support.books import asker, bits_set, deadlines_of, replayed, restored, snapshot, spots
from support.model import Model
from support.model_words import Part, Refused
from support.strategies import card_specs, requests_to

T = TypeVar("T")

STRICT = asker("strict", needs_reserved=True)
ASKERS = (asker("s0"), asker("s1"), asker("s2", uid=1001), STRICT, asker("root", uid=0, is_admin=True))


# All but the order in which leases came to a pool: it is that of their grants after a restart.
OUTLIVES = (
    "pools", "sessions", "leases", "revoking", "quarantine", "reservations", "requests", "token", "revision",
    "by session", "gated", "open sites",
)  # fmt: skip


class Disagreement(AssertionError):
    """The ledger is not as the model says."""


def agree(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise Disagreement(f"{what}: the ledger says {actual!r}, the model {expected!r}")


class Comparison(RuleBasedStateMachine):
    """A ledger beside its model. Nothing is applied before both have answered alike."""

    @initialize(cards=card_specs())
    def begin(self, cards: tuple[CardSpec, ...]) -> None:
        self.cards = cards
        self.ledger = Ledger(cards)
        self.model = Model(cards)
        self.requests = requests_to(cards[0])
        self.now_ns = 0
        self.asked: list[Wish] = []
        self.request_id = 0
        self.given_back: list[tuple] = []
        self.events: list[Event] = []

    # What holds after every step.

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for card_id, card in self.ledger.cards.items():
            for name, pool in card.pools.items():
                for fact in ("holder", "reserved", "quarantined"):
                    actual = bits_set(getattr(pool, "held" if fact == "holder" else fact))
                    agree(f"{name} {fact}", actual, self.model.in_pool(getattr(self.model, fact), card_id, name))
                counts = pool.counts()
                kept = (counts.total, counts.free, counts.held, counts.reserved, counts.quarantined, counts.largest_run)
                agree(f"{name} open sites", list(pool.open_sites), self.model.open_sites(card_id, name))
                agree(f"{name} counts", kept, self.model.counts(card_id, name))
        leases = {lease_id: parts_of(lease.allotments) for lease_id, lease in self.ledger.leases.items()}
        agree("leases", leases, {lease_id: lease.parts for lease_id, lease in self.model.leases.items()})
        deadlines = {lease_id: lease.deadline_ns for lease_id, lease in self.model.leases.items()}
        gated = {card_id: set(card.gated_sites) for card_id, card in self.ledger.cards.items()}
        agree("gated", gated, self.model.gated)
        standing = {name: (one.spec.card, one.spec.is_shared) for name, one in self.ledger.reservations.items()}
        agree("reservations", standing, {n: (one.card, one.is_shared) for n, one in self.model.reservations.items()})
        agree("deadlines", deadlines_of(self.ledger), deadlines)
        told = {lease_id: (one.cause, one.notice_ns) for lease_id, one in self.ledger.revoking.items()}
        agree("told to end", told, self.model.revoking)
        agree("sessions", set(self.ledger.sessions), self.model.sessions)
        agree("token", self.ledger.last_token, self.model.token)
        agree("differences", report.differences(self.ledger), [])

    def teardown(self) -> None:
        """The same events make the same books, and so does a snapshot of them: what a restart relies on."""
        if hasattr(self, "ledger"):
            agree("a replay", snapshot(replayed(self.cards, self.events)), snapshot(self.ledger))
            again = restored(self.ledger)
            agree("a snapshot of what a snapshot made", take(again), take(self.ledger))
            agree("differences after a snapshot", report.differences(again), [])
            facts, again_facts = snapshot(self.ledger), snapshot(again)
            agree("a snapshot", *[{key: kept[key] for key in OUTLIVES} for kept in (again_facts, facts)])

    # How a rule asks.

    def acquire_now(self, who: Asker, claims: tuple, ttl_ns: int | None, card: CardId | None = None) -> None:
        request = self.request(who)
        wish = Wish(who, claims, request.id, repr((claims, card)).encode(), card, ttl_ns)
        self.asked.append(wish)
        self.ask(wish)

    def ask(self, wish: Wish) -> None:
        session = wish.asker.session
        cards = list(self.ledger.cards) if wish.card is None else [wish.card]

        def expected() -> str | tuple[str, list[Part]]:
            known = self.model.known(session, wish.request_id, wish.fingerprint)
            if known is not None and known not in self.model.leases:
                raise Refused("LEASE_GONE")
            return known or self.model.place(wish.claims, cards, wish.asker)

        event = self.decide(
            expected, lambda: self.ledger.decide_acquire(wish, now_ns=self.now_ns, now_wall_ns=self.now_ns)
        )
        if isinstance(event, Lease):
            agree("the same lease again", event.id, expected())
        elif isinstance(event, Granted):
            card, parts = expected()
            agree("granted", (event.lease.card, parts_of(event.lease.allotments)), (card, parts))
            agree("token grows", event.lease.token > self.ledger.last_token, True)
            lease_id = self.model.grant(session, card, parts, wish.ttl_ns, self.now_ns)
            self.model.answers[session, wish.request_id] = (wish.fingerprint, lease_id)
            self.apply(event)

    def decide(self, expected: Callable[[], object], decide: Callable[[], T]) -> T | Refusal:
        """What the ledger answers; it must refuse where the model does, for the same reason, and change nothing."""
        try:
            expected()
            reason = None
        except Refused as refused:
            reason = refused.reason
        before = snapshot(self.ledger)
        try:
            answer: T | Refusal = decide()
        except Refusal as refusal:
            answer = refusal
        agree("reason", answer.reason if isinstance(answer, Refusal) else None, reason)
        agree("what a decision changed", snapshot(self.ledger), before)
        return answer

    def apply(self, event: Event) -> None:
        self.ledger.apply(event)
        if not isinstance(event, Renewed):
            self.events.append(event)
        if isinstance(event, Extended | UnitsReturned) and event.request.id:
            key = (event.request.session, event.request.id)
            self.model.answers[key] = (event.request.fingerprint, event.lease_id)
        agree("revision", self.ledger.revision, len(self.events))

    def request(self, who: Asker) -> Request:
        self.request_id += 1
        return Request(who.session, self.request_id, b"")


def parts_of(allotments: list[Allotment] | tuple[Allotment, ...]) -> list[Part]:
    return [(allotment.pool, spots(allotment)) for allotment in allotments]
