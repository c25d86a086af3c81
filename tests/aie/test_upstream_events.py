"""The original's unit tests of broadcasts, combo, group, PC and user events and ports, by their names."""

import pytest

import leasehold
from leasehold import Exhausted, Invalid
from leasehold.aie import (
    Broadcast,
    ComboEvent,
    GroupEvent,
    PCEvent,
    PCRange,
    State,
    StreamPortSelect,
    UserEvent,
    WrongState,
)
from support.aie import CORE, MEM, SHIM, held, taken, totals

ACTIVE, LOCK = ("core", "ACTIVE_CORE"), ("mem", "LOCK_0_ACQ_MEM")


def reserve_all(resources):
    for resource in resources:
        resource.reserve()
    return [resource.id for resource in resources]


# bc


@pytest.mark.parametrize(
    "path",
    [
        [(1, 3, "pl"), (1, 4, "pl"), (1, 5, "pl")],
        [(1, 3, "core"), (1, 3, "core")],
        [(1, 3, "core"), (999, 999, "core")],
        [(1, 3, "core"), (1, 5, "core")],
        [(1, 3, "core"), (3, 3, "core")],
        [(1, 3, "core"), (2, 4, "core")],
        [(1, 0, "core")],
        ["1,3"],
        [(1, 3)],
    ],
    ids=str,
)
def test_bc_broadcst_error_of_a_path(manager, device, path):
    with pytest.raises(Invalid):
        Broadcast(device, path)
    assert totals(manager) == {}


def test_bc_broadcst_error(device):
    path = Broadcast(device, [(1, row, "core") for row in (3, 4, 5)])
    path.reserve()
    path.release()
    channels = [Broadcast(device, [CORE]) for _ in range(17)]
    assert reserve_all(channels[:16]) == list(range(16))
    with pytest.raises(Exhausted):
        channels[16].reserve()


SHIM_ROW = [(column, 0, "pl") for column in range(4)]
PATHS = {
    "shim left to right": (SHIM_ROW, 4),
    "shim right to left": (SHIM_ROW[::-1], 4),
    "row": ([(column, 3, "core") for column in range(5)], 10),
    "column": ([(2, row, "mem") for row in range(1, 9)], 16),
    "core to shim": ([(1, 2, "core"), (1, 1, "core"), SHIM], 5),
    "one module to the other": ([MEM, CORE], 2),
}


@pytest.mark.parametrize(("path", "module_count"), PATHS.values(), ids=PATHS)
def test_bc_broadcast_select_tiles(manager, device, path, module_count):
    """The channel is taken at both modules of every tile that has two."""
    channel = Broadcast(device, path)
    with pytest.raises(WrongState):
        channel.event(path[0])
    channel.reserve()
    assert (channel.id, len(channel.tiles)) == (0, module_count)
    assert totals(manager) == {"bcast_channel": (module_count, 0)}
    for tile in channel.tiles:
        stem = "BROADCAST_A_0_PL" if tile[2] == "pl" else f"BROADCAST_0_{tile[2].upper()}"
        assert channel.event(tile) == leasehold.aie.Event(tile[2], stem)
    with pytest.raises(Invalid, match="does not pass"):
        channel.event((40, 8, "core"))
    channel.start()
    channel.stop()


def test_bc_broadcast_single_tile(device):
    manager_free = Broadcast(device, [CORE])
    channels = [Broadcast(device, [CORE]) for _ in range(4)]
    assert reserve_all(channels) == [0, 1, 2, 3]
    channels[3].release()
    manager_free.reserve()
    assert manager_free.id == 3
    channels[0].release()
    channels[3].set_preferred_id(0)
    channels[3].reserve()
    channels[3].start()
    channels[3].start()
    assert (channels[3].id, channels[3].state) == (0, State.RUNNING)


@pytest.mark.parametrize("preferred", [None, 7])
def test_bc_broadcast_all_tiles(manager, device, preferred):
    channel = Broadcast(device)
    channel.set_preferred_id(preferred)
    channel.reserve()
    channel.start()
    assert (channel.id, len(channel.tiles)) == (preferred or 0, 850)
    assert channel.event((49, 8, "mem")).name == f"BROADCAST_{channel.id}_MEM"
    channel.stop()
    channel.release()
    assert totals(manager) == {}


def test_bc_broadcast_all_tiles_mem_tile(ml_device):
    channel = Broadcast(ml_device)
    channel.reserve()
    assert len(channel.tiles) == 38 * (1 + 2 + 8 * 2)
    assert channel.event((1, 1, "mem")).name == "BROADCAST_0_MEM_TILE"
    over = Broadcast(ml_device, [(1, 0, "pl"), (1, 1, "mem"), (1, 2, "mem"), (1, 3, "core")])
    over.reserve()
    assert (over.id, over.tiles) == (1, ((1, 0, "pl"), (1, 1, "mem"), (1, 2, "mem"), (1, 3, "mem"), (1, 3, "core")))


# combo


