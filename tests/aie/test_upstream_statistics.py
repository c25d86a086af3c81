"""The original's unit tests of what is counted, by their names; and the file between its compiler and its run time."""

import hashlib

from leasehold.aie import Broadcast, Device, PerfCounter, ResourceGroup, TraceControl, UserEvent
from leasehold.local import Manager
from support.aie import CORE, MEM, SHIM, held, totals

ACTIVE, LOCK = ("core", "ACTIVE_CORE"), ("mem", "LOCK_0_ACQ_MEM")
TILES = ((1, 1, "core"), (1, 2, "core"))
# Of the file that the original writes in this test (releases 2023.2 and 2024.1 alike).
FILE_SHA256 = "98450dfeaa651561e2e855ae89175a01007c2721b1e6fee163acd136fe4fa37a"


def counter_of(device, tile, stop=ACTIVE, **more) -> PerfCounter:
    counter = PerfCounter(device, tile, **more)
    counter.initialize(ACTIVE, stop)
    return counter


def compiled() -> bytes:
    """What the original's compiler would leave: a counter at each of two tiles, and a channel everywhere."""
    offline = Manager("aie")
    with Device(offline) as device:
        design = ResourceGroup([*(counter_of(device, tile) for tile in TILES), Broadcast(device)])
        design.reserve()
        return offline.dump()


def test_rscs_stat_rsc_basic(manager, device):
    """What objects hold is counted by module and type; a group of ones own counts only its members."""
    channel = Broadcast(device, [(1, 1, "core")])
    channel.set_preferred_id(9)
    group = ResourceGroup([channel])
    assert group.counts() == {}
    user = UserEvent(device, CORE)
    user.reserve()
    group.reserve()
    assert group.counts() == {((1, 1, "mem"), "bcast_channel"): 1, ((1, 1, "core"), "bcast_channel"): 1}
    assert held(manager, "bcast_channel", (1, 1, "core")) == {9}
    assert set(device.resources()) == {channel, user}
    group.release()
    assert (group.counts(), user.is_reserved) == ({}, True)


def test_rscs_stat_rsc_default_groups(manager, device):
    """Save, load, and take more beside what is set aside."""
    data = compiled()
    assert hashlib.sha256(data).hexdigest() == FILE_SHA256
    manager.load(data)
    shim = Broadcast(device, [(column, 0, "pl") for column in range(3)])
    control = TraceControl(device, (1, 3, "core"))
    control.initialize(ACTIVE, ACTIVE)
    taken = [shim, counter_of(device, TILES[0]), counter_of(device, TILES[1], LOCK, cross_module=True), control]
    for one in taken:
        one.reserve()
    slot = control.event(ACTIVE)
    slot.reserve()

    places = [("bcast_channel", SHIM), ("bcast_channel", TILES[1]), ("bcast_channel", CORE), ("perfcnt", TILES[0])]
    assert [manager.available(pool, tile) for pool, tile in places] == [14, 14, 15, 2]
    assert [manager.static(pool, tile) for pool, tile in places] == [1, 1, 1, 1]


def test_what_was_compiled_is_claimed_object_by_object_and_freed_to_be_claimed_again(manager, device):
    manager.load(compiled())
    (reservation,) = manager.reservations()
    before = totals(manager)
    counters = [counter_of(device, tile, reservation=reservation.name) for tile in TILES]
    for _ in range(2):
        channel = Broadcast(device, reservation=reservation.name)
        group = ResourceGroup([*counters, channel])
        group.reserve()
        assert ([one.id for one in group], len(channel.tiles)) == ([0, 0, 0], 850)
        assert manager.available("bcast_channel", MEM) == 15
        group.free()
        assert totals(manager) == before
