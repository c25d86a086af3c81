"""What a daemon takes up from the one before it: the living keep what they have, the dead leave nothing behind."""

import asyncio

import pytest

from rm.core import limits
from rm.core.card import CardSpec
from rm.core.errors import LeaseGone
from rm.core.events import Started
from rm.core.report import differences
from rm.core.reservation import ReservationSpec
from rm.core.types import NS_PER_S, CardId, PoolName, UnitRange, UnitSet
from rm.devices.backend import Fence
from rm.service.restart import CardsDiffer, Resumed, resume
from rm.service.server import SESSION_SOCKET, Server
from support.books import asker, card, deadlines_of, pool, record, restored
from support.daemon_parts import CountingLedger, GatedStore, Parts, make_engine, run_async, settle, units

BOOT = "this boot"
TTL_NS = 10 * NS_PER_S
TWO_CARDS = (card(pool("u", 4)), card(pool("u", 4), card_id="1"))


def nobody_asks(session) -> bool:
    raise AssertionError(f"{session.id} cannot live: the host was booted")


def started(cards: tuple[CardSpec, ...] = TWO_CARDS) -> Parts:
    """A daemon on an empty state, with sessions s1 and s2 open."""
    parts = make_engine(cards=cards, store=GatedStore(is_held=False))
    resume(parts.engine, boot_id=BOOT, is_alive=nobody_asks)
    for session in ("s1", "s2"):
        parts.engine.open_session(record(session))
    return parts


def begun_again(before: Parts, cards: tuple[CardSpec, ...] = TWO_CARDS) -> Parts:
    """The next daemon, with the books that the store of the one before made, before it resumes."""
    ledger = restored(before.ledger, CountingLedger)
    return make_engine(cards=cards, ledger=ledger, store=GatedStore(ledger.revision, is_held=False))


def resumed(parts: Parts, *living: str, boot_id: str = BOOT) -> Resumed:
    found = resume(parts.engine, boot_id=boot_id, is_alive=lambda session: session.id in living)
    assert differences(parts.ledger) == []
    assert parts.failures == []
    return found


# Starting.


@run_async
async def test_the_first_daemon_on_a_state_begins_it() -> None:
    parts = make_engine(cards=TWO_CARDS, store=GatedStore(is_held=False))
    assert resumed(parts) == Resumed(epoch=1, live_session_count=0, dead_session_count=0, lease_count=0)
    assert parts.engine.store.events == [(1, Started(1, BOOT, TWO_CARDS, parts.backend.incarnations))]
    assert parts.engine.log.past(1)[0].kind == "started"


@run_async
async def test_every_start_has_an_epoch_of_its_own_and_tokens_go_on() -> None:
    parts = started()
    for epoch in range(2, 5):
        lease = await parts.acquire(units(1))
        assert lease.token == epoch - 1
        parts = begun_again(parts)
        assert resumed(parts, "s1", "s2").epoch == epoch


@run_async
async def test_nobody_is_served_before_the_new_epoch_is_safe(tmp_path) -> None:
    store = GatedStore()
    parts = make_engine(cards=TWO_CARDS, store=store)
    server = Server(parts.engine, admin_uids=frozenset())
    starting = asyncio.create_task(server.start(tmp_path))
    await settle()
    assert (starting.done(), store.kinds, (tmp_path / SESSION_SOCKET).exists()) == (False, ["Started"], False)
    store.is_held = False
    store.sync()
    await starting
    assert (tmp_path / SESSION_SOCKET).exists()
    await server.stop()


# The living and the dead.


@run_async
async def test_the_living_keep_their_leases_and_have_time_to_come_back() -> None:
    before = started()
    lease = await before.acquire(units(2), ttl_ns=TTL_NS, request_id=1)
    endless = await before.acquire(units(1))
    parts = begun_again(before)
    assert resumed(parts, "s1", "s2") == Resumed(2, 2, 0, 2)
    assert (parts.ledger.leases, parts.held()) == ({lease.id: lease, endless.id: endless}, {0, 1, 2})
    assert parts.backend.adopted == [lease.id, endless.id]
    until_ns = parts.clock.now_ns + TTL_NS + limits.RESTART_GRACE_NS
    assert deadlines_of(parts.ledger) == {lease.id: until_ns, endless.id: None}
    assert await parts.acquire(units(2), ttl_ns=TTL_NS, request_id=1) == lease
    assert await parts.engine.release(lease.id, asker("s1"))


