"""The engine's reservations: all or nothing, found again, replaced, behind who waits, told once they are safe."""

import asyncio

import pytest

from rm.core.claims import Claim, Common, FirstOf, Ids, Whole
from rm.core.errors import (
    InvalidRequest,
    NotOwner,
    PoolExhausted,
    ShuttingDown,
    StoreFull,
    UnitHeld,
)
from rm.core.events import Reserved, Unreserved
from rm.core.report import differences
from rm.core.reserving import ReserveWish
from rm.core.types import CardId
from rm.devices.backend import Fence
from support.books import NO_REQUEST, asker, bits_set, ids, pool
from support.daemon_parts import GatedStore, Parts, make_engine, run_async, settle, units

OWNER, STRANGER = asker("s1"), asker("s2", uid=1001)
ADMIN = asker("root", uid=0, is_admin=True)


def reserve(parts: Parts, name: str, *claims: Claim, who=OWNER, **more):
    return parts.engine.reservations.reserve(ReserveWish(name, claims, who, **more))


def reserved(parts: Parts, name: str = "u", card_id: str = "0") -> set[int]:
    return {unit for _, unit in bits_set(parts.pool(name, card_id).reserved)}


@run_async
async def test_what_is_set_aside_is_left_alone_by_plain_claims_and_taken_by_name() -> None:
    parts = make_engine(pool("u", 4), pool("v", 2))
    kept, existed = reserve(parts, "r", units(2), units(1, "v"), content_hash="h")
    assert (kept.spec.name, kept.spec.owner_uid, existed) == ("r", 1000, False)
    assert parts.held() == set()
    plain = await parts.acquire(units(2))
    assert ids(plain.allotments[0]) == [2, 3]
    with pytest.raises(PoolExhausted):
        await parts.acquire(units(1))
    named = await parts.acquire(Whole("u", "r"), Whole("v", "h"))
    assert [ids(one) for one in named.allotments] == [[0, 1], [0]]
    await parts.engine.release(named.id, OWNER)
    assert (reserved(parts), reserved(parts, "v"), parts.held()) == ({0, 1}, {0}, {2, 3})
    assert differences(parts.ledger) == []


@pytest.mark.parametrize(
    "claims",
    [
        (units(2), units(3, "v")),
        (units(2), Ids("v", (5,))),
        (units(2), units(1, "nonsense")),
        (units(5),),
        (),
        (units(1, reservation="other"),),
        (FirstOf((units(5), units(3, "v"))),),
    ],
)
@run_async
async def test_all_is_set_aside_or_nothing(claims) -> None:
    parts = make_engine(pool("u", 4), pool("v", 2))
    revision = parts.ledger.revision
    with pytest.raises(InvalidRequest):
        reserve(parts, "r", *claims)
    assert (reserved(parts), reserved(parts, "v"), parts.ledger.revision) == (set(), set(), revision)
    assert parts.failures == []


@run_async
async def test_the_same_content_again_is_found_and_changes_nothing() -> None:
    parts = make_engine(pool("u", 4))
    first, _ = reserve(parts, "r", units(2), content_hash="h")
    revision = parts.ledger.revision
    assert reserve(parts, "other name", units(2), content_hash="h") == (first, True)
    assert parts.ledger.revision == revision
    theirs, existed = reserve(parts, "theirs", units(2), content_hash="h", who=STRANGER)
    assert (theirs.spec.name, existed, reserved(parts)) == ("theirs", False, {0, 1, 2, 3})


@run_async
async def test_a_conflict_names_the_units_and_who_has_them() -> None:
    parts = make_engine(pool("u", 4))
    lease = await parts.acquire(Ids("u", (1,)), label="ocr")
    reserve(parts, "r", Ids("u", (2,)))
    with pytest.raises(UnitHeld, match=r"unit 1 of pool u .* is held; held by L1 'ocr'") as held:
        reserve(parts, "x", Ids("u", (0, 1)))
    assert [holder["lease"] for holder in held.value.facts["holders"]] == [lease.id]
    with pytest.raises(UnitHeld, match=r"unit 2 of pool u .* is reserved by r of uid 1000") as taken:
        reserve(parts, "x", Ids("u", (2, 3)))
    assert taken.value.facts["reservations"] == "r of uid 1000"
    with pytest.raises(PoolExhausted, match="has 2 units free") as few:
        reserve(parts, "x", units(3))
    assert few.value.facts["free_count"] == 2
    with pytest.raises(InvalidRequest, match="there, for something else"):
        reserve(parts, "r", units(1), content_hash="h")