def test_combo_basic(device):
    combos = [ComboEvent(device, CORE), ComboEvent(device, CORE)]
    assert reserve_all(combos) == [0, 2]
    assert [combo.event.name for combo in combos] == ["COMBO_EVENT_0_CORE", "COMBO_EVENT_1_CORE"]
    with pytest.raises(Exhausted):
        ComboEvent(device, CORE, 4).reserve()
    four, shim = ComboEvent(device, (1, 4, "core"), 4), ComboEvent(device, SHIM, 2)
    assert reserve_all([four, shim]) == [0, 0]
    assert (four.ids, four.event.name, shim.event.name) == ((0, 1, 2, 3), "COMBO_EVENT_2_CORE", "COMBO_EVENT_0_PL")
    for count in (5, 1, 0, "2"):
        with pytest.raises(Invalid, match="2 to 4"):
            ComboEvent(device, CORE, count)


def test_combo_fail_does_not_spill_into_the_next_tile(manager, device):
    """In whatever order: the original takes the slots of tile 1,4 where 1,3 has too few."""
    two, four = ComboEvent(device, CORE), ComboEvent(device, CORE, 4)
    two.reserve()
    for count in (4, 3):
        with pytest.raises(Exhausted):
            ComboEvent(device, CORE, count).reserve()
    assert taken(manager, "combo_event", (1, 4, "core")) == set()
    next_tile = ComboEvent(device, (1, 4, "core"), 4)
    next_tile.reserve()
    with pytest.raises(Exhausted):
        four.reserve()


def test_combo_three_inputs_leave_the_last_slot(device):
    three = ComboEvent(device, CORE, 3)
    three.reserve()
    assert (three.ids, three.event.name) == ((0, 1, 2), "COMBO_EVENT_2_CORE")
    with pytest.raises(Exhausted):
        ComboEvent(device, CORE, 2).reserve()


@pytest.mark.parametrize(("preferred", "ids"), [(2, (2, 3)), (0, (0, 1)), (1, None), (4, None)])
def test_combo_preferred_id_is_the_first_slot(device, preferred, ids):
    combo = ComboEvent(device, CORE, 2)
    combo.set_preferred_id(preferred)
    if ids is None:
        with pytest.raises(Invalid):
            combo.reserve()
        return
    combo.reserve()
    assert combo.ids == ids


@pytest.mark.parametrize(
    ("input_count", "events", "operators"),
    [
        (2, [ACTIVE] * 3, ["and"]),
        (2, [ACTIVE] * 2, ["and", "or"]),
        (2, [ACTIVE] * 2, []),
        (3, [ACTIVE] * 3, ["and"]),
        (4, [ACTIVE] * 4, ["and"] * 4),
        (4, [ACTIVE] * 3, ["and"] * 2),
        (2, [ACTIVE] * 2, ["xor"]),
        (2, [ACTIVE, LOCK], ["and"]),
        (2, [ACTIVE, "core"], ["and"]),
    ],
)
def test_combo_set_events_branch(device, input_count, events, operators):
    combo = ComboEvent(device, CORE, input_count)
    with pytest.raises(Invalid):
        combo.configure(events, operators)
    assert (combo.is_configured, combo.events) == (False, ())


@pytest.mark.parametrize("operator_count", [2, 3])
def test_combo_set_events(device, operator_count):
    combo = ComboEvent(device, CORE, 4)
    combo.configure([ACTIVE] * 4, ["or", "and_not", "or_not"][:operator_count])
    assert combo.is_configured
    assert (len(combo.events), len(combo.operators)) == (4, operator_count)
    combo.reserve()
    assert [event.name for event in combo.results] == [f"COMBO_EVENT_{n}_CORE" for n in range(operator_count)]
    if operator_count == 3:
        assert combo.event == combo.results[2]
    else:
        with pytest.raises(Invalid, match="third operator"):
            _ = combo.event


def test_combo_of_the_upper_slots_raises_the_second_event(device):
    lower, upper = ComboEvent(device, CORE), ComboEvent(device, CORE)
    reserve_all([lower, upper])
    upper.configure([ACTIVE, ACTIVE], ["or"])
    assert (upper.results, lower.results) == ((upper.event,), ())
    assert upper.event.name == "COMBO_EVENT_1_CORE"


# groupevent


def test_groupevent_basic(manager, device):
    """Handles of one mask share the group event, which is given back with the last of them."""
    first, other, same = (GroupEvent(device, CORE, ("core", "GROUP_CORE_STALL")) for _ in range(3))
    first.initialize(0x80)
    other.initialize(0x81)
    same.initialize(0x80)
    first.reserve()
    assert (first.id, held(manager, "group_event", CORE)) == (2, {2})
    with pytest.raises(Invalid, match="0x80"):
        other.reserve()
    same.reserve()
    assert same.lease_id == first.lease_id
    with pytest.raises(WrongState):
        other.start()
    other.stop()
    other.release()
    first.release()
    assert held(manager, "group_event", CORE) == {2}
    same.start()
    same.stop()
    same.release()
    assert (held(manager, "group_event", CORE), device.shared_groups) == (set(), {})
    other.reserve()
    assert other.mask == 0x81


