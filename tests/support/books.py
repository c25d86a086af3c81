"""Small makers and readers of ledgers, for tests that set up a state and look at what became of it."""

from dataclasses import replace

import pytest

from rm.core.asks import resolve_sites, units_of_ids
from rm.core.bitmap import UnitBitmap
from rm.core.books import Books
from rm.core.card import Allotment, CardSpec
from rm.core.claims import Asker, Claim, Wish
from rm.core.events import Event, Granted, Request
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.pool import PoolSpec
from rm.core.reservation import Reservation, ReservationSpec
from rm.core.reserving import ReserveWish
from rm.core.session import ProcessKey, SessionRecord
from rm.core.snapshot import restore, take
from rm.core.types import CardId, Holder, PoolName, SessionId, SiteName

# The bits that one claim got at each site, in the order of the claim: plain tuples, easy to write down in a test.
Spots = tuple[tuple[int, tuple[int, ...]], ...]

CARD = CardId("0")
NO_REQUEST = Request(SessionId("s1"), 0, b"")


def asker(session: str = "s1", *, uid: int = 1000, is_admin: bool = False, needs_reserved: bool = False) -> Asker:
    holder = Holder(pid=100, uid=uid, command=f"/usr/bin/{session}")
    return Asker(SessionId(session), holder, is_admin, needs_reserved)


def record(session: str = "s1", *, uid: int = 1000, pid: int = 100) -> SessionRecord:
    """A session as the books know it."""
    who = asker(session, uid=uid).holder
    return SessionRecord(SessionId(session), session.encode(), replace(who, pid=pid), ProcessKey(pid, pid + 7_000, 0))


def pool(name: str, unit_count: int, *, sites: tuple[str, ...] = (), **more) -> PoolSpec:
    return PoolSpec(PoolName(name), unit_count, tuple(SiteName(site) for site in sites), **more)


def card(*pools: PoolSpec, card_id: str = CARD) -> CardSpec:
    return CardSpec(CardId(card_id), "test", "fake", pools)


def ledger_of(*pools: PoolSpec, card_count: int = 1) -> Ledger:
    return Ledger(tuple(card(*pools, card_id=str(index)) for index in range(card_count)))


def wish_for(*claims: Claim, who: Asker | None = None, **more) -> Wish:
    return Wish(who or asker(), claims, **more)


def acquire(ledger: Ledger, *claims: Claim, who: Asker | None = None, now_ns: int = 0, **more) -> Lease:
    """Decides and applies; answers the lease."""
    event = ledger.decide_acquire(wish_for(*claims, who=who, **more), now_ns=now_ns, now_wall_ns=0)
    assert isinstance(event, Granted)
    ledger.apply(event)
    return event.lease


def release(ledger: Ledger, lease: Lease, **more) -> None:
    """Ends a lease politely."""
    event = ledger.decide_release(lease.id, asker(lease.session, uid=lease.holder.uid), **more)
    assert event is not None
    ledger.apply(event)


def kill(ledger: Ledger, session: str = "s1") -> None:
    """Ends a session's leases as its death does."""
    for event in ledger.decide_end_session(SessionId(session), "process died", is_violent=True):
        ledger.apply(event)


def reserve(
    ledger: Ledger,
    name: str,
    pool_name: str,
    ids: tuple[int, ...],
    *,
    at: tuple[str, ...] = (),
    owner_uid: int | None = None,
    content_hash: str = "",
    card_id: str = CARD,
    is_shared: bool = False,
) -> None:
    """Sets exactly these units aside."""
    state = ledger.cards[CardId(card_id)].pools[PoolName(pool_name)]
    units = units_of_ids(state, ids, resolve_sites(state, [SiteName(site) for site in at]))
    spec = ReservationSpec(name, content_hash, CardId(card_id), ((PoolName(pool_name), units),), owner_uid, is_shared)
    ledger.apply(ledger.decide_reserve(spec))