# Who waits.


@run_async
async def test_who_waits_goes_first_and_is_named() -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    await parts.acquire(units(3))
    await parts.waiter(units(2), session="s2", label="trainer")
    with pytest.raises(PoolExhausted, match=r"1 waiting in front for u.*'trainer'.*try again") as refused:
        reserve(parts, "r", units(1))
    assert (refused.value.facts["waiter_count"], refused.value.facts["waiter_pid"]) == (1, 100)
    with pytest.raises(InvalidRequest, match="never"):  # no queue is to blame for what can never be
        reserve(parts, "r", units(5))
    reserve(parts, "beside", units(1, "v"))
    assert (reserved(parts), reserved(parts, "v")) == (set(), {0})


@run_async
async def test_what_is_there_is_found_behind_any_queue() -> None:
    parts = make_engine(pool("u", 4))
    first, _ = reserve(parts, "r", units(1), content_hash="h")
    await parts.acquire(units(3))
    await parts.waiter(units(2), session="s2")
    assert reserve(parts, "r", units(1), content_hash="h") == (first, True)


@run_async
async def test_where_somebody_waits_on_one_card_another_is_taken() -> None:
    parts = make_engine(pool("u", 4), card_count=2)
    await parts.acquire(units(3), card_id="0")
    await parts.waiter(units(2), session="s2", card_id="0")
    kept, _ = reserve(parts, "r", units(1))
    assert (kept.spec.card, reserved(parts, card_id="0"), reserved(parts, card_id="1")) == ("1", set(), {0})
    with pytest.raises(PoolExhausted, match="waiting in front"):
        reserve(parts, "x", units(1), card=CardId("0"))
    await parts.acquire(units(3), card_id="1")
    with pytest.raises(PoolExhausted, match="waiting in front"):  # card 0 would do, but for the queue
        reserve(parts, "x", units(1))


@pytest.mark.parametrize("way", ["unreserve", "replace", "to pool", "give back to pool", "replace by another pool"])
@run_async
async def test_units_that_leave_a_reservation_serve_who_waits(way) -> None:
    parts = make_engine(pool("u", 4), pool("v", 4))
    reserve(parts, "r", units(4), content_hash="h")
    lease = await parts.acquire(Whole("u", "r")) if "to pool" in way else None
    waiting = await parts.waiter(units(1), session="s2")
    match way:
        case "unreserve":
            await parts.engine.reservations.unreserve("r", OWNER)
        case "replace":
            with pytest.raises(PoolExhausted, match="waiting in front"):
                reserve(parts, "r", units(2), replaces=True)
            await parts.engine.reservations.unreserve("r", OWNER)
        case "replace by another pool":
            reserve(parts, "r", units(1, "v"), content_hash="h2", replaces=True)
            assert reserved(parts, "v") == {0}
        case "to pool":
            await parts.engine.release(lease.id, OWNER, to_pool=True)
        case _:
            await parts.engine.give_back(lease.id, OWNER, NO_REQUEST, pool="u", ids=[0], to_pool=True)
    assert ids((await waiting).allotments[0]) == [0]
    assert differences(parts.ledger) == []


@run_async
async def test_a_waiter_for_a_reservation_is_served_when_its_holder_dies_and_the_card_is_quiet() -> None:
    parts = make_engine(pool("u", 4))
    reserve(parts, "r", units(2))
    await parts.acquire(Whole("u", "r"))
    plain = await parts.waiter(units(3), session="s2")
    again = await parts.waiter(Whole("u", "r"), session="s3")
    parts.backend.fence_answer = Fence.SOON
    parts.engine.end_session("s1", "process died", is_violent=True)
    await settle()
    assert not plain.done()
    assert not again.done()
    with pytest.raises(UnitHeld, match="are in use"):
        await parts.engine.reservations.unreserve("r", OWNER)
    parts.backend.on_quiet["L1"]()
    await settle()
    assert not again.done(), "who came first waits for units of the same pool"
    plain.cancel()
    assert ids((await again).allotments[0]) == [0, 1]


