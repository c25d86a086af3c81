"""The same objects on a daemon: other processes, death, restarts, revocation."""

import os

import pytest

import leasehold
from leasehold import Exhausted, Held, LeaseLost
from leasehold.aie import Broadcast, GroupEvent, PerfCounter, ResourceGroup, State, TraceControl, UserEvent, WrongState
from support.aie import CORE, MEM, KeepingDevice, held, totals
from support.daemon import Daemon
from support.puppet import STRANGER_UID, Puppets
from support.waiting import until

ACTIVE, LOCK = ("core", "ACTIVE_CORE"), ("mem", "LOCK_0_ACQ_MEM")
HOLDER = """
from leasehold.aie import Broadcast, Device, PerfCounter, TraceControl
device = Device(client)
counter = PerfCounter(device, (1, 3, "mem"))
counter.initialize(("core", "ACTIVE_CORE"), ("core", "ACTIVE_CORE"))
control = TraceControl(device, (1, 3, "core"))
control.initialize(("core", 1), ("mem", 2))
everywhere = Broadcast(device)
counter.reserve(); control.reserve(); everywhere.reserve()
slot = control.event(("mem", 3))
slot.reserve(); counter.start(); slot.start(); control.start()
"""

FORKING = """
pid = os.fork()
if not pid:
    try:
        event.start()
        device.close()
        os._exit(told != ["start"] or event.state is not State.INITIALIZED)
    finally:
        os._exit(2)
status = os.waitpid(pid, 0)[1]
"""
RESERVED_HOLDER = """
from leasehold.aie import Device, PerfCounter
counter = PerfCounter(Device(client), (1, 3, "mem"), reservation="design")
counter.initialize(("core", 1), ("core", 2))
counter.reserve(); counter.start()
"""


@pytest.fixture(scope="module")
def array():
    """A daemon with one array for all tests of the module, which may restart it."""
    daemon = Daemon("--profile", "aie")
    yield daemon
    daemon.remove()


@pytest.fixture
def client(array):
    """A client of it; every unit is free again after the test."""
    with array.connect() as connected:
        yield connected
        until(lambda: totals(connected) == {})
        assert not connected.check().differences


@pytest.fixture
def on_daemon(client):
    with KeepingDevice(client) as device:
        yield device


@pytest.fixture
def puppets():
    made = Puppets()
    yield made
    made.close()


def counter_of(device, tile=MEM, **more) -> PerfCounter:
    counter = PerfCounter(device, tile, **more)
    counter.initialize(ACTIVE, ACTIVE)
    return counter


def test_a_composite_is_one_lease_of_the_daemon(client, on_daemon):
    counter = counter_of(on_daemon)
    counter.reserve()
    (lease,) = client.leases()
    assert (lease.label, lease.id) == ("PerfCounter 1,3,mem", counter.lease_id)
    assert totals(client) == {"perfcnt": (1, 0), "bcast_channel": (4, 0)}
    counter.start()
    with pytest.raises(WrongState):
        counter.release()
    counter.stop()
    counter.release()
    assert (client.leases(), counter.state) == ([], State.INITIALIZED)


def test_another_session_is_refused_or_falls_back(array, client, on_daemon):
    with array.connect() as other, KeepingDevice(other) as theirs:
        ResourceGroup([counter_of(theirs), counter_of(theirs)]).reserve()
        group_event = GroupEvent(theirs, CORE, 2)
        group_event.initialize(1)
        group_event.reserve()
        mine = counter_of(on_daemon)
        with pytest.raises(Exhausted):
            mine.reserve()
        handle = GroupEvent(on_daemon, CORE, 2)
        handle.initialize(1)
        with pytest.raises(Held):
            handle.reserve()
        across = counter_of(on_daemon, cross_module=True)
        across.reserve()
        assert (across.home, across.channels) == (CORE, {})
    until(lambda: totals(client) == {"perfcnt": (1, 0)})
    mine.reserve()
    assert (mine.id, mine.channels) == (0, {"start": 0, "stop": 1})


def test_slots_groups_and_the_whole_array(client, on_daemon):
    everywhere = Broadcast(on_daemon)
    control, user = TraceControl(on_daemon, CORE), UserEvent(on_daemon, CORE)
    control.initialize(LOCK, ACTIVE)
    ResourceGroup([control, user, everywhere]).reserve()
    assert (everywhere.id, len(everywhere.tiles), control.channels) == (1, 850, {"start": 0})
    slots = [control.event(LOCK), control.event(ACTIVE), control.event(LOCK)]
    for slot in slots:
        slot.reserve()
    assert ([slot.id for slot in slots], slots[0].channel, slots[2].channel) == ([0, 1, 2], 2, 3)
    assert len(client.leases()) == 1
    slots[0].release()
    everywhere.release()
    assert held(client, "bcast_channel", CORE) == {0, 3}
    assert held(client, "bcast_channel", (40, 8, "core")) == set()
    control.release()
    assert ([slot.is_reserved for slot in slots], totals(client)) == ([False] * 3, {"user_event": (1, 0)})


def test_a_killed_holder_gives_everything_back(array, client, on_daemon, puppets):
    holder = puppets(array)
    holder(HOLDER)
    assert holder("counter.channels, control.channels, slot.channel, everywhere.id") == [
        {"start": 0, "stop": 1},
        {"stop": 2},
        4,
        3,
    ]
    assert totals(client)["bcast_channel"] == (850 + 8, 0)
    mine = counter_of(on_daemon)
    mine.set_preferred_id(0)
    with pytest.raises(Held):
        mine.reserve()
    holder.kill()

    until(lambda: totals(client) == {})
    mine.reserve()
    assert (mine.id, mine.channels) == (0, {"start": 0, "stop": 1})


