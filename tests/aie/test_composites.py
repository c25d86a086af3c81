"""What needs several units: it is one lease, granted as one, given back as one, and nothing of it is ever left."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import leasehold
from leasehold import Exhausted, Held, Invalid
from leasehold.aie import (
    Broadcast,
    ComboEvent,
    GroupEvent,
    PCRange,
    PerfCounter,
    State,
    TraceControl,
    UserEvent,
    WrongState,
)
from rm.core import limits
from support.aie import BOTH, CORE, MEM, SHIM, held, reserved, totals

ACTIVE, LOCK = ("core", "ACTIVE_CORE"), ("mem", "LOCK_0_ACQ_MEM")


def counter_of(device, tile, start=ACTIVE, stop=ACTIVE, reset=None, **more) -> PerfCounter:
    counter = PerfCounter(device, tile, **more)
    counter.initialize(start, stop, reset)
    return counter


def trace_of(device, tile, start=ACTIVE, stop=ACTIVE, **more) -> TraceControl:
    control = TraceControl(device, tile, **more)
    control.initialize(start, stop)
    return control


# One request.


@pytest.mark.parametrize(
    ("make", "units"),
    [
        (lambda device: counter_of(device, MEM, ACTIVE, LOCK, ACTIVE), {"perfcnt": 1, "bcast_channel": 4}),
        (lambda device: counter_of(device, SHIM, ("pl", 1), ("pl", 2)), {"perfcnt": 1}),
        (lambda device: trace_of(device, MEM), {"trace_ctrl": 1, "bcast_channel": 4}),
        (lambda device: Broadcast(device, [(0, 1, "mem"), (1, 1, "mem")]), {"bcast_channel": 4}),
        (lambda device: ComboEvent(device, CORE, 4), {"combo_event": 4}),
        (lambda device: PCRange(device, CORE), {"pc_event": 2}),
    ],
)
def test_a_composite_is_one_request_and_one_lease(manager, device, make, units):
    made = make(device)
    made.reserve()
    (lease,) = manager.leases()
    assert (lease.id, lease.label) == (made.lease_id, str(made))
    assert {pool: used for pool, (used, _) in totals(manager).items()} == units
    assert len(made.units) == sum(units.values())
    made.release()
    assert (manager.leases(), made.units) == ([], frozenset())


def test_a_label_of_ones_own_stands_before(manager):
    with leasehold.aie.Device(manager, label="profiler") as device, UserEvent(device, CORE) as event:
        event.reserve()
        assert [lease.label for lease in manager.leases()] == ["profiler UserEvent 1,3,core"]
    with leasehold.aie.Device(manager, label="p" * 200) as device, UserEvent(device, CORE) as event:
        event.reserve()
        assert [lease.label for lease in manager.leases()] == ["p" * 128]


# Fallback to the other module.


def fill(manager, pool, tile):
    manager.acquire(leasehold.Units(pool, 4 if tile[2] == "core" else 2, at=[tile]), label="other")


def drop_others(manager):
    for lease in manager.leases():
        if lease.label == "other":
            manager.release(lease)


def test_a_counter_in_the_other_module_needs_channels_for_the_other_events(manager, device):
    fill(manager, "perfcnt", MEM)
    counter = counter_of(device, MEM, ACTIVE, LOCK, cross_module=True)
    counter.reserve()
    assert (counter.home, counter.channels, counter.tile) == (CORE, {"stop": 0}, MEM)
    counter.release()
    drop_others(manager)
    counter.reserve()
    assert (counter.home, counter.channels) == (MEM, {"start": 0})


def test_without_the_flag_the_other_module_is_left_alone(manager, device):
    fill(manager, "perfcnt", MEM)
    with pytest.raises(Exhausted, match="1,3,mem"):
        counter_of(device, MEM).reserve()
    assert held(manager, "perfcnt", CORE) == set()
    drop_others(manager)


def test_where_neither_module_will_do_the_first_refusal_is_told_and_nothing_is_left(manager, device):
    fill(manager, "perfcnt", MEM)
    manager.acquire(leasehold.Ids("bcast_channel", range(16), at=BOTH), label="other")
    before = totals(manager)
    with pytest.raises(Exhausted, match="1,3,mem"):
        counter_of(device, MEM, LOCK, LOCK, cross_module=True).reserve()
    assert totals(manager) == before
    drop_others(manager)


def test_a_preferred_id_that_the_other_module_lacks_is_told_as_held_not_as_impossible(manager, device):
    fill(manager, "perfcnt", CORE)
    counter = counter_of(device, CORE, cross_module=True)
    counter.set_preferred_id(3)
    with pytest.raises(Held):
        counter.reserve()
    drop_others(manager)


def test_a_tile_of_one_module_has_nothing_to_fall_back_to(manager, device):
    fill(manager, "perfcnt", SHIM)
    with pytest.raises(Exhausted):
        counter_of(device, SHIM, ("pl", 1), ("pl", 2), cross_module=True).reserve()
    drop_others(manager)


# From a reservation.


def test_counter_and_channels_come_from_the_reservation(manager, device):
    manager.reserve_claims(
        "design",
        leasehold.Ids("perfcnt", [1], at=[MEM]),
        leasehold.Ids("bcast_channel", [7, 9], at=BOTH),
    )
    with counter_of(device, MEM, reservation="design") as counter:
        counter.reserve()
        assert (counter.id, counter.channels) == (1, {"start": 7, "stop": 9})
        with pytest.raises(Exhausted):
            counter_of(device, MEM, reservation="design").reserve()
    assert (held(manager, "bcast_channel", MEM), reserved(manager, "bcast_channel", MEM)) == (set(), {7, 9})


def test_a_reservation_without_the_channels_gives_nothing(manager, device):
    """A channel from the pool would not be what was compiled."""
    manager.reserve_claims("design", leasehold.Ids("perfcnt", [1], at=[MEM]))
    before = totals(manager)
    counter = counter_of(device, MEM, reservation="design")
    with pytest.raises(leasehold.Refused):
        counter.reserve()
    assert totals(manager) == before
    assert counter.state is State.INITIALIZED


def test_the_slots_of_a_reserved_trace_unit_take_reserved_channels_and_go_back_with_it(manager, device):
    manager.reserve_claims(
        "design", leasehold.Units("trace_ctrl", 1, at=[CORE]), leasehold.Ids("bcast_channel", [4, 5], at=BOTH)
    )
    before = totals(manager)
    control = trace_of(device, CORE, LOCK, ACTIVE, reservation="design")
    control.reserve()
    slot, other = control.event(LOCK), control.event(LOCK)
    slot.reserve()
    with pytest.raises(Exhausted):
        other.reserve()
    assert (control.channel("start"), slot.channel, slot.is_prereserved) == (4, 5, True)
    slot.free()
    assert held(manager, "bcast_channel", CORE) == {4}
    slot.reserve()
    control.free()
    assert (slot.is_reserved, totals(manager)) == (False, before)
    control.reserve()
    slot.reserve()
    slot.release()
    assert reserved(manager, "bcast_channel", CORE) == {4}
    control.release()
    assert totals(manager) == {}


def test_a_preferred_id_is_one_of_the_reservation(manager, device):
    manager.reserve_claims("design", leasehold.Ids("user_event", [1, 2], at=[CORE]))
    event = UserEvent(device, CORE, reservation="design")
    event.set_preferred_id(3)
    with pytest.raises(Invalid):
        event.reserve()
    event.set_preferred_id(2)
    event.reserve()
    assert (event.id, event.is_prereserved) == (2, True)


def test_a_whole_reservation_can_be_a_broadcast_everywhere(manager, device):
    manager.reserve_claims("design", leasehold.Common("bcast_channel"))
    channel = Broadcast(device, reservation="design")
    plain = Broadcast(device)
    plain.reserve()
    channel.reserve()
    assert (channel.id, plain.id) == (0, 1)


@pytest.mark.parametrize("name", ["nothing", "n" * 500])
def test_an_unknown_reservation_is_refused(device, name):
    counter = counter_of(device, MEM, reservation=name)
    with pytest.raises(Invalid):
        counter.reserve()


# Slots of a trace unit.


def test_a_running_slot_holds_its_unit(manager, device):
    control = trace_of(device, CORE)
    control.reserve()
    slot = control.event(LOCK)
    slot.reserve()
    slot.start()
    with pytest.raises(WrongState, match="TraceEvent"):
        control.release()
    assert totals(manager)["trace_ctrl"] == (1, 0)
    control.close()
    assert (slot.state, control.state, totals(manager)) == (State.INITIALIZED, State.INITIALIZED, {})


@pytest.mark.parametrize(("unit", "refusal"), [(8, Invalid), (0, Held), (7, None)])
def test_a_slot_of_ones_choice(device, unit, refusal):
    control = trace_of(device, CORE)
    control.reserve()
    first, second = control.event(ACTIVE), control.event(ACTIVE)
    first.reserve()
    second.set_preferred_id(unit)
    if refusal:
        with pytest.raises(refusal):
            second.reserve()
        assert list(control.slots) == [0]
    else:
        second.reserve()
        assert (second.id, control.slot(7)) == (7, second)


def test_a_slot_is_nothing_that_a_compiler_sets_aside(device):
    with pytest.raises(Invalid):
        trace_of(device, CORE).event(ACTIVE).set_preferred_id(1, is_static=True)


def test_slots_may_come_and_go_until_the_lease_has_its_most_allotments(manager, device, monkeypatch):
    """1,024 in earnest, the unit's own among them; then the slot is refused, and what is held stays."""
    monkeypatch.setattr(limits, "ALLOTMENTS_PER_LEASE_MAX", 8)
    control = trace_of(device, CORE)
    control.reserve()
    slot = control.event(LOCK)
    for _ in range(7):
        slot.reserve()
        slot.release()
    with pytest.raises(leasehold.QuotaExceeded):
        slot.reserve()
    assert (slot.state, control.state, totals(manager)) == (State.INITIALIZED, State.RESERVED, {"trace_ctrl": (1, 0)})
    control.release()
    control.reserve()
    slot.reserve()