@run_async
async def test_a_waiter_for_a_reservation_that_is_taken_away_is_told_so() -> None:
    parts = make_engine(pool("u", 4))
    reserve(parts, "r", units(1))
    lease = await parts.acquire(Whole("u", "r"))
    waiting = await parts.waiter(Whole("u", "r"), session="s2")
    await parts.engine.release(lease.id, OWNER, to_pool=True)
    with pytest.raises(InvalidRequest, match="has no units of pool u"):
        await waiting
    assert len(parts.engine.waitlist) == 0


# Whose it is.


@run_async
async def test_a_reservation_is_its_owner_s_and_a_shared_one_is_everybody_s_to_use() -> None:
    parts = make_engine(pool("u", 4))
    engine = parts.engine
    reserve(parts, "r", Ids("u", (0,)))
    with pytest.raises(NotOwner, match="belongs to uid 1000"):
        await engine.reservations.unreserve("r", STRANGER)
    with pytest.raises(NotOwner):
        reserve(parts, "r", units(1), who=STRANGER, replaces=True)
    reserve(parts, "shared", Ids("u", (1,)), is_shared=True)
    with pytest.raises(NotOwner):
        await engine.reservations.unreserve("shared", STRANGER)
    assert reserved(parts) == {0, 1}
    await engine.reservations.unreserve("r", ADMIN)
    await engine.reservations.unreserve("shared", OWNER)
    assert reserved(parts) == set()
    with pytest.raises(InvalidRequest, match="there is no reservation 'r'"):
        await engine.reservations.unreserve("r", OWNER)


# When it is told.


@run_async
async def test_nothing_is_told_before_it_is_on_disk() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    reserve(parts, "r", units(1))
    assert parts.engine.log.past(9) == []
    synced = asyncio.create_task(parts.engine.synced())
    unreserved = asyncio.create_task(parts.engine.reservations.unreserve("r", OWNER))
    gone = asyncio.create_task(parts.engine.reservations.unreserve("r", OWNER))
    await settle()
    assert [synced.done(), unreserved.done(), parts.engine.log.past(9)] == [False, False, []]
    assert store.kinds == ["Reserved", "Unreserved"]
    with pytest.raises(InvalidRequest):  # the door holds refusals back: see the servicer
        await gone
    store.sync()
    await unreserved
    assert await synced == 1
    assert [(one.kind, one.text) for one in parts.engine.log.past(9)] == [
        ("reserved", "r was reserved"),
        ("unreserved", "r is no longer reserved"),
    ]


@run_async
async def test_a_caller_that_gives_up_takes_nothing_back() -> None:
    store = GatedStore()
    parts = make_engine(pool("u", 4), store=store)
    reserve(parts, "r", units(1))
    unreserved = asyncio.create_task(parts.engine.reservations.unreserve("r", OWNER))
    await settle()
    unreserved.cancel()
    store.sync()
    assert [type(event) for _, event in store.events] == [Reserved, Unreserved]
    assert (reserved(parts), parts.failures) == (set(), [])


@run_async
async def test_on_a_full_disk_nothing_is_set_aside_what_is_there_is_found_and_can_be_taken_away() -> None:
    store = GatedStore(is_held=False)
    parts = make_engine(pool("u", 4, sites=("a", "b")), store=store)
    claim = units(1, at=("a",))
    first, _ = reserve(parts, "r", claim, content_hash="h")
    store.full_because = "the disk is full"
    for more in ({"name": "x", "content_hash": "h2"}, {"name": "r", "content_hash": "h2", "replaces": True}):
        with pytest.raises(StoreFull, match="the disk is full"):
            reserve(parts, more.pop("name"), claim, **more)
    with pytest.raises(StoreFull):
        await parts.engine.reservations.gate(CardId("0"), ["b"], ADMIN)
    await parts.engine.reservations.gate(CardId("0"), [], ADMIN)  # as it is
    assert reserve(parts, "r", claim, content_hash="h") == (first, True)
    await parts.engine.reservations.unreserve("r", OWNER)
    assert store.kinds == ["Reserved", "Unreserved"]
    store.has_room()
    assert reserve(parts, "x", claim)[1] is False


