"""Units that the system itself keeps: seen by all, claimed by nobody, there again after a restart and a reset."""

from dataclasses import replace

import pytest

from rm.core.claims import Ids, Wish
from rm.core.errors import InvalidRequest, NotOwner, UnitHeld
from rm.core.profile import SystemUnits
from rm.core.report import differences
from rm.core.types import CardId
from rm.devices.profiles import load_profile
from rm.service import system
from rm.service.restart import resume
from support.books import asker, bits_set, card, pool, record, restored
from support.daemon_parts import CountingLedger, GatedStore, Parts, make_engine, run_async, settle, units

BOOT = "this boot"
SITES = ("0,0,pl", "0,1,mem", "0,1,core")
CHANNELS, COUNTERS = pool("ch", 8, sites=SITES), pool("perf", 4, sites=SITES)
SYSTEM = {
    "ecc": (SystemUnits("ch", (6,)), SystemUnits("perf", (0,), ("core",))),
    "errors": (SystemUnits("ch", (0, 1), ("pl",)), SystemUnits("ch", (0,), ("mem", "core"))),
    "core only": (SystemUnits("perf", (3,), ("core",)),),
}
CARDS = tuple(card(CHANNELS, COUNTERS, card_id=str(index)) for index in range(2))
ADMIN = asker("root", uid=0, is_admin=True)


def started(*names: str, ledger: CountingLedger | None = None) -> Parts:
    """A daemon that is told to keep these, on an empty state or on that of another."""
    parts = make_engine(
        cards=CARDS, ledger=ledger, store=GatedStore(0 if ledger is None else ledger.revision, is_held=False)
    )
    resume(parts.engine, boot_id=BOOT, is_alive=lambda session: True)
    keep(parts, *names)
    return parts


def keep(parts: Parts, *names: str) -> None:
    system.keep(parts.engine, SYSTEM, names, uid=33)
    assert differences(parts.ledger) == []
    assert parts.failures == []


def begun_again(before: Parts, *names: str) -> Parts:
    return started(*names, ledger=restored(before.ledger, CountingLedger))


def leases(parts: Parts) -> dict[tuple[str, str], str]:
    return {(lease.card, lease.label): lease.id for lease in parts.ledger.leases.values()}


def held(parts: Parts, name: str) -> set[tuple[int, int]]:
    return bits_set(parts.pool(name).held)


ECC = {("0", "system:ecc"): "L1", ("1", "system:ecc"): "L2"}


@run_async
async def test_each_card_gets_a_lease_a_name_which_says_whose_it_is_and_has_no_clock() -> None:
    parts = started("ecc", "errors")
    assert sorted(leases(parts)) == [
        (one, f"system:{name}") for one in ("0", "1") for name in ("ecc", "errors")
    ]  # fmt: skip
    assert held(parts, "perf") == {(2, 0)}
    assert held(parts, "ch") == {(0, 6), (1, 6), (2, 6), (0, 0), (0, 1), (1, 0), (2, 0)}
    for lease in parts.ledger.leases.values():
        assert (lease.holder.pid, lease.holder.uid, lease.ttl_ns, lease.session) == (0, 33, None, system.SESSION)
    with pytest.raises(UnitHeld, match="held by L1 'system:ecc'"):
        await parts.acquire(Ids("ch", (6,), ("0,0,pl",)))
    granted = await parts.acquire(units(6, "ch", at=("0,1,mem",)))
    assert granted.allotments[0].units.unit_count == 6


@run_async
async def test_what_is_kept_stays_over_a_restart_and_its_leases_stay_the_same() -> None:
    before = started("ecc")
    assert leases(before) == ECC
    after = begun_again(before, "ecc")
    assert leases(after) == ECC
    assert "Granted" not in after.engine.store.kinds
    more = begun_again(after, "ecc", "errors")
    assert {key: value for key, value in leases(more).items() if "ecc" in key[1]} == ECC
    assert len(leases(more)) == 4


@run_async
async def test_what_is_no_longer_asked_for_is_given_back() -> None:
    before = started("ecc", "errors")
    after = begun_again(before, "errors")
    assert {label for _, label in leases(after)} == {"system:errors"}
    assert held(after, "perf") == set()
    assert [type(event).__name__ for _, event in after.engine.store.events if hasattr(event, "cause")] == [
        "LeaseEnded",
        "LeaseEnded",
    ]
    assert leases(begun_again(after)) == {}


@run_async
async def test_it_is_taken_anew_after_the_card_was_reset() -> None:
    before = started("ecc")
    ledger = restored(before.ledger, CountingLedger)
    after = make_engine(cards=CARDS, ledger=ledger, store=GatedStore(ledger.revision, is_held=False))
    after.backend.incarnations = ((CardId("0"), "reset"), (CardId("1"), "never reset"))
    resume(after.engine, boot_id=BOOT, is_alive=lambda session: True)
    assert set(leases(after)) == {("1", "system:ecc")}
    keep(after, "ecc")
    assert leases(after) == {("0", "system:ecc"): "L3", ("1", "system:ecc"): "L2"}
    assert held(after, "perf") == {(2, 0)}