@run_async
async def test_the_dead_are_ended_and_fenced_and_their_units_serve_others_at_once() -> None:
    before = started()
    dead = await before.acquire(units(4), session="s2", request_id=1)
    kept = await before.acquire(units(1))
    parts = begun_again(before)
    assert resumed(parts, "s1") == Resumed(2, 1, 1, 1)
    assert (list(parts.ledger.leases), list(parts.ledger.sessions)) == ([kept.id], ["s1"])
    assert parts.backend.fenced == [(dead.id, True)]
    assert parts.engine.store.kinds == ["LeaseEnded", "UnitsQuiet", "SessionForgotten", "Started"]
    assert parts.engine.store.events[0][1].cause == "process died"
    assert (await parts.acquire(units(4))).card == "0"


@run_async
async def test_units_of_the_dead_that_are_out_of_reach_stay_in_quarantine_until_they_are_quiet() -> None:
    before = started()
    dead = await before.acquire(units(3), session="s2")
    parts = begun_again(before)
    parts.backend.fence_answer = Fence.OUT_OF_REACH
    resumed(parts, "s1")
    assert (parts.held(), parts.quarantined(), parts.out_of_reach) == (set(), {0, 1, 2}, [])
    parts.backend.on_quiet[dead.id]()
    await settle()
    assert parts.quarantined() == set()


@run_async
async def test_after_a_boot_of_the_host_everybody_is_dead_whatever_their_pids_say() -> None:
    before = started()
    lease = await before.acquire(units(1), ttl_ns=TTL_NS)
    parts = begun_again(before)
    found = resume(parts.engine, boot_id="the next boot", is_alive=nobody_asks)
    assert (found.dead_session_count, parts.ledger.leases, parts.ledger.sessions) == (2, {}, {})
    assert parts.engine.store.events[0][1].cause == "the host was booted"
    assert parts.backend.fenced == [(lease.id, True)]
    assert parts.ledger.boot_id == "the next boot"


@run_async
async def test_a_card_that_was_reset_ends_its_leases_and_no_others() -> None:
    before = started()
    await before.acquire(units(1), request_id=1)
    kept = await before.acquire(units(1), card_id="1")
    parts = begun_again(before)
    parts.backend.incarnations = (("0", "reset since"), ("1", "never reset"))
    assert resumed(parts, "s1", "s2").lease_count == 1
    assert (list(parts.ledger.leases), parts.backend.adopted) == ([kept.id], [kept.id])
    assert parts.engine.store.events[0][1].cause == "the card was reset"
    assert parts.quarantined() == set(), "nothing is left of it on the card"
    assert list(parts.ledger.sessions) == ["s1", "s2"]
    with pytest.raises(LeaseGone):
        await parts.acquire(units(1), request_id=1)


# What was under way.


@run_async
async def test_a_lease_that_was_told_to_end_has_its_notice_again_and_then_ends() -> None:
    before = started()
    lease = await before.acquire(units(1), ttl_ns=TTL_NS)
    await before.engine.revoke(lease.id, asker("root", uid=0, is_admin=True), "asked to", notice_ns=3 * NS_PER_S)
    before.clock.advance(s=2)
    parts = begun_again(before)
    resumed(parts, "s1")
    assert deadlines_of(parts.ledger) == {lease.id: parts.clock.now_ns + 3 * NS_PER_S}
    assert parts.engine.keep_alive("s1", [lease.id]) == (lease.id,)
    parts.clock.advance(s=3)
    parts.engine.tick()
    assert parts.losses == [("s1", lease.id, "asked to")]


@run_async
async def test_who_said_goodbye_over_a_quarantine_is_not_fenced_as_if_it_were_dead() -> None:
    before = started()
    before.backend.fence_answer = Fence.SOON
    lease = await before.acquire(units(2), session="s2", ttl_ns=TTL_NS)
    before.clock.advance(ns=TTL_NS)
    before.overdue()
    before.engine.end_session("s2", "session closed", is_violent=False)
    parts = begun_again(before)
    resumed(parts, "s1")
    assert parts.backend.fenced == [(lease.id, False)]


