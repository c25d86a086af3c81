"""The blocking client against a real daemon."""

import copy
import gc
import math
import os
import pickle
import signal
import threading
import time
import weakref

import pytest

import leasehold
from support.daemon import python
from support.waiting import DEADLINE_S, in_thread, until


def test_a_lease_has_what_was_asked_for_and_is_back_afterwards(client):
    with client.acquire(memory="1MiB", cores=1, streams=2, label="ocr") as lease:
        (info,) = client.leases()
        assert (info.id, info.token, info.label, info.ttl) == (lease.id, lease.token, "ocr", 10.0)
        assert lease.cores == client.cards()[0].core_cpus[:1]
        lease.memory[:5] = b"hello"
        assert client.cards()[0].pool("memory").used_bytes == 4096

    assert client.leases() == []


def test_memory_is_clean_whoever_had_it_before(client):
    for _ in range(3):
        with client.acquire(memory="64MiB") as lease:
            assert bytes(lease.memory).count(0) == 64 << 20
            lease.memory[:] = b"\xff" * lease.memory.size


def test_a_refusal_names_the_holder_as_the_kernel_knows_it(client):
    with client.acquire(memory="60MiB", label="greedy"):
        with pytest.raises(leasehold.Exhausted, match="greedy") as caught:
            client.acquire(memory="5MiB")
        facts = caught.value.facts
        assert (facts["free_count"], facts["asked_count"], facts["unit_bytes"]) == (64, 80, 65536)
        assert facts["holders"][0]["label"] == "greedy"
        with pytest.raises(leasehold.Held) as caught:
            client.acquire(leasehold.Ids("memory", [3]))
        assert caught.value.facts["holders"][0]["pid"] == os.getpid()


def test_a_revoked_lease_that_was_let_go_of_by_itself_is_not_kept(client):
    lease = client.acquire(memory="1MiB", streams=1)
    seen = weakref.ref(lease)
    assert client.revoke(lease.id, notice=60)
    until(lambda: not seen().valid)
    del lease
    until(lambda: not client._lost)  # whoever lets go of it waits for nobody
    until(lambda: gc.collect() >= 0 and seen() is None)

    assert client.leases() == []


def test_all_claims_or_none(client):
    with pytest.raises(leasehold.Invalid):
        client.acquire(memory="1MiB", streams=1, cores=1000)
    with client.acquire(leasehold.Ids("streams", [5])):
        with pytest.raises(leasehold.Held):
            client.acquire(leasehold.Ids("streams", [5]), memory="1MiB")
        assert len(client.leases()) == 1


def test_many_threads_share_one_client(client):
    def work():
        for _ in range(20):
            with client.acquire(memory="1MiB", streams=1, wait=30) as lease:
                lease.memory[0] = 1

    results = [in_thread(work) for _ in range(8)]

    assert [result() for result in results] == [None] * 8


def test_waiters_are_served_in_their_order(client):
    first = client.acquire(leasehold.Ids("streams", [0]))
    order = []
    waiting = []
    for number in range(4):

        def wait(number=number):
            with client.acquire(leasehold.Ids("streams", [0]), wait=DEADLINE_S):
                order.append(number)

        waiting.append(in_thread(wait))
        until(lambda number=number: client.status().waiter_count == number + 1)
    first.release()
    for result in waiting:
        result()

    assert order == [0, 1, 2, 3]


def test_a_wait_that_is_over_says_who_is_in_the_way(client):
    with client.acquire(memory="64MiB", label="all of it"):
        begun = time.monotonic()
        with pytest.raises(leasehold.TimedOut, match="all of it") as caught:
            client.acquire(memory="1MiB", wait="200ms")
        assert 0.2 <= time.monotonic() - begun < 5
        assert caught.value.facts["holders"]


def test_without_a_wait_nobody_overtakes_those_who_wait(client):
    with client.acquire(memory="60MiB") as lease:
        result = in_thread(lambda: client.acquire(memory="10MiB", wait=DEADLINE_S))
        until(lambda: client.status().waiter_count)
        with pytest.raises(leasehold.Exhausted, match="waiting in front") as caught:
            client.acquire(memory="1MiB")
        assert caught.value.facts["waiter_count"] == 1
        client.acquire(streams=1).release()
        lease.release()
        result().release()


