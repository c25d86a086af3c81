"""The memory of a lease: its bounds, its parts, its end."""

import fcntl
import gc
import itertools
import mmap
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

import leasehold
from leasehold.window import Budget, Window, _libc
from support.daemon import python

SIZE = 1 << 20

OUT_OF_BOUNDS = """
import ctypes, resource, sys
from leasehold.testing import FakeClient
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
lease = FakeClient(memory="4MiB").acquire(memory="1MiB")
window = lease.memory
ctypes.memset(window.address + window.size - 1, 1, 1)
print("inside", flush=True)
ctypes.memset(window.address + window.size, 1, 1)
print("survived", flush=True)
"""


def make_window(size=SIZE, total=SIZE):
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return Window.map(fd, size, budget=Budget("L1", total), check_lease=lambda: None)


@pytest.fixture
def window():
    made = make_window()
    yield made
    gc.collect()
    made.close()


def test_it_is_a_buffer_of_just_its_size(window):
    view = memoryview(window)

    assert (window.size, len(view)) == (SIZE, SIZE)
    view[-1] = 7
    assert window[-1] == 7
    view.release()


def test_a_write_past_its_end_ends_the_process_by_a_signal():
    process = python(OUT_OF_BOUNDS)
    out, _ = process.communicate(timeout=30)

    assert out == "inside\n"
    assert process.returncode == -signal.SIGSEGV


def test_there_is_a_guard_page_behind_every_window():
    windows = [make_window() for _ in range(8)]
    maps = Path("/proc/self/maps").read_text().splitlines()
    for one in windows:
        begin = f"{one.address + one.size:x}-"
        assert any(line.startswith(begin) and " ---p " in line for line in maps)
        one.close()


def test_the_guard_goes_with_its_window():
    window = make_window()
    behind = window.address + window.size
    window.close()
    del window
    gc.collect()

    assert not any(
        line.startswith(f"{behind:x}-{behind + mmap.PAGESIZE:x} ---p")
        for line in Path("/proc/self/maps").read_text().splitlines()
    )


def test_a_process_with_many_holes_of_just_a_window_s_size_has_room_for_one():
    page = mmap.PAGESIZE
    made = [_libc.mmap(None, SIZE + page, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0) for _ in range(40)]
    for address in made:
        _libc.munmap(address, SIZE)

    windows = [make_window() for _ in range(40)]

    for window in windows:
        window.close()
    for address in made:
        _libc.munmap(address + SIZE, page)


LIMITED = """
import resource
from pathlib import Path
from leasehold.testing import FakeClient
client = FakeClient(memory="64MiB")
status = Path("/proc/self/status").read_text()
used = int(status.partition("VmData:")[2].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (16 << 20), resource.RLIM_INFINITY))
print(client.acquire(memory="64MiB").memory.size)
"""


def test_a_limit_on_the_data_of_a_process_is_none_on_its_windows():
    process = python(LIMITED)
    out, complaint = process.communicate(timeout=30)

    assert (out, process.returncode) == (f"{64 << 20}\n", 0), complaint


# In a process with no other thread: whose stack or heap would be a mapping that comes or goes.
UNMAPPABLE = """
import gc, os
from leasehold.window import Budget, Window

def held():
    return len(os.listdir("/proc/self/fd")), len(open("/proc/self/maps").readlines())

def attempt():
    reading = os.open("/proc/self/exe", os.O_RDONLY)  # a file that nobody may map to write
    try:
        Window.map(reading, 1 << 20, budget=Budget("L1", 1 << 20), check_lease=lambda: None)
    except Exception as error:
        return type(error).__name__ + ": " + str(error)

attempt()  # what the first of its kind loads is not looked at
before = held()
print(attempt())
gc.collect()
print("nothing" if held() == before else (before, held()))
"""


def test_memory_that_cannot_be_mapped_is_an_error_of_the_library_and_leaves_nothing():
    out, complaint = python(UNMAPPABLE).communicate(timeout=30)

    error, left = out.splitlines()
    assert error.startswith("LeaseholdError: 1 MiB of a lease cannot be mapped in this process"), complaint
    assert left == "nothing"


