"""The daemon ends, in whatever way, and comes back: no lease of a living process is lost, and none is given twice."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import leasehold
from rmapi.v1 import resource_manager_pb2 as pb
from support.busy import BusyClients
from support.daemon import END_S, RMCTL, has_become, is_all_free
from support.waiting import in_thread, until

EXIT_CARDS_DIFFER = 78

SPEAKS_LATE = """
import mmap, os, sys
fd, size = map(int, os.environ["LEASEHOLD_WINDOWS"].split(":"))
with mmap.mmap(fd, size) as memory:
    memory[:5] = b"hello"
print("written", flush=True)
sys.stdin.readline()
import leasehold
with leasehold.connect() as client, client.inherited() as lease:
    same = os.fstat(fd).st_ino == os.fstat(lease.memory.fd).st_ino
    print(lease.id, lease.memory[:5], same)
"""


@pytest.fixture
def chance():
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    return random.Random(seed)


@pytest.mark.timeout(600)
def test_twelve_kills_lose_no_answered_grant_and_double_none(hurt, chance, record_property):
    """A kill comes after a random number of leases, so also while everybody is still coming back."""
    daemon = hurt(card_memory="24MiB")
    with daemon.connect() as client:
        long = client.acquire(memory="8MiB", cores=1, streams=1)
        data = long.memory.array("u4", 2 << 20)
        data[:] = np.arange(2 << 20)
        tokens = kill_twelve_times(daemon, client, chance, record_property)

        long.check()
        assert (data == np.arange(2 << 20)).all()
        assert tokens == sorted(set(tokens))
        assert client.status().epoch == 13
        assert [lease.token for lease in client.leases()] == [long.token, *tokens]
        del data
    assert_all_is_back(daemon)


def kill_twelve_times(daemon, client, chance, record_property) -> list[int]:
    with BusyClients(daemon, 4, chance.randrange(1 << 32)) as busy:
        tokens = []
        for _ in range(12):
            wanted = busy.lease_count + chance.randrange(15)
            until(lambda wanted=wanted: busy.lease_count >= wanted)
            daemon.restart()
            tokens.append(client.acquire(streams=1, wait=END_S).token)  # others may be in front already
        seen = busy.lease_count
        until(lambda: busy.lease_count >= seen + 20)
        busy.finish()
        record_property("longest_call_s", busy.longest[0])
        sys.stdout.write(f"{busy.lease_count} leases; the longest call: {busy.longest}\n")
    return tokens


def test_sigterm_and_a_new_start_keep_every_lease(restarted):
    with restarted.connect() as client:
        lease = client.acquire(memory="8MiB", cores=1, streams=2, label="kept")
        lease.memory[:5] = b"hello"
        (before,) = client.leases()
        for _ in range(2):
            restarted.restart(number=signal.SIGTERM)
            (after,) = client.leases()
            assert (after.id, after.token, after.allotments) == (before.id, before.token, before.allotments)
            assert (after.label, after.pid, after.granted) == ("kept", os.getpid(), before.granted)
        until(lambda: [one.state for one in client.leases()] == ["held"])
        assert client.acquire(streams=1).token > lease.token
        lease.check()
        assert lease.memory[:5] == b"hello"
        lease.extend(memory="1MiB")
        lease.give_back("streams", lease.units("streams")[:1])
    assert_all_is_back(restarted)


def test_busy_clients_see_no_error_when_a_daemon_is_stopped_politely(hurt, chance):
    daemon = hurt(card_memory="24MiB")
    with BusyClients(daemon, 3, chance.randrange(1 << 32)) as busy:
        for _ in range(2):
            wanted = busy.lease_count + chance.randrange(10)
            until(lambda wanted=wanted: busy.lease_count >= wanted)
            daemon.restart(number=signal.SIGTERM)
        busy.finish()
    assert_all_is_back(daemon)


def test_a_daemon_killed_while_it_starts_has_lost_nothing(restarted, chance):
    with restarted.connect() as client:
        lease = client.acquire(memory="1MiB", streams=1)
        lease.memory[0] = 7
        begun = time.monotonic()
        restarted.restart()
        start_s = time.monotonic() - begun
        for _ in range(3):
            restarted.kill()
            restarted.launch()
            time.sleep(chance.uniform(0.3, 1) * start_s)  # anywhere in its start: whatever it is at, nothing is lost
        restarted.kill()
        restarted.start()

        lease.check()
        assert [one.id for one in client.leases()] == [lease.id]
        assert lease.memory[0] == 7
    assert_all_is_back(restarted)


def test_units_of_a_client_that_died_while_no_daemon_ran_are_back_after_the_start(restarted, puppets):
    holder, other = puppets(restarted), puppets(restarted)
    holder("lease = hold(memory='32MiB', cores=1, streams=4)")
    other("lease = hold(streams=1)")
    restarted.kill()
    holder.kill()
    restarted.start()

    with restarted.connect() as client:
        client.acquire(memory="64MiB", cores=1, streams=255, wait=END_S).release()
        assert [lease.pid for lease in client.leases()] == [other.pid]
        assert other("lease.check(), lease.units('streams')[0]") == [None, 4]
        other.kill()
    assert_all_is_back(restarted)


def test_a_wait_goes_on_over_a_restart(restarted, puppets):
    """The queue is not kept; whoever waits asks again, and its place is lost, not its turn."""
    holder = puppets(restarted)
    holder("lease = hold(memory='64MiB')")
    with restarted.connect() as client:
        result = in_thread(lambda: client.acquire(memory="64MiB", wait=END_S))
        until(lambda: client.status().waiter_count)
        restarted.restart()
        until(lambda: client.status().waiter_count)
        holder("lease.release()")
        with result() as lease:
            assert lease.valid
    holder.kill()
    assert_all_is_back(restarted)


def test_a_lease_of_a_command_that_never_speaks_survives_and_ends_with_its_process(restarted):
    environment = os.environ | {"LEASEHOLD_ADDRESS": str(restarted.run_directory)}
    wanted = ["run", "--memory", "1MiB", "--streams", "2", "--", "sleep", "1000"]
    with restarted.connect() as client, subprocess.Popen([*RMCTL, *wanted], env=environment) as command:
        until(lambda: has_become(command, "sleep"))
        (before,) = client.leases()
        restarted.restart()
        (after,) = client.leases()
        assert (after.id, after.pid, after.command) == (before.id, command.pid, "sleep 1000")
        with pytest.raises(leasehold.Held):
            client.acquire(leasehold.Ids("streams", after.units("streams")))
        command.kill()
        command.wait(END_S)
        until(lambda: is_all_free(client))
    assert_all_is_back(restarted)


def test_a_command_that_first_speaks_after_a_restart_finds_its_lease_and_its_memory(restarted):
    environment = os.environ | {"LEASEHOLD_ADDRESS": str(restarted.run_directory)}
    wanted = [*RMCTL, "run", "--memory", "4MiB", "--", sys.executable, "-c", SPEAKS_LATE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with restarted.connect() as client, subprocess.Popen(wanted, env=environment, **pipes) as command:
        assert command.stdout.readline() == "written\n"
        (before,) = client.leases()
        restarted.restart()
        told, _ = command.communicate("go on\n", timeout=END_S)

        assert (told, command.returncode) == (f"{before.id} b'hello' True\n", 0)
        until(lambda: is_all_free(client))
    assert_all_is_back(restarted)


def test_other_cards_are_refused_while_leases_live_and_the_old_ones_serve_on(hurt):
    daemon = hurt()
    with daemon.connect() as client:
        lease = client.acquire(memory="32MiB", streams=1)
        lease.memory[:5] = b"hello"
        daemon.kill()
        refused = daemon.refuse("--card-memory", "32MiB")

        assert refused.returncode == EXIT_CARDS_DIFFER
        assert refused.stdout == ""
        assert refused.stderr.startswith("rmd: the state is of other cards (1 x embedded: memory 1024")
        assert "1 leases" in refused.stderr
        assert "--state-dir" in refused.stderr
        assert refused.stderr.count("\n") == 1
        daemon.start()
        lease.check()
        assert lease.memory[:5] == b"hello"
        assert [one.id for one in client.leases()] == [lease.id]
        lease.release()
        until(lambda: is_all_free(client))  # it may have been released before its window was handed back
        daemon.kill()
        daemon.start("--card-memory", "32MiB")  # with nothing in use other cards are welcome
        assert client.cards()[0].pool("memory").total == 512
    assert_all_is_back(daemon)


def test_a_daemon_without_durability_forgets_everything(hurt):
    daemon = hurt("--durability", "none")
    with daemon.connect() as client:
        lease = client.acquire(memory="1MiB", ttl=1)
        daemon.restart()
        until(lambda: not lease.valid)
        with pytest.raises(leasehold.LeaseLost, match="restarted"):
            lease.check()
        assert client.acquire(streams=1).id == lease.id == "L1"
        assert not any((daemon.directory / "state").glob("state.db*"))
    assert_all_is_back(daemon)


def assert_all_is_back(daemon) -> None:
    with daemon.connect() as client:
        until(lambda: is_all_free(client))
        checked = client.check()
        assert (list(checked.differences), checked.lease_count) == ([], 0)
        assert checked.compared_store is (client.status().durability == pb.GetStatusResponse.DURABILITY_FULL)
