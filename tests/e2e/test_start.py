"""How a daemon starts beside another, and on a state that it cannot trust: it says so, and never starts empty."""

import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

import leasehold
from support.daemon import END_S, is_all_free
from support.waiting import until

EXIT_USAGE = 2
EXIT_DAMAGED = 65
EXIT_TAKEN = 75
# A process tree of its own: windows of other daemons on this host do not count there.
ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
WITH_BYSTANDER = """
import os, signal, sys
if not os.fork():
    signal.pause()
os.close(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def left_behind(hurt, puppets):
    """A daemon that was stopped, and has left a state with one lease and what came and went before."""
    daemon = hurt()
    holder = puppets(daemon)
    holder("for _ in range(5): hold(streams=1).release()")
    holder("lease = hold(memory='1MiB', streams=1, label='precious')")
    daemon.stop()
    return daemon


def content(daemon) -> dict[str, bytes]:
    """Every file of the state, but for the lock."""
    return {path.name: path.read_bytes() for path in daemon.state_directory.iterdir() if path.name != "lock"}


def damage(daemon) -> None:
    """Flips a bit in the record of a lease."""
    path = daemon.state_directory / "state.db"
    data = bytearray(path.read_bytes())
    data[data.index(b"precious")] ^= 1
    path.write_bytes(data)


def test_a_second_daemon_is_told_so_and_the_leases_of_the_first_stand(hurt, puppets):
    daemon = hurt()
    holder = puppets(daemon)
    holder("lease = hold(memory='1MiB'); lease.memory[:5] = b'hello'")
    before = content(daemon)
    for _ in range(2):
        second = daemon.refuse()
        assert (second.returncode, second.stdout) == (EXIT_TAKEN, "")
        assert "another daemon runs in" in second.stderr
    assert content(daemon) == before
    assert holder("lease.check(), bytes(lease.memory[:5]) == b'hello', lost") == [None, True, []]
    with daemon.connect() as client:
        client.acquire(memory="1MiB").release()
        assert client.status().epoch == 1


def test_a_damaged_state_is_refused_as_often_as_it_is_tried_and_left_as_it_is(left_behind):
    damage(left_behind)
    before = content(left_behind)
    for _ in range(2):
        refused = left_behind.refuse()
        assert (refused.returncode, refused.stdout) == (EXIT_DAMAGED, "")
        assert "is not as it was written" in refused.stderr
        assert "--recover=salvage" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert content(left_behind) == before


@pytest.mark.parametrize("name", ["state.db", "state.db and its log"])
def test_a_state_that_is_gone_is_no_first_start(left_behind, name):
    for path in left_behind.state_directory.glob("state.db*"):
        path.unlink()
    if name != "state.db":
        (left_behind.state_directory / "ballast").unlink()
    refused = left_behind.refuse()
    assert refused.returncode == EXIT_DAMAGED
    assert "shows that there was a store" in refused.stderr
    assert not (left_behind.state_directory / "state.db").exists()


def test_the_state_of_a_newer_daemon_is_refused(left_behind):
    with closing(sqlite3.connect(left_behind.state_directory / "state.db")) as state:
        state.execute("PRAGMA user_version = 99")
    before = content(left_behind)
    refused = left_behind.refuse()
    assert refused.returncode == EXIT_DAMAGED
    assert "was written by a newer rmd: it has schema 99" in refused.stderr
    assert content(left_behind) == before


def test_a_state_that_can_be_read_is_not_salvaged(left_behind):
    before = content(left_behind)
    refused = left_behind.refuse("--recover", "salvage")
    assert (refused.returncode, refused.stdout) == (EXIT_USAGE, "")
    assert "there is nothing to salvage" in refused.stderr
    assert content(left_behind).keys() == before.keys()
    assert content(left_behind)["state.db"] == before["state.db"]
    left_behind.start()
    with left_behind.connect() as client:
        assert [lease.label for lease in client.leases()] == ["precious"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a process tree of its own")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_what_was_salvaged_is_given_out_when_nobody_has_a_window_any_more(left_behind):
    """Who has a window from before is not known any more, so everything waits until no process has one at all."""
    damage(left_behind)
    window = os.memfd_create("leasehold-L1-0", 0)
    os.ftruncate(window, 65_536)
    left_behind.wrapper = (*ALONE, sys.executable, "-c", WITH_BYSTANDER, str(window))
    left_behind.launch("--recover", "salvage", inherited=(window,))
    os.close(window)
    assert left_behind.process.stdout.readline().startswith("ready ")
    with leasehold.connect(left_behind.run_directory) as client:
        assert client.leases() == []
        pools = client.cards()[0].pools
        assert [(pool.free, pool.quarantined) for pool in pools] == [(0, pool.total) for pool in pools]
        assert "in quarantine until nobody uses them" in client.status().warnings[0]
        with pytest.raises(leasehold.Exhausted):
            client.acquire(streams=1)
        assert "salvaged" in left_behind.logged()
        assert len(list(left_behind.state_directory.glob("state.db.damaged-1*"))) == 1

        os.kill(only_child(only_child(left_behind.process.pid)), signal.SIGKILL)
        lease = client.acquire(memory="64MiB", streams=256, wait=END_S)
        assert lease.token > 1_000  # far above every one that may have been given out before
        lease.release()
        until(lambda: is_all_free(client))
        checked = client.check()
        assert (list(checked.differences), checked.compared_store) == ([], True)


def only_child(pid: int) -> int:
    """The one child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