@pytest.mark.parametrize("group", [("core", "ACTIVE_CORE"), ("mem", "GROUP_CORE_STALL"), None, -1, True, 2.0, "core"])
def test_groupevent_invalid(device, group):
    with pytest.raises(Invalid):
        GroupEvent(device, CORE, group)


@pytest.mark.parametrize("mask", [-1, 1 << 32, True, "0x80", None])
def test_groupevent_invalid_mask(device, mask):
    handle = GroupEvent(device, CORE, 2)
    with pytest.raises(Invalid):
        handle.initialize(mask)
    assert handle.state is State.CREATED


def test_groupevent_basic_mem_tile(ml_device):
    last, beyond = (GroupEvent(ml_device, (1, 1, "mem"), group) for group in (8, 9))
    last.initialize(1)
    beyond.initialize(1)
    last.reserve()
    assert last.id == 8
    with pytest.raises(Invalid):
        beyond.reserve()


# pc


def test_pc_pc_event(device):
    events = [PCEvent(device, CORE) for _ in range(5)]
    assert reserve_all(events[:4]) == [0, 1, 2, 3]
    assert events[3].event == leasehold.aie.Event("core", "PC_3_CORE")
    with pytest.raises(Exhausted):
        events[4].reserve()
    with pytest.raises(WrongState):
        events[0].start()
    events[0].configure(0x1000)
    events[0].start()
    assert events[0].addresses == (0x1000,)


def test_pc_pc_event_id(device):
    event = PCEvent(device, CORE)
    event.set_preferred_id(3)
    event.reserve()
    assert event.id == 3


@pytest.mark.parametrize("tile", [SHIM, MEM])
def test_pc_pc_event_extra(device, tile):
    for kind in (PCEvent, PCRange):
        with pytest.raises(Invalid, match="pc_event"):
            kind(device, tile)


def test_pc_pc_range(device):
    ranges = [PCRange(device, CORE) for _ in range(3)]
    reserve_all(ranges[:2])
    assert [one.ids for one in ranges[:2]] == [(0, 1), (2, 3)]
    assert [one.event.name for one in ranges[:2]] == ["PC_RANGE_0_1_CORE", "PC_RANGE_2_3_CORE"]
    with pytest.raises(Exhausted):
        ranges[2].reserve()
    ranges[0].release()
    single = PCEvent(device, CORE)
    single.reserve()
    with pytest.raises(Exhausted):
        ranges[2].reserve()
    with pytest.raises(Invalid):
        ranges[2].configure(8, 4)


def test_pc_pc_range_begins_at_an_even_event(device):
    single, two = PCEvent(device, CORE), PCRange(device, CORE)
    assert reserve_all([single, two]) == [0, 2]
    two.release()
    two.set_preferred_id(1)
    with pytest.raises(Invalid, match="multiple of 2"):
        two.reserve()


# ss and userevent


@pytest.mark.parametrize("tile", [CORE, SHIM])
def test_ss_basic(device, tile):
    ports = [StreamPortSelect(device, tile) for _ in range(9)]
    assert reserve_all(ports[:8]) == list(range(8))
    with pytest.raises(Exhausted):
        ports[8].reserve()
    ports[3].configure("master", "SOUTH", 1)
    assert ports[3].event("STALLED").name == f"PORT_STALLED_3_{tile[2].upper()}"
    ports[3].start()
    with pytest.raises(WrongState):
        ports[3].configure("slave", "SOUTH", 1)


@pytest.mark.parametrize("port", [("up", "DMA", 0), ("slave", "", 0), ("slave", "DMA", -1), ("slave", "DMA", "0")])
def test_ss_negative(device, port):
    with pytest.raises(Invalid, match="ss_event_port"):
        StreamPortSelect(device, MEM)
    selector = StreamPortSelect(device, CORE)
    with pytest.raises(Invalid):
        selector.configure(*port)
    with pytest.raises(Invalid):
        selector.event("LOUD")
    assert (selector.port, selector.is_configured) == (None, False)


def test_ss_negative_mem_tile(ml_device):
    """A memory tile has ports, other than the memory module of a compute tile."""
    ports = [StreamPortSelect(ml_device, (1, 1, "mem")) for _ in range(8)]
    assert reserve_all(ports) == list(range(8))
    with pytest.raises(Invalid):
        StreamPortSelect(ml_device, MEM)


@pytest.mark.parametrize("tile", [CORE, MEM, SHIM])
def test_userevent_basic(device, tile):
    events = [UserEvent(device, tile) for _ in range(5)]
    assert reserve_all(events[:4]) == [0, 1, 2, 3]
    assert events[3].event == leasehold.aie.Event(tile[2], f"USER_EVENT_3_{tile[2].upper()}")
    with pytest.raises(Exhausted):
        events[4].reserve()


@pytest.mark.parametrize("tile", [(1, 1, "mem"), SHIM])
def test_userevent_basic_mem_tile(ml_device, tile):
    events = [UserEvent(ml_device, tile) for _ in range(3)]
    assert reserve_all(events[:2]) == [0, 1]
    with pytest.raises(Exhausted):
        events[2].reserve()
