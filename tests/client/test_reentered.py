"""Calls out of a signal handler that came in the middle of another call of its thread, where that sends or reads."""

import os
from contextlib import suppress

import pytest

import leasehold
from leasehold.retries import NotThere
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
        with pytest.raises(leasehold.Reentered, match="a signal handler called in the middle of another call"):
            CALLS[call](client, lease)
        told.append([one.id for one in leases])

    lease = client.acquire(memory="1MiB", streams=1)
    leases = client.leases()
    interrupt(handler)
    with client.acquire(streams=2) as other:
        assert told == [[lease.id]]
        assert [one.id for one in client.leases()] == [lease.id, other.id]
    lease.check()
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


ALARMED = """
import signal, sys, leasehold
client = leasehold.connect(sys.argv[1])
told, refused = [], []

def handler(*_):
    try:
        told.append(client.acquire(streams=1))
    except leasehold.Reentered as fault:
        refused.append(fault)
    if len(told) < 100:
        signal.setitimer(signal.ITIMER_REAL, (1 + len(told) % 50) * 0.0001)  # anywhere within a call

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001)
while len(told) < 100:
    with client.acquire(streams=1):
        pass
print(sorted(lease.id for lease in client.leases()) == sorted(lease.id for lease in told))
"""


def test_a_process_whose_alarm_takes_leases_anywhere_within_its_own_calls_goes_on(daemon):
    process = python(ALARMED, str(daemon.run_directory))
    out, complaint = process.communicate(timeout=100)
    assert (out, process.returncode) == ("True\n", 0), complaint


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