def test_arrays_lie_in_it_and_do_not_overlap(window):
    one, two = window.array("f4", (16, 16)), window.array("u1", 100)
    one[:], two[:] = 1.5, 255

    assert (one == 1.5).all()
    assert one.ctypes.data % 64 == two.ctypes.data % 64 == 0
    assert all(window.address <= array.ctypes.data < window.address + SIZE for array in (one, two))


def test_what_no_view_needs_any_more_is_free_again(window):
    view = window.array("u1", SIZE)[10:20]
    with pytest.raises(leasehold.Exhausted):
        window.array("u1", 1)
    assert len(view) == 10
    del view
    gc.collect()

    assert window.budget.charged_bytes == 0
    assert len(window.allocate(SIZE)) == SIZE


def test_closing_while_arrays_live_is_a_clear_error_and_changes_nothing(window):
    array = window.array("u1", 10)
    array[:] = 3

    with pytest.raises(leasehold.WindowInUse, match="drop them"):
        window.close()

    assert (array == 3).all()


def test_no_room_in_a_row_says_what_there_is(window):
    parts = [window.allocate(SIZE // 4) for _ in range(4)]
    del parts[2], parts[0]
    gc.collect()

    with pytest.raises(leasehold.Exhausted, match="no gap") as caught:
        window.allocate(SIZE // 2)

    assert caught.value.facts == {"asked_bytes": SIZE // 2, "free_bytes": SIZE // 2, "total_bytes": SIZE}
    assert caught.value.reason == "POOL_EXHAUSTED"


def test_allocations_and_models_share_one_budget():
    window = make_window(total=SIZE)
    window.budget.charge(SIZE - 100, "a model")

    with pytest.raises(leasehold.Exhausted, match="100 B of its 1 MiB left"):
        window.allocate(101)

    part = window.allocate(100)
    assert window.budget.left_bytes == 0
    part.release()
    window.close()


def test_an_empty_array_takes_nothing(window):
    assert window.array("f4", (0, 5)).shape == (0, 5)
    assert window.budget.charged_bytes == 0


def test_abandoned_memory_reads_as_zeros_and_never_faults():
    window = make_window()
    array = window.array("u1", 100)
    array[:] = 9
    fd = os.memfd_create("other")

    window.abandon()

    assert (array == 0).all()
    array[:] = 1  # of this process alone now
    os.close(fd)


def test_a_lost_lease_hands_out_nothing():
    def lost():
        raise leasehold.LeaseLost("L1", "test")

    fd = os.memfd_create("test")
    os.ftruncate(fd, SIZE)
    window = Window.map(fd, SIZE, budget=Budget("L1", SIZE), check_lease=lost)

    with pytest.raises(leasehold.LeaseLost):
        window.allocate(1)
    window.close()


def test_threads_never_get_overlapping_parts():
    window = make_window(size=4 << 20, total=4 << 20)
    parts, switch_interval = [], sys.getswitchinterval()

    def allocate():
        parts.extend(window.array("u1", 1024) for _ in range(300))

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=allocate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(switch_interval)

    starts = sorted(part.ctypes.data for part in parts)
    assert len(starts) == 1200
    assert all(later - earlier >= 1024 for earlier, later in itertools.pairwise(starts))
    assert window.budget.charged_bytes == 1200 * 1024
    parts.clear()
    gc.collect()
    assert window.budget.charged_bytes == 0


@pytest.mark.parametrize("shape", [-1, (4, -1), (-(1 << 30),)])
def test_a_shape_that_none_can_be_changes_nothing(window, shape):
    with pytest.raises(ValueError, match="no shape"):
        window.array("u1", shape)
    assert window.budget.left_bytes == SIZE


def test_a_shape_of_more_than_all_memory_is_refused_and_changes_nothing(window):
    with pytest.raises(leasehold.Exhausted):
        window.array("f8", (1 << 40, 1 << 40))
    assert window.budget.left_bytes == SIZE


def test_a_numpy_integer_is_a_shape(window):
    import numpy as np

    assert window.array("u1", np.int64(5)).shape == (5,)


def test_its_size_is_not_for_the_client_to_change(window):
    with pytest.raises(TypeError, match="extend"):
        window.resize(10)
    assert window.size == SIZE
