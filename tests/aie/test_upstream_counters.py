"""The original's unit tests of its base class, counters and trace units, by their names, with what they should expect.

``docs/aie-objects.md`` says where that differs from what the original does.
"""

import pytest

import leasehold
from leasehold import Exhausted, Invalid
from leasehold.aie import Broadcast, PerfCounter, State, TraceControl, WrongState
from leasehold.local import Manager
from support.aie import BOTH, CORE, MEM, SHIM, held, taken, totals

ACTIVE, LOCK = ("core", "ACTIVE_CORE"), ("mem", "LOCK_0_ACQ_MEM")


def counter_of(device, tile, start=ACTIVE, stop=ACTIVE, reset=None, **more) -> PerfCounter:
    counter = PerfCounter(device, tile, **more)
    counter.initialize(start, stop, reset)
    return counter


# rsc_base


def test_rsc_base_xaie_rsc_base(manager, device):
    counter = counter_of(device, CORE)
    with pytest.raises(Invalid):
        counter.set_preferred_id(None, is_static=True)
    counter.reserve()
    with pytest.raises(WrongState):
        counter.reserve()
    with pytest.raises(WrongState):
        counter.set_preferred_id(None, is_static=True)
    with pytest.raises(WrongState):
        counter.free()
    counter.start()
    assert counter.is_initialized
    assert counter.is_configured
    assert counter.is_reserved
    assert counter.is_running
    with pytest.raises(WrongState):
        counter.release()
    counter.stop()
    counter.release()
    assert totals(manager) == {}
    with pytest.raises(Invalid, match="array"):
        type(device)(Manager("ax-m1"))


def test_rsc_base_xaie_rsc_prereserved(manager, device):
    """The id need not be set aside by anybody, as long as nobody insists on that."""
    counter = counter_of(device, CORE)
    counter.set_preferred_id(1, is_static=True)
    counter.reserve()
    counter.start()
    with pytest.raises(WrongState):
        counter.free()
    counter.stop()
    counter.free()
    assert (counter.is_prereserved, totals(manager)) == (True, {})


def test_rsc_base_xaie_rsc_base_error(device):
    counter = PerfCounter(device, CORE)
    counter.initialize("core", "core")
    counter.reserve()
    with pytest.raises(WrongState, match="not configured"):
        counter.start()
    with pytest.raises(Invalid, match="no pool"):
        device.sites("any")


def test_rsc_base_xaie_rsc_single_tile(device):
    with pytest.raises(Invalid, match="999"):
        PerfCounter(device, (999, 3, "core"))
    counter = counter_of(device, CORE)
    with pytest.raises(WrongState):
        _ = counter.id
    counter.set_preferred_id(1)
    counter.reserve()
    assert (counter.id, counter.tile) == (1, CORE)


def test_rsc_base_xaie_rsc_single_mem_tile(ml_device):
    memory_tile = (1, 1, "mem")
    counter = counter_of(ml_device, memory_tile, ("mem", "A"), ("mem", "B"))
    counter.set_preferred_id(1)
    counter.reserve()
    assert (counter.id, counter.event) == (1, leasehold.aie.Event("mem", "PERF_CNT_1_MEM_TILE"))
    with pytest.raises(Invalid, match="has mem"):
        counter_of(ml_device, memory_tile)


# perf


def test_perf_basic(device):
    counter = counter_of(device, CORE, reset=ACTIVE)
    counter.set_preferred_id(2)
    counter.reserve()
    assert (counter.id, counter.event.name, counter.channels) == (2, "PERF_CNT_2_CORE", {})
    counter.configure(threshold=100)
    counter.start()
    counter.start()
    assert counter.threshold == 100
    with pytest.raises(WrongState):
        counter.release()
    counter.stop()
    counter.release()
    assert counter.state is State.INITIALIZED


def test_perf_core_id(device):
    counters = [counter_of(device, CORE) for _ in range(5)]
    for expected, counter in enumerate(counters[:4]):
        counter.reserve()
        assert counter.id == expected
    with pytest.raises(Exhausted):
        counters[4].reserve()
    counters[2].release()
    counters[4].reserve()
    assert counters[4].id == 2


def test_perf_cross_mod(manager, device):
    """Four counters that are to be the memory module's, which has two: the others are the core module's."""
    counters = [counter_of(device, (1, 1, "mem"), LOCK, LOCK, cross_module=True) for _ in range(4)]
    for counter in counters:
        counter.reserve()
    assert [counter.home[2] for counter in counters] == ["mem", "mem", "core", "core"]
    assert [counter.id for counter in counters] == [0, 1, 0, 1]
    assert [counter.channels for counter in counters] == [{}, {}, {"start": 0, "stop": 1}, {"start": 2, "stop": 3}]
    assert counters[2].event.name == "PERF_CNT_0_CORE"
    for module in ("mem", "core"):
        assert held(manager, "bcast_channel", (1, 1, module)) == {0, 1, 2, 3}


def test_perf_core_negative(device):
    counter = counter_of(device, CORE)
    counter.reserve()
    with pytest.raises(WrongState):
        counter.initialize(ACTIVE, ACTIVE)
    with pytest.raises(Invalid, match="module core"):
        counter.configure(start=LOCK)
    with pytest.raises(Invalid, match="reset event that is none"):
        counter.configure(reset=ACTIVE)
    counter.start()
    with pytest.raises(WrongState):
        counter.configure(start=ACTIVE)
    assert counter.events == {"start": leasehold.aie.Event(*ACTIVE), "stop": leasehold.aie.Event(*ACTIVE)}