def test_a_lease_without_a_clock_and_one_with_its_own(client):
    endless, short = client.acquire(streams=1, ttl=math.inf), client.acquire(streams=1, ttl="90s")

    assert [lease.ttl for lease in client.leases()] == [None, 90.0]
    assert (endless.ttl_s, short.ttl_s) == (0, 90)
    endless.release()
    short.release()


def test_the_library_renews_in_time(client):
    with client.acquire(streams=1, ttl=3) as lease:
        time.sleep(3.5)  # longer than the ttl, which is what is tested
        assert lease.valid
        assert [one.id for one in client.leases()] == [lease.id]


def test_releasing_twice_and_closing_twice_does_nothing(daemon):
    client = daemon.connect()
    lease = client.acquire(streams=1)
    lease.release()
    lease.release()
    client.close()
    client.close()

    with pytest.raises(leasehold.Closed):
        client.acquire(streams=1)


def test_closing_the_client_ends_its_leases_politely(daemon, client):
    other = daemon.connect()
    other.acquire(memory="1MiB", streams=1)
    other.close()

    assert client.leases() == []
    assert [event.cause for event in client.events(past=1, follow=False)] == ["session closed"]


def test_events_are_told_as_they_happen(client):
    events = client.events(past=1)
    client.acquire(streams=1).release()
    before = next(events)
    result = in_thread(lambda: [next(events) for _ in range(2)])
    client.acquire(streams=1).release()

    assert before.text.endswith("released")
    assert [event.Kind.Name(event.kind) for event in result()] == ["KIND_GRANTED", "KIND_ENDED"]
    events.close()


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"card": "7", "cores": 1}, leasehold.Invalid),
        ({"no_such_pool": 1}, leasehold.Invalid),
        ({"cores": 0}, leasehold.Invalid),
        ({"cores": -1}, leasehold.Invalid),
        ({"streams": 257}, leasehold.Invalid),
        ({"memory": "65MiB"}, leasehold.Invalid),
        ({"memory": (1 << 63) - 1}, leasehold.Invalid),
        ({"streams": 1, "label": "x" * 129}, leasehold.Invalid),
        ({"streams": 1, "ttl": 0.5}, leasehold.Invalid),
        ({"streams": 1, "wait": 90_000}, leasehold.Invalid),
        ({"streams": 1, "reservation": 1}, leasehold.Invalid),
    ],
)
def test_bad_requests_are_refused_and_change_nothing(client, asked, kind):
    before = client.status().revision
    with pytest.raises(kind):
        client.acquire(**asked)
    assert client.status().revision == before


@pytest.mark.parametrize(
    "claim",
    [
        leasehold.Ids("streams", [256]),
        leasehold.Ids("streams", [-1]),
        leasehold.Ids("streams", []),
        leasehold.Ids("streams", [1, 1]),
        leasehold.Run("memory", 1025),
        leasehold.Run("memory", 0),
        leasehold.Run("streams", size="1MiB"),
        leasehold.Run("memory", 1, align=65537),
        leasehold.Units("cores", at=["nowhere"]),
        leasehold.Units("cores", reservation="none"),
        leasehold.FirstOf(),
    ],
)
def test_bad_claims_are_refused_and_change_nothing(client, claim):
    before = client.status().revision
    with pytest.raises(leasehold.Invalid):
        client.acquire(claim)
    assert client.status().revision == before


def test_no_daemon_is_said_with_the_way_to_start_one(tmp_path):
    with pytest.raises(leasehold.DaemonUnavailable, match="start one with 'rmd"):
        leasehold.connect(tmp_path)


def test_a_socket_file_that_nobody_serves_is_no_daemon(own_daemon):
    own_daemon.kill()
    assert (own_daemon.run_directory / "session.sock").exists()

    with pytest.raises(leasehold.DaemonUnavailable, match="start one"):
        own_daemon.connect()

    own_daemon.start()
    own_daemon.connect().close()


