"""Calls that come in the middle of another call of their thread, as out of a signal handler; and of a restart."""

import os
import time
from contextlib import suppress

import pytest

import leasehold
from leasehold.forks import calls_under_way
from leasehold.retries import NotThere
from leasehold.session import SessionLink
from leasehold.wire import Answer
from support.daemon import is_all_free, python
from support.waiting import until


class Interrupted:
    """What a wire sends or reads with; in the middle of its next use a handler runs, as one of a signal would."""

    def __init__(self, real, method, handler) -> None:
        self._real, self._handler = real, handler
        setattr(self, method, self._interrupted(getattr(real, method)))

    def _interrupted(self, method):
        def call(*args):
            handler, self._handler = self._handler, None
            if handler is not None:
                handler()
            return method(*args)

        return call

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture(params=[("_socket", "send"), ("_reader", "read")], ids=["sending", "reading"])
def interrupt(request, client):
    """Has a handler run in the middle of the next call of ``client``."""
    attribute, method = request.param
    if client.door == "grpc":
        pytest.skip("gRPC has its own way with signal handlers")
    wire = client._session().wire

    def arm(handler):
        setattr(wire, attribute, Interrupted(getattr(wire, attribute), method, handler))

    return arm


CALLS = {
    "acquire": lambda client, lease: client.acquire(memory="1MiB"),
    "release": lambda client, lease: lease.release(),
    "read": lambda client, lease: client.status(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_handler_in_the_middle_of_a_call_is_refused_and_changes_nothing(client, interrupt, call):
    told = []

    def handler():
        with pytest.raises(leasehold.Reentered, match="in the middle of another call of its thread"):
            CALLS[call](client, lease)
        told.append([one.id for one in leases])

    lease = client.acquire(memory="1MiB", streams=1)
    lease.memory[:5] = b"hello"
    leases = client.leases()
    interrupt(handler)
    with client.acquire(streams=2) as other:
        assert told == [[lease.id]]
        assert [one.id for one in client.leases()] == [lease.id, other.id]
    assert lease.memory[:5] == b"hello"
    lease.release()  # what was refused can be said again
    assert client.leases() == []


def test_a_handler_may_close_the_client(daemon, interrupt, client):
    lease = client.acquire(streams=1)
    interrupt(client.close)
    with suppress(leasehold.LeaseholdError):  # it may have got its answer first
        client.acquire(streams=2)
    with daemon.connect() as other:
        until(lambda: is_all_free(other))
    assert lease.id
    with pytest.raises(leasehold.Closed):
        client.status()


def test_who_is_still_in_the_middle_of_a_call_when_the_client_is_closed_is_told_so(daemon):
    client = daemon.connect()
    link = client._session()
    client.close()
    link.renew_within(0.0)  # its thread is gone, and nobody is there to be woken
    assert link.wire.send_now(b"x")  # as if: who waits for the answer is told
    with pytest.raises(NotThere):
        link.wire._await(Answer(), time.monotonic() + 20)


def test_a_handler_cannot_change_a_lease_in_the_middle_of_another_change_of_it(client):
    with client.acquire(streams=2) as lease:
        ids = lease.units("streams")
        for change in (lambda: lease.extend(streams=1), lambda: lease.give_back("streams", ids[:1])):
            with lease._changing.lock, pytest.raises(leasehold.Reentered):
                change()
        assert lease.units("streams") == ids


def test_a_handler_during_the_first_call_opens_no_second_session(daemon, monkeypatch):
    client, connect = leasehold.Client(daemon.run_directory), SessionLink._connect

    def interrupted(link, known):
        with pytest.raises(leasehold.Reentered):
            client.open()
        return connect(link, known)

    monkeypatch.setattr(SessionLink, "_connect", interrupted)
    with client:
        lease = client.acquire(streams=1)
        assert client.leases()[0].id == lease.id
        lease.release()


def test_a_handler_that_closes_during_the_first_call_leaves_no_session(daemon, client, monkeypatch):
    closed, connect = leasehold.Client(daemon.run_directory), SessionLink._connect

    def interrupted(link, known):
        closed.close()
        return connect(link, known)

    before = client.status().session_count
    with monkeypatch.context() as patched:
        patched.setattr(SessionLink, "_connect", interrupted)
        with pytest.raises(leasehold.Closed):
            closed.acquire(streams=1)
    until(lambda: client.status().session_count == before)
    assert client.leases() == []


def test_a_handler_during_a_fork_may_not_call_through_grpc():
    calls_under_way.before_fork()
    try:
        with pytest.raises(leasehold.Reentered), calls_under_way:
            pytest.fail("it was let in")
    finally:
        calls_under_way.after_in_parent()
    with calls_under_way:
        pass


ALARMED = """
import signal, sys, threading, leasehold
client = leasehold.connect(sys.argv[1])
told, refused = [], []
held = client.acquire(leasehold.Ids("streams", [0]))
waiter = threading.Thread(target=lambda: client.acquire(leasehold.Ids("streams", [0]), wait=600).release(), daemon=True)
waiter.start()  # it reads for all, most of the time

def handler(*_):
    try:
        told.append(client.status().pid)
    except leasehold.Reentered as fault:
        refused.append(fault)
    if len(told) < 1_000:
        signal.setitimer(signal.ITIMER_REAL, (1 + len(told) % 50) * 0.00005)  # anywhere within a call

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while len(told) < 1_000:
    with client.acquire(vdec=1):
        pass
held.release()
waiter.join()
print(len(set(told)), client.leases())
"""


def test_a_process_whose_alarm_calls_anywhere_within_its_own_calls_goes_on(daemon):
    process = python(ALARMED, str(daemon.run_directory))
    out, complaint = process.communicate(timeout=100)
    assert (out, process.returncode) == ("1 []\n", 0), complaint


def test_the_windows_of_a_command_are_fetched_again_where_the_daemon_restarts_meanwhile(client, monkeypatch):
    with client.acquire(memory="1MiB") as lease:
        link, tried = client._session(), []
        fetch = link.fetch_windows

        def broken_once(lease_id):
            tried.append(lease_id)
            if len(tried) == 1:
                raise NotThere("the connection to the daemon broke")
            return fetch(lease_id)

        monkeypatch.setattr(link, "fetch_windows", broken_once)
        ((fd, size_bytes),) = client.inheritable_windows(lease)
        assert (tried, size_bytes) == ([lease.id] * 2, 1 << 20)
        os.close(fd)
