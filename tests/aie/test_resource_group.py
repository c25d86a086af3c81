"""Objects that are reserved together."""

import pytest

import leasehold
from leasehold import Exhausted, Invalid
from leasehold.aie import GroupEvent, PCRange, PerfCounter, ResourceGroup, State, TraceControl, UserEvent, WrongState
from support.aie import CORE, MEM, KeepingDevice, held, reserved, totals

ACTIVE, LOCK = ("core", "ACTIVE_CORE"), ("mem", "LOCK_0_ACQ_MEM")


def counter_of(device, tile, **more) -> PerfCounter:
    counter = PerfCounter(device, tile, **more)
    counter.initialize(ACTIVE, ACTIVE)
    return counter


def trace_of(device, tile) -> TraceControl:
    control = TraceControl(device, tile)
    control.initialize(LOCK, LOCK)
    return control


def user_events(device, count: int) -> list[UserEvent]:
    return [UserEvent(device, (column, 1, module)) for column in range(count // 2 + 1) for module in ("mem", "core")][
        :count
    ]


def test_a_group_is_one_request_and_one_lease_and_its_members_go_one_by_one(manager, device):
    members = [counter_of(device, MEM), trace_of(device, CORE), PCRange(device, CORE), UserEvent(device, MEM)]
    group = ResourceGroup(members)
    group.reserve()
    (lease,) = manager.leases()
    assert lease.label == "4 resources"
    assert {member.lease_id for member in group} == {lease.id}
    assert (members[0].channels, members[1].channels) == ({"start": 0, "stop": 1}, {"start": 2, "stop": 3})
    slot = members[1].event(ACTIVE)
    slot.reserve()
    far = members[1].event(LOCK)
    far.reserve()
    assert far.channel == 4
    members[1].release()
    assert totals(manager) == {"perfcnt": (1, 0), "bcast_channel": (4, 0), "pc_event": (2, 0), "user_event": (1, 0)}
    assert (len(group), group.counts()[(MEM, "bcast_channel")]) == (4, 2)
    assert [slot.is_reserved, far.is_reserved] == [False, False]
    group.release()
    assert (manager.leases(), totals(manager)) == ([], {})


def test_a_group_is_reserved_whole_or_not_at_all(manager, device):
    other = manager.acquire(leasehold.Units("user_event", 4, at=[MEM]))
    group = ResourceGroup([counter_of(device, MEM), UserEvent(device, CORE), UserEvent(device, MEM)])
    with pytest.raises(Exhausted, match="user_event"):
        group.reserve()
    assert ([member.state for member in group], totals(manager)) == ([State.INITIALIZED] * 3, {"user_event": (4, 0)})
    manager.release(other)
    with group:
        group.reserve()
        assert totals(manager)["user_event"] == (2, 0)
    assert totals(manager) == {}


def test_members_that_may_fall_back_find_the_way_that_fits_all(manager, device):
    """Of six counters of one tile two are the memory module's, whatever they would like."""
    group = ResourceGroup([counter_of(device, MEM, cross_module=True) for _ in range(6)])
    group.reserve()
    assert [member.home[2] for member in group] == ["mem", "mem", "core", "core", "core", "core"]
    assert len(manager.leases()) == 1
    assert group.counts()[(CORE, "bcast_channel")] == 4


def test_a_group_has_at_most_64_ways_to_be_reserved(device):
    ResourceGroup([counter_of(device, (column, 3, "mem"), cross_module=True) for column in range(6)]).reserve()
    with pytest.raises(Invalid, match="128 ways"):
        ResourceGroup([counter_of(device, (column, 4, "mem"), cross_module=True) for column in range(7)]).reserve()


def test_a_group_has_at_most_as_many_claims_as_a_request(manager, device):
    most, over = ResourceGroup(user_events(device, 64)), ResourceGroup(user_events(device, 65))
    with pytest.raises(Invalid, match="64"):
        over.reserve()
    assert totals(manager) == {}
    most.reserve()
    assert totals(manager) == {"user_event": (64, 0)}


@pytest.mark.parametrize("spoil", ["reserved", "not initialized"])
def test_a_member_that_cannot_be_reserved_spoils_it_for_all(manager, device, spoil):
    first, second = UserEvent(device, CORE), PerfCounter(device, CORE)
    if spoil == "reserved":
        second.initialize(ACTIVE, ACTIVE)
        second.reserve()
    before = totals(manager)
    with pytest.raises(WrongState):
        ResourceGroup([first, second]).reserve()
    assert (first.state, totals(manager)) == (State.INITIALIZED, before)


def test_a_group_has_members_of_one_device_each_once(manager, device):
    event, control = UserEvent(device, CORE), trace_of(device, CORE)
    with KeepingDevice(manager) as other:
        for members in ([], [event, event], [event, UserEvent(other, CORE)], [control.event(LOCK)], ["event"]):
            with pytest.raises(Invalid):
                ResourceGroup(members)


def test_a_shared_group_event_may_be_a_member(manager, device):
    alone, member = GroupEvent(device, CORE, 1), GroupEvent(device, CORE, 1)
    alone.initialize(1)
    member.initialize(1)
    alone.reserve()
    group = ResourceGroup([member, UserEvent(device, CORE)])
    group.reserve()
    assert member.lease_id == alone.lease_id
    alone.release()
    assert held(manager, "group_event", CORE) == {1}
    group.release()
    assert totals(manager) == {}
    group.reserve()
    only = ResourceGroup([alone])
    only.reserve()
    assert alone.lease_id == member.lease_id


class Broken(Exception):
    """What a driver raises that cannot write its registers."""


def test_where_one_cannot_start_those_that_were_started_are_stopped(manager):
    told = []

    def program(action, resource):
        told.append((action, resource.tile))
        if resource.tile == MEM and action == "start":
            raise Broken

    with KeepingDevice(manager, on_program=program) as device:
        ran, first, last = UserEvent(device, CORE), UserEvent(device, CORE), UserEvent(device, MEM)
        group = ResourceGroup([ran, first, last])
        group.reserve()
        ran.start()
        with pytest.raises(Broken):
            group.start()
        assert [member.state for member in group] == [State.RUNNING, State.RESERVED, State.RESERVED]
        assert told == [("start", CORE), ("start", CORE), ("start", MEM), ("stop", CORE)]


def test_a_group_runs_and_ends_as_one(manager, device):
    manager.reserve_claims("design", leasehold.Ids("user_event", [1, 2], at=[CORE, MEM]))
    group = ResourceGroup([UserEvent(device, tile, reservation="design") for tile in (CORE, MEM)])
    group.reserve()
    group.start()
    for end in (group.free, group.release):
        with pytest.raises(WrongState):
            end()
    first, second = group
    second.stop()
    for end in (group.free, group.release):
        with pytest.raises(WrongState):
            end()
    first.stop()
    second.start()
    for end in (group.free, group.release):
        with pytest.raises(WrongState):
            end()
    assert totals(manager) == {"user_event": (2, 4)}
    group.stop()
    group.free()
    assert totals(manager) == {"user_event": (0, 4)}
    group.reserve()
    group.release()
    assert reserved(manager, "user_event", CORE) == {2}
    with pytest.raises(WrongState, match="set aside"):
        group.free()


def test_every_member_ends_though_one_cannot_be_stopped(manager):
    def program(action, resource):
        if action == "stop" and resource.tile == CORE:
            raise Broken

    with KeepingDevice(manager, on_program=program) as device:
        group = ResourceGroup([UserEvent(device, CORE), UserEvent(device, MEM)])
        group.reserve()
        group.start()
        with pytest.raises(Broken):
            group.stop()
        assert [member.state for member in group] == [State.RUNNING, State.RESERVED]
        with pytest.raises(Broken):
            group.close()
        assert totals(manager) == {}
