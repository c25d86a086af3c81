"""Holders that die: their units come back at once, and nothing of theirs is seen again."""

import signal
import statistics
import time

import pytest

import leasehold
from support.daemon import is_all_free, python

DEADLINE_S = 20

HOLDER = """
import sys, leasehold
client = leasehold.connect(sys.argv[1])
lease = client.acquire(memory=sys.argv[2], streams=256, label="holder")
lease.memory[:] = b"secret.." * (lease.memory.size // 8)
print("held", flush=True)
sys.stdin.readline()
"""

FORKING_HOLDER = """
import os, sys, leasehold
client = leasehold.connect(sys.argv[1])
lease = client.acquire(streams=256, label="holder")
if os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
print("held", flush=True)
os.kill(os.getpid(), 9)
"""

SILENT = """
import os, signal, sys, leasehold
client = leasehold.connect(sys.argv[1])
lease = client.acquire(memory="1MiB", ttl=1, label="silent")
print("held", flush=True)
sys.stdin.readline()
print(lease.valid, flush=True)
try:
    lease.memory.array("u1", 1)
except leasehold.LeaseLost as lost:
    print(lost.cause, flush=True)
"""


def until(condition):
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.002)


def test_a_waiter_has_the_units_of_a_killed_holder_and_none_of_its_bytes(daemon, client):
    """Twenty kills. The bar is a median below 20 ms; this only guards against something far off: bench/ measures."""
    taken_ms = []
    for _ in range(20):
        holder = python(HOLDER, str(daemon.run_directory), "32MiB")
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(leasehold.Exhausted):
            client.acquire(streams=1)
        events = client.events(past=0)
        holder.kill()
        killed = time.monotonic()
        with client.acquire(memory="64MiB", streams=256, wait=DEADLINE_S) as lease:
            taken_ms.append((time.monotonic() - killed) * 1e3)
            assert bytes(lease.memory).count(0) == lease.memory.size
        events.close()
        holder.communicate()

    assert statistics.median(taken_ms) < 1000, taken_ms


def test_every_way_to_end_gives_everything_back(daemon, client):
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT):
        holder = python(HOLDER, str(daemon.run_directory), "16MiB")
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(end)
        holder.communicate(timeout=DEADLINE_S)
        until(lambda: is_all_free(client))


def test_a_parents_death_ends_its_lease_though_a_forked_child_lives_on(daemon, client):
    holder = python(FORKING_HOLDER, str(daemon.run_directory))
    assert holder.stdout.readline() == "held\n"
    holder.wait(DEADLINE_S)
    until(lambda: not client.leases())

    assert client.acquire(streams=256).release() is None
    holder.communicate("\n", timeout=DEADLINE_S)


def test_a_stopped_holder_loses_its_lease_after_the_ttl_and_learns_of_it_before_it_uses_anything(daemon, client):
    holder = python(SILENT, str(daemon.run_directory))
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    until(lambda: not client.leases())
    with client.acquire(memory="64MiB") as lease:
        assert bytes(lease.memory[:8]) == bytes(8)
        holder.send_signal(signal.SIGCONT)
        out, err = holder.communicate("\n", timeout=DEADLINE_S)

    assert out.split("\n")[-2] == "keepalive missed", err
    assert [event.cause for event in client.events(past=20, follow=False) if event.cause][-2] == "keepalive missed"


def test_a_stopped_daemon_takes_no_lease_from_a_live_client(own_daemon):
    with own_daemon.connect() as client:
        leases = [client.acquire(streams=1, ttl=1) for _ in range(20)]
        own_daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(3)  # three times the ttl: what is tested
        own_daemon.process.send_signal(signal.SIGCONT)
        time.sleep(1.5)  # long enough for a tick and a missed keepalive

        assert [lease.valid for lease in leases] == [True] * 20
        assert len(client.leases()) == 20