def test_objects_live_on_over_a_restart_of_the_daemon(array, client, on_daemon):
    counter, control = counter_of(on_daemon), TraceControl(on_daemon, CORE)
    control.initialize(ACTIVE, LOCK)
    counter.reserve()
    control.reserve()
    counter.start()
    array.kill()
    array.start()
    slot = control.event(LOCK)
    slot.reserve()
    control.start()
    assert (counter.is_running, slot.channel) == (True, 3)
    assert totals(client) == {"perfcnt": (1, 0), "trace_ctrl": (1, 0), "bcast_channel": (8, 0)}


def test_a_revoked_object_does_not_start_and_can_be_reserved_anew(client, on_daemon):
    counter, control = counter_of(on_daemon), TraceControl(on_daemon, CORE)
    control.initialize(ACTIVE, LOCK)
    counter.reserve()
    control.reserve()
    slot = control.event(LOCK)
    slot.reserve()
    for one in (counter, control):
        assert client.revoke(one.lease_id, notice=0)
    until(lambda: not client.leases() and not any(one._is_held() for one in (counter, control)))
    for start in (counter.start, slot.start, control.start, lambda: control.event(ACTIVE).reserve()):
        with pytest.raises(LeaseLost):
            start()
    slot.release()
    for one in (counter, control):
        one.release()
        one.reserve()
        one.start()


def test_what_was_set_aside_stands_after_its_holder_is_killed_and_after_a_restart(array, client, puppets):
    design = [leasehold.Ids("perfcnt", [1], at=[MEM]), leasehold.Ids("bcast_channel", [7, 9], at=[MEM, CORE])]
    client.reserve_claims("design", *design)
    set_aside = totals(client)
    for _ in range(2):
        holder = puppets(array)
        holder(RESERVED_HOLDER)
        assert holder("counter.id, counter.channels") == [1, {"start": 7, "stop": 9}]
        with KeepingDevice(client) as device:
            with pytest.raises(Exhausted):
                counter_of(device, reservation="design").reserve()
            beside = counter_of(device)
            beside.reserve()
            assert (beside.id, beside.channels) == (0, {"start": 0, "stop": 1})
        holder.kill()
        until(lambda: totals(client) == set_aside)
        array.kill()
        array.start()
    with KeepingDevice(client) as device:
        counter = counter_of(device, reservation="design")
        counter.reserve()
        counter.free()
        assert totals(client) == set_aside
        counter.reserve()
        counter.release()
    assert totals(client) == {}
    client.unreserve("design")


def test_the_registers_of_lost_units_are_left_alone(client):
    told = []
    with KeepingDevice(client, on_program=lambda action, one: told.append((action, str(one)))) as device:
        lost, kept = counter_of(device), counter_of(device)
        first, second = GroupEvent(device, CORE, 2), GroupEvent(device, CORE, 2)
        for handle in (first, second):
            handle.initialize(1)
        for one in (lost, kept, first):
            one.reserve()
            one.start()
        for one in (lost, first):
            client.revoke(one.lease_id, notice=0)
        until(lambda: len(client.leases()) == 1 and not any(one._is_held() for one in (lost, first)))
        lost.close()
        second.reserve()
        second.start()
        assert (second.lease_id != first.lease_id, held(client, "group_event", CORE)) == (True, {2})
        first.close()
        second.stop()
        second.release()
        kept.stop()
    started = [("start", str(one)) for one in (lost, kept, first, second)]
    assert told == [*started, ("stop", str(second)), ("stop", str(kept))]


def test_a_forked_child_that_leaves_the_block_stops_and_ends_nothing_of_its_parents(array, client, puppets):
    holder = puppets(array)
    holder("from leasehold.aie import *; told = []")
    holder("device = Device(client, on_program=lambda action, one: told.append(action))")
    holder("event = UserEvent(device, (1, 3, 'core')); event.reserve(); event.start()")
    holder(FORKING)
    assert holder("status, told, event.is_running") == [0, ["start"], True]
    assert held(client, "user_event", CORE) == {0}
    holder("device.close()")
    assert holder("told") == ["start", "stop"]


def test_the_end_of_a_client_ends_its_objects(array, client):
    with array.connect() as other:
        counter = counter_of(KeepingDevice(other))
        counter.reserve()
        counter.start()
    until(lambda: totals(client) == {})
    counter.stop()
    with pytest.raises((leasehold.Closed, LeaseLost)):
        counter.start()
    counter.close()
    assert counter.state is State.INITIALIZED


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a second user")
def test_another_users_object_gets_nothing_of_a_reservation(array, client, puppets):
    client.reserve_claims("design", leasehold.Ids("user_event", [1], at=[CORE]))
    stranger = puppets(array, uid=STRANGER_UID, imports="from leasehold.aie import Device, State, UserEvent")
    stranger("device = Device(client)")
    stranger("by_name = UserEvent(device, (1, 3, 'core'), reservation='design')")
    stranger("by_id = UserEvent(device, (1, 3, 'core')); by_id.set_preferred_id(1, is_static=True)")
    stranger("plain = UserEvent(device, (1, 3, 'core')); plain.reserve()")
    assert stranger.fault("by_name.reserve()") == "NotOwner"
    assert stranger.fault("by_id.reserve()") == "NotOwner"
    assert stranger("[one.is_reserved for one in (by_name, by_id)], plain.id") == [[False, False], 0]
    stranger("device.close()")
    client.unreserve("design")