def test_the_address_comes_from_the_environment(daemon, monkeypatch):
    monkeypatch.setenv("LEASEHOLD_ADDRESS", str(daemon.run_directory))
    with leasehold.connect() as client:
        assert client.cards()


def test_a_door_that_is_not_there_is_refused(daemon):
    with pytest.raises(leasehold.Invalid, match="door"):
        leasehold.connect(daemon.run_directory, door="window")


INTERRUPTED = """
import sys, leasehold
with leasehold.connect(sys.argv[1]) as client:
    print("waiting", flush=True)
    try:
        client.acquire(memory="64MiB", wait=60)
    except KeyboardInterrupt:
        print(client.status().waiter_count, flush=True)
        sys.stdin.readline()
"""


def test_ctrl_c_leaves_the_queue(daemon, client):
    with client.acquire(memory="1MiB"), python(INTERRUPTED, str(daemon.run_directory)) as process:
        assert process.stdout.readline() == "waiting\n"
        until(lambda: client.status().waiter_count == 1)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "0\n"
        process.communicate("\n", timeout=DEADLINE_S)
        assert process.returncode == 0


@pytest.mark.parametrize("spoil", ["chmod", "chown", "link"])
def test_a_directory_into_which_others_could_put_a_socket_is_not_trusted(own_daemon, spoil, tmp_path):
    """Whoever serves there would be sent the session's secret."""
    directory = own_daemon.run_directory
    match spoil:
        case "chmod":
            directory.chmod(0o777)
        case "chown":
            if os.geteuid():
                pytest.skip("needs root to give a directory away")
            os.chown(directory, 65534, 65534)
        case "link":
            directory = tmp_path
            tmp_path.chmod(0o777)
            for name in ("session.sock", "rm.sock"):
                (tmp_path / name).symlink_to(own_daemon.run_directory / name)

    with pytest.raises(leasehold.DaemonUnavailable, match="not trusted"):
        leasehold.connect(directory)
    with pytest.raises(leasehold.DaemonUnavailable, match="not trusted"):
        leasehold.Client(directory).cards()


@pytest.mark.parametrize("asked", [{"card": 0}, {"card": ""}, {"card": b"0"}, {"label": 3}, {"label": None}])
def test_a_card_and_a_label_are_texts(client, asked):
    with pytest.raises(leasehold.Invalid, match="named by a text"):
        client.acquire(streams=1, **asked)


def test_a_request_that_the_daemon_would_not_read_is_refused(client):
    with pytest.raises(leasehold.Invalid, match="bytes"):
        client.acquire(streams=1, label="x" * 2_000_000)


def test_what_belongs_to_this_process_is_not_copied_or_pickled(client):
    with client.acquire(streams=1) as lease:
        for thing in (client, lease):
            for copy_of in (copy.copy, pickle.dumps):
                with pytest.raises(TypeError, match="belongs to its process"):
                    copy_of(thing)


def test_cores_that_are_added_are_cpus_too(client):
    """Without a look at the card they would be plain numbers, and streams would run anywhere."""
    with client.acquire(streams=1) as lease:
        assert not lease.has_cpus
        lease.extend(cores=1)
        assert lease.has_cpus
        assert lease.cores == client.cards()[0].core_cpus[:1]
        seen = []
        lease.stream(0).submit(lambda: seen.append(os.sched_getaffinity(0)))
        lease.stream(0).synchronize()
        assert seen == [set(lease.cores)]


def test_a_lease_that_two_threads_extend_at_once_knows_of_both(client, monkeypatch):
    """The answer that comes first may be taken in last: it must not undo the other."""
    lease = client.acquire(streams=1)
    fetch, first_is_in, second_is_done = client._fetch_windows, threading.Event(), threading.Event()

    def slow(message):
        if not first_is_in.is_set():
            first_is_in.set()
            second_is_done.wait(0.3)  # unless the second waits for the first
        return fetch(message)

    monkeypatch.setattr(client, "_fetch_windows", slow)
    first = in_thread(lambda: lease.extend(streams=1))
    first_is_in.wait(DEADLINE_S)
    lease.extend(streams=1)
    second_is_done.set()
    first()
    assert lease.units("streams") == (0, 1, 2)
    lease.release()