@pytest.mark.parametrize(("living", "is_holder_dead"), [(("s1", "s2"), False), (("s1",), True)])
@run_async
async def test_what_was_in_quarantine_is_fenced_again(living, is_holder_dead) -> None:
    before = started()
    before.backend.fence_answer = Fence.SOON
    lease = await before.acquire(units(2), session="s2", ttl_ns=TTL_NS)
    before.clock.advance(ns=TTL_NS)
    before.overdue()
    assert before.quarantined() == {0, 1}
    parts = begun_again(before)
    parts.backend.fence_answer = Fence.OUT_OF_REACH
    resumed(parts, *living)
    assert (parts.backend.adopted, parts.backend.fenced) == ([lease.id], [(lease.id, is_holder_dead)])
    assert parts.quarantined() == {0, 1}
    assert parts.out_of_reach == ([] if is_holder_dead else [lease.id])
    again = begun_again(parts)
    resumed(again, *living)
    assert (again.quarantined(), again.engine.store.kinds[-2:]) == (set(), ["UnitsQuiet", "Started"])


# Other cards.

ONE_CARD = TWO_CARDS[:1]


@run_async
async def test_cards_may_change_while_nothing_of_them_is_in_use() -> None:
    before = started()
    lease = await before.acquire(units(1))
    await before.engine.release(lease.id, asker("s1"))
    parts = begun_again(before, ONE_CARD)
    assert resumed(parts, "s1").epoch == 2
    assert list(parts.ledger.cards) == ["0"]
    assert (await parts.acquire(units(4))).token == 2


@run_async
async def test_cards_may_change_when_all_who_used_them_are_dead() -> None:
    before = started()
    await before.acquire(units(1))
    parts = begun_again(before, ONE_CARD)
    resumed(parts)
    assert list(parts.ledger.cards) == ["0"]


@run_async
async def test_after_a_boot_of_the_host_a_card_that_is_gone_keeps_nobody_from_starting() -> None:
    before = started()
    await before.acquire(units(1), card_id="1")
    parts = begun_again(before, ONE_CARD)
    parts.backend.incarnations = (("0", "reset by the boot"),)
    parts.backend.fence = only_what_was_adopted(parts.backend)
    resumed(parts, boot_id="the next boot")
    assert (list(parts.ledger.cards), parts.ledger.quarantine) == (["0"], {})


def only_what_was_adopted(backend):
    """A card that can fence a lease of before only where it need not: as one whose windows did not come back."""

    def fence(lease, on_quiet, *, is_holder_dead):
        return Fence.OUT_OF_REACH if lease.id in backend.adopted else Fence.QUIET

    return fence


@run_async
async def test_a_card_more_is_no_reset_of_those_that_were_there() -> None:
    before = started(ONE_CARD)
    parts = begun_again(before)
    resumed(parts, "s1", "s2")
    assert list(parts.ledger.cards) == ["0", "1"]
    lease = await parts.acquire(units(1), card_id="1")
    again = begun_again(parts)
    resumed(again, "s1", "s2")
    assert list(again.ledger.leases) == [lease.id]


async def live_lease(parts: Parts) -> None:
    await parts.acquire(units(1), session="s2")


async def reservation(parts: Parts) -> None:
    spec = ReservationSpec("mine", "", CardId("0"), ((PoolName("u"), UnitSet((0,), ((UnitRange(3, 4),),))),), None)
    parts.engine.commits.commit(parts.ledger.decide_reserve(spec))


async def quarantined_lease(parts: Parts) -> None:
    parts.backend.fence_answer = Fence.OUT_OF_REACH
    await parts.acquire(units(1), session="s3")
    parts.engine.end_session("s3", "process died", is_violent=True)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (live_lease, "1 leases"),
        (reservation, "1 reservations"),
        (quarantined_lease, "1 ended leases in quarantine"),
    ],
)
@run_async
async def test_other_cards_than_those_in_use_are_refused_and_nothing_durable_changes(use, said) -> None:
    before = started()
    await use(before)
    await before.acquire(units(1))  # of s1, who is dead by now
    parts = begun_again(before, ONE_CARD)
    parts.backend.fence_answer = Fence.OUT_OF_REACH
    with pytest.raises(CardsDiffer, match=said) as refused:
        resume(parts.engine, boot_id=BOOT, is_alive=lambda session: session.id == "s2")
    assert "2 x test: u 4" in str(refused.value)
    assert "1 x test: u 4" in str(refused.value)
    assert parts.engine.store.events == []
    with_the_cards_of_before = begun_again(before)
    resumed(with_the_cards_of_before, "s2")