# Group events that are shared.


def test_a_shared_group_event_runs_from_the_first_start_to_the_last_stop(manager):
    told = []
    with leasehold.aie.Device(manager, on_program=lambda action, one: told.append((action, one))) as device:
        first, second = GroupEvent(device, CORE, 1), GroupEvent(device, CORE, 1)
        for handle in (first, second):
            handle.initialize(3)
            handle.reserve()
            handle.start()
        assert told == [("start", first)]
        with pytest.raises(WrongState):
            first.configure(3)
        first.stop()
        with pytest.raises(Invalid, match="shared"):
            first.configure(1)
        first.close()
        assert told == [("start", first)]
        second.stop()
        second.configure(1)
        assert told == [("start", first), ("stop", second)]
        third = GroupEvent(device, CORE, 1)
        third.initialize(1)
        third.reserve()
        assert (third.lease_id, second.mask) == (second.lease_id, 1)
    assert totals(manager) == {}


def test_a_group_event_of_another_device_is_held(manager, device):
    with leasehold.aie.Device(manager) as other, GroupEvent(other, CORE, 1) as theirs:
        theirs.initialize(1)
        theirs.reserve()
        mine = GroupEvent(device, CORE, 1)
        mine.initialize(1)
        with pytest.raises(Held):
            mine.reserve()
        with pytest.raises(Invalid):
            mine.set_preferred_id(None)
        mine.set_preferred_id(2)
        mine.reserve()
        assert mine.id == 2


