"""The disk under the state is full, fails, or hangs; or the daemon has no descriptor left."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

import leasehold
from rmapi.v1 import resource_manager_pb2 as pb
from support.bad_disk import COMPILER, BadDisk
from support.busy import BusyClients
from support.daemon import END_S, is_all_free
from support.raw_client import RawClient
from support.served import RawConnection, greeting
from support.waiting import in_thread, until

EXIT_STORE = 74
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler to make the disk fail")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def disk(tmp_path):
    return BadDisk(tmp_path)


# A full disk.


@pytest.mark.root
@needs_root
def test_on_a_full_disk_nothing_is_granted_everything_can_be_released_and_it_heals_by_itself(hurt, small_disk):
    daemon = hurt(state_directory=small_disk / "state")
    with daemon.connect() as client:
        leases = [client.acquire(streams=1) for _ in range(20)]
        fill(small_disk)
        with suppress(leasehold.StoreFull):
            for _ in range(200):
                leases.append(client.acquire(streams=1))  # noqa: PERF401 - until it is refused
        (warning,) = client.status().warnings
        assert "nothing new is granted until there is room" in warning
        assert "disk is full" in daemon.logged()
        with pytest.raises(leasehold.StoreFull):
            client.acquire(memory="1MiB")
        for lease in leases:
            lease.release()
        assert is_all_free(client)
        waiting = in_thread(lambda: client.acquire(memory="64MiB", wait=END_S))
        until(lambda: client.status().waiter_count)
        (small_disk / "filler").unlink()
        with waiting() as lease:
            assert lease.valid
            assert list(client.status().warnings) == []
            daemon.restart()
            lease.check()
            assert [one.id for one in client.leases()] == [lease.id]
        checked = client.check()
        assert (list(checked.differences), checked.compared_store) == ([], True)


@pytest.mark.root
@needs_root
def test_a_start_that_waits_for_room_on_a_full_disk_ends_when_it_is_told_to(hurt, small_disk):
    daemon = hurt(state_directory=small_disk / "state")
    daemon.stop()
    (daemon.state_directory / "ballast").unlink()
    fill(small_disk)
    daemon.launch()
    until(lambda: "disk is full" in daemon.logged())
    assert daemon.process.poll() is None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(END_S) == EXIT_STORE  # that it had started could not be written
    assert daemon.process.stdout.read() == "", "it never said that it was ready"
    assert "Traceback" not in daemon.logged()
    daemon.process.stdout.close()
    (small_disk / "filler").unlink()
    daemon.start()
    with daemon.connect() as client:
        client.acquire(streams=1).release()


def fill(place) -> None:
    with (place / "filler").open("wb", buffering=0) as filler:
        filler.truncate()
        try:
            while True:
                filler.write(bytes(4_096))
        except OSError:
            assert shutil.disk_usage(place).free == 0


# A failing disk.


@needs_compiler
@pytest.mark.parametrize(
    ("what", "status"), [("fail sync", EXIT_STORE), ("fail write", EXIT_STORE), ("tear", -signal.SIGKILL)]
)
def test_when_the_disk_fails_the_daemon_ends_and_no_answered_grant_is_lost(hurt, disk, what, status):
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    daemon = hurt(card_memory="24MiB", **disk.environment)
    with daemon.connect() as client, BusyClients(daemon, 2, seed) as busy:
        lease = client.acquire(memory="8MiB")
        wanted = busy.lease_count + chance.randrange(20)
        until(lambda: busy.lease_count >= wanted)
        disk.begin(what)
        assert daemon.wait() == status
        disk.end(what)
        daemon.start()
        seen = busy.lease_count
        until(lambda: busy.lease_count >= seen + 10)
        busy.finish()
        lease.check()
        lease.release()
        until(lambda: is_all_free(client))  # it may have been released before its window was handed back
        checked = client.check()
        assert (list(checked.differences), checked.compared_store) == ([], True)
    if status == EXIT_STORE:
        assert "the store failed" in daemon.logged()


# A disk that hangs.


@needs_compiler
def test_while_the_disk_hangs_keepalives_are_answered_and_grants_are_written_together(hurt, disk):
    """Each keepalive names leases that are granted in memory already: those are not lost, and not told of either."""
    daemon = hurt(**disk.environment)
    with closing(RawClient(str(daemon.run_directory))) as raw, ThreadPoolExecutor(21) as threads:
        assert raw.hold(stream_count=1, request_id=1) == "L1"
        synced = disk.sync_count
        disk.begin("hang")
        grants = [threads.submit(raw.hold, stream_count=1, request_id=2)]
        until(lambda: disk.sync_count == synced + 1)
        grants += [threads.submit(raw.hold, stream_count=1, request_id=request) for request in range(3, 23)]
        until(lambda: lost_of(raw, range(2, 23)) == [])
        assert not any(grant.done() for grant in grants)
        disk.end("hang")
        assert sorted(grant.result(END_S) for grant in grants) == sorted(f"L{number}" for number in range(2, 23))
    assert disk.sync_count == synced + 2  # the first alone, and twenty with one fsync


@needs_compiler
def test_a_disk_that_hangs_for_two_ttls_costs_nobody_a_lease(hurt, disk):
    daemon = hurt(**disk.environment)
    with daemon.connect() as client:
        lease = client.acquire(streams=1, ttl=2)
        disk.begin("hang")
        waiting = in_thread(lambda: client.acquire(memory="1MiB", ttl=2))
        time.sleep(5)  # longer than the ttl and the notice: what is tested
        lease.check()
        disk.end("hang")
        with waiting() as other:
            assert [(one.id, one.state) for one in client.leases()] == [(lease.id, "held"), (other.id, "held")]


def lost_of(raw: RawClient, numbers: range) -> list[str]:
    """Which of the leases with these numbers a keepalive says are lost."""
    asked = pb.KeepAliveRequest(lease_ids=[f"L{number}" for number in numbers])
    return list(raw.connection.ask(keep_alive=asked).keep_alive.lost_lease_ids)


# No descriptors.


def test_without_descriptors_those_who_are_served_stay_served_and_new_ones_come_in_later(hurt):
    daemon = hurt(descriptors_max=64)
    with daemon.connect() as client:
        lease = client.acquire(memory="1MiB")
        crowd = []
        while len(crowd) < 64 and is_let_in(daemon, crowd):
            pass
        assert 3 < len(crowd) < 64
        for _ in range(20):
            client.acquire(streams=1).release()
        with pytest.raises(leasehold.LeaseholdError):
            daemon.connect()
        lease.check()
        assert client.check().differences == []
        assert daemon.process.poll() is None
        for connection in crowd:
            connection.socket.close()
        with in_time(daemon) as other:
            other.acquire(memory="1MiB").release()
        assert [(one.id, one.state) for one in client.leases()] == [(lease.id, "held")]
        lease.release()
        assert is_all_free(client)


def is_let_in(daemon, crowd) -> bool:
    crowd.append(RawConnection(daemon.run_directory / "session.sock"))
    crowd[-1].socket.settimeout(10)  # its greeting waits for an fsync; waited out once, at the end
    try:
        greeting(crowd[-1])
    except (AssertionError, EOFError, OSError):  # refused in words, closed, or not even accepted
        return False
    return True


def in_time(daemon):
    """A client, once the daemon lets one in."""
    give_up_at = time.monotonic() + END_S
    while True:
        try:
            return daemon.connect()
        except leasehold.LeaseholdError:
            assert time.monotonic() < give_up_at
