"""Processes that stand still: the daemon, a holder, somebody on the other end of a connection."""

import os
import signal
import socket
import time
from contextlib import suppress

import pytest

from support.daemon import END_S, is_all_free
from support.puppet import window_bytes_of
from support.served import RawConnection, framed, greeting
from support.waiting import in_thread, until

NOTICE_S = 2
MESSAGE = b"\0" * (4 << 20)
NEXT_CALLS = ("lease.check()", "lease.memory.allocate(64)", "lease.memory.array('u1', 64)", "lease.stream()")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def test_a_daemon_stopped_for_three_ttls_takes_no_lease_from_a_live_client(own_daemon, puppets):
    """The bar of the pause guard: 20 of 20 were lost without it."""
    holders = [puppets(own_daemon) for _ in range(4)]
    for holder in holders:
        holder("leases = [hold(streams=1, ttl=2) for _ in range(5)]")
    own_daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(6)  # three times the ttl: what is tested
    own_daemon.process.send_signal(signal.SIGCONT)
    time.sleep(2.5)  # long enough for a tick and a missed keepalive

    with own_daemon.connect() as client:
        assert sorted(lease.pid for lease in client.leases()) == sorted(5 * [holder.pid for holder in holders])
        assert {lease.state for lease in client.leases()} == {"held"}
        for holder in holders:
            assert holder("[lease.check() for lease in leases], lost") == [[None] * 5, []]
            holder.kill()
        until(lambda: is_all_free(client))


def test_units_of_stopped_holders_are_given_on_once_they_are_fenced_and_each_learns_before_it_uses_any(
    daemon, client, puppets
):
    holders = {puppets(daemon): call for call in NEXT_CALLS}
    for holder in holders:
        holder("lease = hold(memory='8MiB', streams=1, ttl=2)")
        holder("data = lease.memory.array('u1', 4096); data[:] = 7")
    waiting = in_thread(lambda: client.acquire(memory="64MiB", streams=256, wait=END_S))
    until(lambda: client.status().waiter_count)
    stopped_at = time.monotonic()
    for holder, call in holders.items():
        holder.stop()
        holder.begin(call)  # the first thing it does when it goes on
    with waiting() as lease:
        assert time.monotonic() - stopped_at > NOTICE_S  # and the rest of its ttl before that
        for holder in holders:
            assert set(window_bytes_of(holder.pid)) == {0}
        assert bytes(lease.memory).count(0) == lease.memory.size
        for holder in holders:
            holder.go_on()
        assert [holder.fault() for holder in holders] == ["LeaseLost"] * len(holders)
        for holder in holders:
            until(lambda holder=holder: holder("lost"))
            assert holder("lost[0]") in {"keepalive missed", "its memory was taken back"}  # whichever it saw first
            assert holder("lease.valid") is False
            holder.kill()
        assert lease.valid


def test_a_raw_view_of_a_fenced_window_ends_its_process_by_sigbus_and_nobody_else(daemon, client, puppets):
    holder = puppets(daemon)
    holder("lease = hold(memory='1MiB', ttl=1); view = memoryview(lease.memory); view[0] = 7")
    holder.stop()
    until(lambda: not client.leases())
    with client.acquire(memory="64MiB") as lease:
        holder.begin("view[0]")
        holder.go_on()

        assert holder.wait() == -signal.SIGBUS
        assert lease.memory[0] == 0


def test_a_holder_stopped_for_less_than_its_ttl_goes_on_as_if_nothing_had_been(daemon, client, puppets):
    holder = puppets(daemon)
    holder("lease = hold(memory='1MiB', ttl=10); data = lease.memory.array('u1', 64); data[:] = 7")
    holder.stop()
    seen = [lease.state for lease in client.leases()]
    holder.go_on()

    assert seen == ["held"]
    assert holder("lease.check(), int(data.sum()), lost") == [None, 7 * 64, []]
    holder.kill()
    until(lambda: is_all_free(client))


def test_silent_and_half_open_connections_are_dropped_and_nobody_is_served_worse(daemon, client):
    run = daemon.run_directory
    greeted = RawConnection(run / "session.sock")
    greeting(greeted)
    opened = time.monotonic()
    silent = [RawConnection(run / "session.sock") for _ in range(50)]
    for connection in silent[25:]:
        connection.send(framed(correlation_id=1)[:3])  # the beginning of a frame
    doors = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for door in doors:
        door.connect(str(run / "rm.sock"))
    for door in doors[25:]:
        door.sendall(PREFACE)

    for connection in silent:
        connection.socket.settimeout(END_S)
        while time.monotonic() - opened < 3:  # before any is dropped
            client.acquire(memory="1MiB").release()
        assert connection.is_closed_by_peer()
    assert 4 < time.monotonic() - opened < 40
    client.acquire(memory="1MiB").release()
    greeted.send(framed(correlation_id=1, keep_alive={}))
    assert greeted.receive().WhichOneof("body") == "keep_alive"  # who has greeted may be silent
    for one in [*silent, greeted]:
        one.socket.close()
    for door in doors:
        door.close()


@pytest.mark.parametrize("door", ["session.sock", "rm.sock"])
def test_four_mebibytes_at_once_to_a_door_are_refused_and_others_are_served(daemon, client, door):
    with socket.socket(socket.AF_UNIX) as noisy:
        noisy.settimeout(END_S)
        noisy.connect(str(daemon.run_directory / door))
        with suppress(ConnectionError):  # it is not read to its end
            noisy.sendall(len(MESSAGE).to_bytes(4, "big") + MESSAGE)
            while noisy.recv(65_536):
                pass
        client.acquire(memory="1MiB").release()


def test_who_stops_in_the_middle_of_a_call_holds_nobody_up(daemon, client, puppets):
    waiter = puppets(daemon)
    with client.acquire(memory="64MiB"):
        waiter.begin("hold(memory='64MiB', wait=60)")
        until(lambda: client.status().waiter_count)
        waiter.stop()
    until(lambda: [lease.pid for lease in client.leases()] == [waiter.pid])  # it is granted, and asks for nothing more
    client.acquire(streams=1).release()
    os.kill(waiter.pid, signal.SIGKILL)
    waiter.wait()
    until(lambda: is_all_free(client))
