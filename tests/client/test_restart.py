"""The blocking client while its daemon dies, comes back, or does not."""

import queue
import time

import pytest

import leasehold
from support.waiting import DEADLINE_S, in_thread, until


def test_calls_outlive_a_daemon_that_restarts_and_its_leases_are_lost(own_daemon):
    client = own_daemon.connect()
    told = queue.SimpleQueue()
    lease = client.acquire(memory="1MiB")
    lease.on_lost(lambda lost: told.put((lost, client.acquire(streams=1))))  # it may call the client
    own_daemon.kill()
    result = in_thread(lambda: client.acquire(memory="2MiB"))
    own_daemon.start()

    fresh = result()
    lost, again = told.get(timeout=DEADLINE_S)
    assert lost is lease
    again.release()
    assert not lease.valid
    with pytest.raises(leasehold.LeaseLost, match="restarted"):
        lease.stream()
    assert fresh.valid
    assert [one.id for one in client.leases()] == [fresh.id]
    lease.release()
    client.close()


def test_a_call_gives_up_on_a_daemon_that_stays_away(own_daemon, monkeypatch):
    monkeypatch.setattr("leasehold.channel.RETRY_S", 0.3)
    client = own_daemon.connect()
    own_daemon.kill()

    with pytest.raises(leasehold.DaemonUnavailable, match="no daemon answered"):
        client.cards()
    client.close()


def test_closing_is_quick_though_the_daemon_is_dead(own_daemon):
    begun = time.monotonic()
    with own_daemon.connect() as client:
        client.acquire(memory="1MiB", streams=1)
        own_daemon.kill()

    assert time.monotonic() - begun < 15
    with pytest.raises(leasehold.Closed):
        client.cards()


def test_releasing_a_lost_lease_leaves_a_new_one_of_its_id_alone(own_daemon):
    client = own_daemon.connect()
    lost = queue.SimpleQueue()
    old = client.acquire(streams=1, ttl=1)
    old.on_lost(lost.put)
    own_daemon.kill()
    own_daemon.start()
    lost.get(timeout=DEADLINE_S)
    new = client.acquire(streams=1, ttl=1)
    assert new.id == old.id
    old.release()
    time.sleep(2)  # longer than the ttl: the new one must be renewed

    assert new.valid
    assert [lease.id for lease in client.leases()] == [new.id]
    client.close()


def test_a_wait_is_over_in_its_time_also_over_a_restart(own_daemon):
    client, holder = own_daemon.connect(), own_daemon.connect()
    holder.acquire(memory="64MiB")
    begun = time.monotonic()
    result = in_thread(lambda: client.acquire(memory="64MiB", wait=3))
    until(lambda: client.status().waiter_count)
    own_daemon.kill()
    own_daemon.start()
    with own_daemon.connect() as other, other.acquire(memory="1MiB", wait=10):
        with pytest.raises((leasehold.TimedOut, leasehold.Exhausted)):
            result()
        assert time.monotonic() - begun < 6
    holder.close()
    client.close()