@pytest.mark.parametrize("free_count", [0, 1, 2, 3])
def test_perf_core_broadcast_overflow(manager, device, free_count):
    """A memory module's counter with three events of the core module needs three channels, or takes nothing."""
    others = [Broadcast(device, [CORE]) for _ in range(16)]
    for other in others:
        other.reserve()
    for other in others[:free_count]:
        other.release()
    before = totals(manager)
    counter = counter_of(device, MEM, ACTIVE, ACTIVE, ACTIVE)
    if free_count < 3:
        with pytest.raises(Exhausted):
            counter.reserve()
        assert (counter.state, totals(manager)) == (State.INITIALIZED, before)
        return
    counter.reserve()
    assert counter.channels == {"start": 0, "stop": 1, "reset": 2}
    assert len(manager.leases()) == 14


# trace


@pytest.mark.parametrize("tile", [CORE, MEM, SHIM])
def test_trace_basic(manager, device, tile):
    own = (tile[2], "TRUE")
    control = TraceControl(device, tile)
    control.initialize(own, own)
    control.reserve()
    slots = [control.event(own) for _ in range(9)]
    for expected, slot in enumerate(slots[:8]):
        slot.reserve()
        assert slot.id == expected
    with pytest.raises(Exhausted, match="8 slots"):
        slots[8].reserve()
    control.start()
    with pytest.raises(WrongState):
        control.release()
    control.stop()
    slots[5].release()
    slots[8].reserve()
    assert slots[8].id == 5
    assert totals(manager) == {"trace_ctrl": (1, 0)}
    control.release()
    assert ([slot.is_reserved for slot in slots], totals(manager)) == ([False] * 9, {})


def test_trace_negative(device):
    control = TraceControl(device, CORE)
    control.initialize(ACTIVE, LOCK)
    with pytest.raises(WrongState):
        control.channel("stop")
    with pytest.raises(WrongState):
        control.event(ACTIVE).reserve()
    control.reserve()
    assert control.channel("stop") == 0
    with pytest.raises(Invalid, match="no channel"):
        control.channel("start")
    for slot in (8, -1, "0", True):
        with pytest.raises(Invalid, match="slots 0 to 7"):
            control.slot(slot)
    with pytest.raises(Invalid, match="not reserved"):
        control.slot(3)
    other = TraceControl(device, CORE)
    other.initialize(ACTIVE, ACTIVE)
    with pytest.raises(Exhausted):
        other.reserve()


@pytest.mark.parametrize("free_count", [0, 1, 2])
def test_trace_bc_overflow(manager, device, free_count):
    """Start and stop from the other module need two channels; with fewer the trace unit stays free."""
    manager.acquire(leasehold.Ids("bcast_channel", range(16 - free_count), at=BOTH))
    before = totals(manager)
    control = TraceControl(device, CORE)
    control.initialize(LOCK, LOCK)
    if free_count < 2:
        with pytest.raises(Exhausted):
            control.reserve()
        assert (control.state, totals(manager)) == (State.INITIALIZED, before)
    else:
        control.reserve()
        assert control.channels == {"start": 14, "stop": 15}
        control.release()
    manager.release(manager.leases()[0])


def test_trace_mem_event(manager, device):
    """An event of the other module takes a channel into the unit's own lease; without one, its slot stays free."""
    manager.acquire(leasehold.Ids("bcast_channel", range(15), at=BOTH))
    control = TraceControl(device, CORE)
    control.initialize(ACTIVE, ACTIVE)
    control.reserve()
    near, far, too_far = control.event(ACTIVE), control.event(LOCK), control.event(LOCK)
    near.reserve()
    far.reserve()
    with pytest.raises(Exhausted):
        too_far.reserve()
    assert (near.id, far.id, far.channel, list(control.slots)) == (0, 1, 15, [0, 1])
    with pytest.raises(Invalid, match="needs no channel"):
        _ = near.channel
    assert len(manager.leases()) == 2
    far.release()
    too_far.reserve()
    assert (too_far.id, too_far.channel) == (1, 15)
    manager.release(manager.leases()[0])


def test_trace_event_3(device):
    """While the unit runs no slot changes."""
    control = TraceControl(device, CORE)
    control.initialize(ACTIVE, ACTIVE)
    control.reserve()
    slot, late = control.event(ACTIVE), control.event(ACTIVE)
    slot.reserve()
    control.start()
    with pytest.raises(WrongState, match="runs"):
        control.slot(0).configure(("core", "DISABLED_CORE"))
    with pytest.raises(WrongState, match="runs"):
        late.reserve()
    control.stop()
    control.slot(0).configure(("core", "DISABLED_CORE"))
    with pytest.raises(Invalid):
        slot.configure(LOCK)
    assert slot.event == leasehold.aie.Event("core", "DISABLED_CORE")


def test_trace_event_4(manager, device):
    """An event cannot be reserved once its unit was released."""
    control = TraceControl(device, MEM)
    control.initialize(LOCK, LOCK)
    control.reserve()
    slot = control.event(ACTIVE)
    slot.reserve()
    control.release()
    assert (slot.state, totals(manager)) == (State.INITIALIZED, {})
    with pytest.raises(WrongState):
        slot.reserve()


def test_trace_negative_mem_tile(ml_manager, ml_device):
    """A memory tile has a trace unit of its own, and no other module whose events it could record."""
    control = TraceControl(ml_device, (1, 2, "mem"))
    with pytest.raises(Invalid):
        control.initialize(ACTIVE, ACTIVE)
    control.initialize(("mem", "TRUE_MEM_TILE"), ("mem", "TRUE_MEM_TILE"))
    control.reserve()
    with pytest.raises(Invalid):
        control.event(ACTIVE)
    assert taken(ml_manager, "trace_ctrl", (1, 2, "mem")) == {0}