@run_async
async def test_a_daemon_that_stops_changes_no_reservation() -> None:
    parts = make_engine(pool("u", 4))
    reserve(parts, "r", units(1))
    parts.engine.stop()
    with pytest.raises(ShuttingDown):
        reserve(parts, "x", units(1))
    with pytest.raises(ShuttingDown):
        await parts.engine.reservations.unreserve("r", OWNER)
    with pytest.raises(ShuttingDown):
        await parts.engine.reservations.gate(CardId("0"), [], ADMIN)
    assert reserved(parts) == {0}


# Clocks.


@run_async
async def test_gating_is_an_admin_s_and_refused_where_somebody_holds_units() -> None:
    parts = make_engine(pool("u", 2, sites=("a", "b")))
    lease = await parts.acquire(units(1, at=("a",)), label="fir")
    gate = parts.engine.reservations.gate
    with pytest.raises(NotOwner, match="not uid 1000"):
        await gate(CardId("0"), ["b"], OWNER)
    with pytest.raises(UnitHeld, match="at site a are held") as refused:
        await gate(CardId("0"), ["a", "b"], ADMIN)
    assert [holder["lease"] for holder in refused.value.facts["holders"]] == [lease.id]
    for card, sites in (("0", ["c"]), ("7", ["a"])):
        with pytest.raises(InvalidRequest):
            await gate(CardId(card), sites, ADMIN)
    assert parts.ledger.cards["0"].gated_sites == ()
    await gate(CardId("0"), ["b", "b"], ADMIN)
    revision = parts.ledger.revision
    await gate(CardId("0"), ["b"], ADMIN)
    assert (parts.ledger.cards["0"].gated_sites, parts.ledger.revision) == (("b",), revision)
    with pytest.raises(InvalidRequest, match="clock-gated"):
        await parts.acquire(units(1, at=("b",)))
    await gate(CardId("0"), [], ADMIN)
    assert [one.text for one in parts.engine.log.past(2)] == [
        "the clocks of 1 sites of card 0 are off",
        "the clocks of all sites of card 0 run",
    ]


@run_async
async def test_a_waiter_whose_sites_are_gated_is_told_so_and_those_behind_it_are_served() -> None:
    parts = make_engine(pool("u", 1, sites=("a", "b")))
    await parts.acquire(units(1, at=("a",)))
    gated = await parts.waiter(units(1, at=("a", "b")), session="s2")
    behind = await parts.waiter(units(1, at=("a",)), session="s3")
    await parts.engine.reservations.gate(CardId("0"), ["b"], ADMIN)
    with pytest.raises(InvalidRequest, match="site b of pool u is clock-gated"):
        await gated
    assert not behind.done()
    await parts.engine.release("L1", OWNER)
    assert (await behind).token == 2


@run_async
async def test_gating_serves_who_waits_for_all_sites_that_are_left() -> None:
    parts = make_engine(pool("u", 1, sites=("a", "b", "c")))
    await parts.acquire(units(1, at=("a",)))
    waiting = await parts.waiter(Common("u"), session="s2")
    parts.backend.fence_answer = Fence.SOON
    parts.engine.end_session("s1", "process died", is_violent=True)
    await settle()
    assert not waiting.done()
    await parts.engine.reservations.gate(CardId("0"), ["a"], ADMIN)  # nobody holds it; it is not proven quiet yet
    assert (await waiting).allotments[0].units.sites == (1, 2)
    parts.backend.on_quiet["L1"]()
    await settle()
    assert differences(parts.ledger) == []
