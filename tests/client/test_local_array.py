"""The AI Engine manager in process: units one by one, files, clocks, what the system keeps, a reset, many threads."""

import threading

import pytest

import leasehold
from leasehold import Common, Exhausted, Held, Ids, Invalid, Units
from leasehold.local import Manager

CORE, MEM, SHIM = (0, 1, "core"), (0, 1, "mem"), (0, 0, "pl")
CHANNELS = "bcast_channel"


def is_untouched(manager: Manager) -> bool:
    return all(pool.free == pool.total for pool in manager.cards()[0].pools) and manager.check() == []


def test_units_got_one_by_one_are_leases_like_others() -> None:
    manager = Manager("aie:2x3")
    manager.request("perfcnt", [CORE, CORE, MEM])
    lease = manager.acquire(Units("perfcnt", 1, at=[CORE]))
    assert lease.units("perfcnt") == (2,)
    manager.free("perfcnt", CORE, 2)  # whoever has the manager frees what anybody got
    assert [one.id for one in manager.leases()] == ["L1"]
    manager.release("L1")
    for tile, unit in ((CORE, 0), (CORE, 2), (MEM, 0)):
        with pytest.raises(Invalid, match="is not held"):
            manager.free("perfcnt", tile, unit)
    assert is_untouched(manager)


def test_a_unit_that_was_given_back_or_added_is_found_all_the_same() -> None:
    manager = Manager("aie:2x3")
    lease = manager.acquire(Units("perfcnt", 2, at=[CORE]))
    manager.give_back(lease, "perfcnt", [0], at=[CORE])
    manager.extend(lease, Ids("perfcnt", [3], at=[CORE]))
    manager.request_specific("perfcnt", CORE, 0)
    for unit in (0, 1, 3):
        manager.free("perfcnt", CORE, unit)
    assert manager.leases() == []
    assert is_untouched(manager)


def test_a_channel_everywhere_can_be_ended_module_by_module() -> None:
    manager = Manager("aie:2x3")
    assert manager.request_common(CHANNELS) == 0
    manager.free(CHANNELS, CORE, 0)
    assert manager.available(CHANNELS, CORE) == 16
    assert manager.available(CHANNELS, MEM) == 15
    assert manager.request_common(CHANNELS, [CORE]) == 0
    with pytest.raises(Held):
        manager.request_common(CHANNELS, [CORE, MEM], id=0)
    assert manager.request_common(CHANNELS, id=1) == 1


def test_what_is_refused_changes_nothing() -> None:
    manager = Manager("aie:2x3")
    manager.request("trace_ctrl", [CORE])
    before = manager.dump()
    for refusal, call in (
        (Exhausted, lambda: manager.request("trace_ctrl", [MEM, CORE])),
        (Invalid, lambda: manager.request("trace_ctrl", [MEM, (7, 7, "core")])),
        (Invalid, lambda: manager.request("trace_ctrl", [MEM, MEM])),  # it has one, ever
        (Invalid, lambda: manager.request_range("pc_event", CORE, 0)),
        (Invalid, lambda: manager.request_range("pc_event", CORE, -2)),
        (Invalid, lambda: manager.request_range("pc_event", MEM, 2)),
        (Invalid, lambda: manager.request_specific("trace_ctrl", CORE, 1)),
        (Invalid, lambda: manager.request_specific("trace_ctrl", CORE, -1)),
        (Invalid, lambda: manager.free("trace_ctrl", MEM, 0)),
        (Invalid, lambda: manager.release_unit("trace_ctrl", CORE, 7)),
        (Invalid, lambda: manager.free("trace_ctrl", (9, 9, "mem"), 0)),
        (Invalid, lambda: manager.available("pc_event", MEM)),
        (Invalid, lambda: manager.static("nothing", CORE)),
    ):
        with pytest.raises(refusal):
            call()
    assert manager.dump() == before
    assert manager.check() == []


def test_the_system_keeps_what_the_driver_does_and_the_pool_goes_on_behind_it() -> None:
    manager = Manager("aie:2x3", system=["error-broadcast"])
    assert [manager.available(CHANNELS, tile) for tile in (SHIM, CORE, MEM)] == [10, 15, 15]
    with pytest.raises(Held, match="system:error-broadcast"):
        manager.reserve_system("error-broadcast")
    manager.reserve_system("ecc")
    assert [manager.available(CHANNELS, tile) for tile in (SHIM, CORE, MEM)] == [9, 14, 14]
    assert manager.available("perfcnt", CORE) == 3
    assert manager.request("perfcnt", [CORE]) == [1]
    assert [lease.label for lease in manager.leases()] == ["system:error-broadcast", "system:ecc", ""]


def test_ecc_is_all_or_nothing() -> None:
    manager = Manager("aie:2x3")
    manager.request_specific("perfcnt", (1, 2, "core"), 0)
    with pytest.raises(Held):
        manager.reserve_system("ecc")
    assert manager.available(CHANNELS, CORE) == 16
    assert manager.available("perfcnt", CORE) == 4


