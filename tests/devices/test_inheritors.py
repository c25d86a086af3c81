"""Who still has a window that the daemon has no descriptor of: real processes, their children, and their ends."""

import errno
import os
import queue
import subprocess
import sys

import pytest

from rm.core.lease import ANY_WINDOW, WindowMark
from rm.devices import inheritors
from rm.devices.inheritors import Inheritors, are_in_use
from support.windows import DEADLINE_S, Keeper, make, memory

NOBODY = 2**22 + 1  # no pid is as high
NOBODYS_UID = 65_534
NAMESAKE = """
import mmap, os, sys
way, uid = sys.argv[1], int(sys.argv[2])
os.setgroups([])
os.setuid(uid)
fd = os.memfd_create("leasehold-evil")
os.ftruncate(fd, 65_536)
status = os.fstat(fd)
if way == "maps":
    view = mmap.mmap(fd, 0)
    os.close(fd)
print(status.st_dev, status.st_ino, flush=True)
sys.stdin.read()
"""


def is_told_of_mapped_files() -> bool:
    """Whether the kernel tells this process what file a mapping is of: only with CAP_SYS_ADMIN or the like."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        addresses = next(line.split()[0] for line in maps if ".so" in line)
    try:
        os.stat(f"/proc/self/map_files/{addresses}")
    except PermissionError:
        return False
    return True


@pytest.fixture
def watcher():
    made = Inheritors()
    yield made
    made.close()


@pytest.fixture
def telling():
    """A watcher, and what it tells of: leases that are still in use."""
    told = queue.SimpleQueue()
    made = Inheritors(lambda lease_id, seen_s: told.put(lease_id))
    yield made, told
    made.close()


@pytest.fixture
def window():
    """A window that this process alone has: what it has itself it does not count."""
    backend = make()
    backend.prepare("L1", "0", [memory(0, 2)], first_index=0)
    (made,) = backend.windows("L1")
    yield made
    backend.close()


@pytest.mark.parametrize("way", Keeper.WAYS)
def test_a_window_is_in_use_until_the_last_process_that_has_it_ends(window, way) -> None:
    assert not are_in_use((window.mark,))
    with Keeper(way, window.fd):
        assert are_in_use((window.mark,))
        assert are_in_use((ANY_WINDOW,))
    assert not are_in_use((window.mark,))


def test_another_window_of_the_same_process_does_not_count(window) -> None:
    with Keeper("maps", window.fd):
        mark = window.mark
        assert not are_in_use((WindowMark(0, mark.size_bytes, mark.device, mark.inode + 1_000_000),))
        assert not are_in_use((WindowMark(0, mark.size_bytes, mark.device + 1, mark.inode),))


@pytest.mark.parametrize("way", Keeper.WAYS)
def test_it_is_told_once_when_the_last_process_that_has_a_window_ends(watcher, window, way, monkeypatch) -> None:
    monkeypatch.setattr(inheritors, "_PERIOD_S", 0.01)
    looked, told = queue.SimpleQueue(), queue.SimpleQueue()
    look = inheritors._files_in_use

    def counted():
        found = look()
        looked.put(window.mark.inode in {inode for _, inode in found[0]})
        return found

    monkeypatch.setattr(inheritors, "_files_in_use", counted)
    with Keeper(way, window.fd) as keeper:
        watcher.watch("L1", keeper.first_pid, (window.mark,), lambda: told.put("quiet"))
        assert [looked.get(timeout=DEADLINE_S) for _ in range(3)] == [True] * 3
        assert told.empty()
    assert told.get(timeout=DEADLINE_S) == "quiet"
    watcher.close()
    assert told.empty()


def test_what_nobody_has_is_told_at_once_and_others_go_on_being_watched(watcher, window) -> None:
    told = queue.SimpleQueue()
    gone = WindowMark(0, 1, window.mark.device, window.mark.inode + 1_000_000)
    with Keeper("opens", window.fd) as keeper:
        watcher.watch("L1", keeper.pid, (window.mark,), lambda: told.put("kept"))
        watcher.watch("L2", NOBODY, (gone,), lambda: told.put("gone"))
        assert told.get(timeout=DEADLINE_S) == "gone"
        assert told.empty()
    assert told.get(timeout=DEADLINE_S) == "kept"


def test_what_is_still_in_use_after_a_moment_is_told_until_it_is_not(telling, monkeypatch, window) -> None:
    watcher, told = telling
    monkeypatch.setattr(inheritors, "GRACE_S", 0.0)
    with Keeper("opens", window.fd) as keeper:
        watcher.watch("L1", keeper.pid, (window.mark,), lambda: told.put("quiet"))
        assert [told.get(timeout=DEADLINE_S) for _ in range(2)] == ["L1"] * 2
    while told.get(timeout=DEADLINE_S) != "quiet":
        pass
    watcher.close()
    assert told.empty()


def test_nobody_is_told_of_who_lets_go_in_the_first_moment(telling, monkeypatch, window) -> None:
    watcher, told = telling
    monkeypatch.setattr(inheritors, "GRACE_S", 3_600.0)
    with Keeper("opens", window.fd) as keeper:
        watcher.watch("L1", keeper.pid, (window.mark,), lambda: told.put("quiet"))
        with pytest.raises(queue.Empty):
            told.get(timeout=3 * inheritors._PERIOD_S)
    assert told.get(timeout=DEADLINE_S) == "quiet"


def test_a_lease_is_quiet_with_the_last_of_its_windows(watcher, window) -> None:
    backend, told = make(), queue.SimpleQueue()
    backend.prepare("L2", "0", [memory(0, 1)], first_index=0)
    (other,) = backend.windows("L2")
    with Keeper("maps", other.fd) as last:
        with Keeper("maps", window.fd):
            watcher.watch("L1", last.pid, (window.mark, other.mark), lambda: told.put("quiet"))
        assert are_in_use((window.mark, other.mark))
        assert told.empty()
    assert told.get(timeout=DEADLINE_S) == "quiet"
    backend.close()


def test_a_holder_that_cannot_be_looked_into_has_its_windows_and_nobody_else_is_suspected(monkeypatch, window) -> None:
    def closed(pid: str):
        raise PermissionError(pid)

    with Keeper("opens", window.fd) as keeper:
        monkeypatch.setattr(inheritors, "_mapped_by", closed)
        files, hidden = inheritors._files_in_use()
        assert keeper.pid in hidden
        assert inheritors._has_any(keeper.pid, (window.mark,), files, hidden)
        assert not inheritors._has_any(NOBODY, (window.mark,), files, hidden)


def test_a_process_that_ends_while_it_is_looked_at_is_no_fault(monkeypatch, window) -> None:
    def gone(pid: str):
        raise ProcessLookupError(pid)

    monkeypatch.setattr(inheritors, "_opened_by", gone)
    assert not are_in_use((window.mark,))


def test_a_file_that_only_has_the_name_of_a_window_is_not_taken_for_one(window) -> None:
    fd = os.memfd_create("leasehold-L1-0")
    with Keeper("opens", fd):
        assert not are_in_use((window.mark,))
    os.close(fd)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("way", ["opens", "maps"])
@pytest.mark.parametrize(("uid", "is_window"), [(NOBODYS_UID, False), (0, True)])
def test_a_file_of_another_user_is_no_window_whatever_its_name(way, uid, is_window) -> None:
    if way == "maps" and not is_told_of_mapped_files():
        pytest.skip("the kernel tells only who is privileged what file another process maps")
    command = [sys.executable, "-c", NAMESAKE, way, str(uid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        device, inode = map(int, process.stdout.readline().split())
        assert are_in_use((WindowMark(0, 65_536, device, inode),)) == is_window
        process.stdin.close()


@pytest.mark.parametrize(
    "way",
    [
        "opens",
        pytest.param(
            "maps",
            marks=[
                pytest.mark.root,
                pytest.mark.skipif(not is_told_of_mapped_files(), reason="the kernel tells only who is privileged"),
            ],
        ),
    ],
)
def test_a_window_that_was_truncated_is_not_in_use_though_a_process_has_it(watcher, window, way) -> None:
    told = queue.SimpleQueue()
    with Keeper(way, window.fd) as keeper:
        assert are_in_use((window.mark,))
        os.ftruncate(window.fd, 0)
        assert not are_in_use((window.mark,))
        watcher.watch("L1", keeper.pid, (window.mark,), lambda: told.put("quiet"))
        assert told.get(timeout=DEADLINE_S) == "quiet"


def test_a_look_that_fails_is_taken_again_and_what_is_quiet_is_told(watcher, window, monkeypatch) -> None:
    monkeypatch.setattr(inheritors, "_PERIOD_S", 0.01)
    looks, told = [], queue.SimpleQueue()
    look = inheritors._files_in_use

    def fails_once():
        looks.append("look")
        if len(looks) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return look()

    monkeypatch.setattr(inheritors, "_files_in_use", fails_once)
    watcher.watch("L1", NOBODY, (window.mark,), lambda: told.put("quiet"))
    assert told.get(timeout=DEADLINE_S) == "quiet"
    assert len(looks) == 2
    assert watcher._thread.is_alive()


def test_closing_ends_the_watching_though_a_window_is_in_use(window) -> None:
    watcher = Inheritors()
    with Keeper("opens", window.fd) as keeper:
        watcher.watch("L1", keeper.pid, (window.mark,), lambda: pytest.fail("it was told after the end"))
        watcher.close()
        assert not watcher._thread.is_alive()
    Inheritors().close()