@run_async
async def test_an_unknown_name_is_refused_with_what_there_is_and_changes_nothing() -> None:
    before = started("ecc")
    ledger = restored(before.ledger, CountingLedger)
    after = make_engine(cards=CARDS, ledger=ledger, store=GatedStore(ledger.revision, is_held=False))
    resume(after.engine, boot_id=BOOT, is_alive=lambda session: True)
    revision = ledger.revision
    for names in (["ec"], ["errors", "ec"]):
        with pytest.raises(InvalidRequest, match="no system units 'ec'; it has ecc, errors, core only"):
            system.keep(after.engine, SYSTEM, names, uid=33)
    assert (leases(after), ledger.revision) == (ECC, revision)
    with pytest.raises(InvalidRequest, match="it has none"):
        system.keep(after.engine, {}, ["ecc"], uid=33)


@run_async
async def test_what_somebody_holds_is_refused_and_its_holder_is_named() -> None:
    before = started()
    before.engine.open_session(record("s1"))
    await before.acquire(Ids("ch", (6,), ("0,1,mem",)), label="fir", card_id="0")
    ledger = restored(before.ledger, CountingLedger)
    after = make_engine(cards=CARDS, ledger=ledger, store=GatedStore(ledger.revision, is_held=False))
    resume(after.engine, boot_id=BOOT, is_alive=lambda session: True)
    with pytest.raises(UnitHeld, match=r"unit 6 at 0,1,mem of pool ch of card 0 is held; held by L1 'fir'"):
        system.keep(after.engine, SYSTEM, ["ecc"], uid=33)
    assert [lease.label for lease in after.ledger.leases.values()] == ["fir"]
    assert (after.failures, differences(ledger)) == ([], [])


@run_async
async def test_sites_whose_clock_is_off_are_left_out_and_where_all_are_nothing_is_kept() -> None:
    before = started()
    for one in CARDS:
        await before.engine.reservations.gate(one.id, ["0,1,mem", "0,1,core"], ADMIN)
    after = begun_again(before, "ecc", "core only")
    assert {label for _, label in leases(after)} == {"system:ecc"}
    assert held(after, "ch") == {(0, 6)}


@run_async
async def test_a_site_at_which_only_the_system_holds_units_can_be_gated_and_stays_the_system_s() -> None:
    parts = started("ecc")
    parts.engine.open_session(record("s1", pid=0))  # the kernel names no process of a pid namespace it does not see
    unnamed = replace(asker("s1"), holder=replace(asker("s1").holder, pid=0))
    lease = await parts.engine.acquire(Wish(unnamed, (units(1, "ch", at=("0,1,mem",)),), card=CardId("0")))
    gate = parts.engine.reservations.gate
    with pytest.raises(UnitHeld, match=f"at site 0,1,mem are held: its clock must run; held by {lease.id} "):
        await gate(CardId("0"), ["0,0,pl", "0,1,mem"], ADMIN)
    await gate(CardId("0"), ["0,0,pl", "0,1,core"], ADMIN)
    assert held(parts, "ch") == {(0, 6), (1, 6), (2, 6), (1, 0)}
    assert differences(parts.ledger) == []
    await parts.engine.release(lease.id, unnamed)
    after = begun_again(parts, "ecc")
    assert leases(after) == ECC
    assert after.ledger.cards["0"].gated_sites == ("0,0,pl", "0,1,core")
    assert held(after, "ch") == {(0, 6), (1, 6), (2, 6)}


@run_async
async def test_it_is_nobody_s_to_end_but_an_admin_s_and_comes_back_at_the_next_start() -> None:
    parts = started("ecc")
    with pytest.raises(NotOwner):
        await parts.engine.release("L1", asker("s1"))
    with pytest.raises(NotOwner):
        await parts.engine.revoke("L1", asker("s1"), "mine", notice_ns=0)
    assert await parts.engine.revoke("L1", ADMIN, "needed", notice_ns=0)
    parts.engine.tick()
    await settle()
    assert leases(parts) == {("1", "system:ecc"): "L2"}
    assert (held(parts, "perf"), parts.ledger.quarantine, parts.failures) == (set(), {}, [])
    assert leases(begun_again(parts, "ecc")) == {("0", "system:ecc"): "L3", ("1", "system:ecc"): "L2"}


@pytest.mark.parametrize(("profile", "name"), [(one, name) for one in ("aie", "aie-ml", "aie2ipu") for name in
                                               ("ecc", "error-broadcast")])  # fmt: skip
@run_async
async def test_every_set_that_ships_can_be_kept_on_a_small_array(profile, name) -> None:
    loaded = load_profile(f"{profile}:2x4")
    one = loaded.card(CardId("0"), backend="fake", memory_bytes=0, cpus=())
    parts = make_engine(cards=(one,), store=GatedStore(is_held=False))
    system.keep(parts.engine, loaded.system, [name], uid=33)
    (lease,) = parts.ledger.leases.values()
    assert lease.label == f"system:{name}"
    assert differences(parts.ledger) == []
