"""Which card a device is of, how modules are named, and that the package is light."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import leasehold
import leasehold.aie
import leasehold.aio
from leasehold import Invalid
from leasehold.aie import Broadcast, Device, Event, PerfCounter, UserEvent
from leasehold.local import Manager
from leasehold.testing import FakeClient
from support.aie import CORE, held, totals


@pytest.mark.parametrize("site", [CORE, "1,3,core"])
def test_a_module_is_named_by_a_tuple_or_as_text(device, site):
    assert UserEvent(device, site).tile == CORE


@pytest.mark.parametrize(
    "site", [(1, 3), (1, 3, "pl"), (1, 0, "core"), (-1, 3, "core"), "1,3,", "", None, 5, ([],), [1]]
)
def test_a_module_that_is_not_there_is_refused(device, site):
    with pytest.raises(Invalid, match="module"):
        UserEvent(device, site)


def test_a_tile_has_its_modules_in_the_drivers_order(device, ml_device):
    assert device.modules(CORE) == ((1, 3, "mem"), CORE)
    assert device.modules((1, 0, "pl")) == ((1, 0, "pl"),)
    assert ml_device.modules((1, 1, "mem")) == ((1, 1, "mem"),)


def test_a_small_array_of_ones_own_shape():
    with Device(Manager("aie:2x3")) as device, Broadcast(device) as channel:
        channel.reserve()
        assert len(channel.tiles) == 10
        with pytest.raises(Invalid):
            UserEvent(device, (2, 1, "core"))


def test_a_shim_without_all_channels_bounds_the_ids_that_are_common():
    with Device(Manager("aie2ipu")) as device, Broadcast(device) as channel:
        channel.set_preferred_id(15)
        with pytest.raises(Invalid):
            channel.reserve()
        channel.set_preferred_id(14)
        channel.reserve()
        assert channel.id == 14


@pytest.mark.parametrize(("profile", "card"), [("ax-m1", None), ("aie", "1"), ("aie", "")])
def test_a_card_that_is_no_array_is_refused(profile, card):
    with pytest.raises(Invalid, match="array"):
        Device(Manager(profile), card)


def test_an_await_client_is_refused():
    with pytest.raises(Invalid, match="blocking"):
        Device(leasehold.aio.Client("/nowhere"))


def test_a_client_for_tests_of_ones_own_will_do():
    client = FakeClient("aie", cards=2)
    with Device(client, "1") as device, PerfCounter(device, CORE) as counter:
        counter.initialize(("mem", 1), ("core", 2))
        counter.reserve()
        counter.start()
        (lease,) = client.leases()
        assert (lease.card, lease.units("perfcnt"), counter.channels) == ("1", (0,), {"start": 0})
        with pytest.raises(Invalid):
            client.bitmap("perfcnt", "2")
    assert client.leases() == []


def test_a_lease_that_is_lost_does_not_start_and_its_object_can_be_ended():
    client = FakeClient("aie")
    with Device(client) as device, PerfCounter(device, CORE) as counter, PerfCounter(device, CORE) as other:
        for one in (counter, other):
            one.initialize(("mem", 1), ("core", 2))
            one.reserve()
        client.lose(client._leases[counter.lease_id])
        with pytest.raises(leasehold.LeaseLost):
            counter.start()
        assert counter.is_reserved
        other.start()
        counter.release()
        counter.reserve()
        assert counter.id == 0


@pytest.mark.parametrize(
    "event", [("core",), ("io", 1), ("core", ""), ("core", -1), ("core", True), ("core", 1.5), ("core", "a\n"), 7, None]
)
def test_no_event_is_refused(device, event):
    counter = PerfCounter(device, CORE)
    with pytest.raises(Invalid):
        counter.initialize(event, event)
    assert not counter.is_initialized
    assert totals(device._manager) == {}


def test_an_event_is_a_name_or_a_number():
    assert str(Event("core", 28)) == "core:28"
    assert Event("mem", "A") == Event("mem", "A") != Event("core", "A")


def test_a_gated_tile_is_left_out_of_the_whole_array_and_refused_on_a_path(manager, device):
    manager.gate([(1, 8)])
    with pytest.raises(Invalid, match="gated"):
        Broadcast(device, [(1, 8, "mem")]).reserve()
    everywhere, chosen = Broadcast(device), Broadcast(device)
    chosen.set_preferred_id(9)
    for channel in (everywhere, chosen):
        channel.reserve()
        assert (len(channel.tiles), (1, 8, "mem") in channel.tiles) == (848, False)
    assert (held(manager, "bcast_channel", CORE), held(manager, "bcast_channel", (1, 8, "core"))) == ({0, 9}, set())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking with threads, which is the point
def test_a_child_forked_while_another_thread_has_its_turn_waits_for_nobody(device):
    """The other thread is not in the child, and would never let go."""
    has_lock, may_end = threading.Event(), threading.Event()

    def hold():
        with device.lock:
            has_lock.set()
            may_end.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    has_lock.wait()
    child = os.fork()
    if not child:
        os._exit(0 if device.lock.acquire(blocking=False) else 1)
    may_end.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0


def test_the_package_is_light_and_has_all_its_names():
    source = (
        "import sys, leasehold.aie\n"
        "assert not {'leasehold.aie.device', 'leasehold.aie.resource', 'leasehold.local'} & sys.modules.keys()\n"
        "assert all(getattr(leasehold.aie, name) for name in leasehold.aie.__all__)\n"
        "assert not [name for name in sys.modules if name == 'rm' or name.startswith('rm.')]\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)
    with pytest.raises(AttributeError):
        _ = leasehold.aie.Nothing


def test_the_example_of_the_page_runs():
    page = Path(__file__).parents[2] / "docs/aie-objects.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(example, {})