def reserve_claims(ledger: Ledger, name: str, *claims: Claim, who: Asker | None = None, **more) -> ReservationSpec:
    """Sets aside what the claims get, or finds it; answers what stands."""
    event = ledger.decide_reserve_claims(ReserveWish(name, claims, who or asker(), **more))
    if not isinstance(event, Reservation):
        ledger.apply(event)
    return event.spec


def refused(ledger: Ledger, kind: type[Exception], wish: ReserveWish, *, match: str | None = None) -> Exception:
    """The refusal to set aside what ``wish`` says, which changes nothing."""
    before = snapshot(ledger)
    with pytest.raises(kind, match=match) as found:
        ledger.decide_reserve_claims(wish)
    assert snapshot(ledger) == before
    return found.value


def gate(ledger: Ledger, *sites: str, card_id: str = CARD) -> None:
    """Turns the clocks of exactly these sites off."""
    ledger.apply(ledger.decide_gate(CardId(card_id), [SiteName(site) for site in sites]))


def spots(allotment: Allotment) -> Spots:
    """What an allotment holds: each site with its bits, in order."""
    by_site = allotment.units.by_site()
    return tuple((site, tuple(bit for run in runs for bit in range(run.start, run.stop))) for site, runs in by_site)


def ids(allotment: Allotment) -> list[int]:
    """The bits of an allotment from a pool with one site."""
    (only,) = spots(allotment)
    return list(only[1])


def bits_set(bitmap: UnitBitmap) -> set[tuple[int, int]]:
    """The (site, bit) pairs that are set, read from the raw bits."""
    return {(index % bitmap.site_count, index // bitmap.site_count) for index in bitmap.bits.search(1)}


def reserved(ledger: Ledger, name: str = "streams") -> set[tuple[int, int]]:
    """The reserved bits of a pool of the first card, as ``bits_set`` has them."""
    return bits_set(ledger.cards[CARD].pools[PoolName(name)].reserved)


def snapshot(books: Books) -> dict[str, object]:
    """Everything that outlives a decision, copied deep enough that no later change shows through."""
    pools = {}
    for one in books.cards.values():
        for name, state in one.pools.items():
            maps = (state.held, state.reserved, state.quarantined, state.blocked)
            runs = None if state.free_runs is None else list(state.free_runs)
            counters = (state.held_count, state.reserved_count, state.quarantined_count, state.free_count)
            pools[one.id, name] = ([m.bits.tobytes() for m in maps], runs, counters)
    return {
        "pools": pools,
        "sessions": dict(books.sessions),
        "leases": dict(books.leases),
        "revoking": dict(books.revoking),
        "quarantine": dict(books.quarantine),
        "reservations": {
            name: (kept.spec, {key: units.bits.tobytes() for key, units in kept.units.items()})
            for name, kept in books.reservations.items()
        },
        "gated": {one.id: one.gated_sites for one in books.cards.values()},
        "open sites": {
            (one.id, name): state.open_sites for one in books.cards.values() for name, state in one.pools.items()
        },
        "requests": {
            session: (dict(kept.answers), kept.forgotten_mark) for session, kept in books.requests._sessions.items()
        },
        "token": books.last_token,
        "revision": books.revision,
        "by session": {key: list(leases) for key, leases in books.leases_by_session.items()},
        "by pool": {key: list(leases) for key, leases in books.leases_by_pool.items() if leases},
    }


def restored(books: Books, kind: type[Ledger] = Ledger) -> Ledger:
    """Books made from nothing but a snapshot."""
    taken = take(books)
    fresh = kind(taken.head.cards)
    restore(fresh, taken.head, taken.parts)
    return fresh


def deadlines_of(books: Books) -> dict[str, int | None]:
    """The deadline of every live lease; they hold for one run only and are no part of a snapshot."""
    return {lease_id: books.deadlines.get(lease_id) for lease_id in books.leases}


def replayed(cards: tuple[CardSpec, ...], events: list[Event]) -> Ledger:
    """Books made from nothing but the events."""
    fresh = Ledger(cards)
    for event in events:
        fresh.apply(event)
    return fresh