# Anything at all.


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_the_bits_are_those_of_the_objects(manager, device, seed):
    dice = random.Random(seed)
    manager.reserve_claims(
        "design", leasehold.Ids("perfcnt", [1], at=BOTH), leasehold.Ids("bcast_channel", [3], at=BOTH)
    )
    made = [counter_of(device, tile, dice.choice([ACTIVE, LOCK]), ACTIVE, cross_module=True) for tile in BOTH * 3]
    made += [counter_of(device, tile, reservation="design") for tile in BOTH]
    made += [Broadcast(device, [CORE, (1, 4, "core")]) for _ in range(6)]
    made += [ComboEvent(device, CORE, count) for count in (2, 3, 4)]
    made += [trace_of(device, tile) for tile in BOTH]
    for mask in (1, 1, 2):
        made.append(GroupEvent(device, CORE, 3))
        made[-1].initialize(mask)
    slots = [control.event(dice.choice([ACTIVE, LOCK])) for control in made if isinstance(control, TraceControl)] * 5
    for _ in range(200):
        step = dice.choice(["reserve", "reserve", "start", "stop", "free", "release", "close"])
        with suppress(leasehold.Refused, WrongState):
            getattr(dice.choice(made + slots), step)()
        for tile in BOTH:
            for pool in ("perfcnt", "bcast_channel", "trace_ctrl", "combo_event", "group_event"):
                mine = {unit for one in made for of, at, unit in one.units if (of, at) == (pool, tile)}
                assert held(manager, pool, tile) == mine
    device.close()
    assert manager.leases() == []


def test_many_threads_may_use_one_device(manager, device):
    """Sixteen counters and their channels for eight threads: whoever is refused has nothing, and nothing is left."""

    def use(number: int) -> int:
        done = 0
        with counter_of(device, BOTH[number % 2], LOCK, ACTIVE, cross_module=True) as counter:
            for _ in range(25):
                with suppress(Exhausted):
                    counter.reserve()
                    counter.start()
                    counter.stop()
                    counter.release()
                    done += 1
        return done

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(use, range(8))) > 0
    assert totals(manager) == {}


def test_an_interruption_between_the_grant_and_its_members_leaves_nothing(manager, device, monkeypatch):
    """As by Ctrl-C, when the first of three has its part already."""
    members = [counter_of(device, MEM), trace_of(device, CORE), GroupEvent(device, CORE, 1)]
    members[2].initialize(1)

    def interrupted(plan, part):
        raise KeyboardInterrupt

    monkeypatch.setattr(members[1], "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leasehold.aie.ResourceGroup(members).reserve()
    assert ([one.state for one in members], totals(manager)) == ([State.INITIALIZED] * 3, {})
    monkeypatch.undo()
    leasehold.aie.ResourceGroup(members).reserve()
    assert len(manager.leases()) == 1
