"""The blocking client while its daemon dies, comes back, or does not."""

import os
import queue
import time

import pytest

import leasehold
from leasehold import calls
from leasehold.lease import Lease
from support.daemon import Daemon, is_all_free
from support.waiting import DEADLINE_S, in_thread, until


@pytest.fixture
def forgetful():
    """A daemon that keeps nothing on disk: who comes back to it is unknown."""
    started = Daemon("--durability", "none")
    yield started
    started.remove()


def test_calls_and_leases_outlive_a_daemon_that_restarts(own_daemon):
    with own_daemon.connect() as client:
        lease = client.acquire(memory="1MiB", streams=1)
        lease.on_lost(lambda lost: pytest.fail(f"{lost} was lost"))
        data = lease.memory.array("u1", 1000)
        data[:] = 7
        own_daemon.kill()
        result = in_thread(lambda: client.acquire(memory="2MiB"))
        assert lease.stream().submit(data.sum, dtype=int).result() == 7000  # it needs no daemon
        own_daemon.start()

        with result() as fresh:
            assert fresh.token > lease.token
            assert [one.id for one in client.leases()] == [lease.id, fresh.id]
        lease.extend(memory="1MiB")
        lease.give_back("streams", lease.units("streams"))
        del data
        lease.release()
        assert is_all_free(client)


def test_windows_are_handed_back_and_can_be_fetched_again(own_daemon):
    with own_daemon.connect() as client:
        lease = client.acquire(memory="1MiB")
        lease.memory[:5] = b"hello"
        own_daemon.kill()
        own_daemon.start()

        ((_, fd),) = client._fetch_windows(lease._message).items()
        with open(fd, "rb") as window:
            assert window.read(5) == b"hello"


@pytest.fixture
def restart_before(own_daemon, monkeypatch):
    """Has the daemon killed and started before a function works; goes on when ``client`` is connected again."""

    def put(place, client, function):
        def restarted_first(*arguments, **more):
            monkeypatch.setattr(place, function)
            known_epoch = client._link._daemon_epoch
            own_daemon.kill()
            own_daemon.start()
            until(lambda: client._link._daemon_epoch != known_epoch)
            return function(*arguments, **more)

        monkeypatch.setattr(place, restarted_first)

    return put


def test_a_restart_while_the_windows_of_a_grant_arrive_leaves_a_whole_lease(own_daemon, restart_before):
    with own_daemon.connect() as client:
        client.open()
        restart_before("leasehold.client.Lease", client, Lease)
        lease = client.acquire(memory="4MiB")  # its windows are there, and it is not in the client's books yet
        lease.memory[:5] = b"hello"
        lease.extend(memory="1MiB")

        assert_is_whole(client, lease, [4 << 20, 1 << 20])


def test_a_restart_while_the_windows_of_an_extension_arrive_leaves_a_whole_lease(own_daemon, restart_before):
    with own_daemon.connect() as client:
        lease = client.acquire(memory="4MiB")
        lease.memory[:5] = b"hello"
        restart_before("leasehold.lease.Lease._grow", client, Lease._grow)
        lease.extend(memory="1MiB")
        lease.extend(memory="2MiB")

        assert_is_whole(client, lease, [4 << 20, 1 << 20, 2 << 20])


def assert_is_whole(client, lease, sizes) -> None:
    """The daemon has the very windows that the lease writes to."""
    assert client.status().epoch == 2
    assert client.check().differences == []
    assert [window.size for window in lease.windows] == sizes
    held = client._fetch_windows(lease._message)
    assert [os.fstat(fd).st_ino for fd in held.values()] == [os.fstat(window.fd).st_ino for window in lease.windows]
    for fd in held.values():
        os.close(fd)
    assert lease.memory[:5] == b"hello"


def test_a_keepalive_that_was_due_meanwhile_is_sent_at_once_and_nothing_is_lost(own_daemon):
    with own_daemon.connect() as client:
        lease = client.acquire(streams=1, ttl=3)
        own_daemon.kill()
        time.sleep(3.5)  # longer than the ttl: nobody could renew it
        lease.check()
        own_daemon.start()
        until(lambda: [one.state for one in client.leases()] == ["held"])
        time.sleep(3.5)  # and longer again: now it is renewed
        lease.check()
        assert [one.id for one in client.leases()] == [lease.id]


def test_a_goodbye_is_heard_by_a_daemon_that_has_just_come_back(own_daemon, monkeypatch):
    monkeypatch.setattr("leasehold.session._GOODBYE_S", 30.0)  # the daemon may take its time here
    client = own_daemon.connect()
    client.acquire(memory="1MiB", ttl=float("inf"))
    own_daemon.kill()
    time.sleep(0.5)  # the client looks for the daemon more and more seldom
    own_daemon.start()
    client.close()

    with own_daemon.connect() as other:
        until(lambda: is_all_free(other))  # its window was not handed back: the daemon looks whether anybody has it


def test_a_call_gives_up_on_a_daemon_that_stays_away(own_daemon, monkeypatch):
    monkeypatch.setattr("leasehold.retries.RETRY_S", 0.3)
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


def test_a_wait_is_over_in_its_time_also_over_a_restart(own_daemon, monkeypatch):
    waits, set_wait = [], calls.set_wait
    monkeypatch.setattr(calls, "set_wait", lambda request, wait_s: (waits.append(wait_s), set_wait(request, wait_s)))
    with own_daemon.connect() as holder, own_daemon.connect() as client:
        holder.acquire(memory="64MiB")
        begun = time.monotonic()
        result = in_thread(lambda: client.acquire(memory="64MiB", wait=6))
        until(lambda: client.status().waiter_count)
        own_daemon.kill()
        own_daemon.start()
        with pytest.raises((leasehold.TimedOut, leasehold.Exhausted)):
            result()
        assert time.monotonic() - begun >= 6
    assert len(waits) > 1
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] < 6, "what it has waited already counts"


def test_a_daemon_that_forgets_takes_every_lease_and_serves_the_next(forgetful):
    told = queue.SimpleQueue()
    with forgetful.connect() as client:
        lease = client.acquire(memory="1MiB")
        lease.on_lost(lambda lost: told.put((lost, client.acquire(streams=1))))  # it may call the client
        forgetful.kill()
        result = in_thread(lambda: client.acquire(memory="2MiB"))
        forgetful.start()

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


def test_releasing_a_lost_lease_leaves_a_new_one_of_its_id_alone(forgetful):
    lost = queue.SimpleQueue()
    with forgetful.connect() as client:
        old = client.acquire(streams=1, ttl=1)
        old.on_lost(lost.put)
        forgetful.kill()
        forgetful.start()
        lost.get(timeout=DEADLINE_S)
        new = client.acquire(streams=1, ttl=3)
        assert new.id == old.id
        old.release()
        time.sleep(3.5)  # longer than the ttl: the new one must be renewed

        assert new.valid
        assert [lease.id for lease in client.leases()] == [new.id]