def test_a_reset_ends_everything_and_brings_back_what_the_system_keeps() -> None:
    compiler = Manager("aie:2x3")
    compiler.request("perfcnt", [CORE])
    manager = Manager("aie:2x3", system=["ecc"])
    manager.load(compiler.dump(), name="design")
    manager.request_specific("perfcnt", MEM, 1)
    manager.gate([(1, 1)])
    manager.reset()
    assert manager.reservations() == []
    assert [lease.label for lease in manager.leases()] == ["system:ecc"]
    assert manager.request_common(CHANNELS) == 0
    assert len(manager.leases()[-1].allotments[0].at) == 10
    assert manager.check() == []


def test_a_profile_without_system_units_says_so() -> None:
    with pytest.raises(Invalid, match="no system units 'ecc'"):
        Manager("embedded", system=["ecc"])


def test_clocks_go_off_upwards_and_on_downwards() -> None:
    manager = Manager("aie:2x3")
    manager.gate([(0, 1)])
    with pytest.raises(Invalid, match="clock-gated"):
        manager.request("perfcnt", [(0, 2, "core")])
    manager.ungate([(0, 2)])
    assert manager.request("perfcnt", [(0, 2, "core"), CORE]) == [0, 0]
    with pytest.raises(Held, match="its clock must run"):
        manager.gate([(0, 2)])
    manager.gate([(1, 0)])  # the shim's clock always runs
    assert manager.request("perfcnt", [(1, 0, "pl")]) == [0]
    with pytest.raises(Invalid, match="clock-gated"):
        manager.request("perfcnt", [(1, 1, "mem")])
    for wrong in ((2, 0), (0, 3), (-1, 0)):
        with pytest.raises(Invalid, match="there is no tile"):
            manager.gate([wrong])
    manager.ungate()
    assert manager.cards()[0].gated_sites == ()


def test_a_load_adds_and_a_replace_takes_the_place_of_all_and_a_reload_restores() -> None:
    compiler = Manager("aie:2x3")
    compiler.request("perfcnt", [CORE, MEM])
    data = compiler.dump()
    manager = Manager("aie:2x3")
    first = manager.load(data, name="one")
    assert (first.name, [(pool.pool, pool.units) for pool in first.pools]) == ("one", [("perfcnt", 2)])
    assert manager.load(data).pools == ()  # all of it is reserved
    assert manager.static("perfcnt", CORE) == 1
    lease = manager.acquire(reservation="one")
    assert lease.units("perfcnt") == (0, 0)
    manager.release(lease, to_pool=True)
    assert manager.static("perfcnt", CORE) == 0
    manager.load(data, name="one")
    assert manager.acquire(reservation="one-2").units("perfcnt") == (0, 0)
    compiler.request_specific("perfcnt", CORE, 3)
    manager.load(compiler.dump(), name="other", replace=True)
    assert [one.name for one in manager.reservations()] == ["other"]
    assert [manager.static("perfcnt", tile) for tile in (CORE, MEM)] == [2, 1]
    assert manager.check() == []


def test_units_that_are_held_become_reserved_by_a_load() -> None:
    compiler = Manager("aie:2x3")
    compiler.request("perfcnt", [CORE])
    manager = Manager("aie:2x3")
    manager.request("perfcnt", [CORE])
    manager.load(compiler.dump())
    assert manager.static("perfcnt", CORE) == 1
    manager.free("perfcnt", CORE, 0)
    assert manager.request("perfcnt", [CORE]) == [1]
    assert manager.request_specific("perfcnt", CORE, 0) == 0


def test_a_dump_can_have_what_is_reserved_too() -> None:
    compiler = Manager("aie:2x3")
    compiler.request("perfcnt", [CORE])
    manager = Manager("aie:2x3")
    manager.load(compiler.dump())
    assert manager.dump() == Manager("aie:2x3").dump()
    assert manager.dump(with_reserved=True) == compiler.dump()


def test_the_counts_of_a_type_say_whose_units_are() -> None:
    manager = Manager("aie:2x3")
    manager.reserve_claims("mine", Ids("perfcnt", [0], at=[CORE]))
    manager.request_specific("perfcnt", CORE, 0)
    manager.request("perfcnt", [CORE])
    counts = next(one for one in manager.statistics("perfcnt") if one.site == CORE)
    assert (counts.total, counts.available, counts.held, counts.static) == (4, 2, 2, 1)
    (uid,) = counts.held_by
    assert (counts.held_by[uid], counts.reserved_for[uid]) == (2, 1)


def test_many_threads_get_each_unit_once() -> None:
    manager, got, lock = Manager("aie:4x4"), [], threading.Lock()

    def take() -> None:
        while True:
            try:
                channel = manager.request_common(CHANNELS, [(1, 1, "core"), (2, 2, "mem")])
            except leasehold.Exhausted:
                return
            with lock:
                got.append(channel)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(16))
    assert manager.check() == []


def test_claims_and_leases_are_the_daemon_s() -> None:
    manager = Manager("aie")
    lease = manager.acquire(Common(CHANNELS), Units("columns", 2), label="graph")
    assert (len(lease.allotments[0].at), lease.units("columns"), lease.label) == (850, (0, 1), "graph")
    manager.release(lease)
    assert is_untouched(manager)
