"""A lease in the hands of its process, over the fake card."""

import gc
import queue
import threading

import pytest

import leasehold


@pytest.fixture
def client(fake_client):
    return fake_client


def test_it_says_what_it_got(client):
    lease = client.acquire(leasehold.Ids("streams", [7, 9]), memory="1MiB", cores=1, label="ocr")

    assert lease.units("streams") == (7, 9)
    assert lease.units("memory") == tuple(range(16))
    assert lease.units("vdec") == ()
    assert [allotment.pool for allotment in lease.allotments] == ["streams", "memory", "cores"]
    assert (lease.memory.size, lease.card, lease.label, lease.valid) == (1 << 20, "0", "ocr", True)
    assert repr(lease) == f"<Lease {lease.id}: streams 2, memory 1 MiB, cores 1>"


def test_without_memory_there_is_no_window(client):
    lease = client.acquire(cores=1)

    assert lease.memory is None
    assert lease.windows == ()


def test_leaving_the_block_gives_everything_back(client):
    with client.acquire(memory="16MiB", cores=2, streams=256) as lease:
        assert client.cards()[0].pool("memory").free == 0
    lease.release()

    assert client.leases() == []
    assert not lease.valid
    with pytest.raises(leasehold.Closed):
        lease.stream()


def test_leaving_the_block_with_arrays_alive_is_a_clear_error_and_the_lease_holds(client):
    lease = client.acquire(memory="1MiB")
    array = lease.memory.array("u1", 10)

    with pytest.raises(leasehold.WindowInUse):
        lease.release()
    array[:] = 1
    assert [one.id for one in client.leases()] == [lease.id]

    del array
    gc.collect()
    lease.release()
    assert client.leases() == []


def test_an_error_in_the_block_wins_and_the_lease_is_back_all_the_same(client):
    arrays = []

    def fail():
        with client.acquire(memory="1MiB") as lease:
            arrays.append(lease.memory.array("u1", 10))
            arrays[0][:] = 5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert client.leases() == []
    assert (arrays[0] == 0).all()  # safe to touch, and no longer the card's


def test_extending_adds_a_window_and_keeps_the_old_one(client):
    lease = client.acquire(memory="1MiB")
    first = lease.memory
    first[0] = 42

    lease.extend(memory="2MiB", streams=3)

    assert [window.size for window in lease.windows] == [1 << 20, 2 << 20]
    assert lease.memory is first
    assert first[0] == 42
    assert lease.memory_left == 3 << 20
    assert len(lease.units("streams")) == 3
    with pytest.raises(leasehold.Exhausted):
        lease.extend(memory="14MiB")
    assert len(lease.windows) == 2


def test_giving_back_units_and_memory(client):
    lease = client.acquire(memory="1MiB", streams=4)
    lease.extend(memory="1MiB")

    lease.give_back("streams", [1, 2])
    lease.give_back("memory", lease.allotments[0].ids)

    assert lease.units("streams") == (0, 3)
    assert [window.size for window in lease.windows] == [1 << 20]
    assert lease.memory_left == 1 << 20
    with pytest.raises(leasehold.Invalid, match="whole"):
        lease.give_back("memory", lease.units("memory")[:3])
    with pytest.raises(leasehold.Invalid, match="does not hold"):
        lease.give_back("streams", [1])
    with pytest.raises(leasehold.Invalid):
        lease.give_back("streams", [-1])


def test_memory_that_something_needs_is_not_given_back(client):
    lease = client.acquire(memory="1MiB", streams=1)
    array = lease.memory.array("u1", 10)

    with pytest.raises(leasehold.WindowInUse):
        lease.give_back("memory", lease.units("memory"))
    array[:] = 1
    del array


def test_the_last_unit_ends_it(client):
    lease = client.acquire(streams=1)
    lease.give_back("streams", [0])

    assert not lease.valid
    assert client.leases() == []


def test_a_stream_is_one_of_those_leased(client):
    lease = client.acquire(leasehold.Ids("streams", [7, 9]))

    assert lease.stream(1).id == 9
    assert lease.stream(1) is lease.stream(1)
    with pytest.raises(IndexError, match="2 streams"):
        lease.stream(2)


def test_whoever_wants_to_know_is_told_of_a_loss_once(client):
    told = queue.SimpleQueue()
    lease = client.acquire(memory="1MiB")
    lease.on_lost(told.put)
    client.lose(lease, "keepalive missed")
    lease.on_lost(told.put)

    assert [told.get(timeout=20), told.get(timeout=20)] == [lease, lease]
    assert told.empty()
    assert not lease.valid
    with pytest.raises(leasehold.LeaseLost, match="keepalive missed") as caught:
        lease.memory.array("u1", 1)
    assert (caught.value.lease_id, caught.value.cause) == (lease.id, "keepalive missed")
    lease.release()


def test_the_fake_refuses_when_it_is_told_to(client):
    client.refuse_next(leasehold.DaemonUnavailable("gone"))

    with pytest.raises(leasehold.DaemonUnavailable):
        client.acquire(cores=1)
    client.acquire(cores=1)


def test_the_fake_waits(client):
    lease = client.acquire(cores=2)
    threading.Timer(0.01, lease.release).start()

    assert client.acquire(cores=2, wait=10).valid
    with pytest.raises(leasehold.TimedOut, match="cores"):
        client.acquire(cores=1, wait=0.01)


@pytest.mark.parametrize(
    ("asked", "kind", "reason"),
    [
        ({"card": "9", "cores": 1}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"nonsense": 1}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"cores": 0}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"cores": 3}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"cores": 0.5}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"memory": "17MiB"}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"cores": 1, "priority": 3}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"cores": 1, "wait": -1}, leasehold.Invalid, "INVALID_REQUEST"),
        ({"cores": 1, "ttl": 0}, leasehold.Invalid, "INVALID_REQUEST"),
    ],
)
def test_what_can_never_be_is_invalid(client, asked, kind, reason):
    with pytest.raises(kind) as caught:
        client.acquire(**asked)
    assert caught.value.reason == reason


def test_giving_back_memory_that_is_refused_leaves_the_window_as_it_was(client):
    lease = client.acquire(memory="1MiB")
    window = lease.memory
    window[0] = 7

    with pytest.raises(leasehold.Invalid):
        lease.give_back("memory", lease.units("memory"), at=["nowhere"])

    assert lease.memory is window
    assert window[0] == 7
    assert lease.memory_left == 1 << 20


def test_a_view_that_nobody_knew_of_sees_zeros_once_its_memory_is_given_back(client):
    lease = client.acquire(memory="1MiB", streams=1)
    view = memoryview(lease.memory)
    view[0] = 7
    lease.give_back("memory", lease.units("memory"))

    assert lease.memory is None
    assert view[0] == 0


def test_many_threads_may_release_one_lease(client):
    for _ in range(30):
        lease = client.acquire(memory="1MiB", streams=1)
        faults = []

        def release(lease=lease, faults=faults):
            try:
                lease.release()
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert client.leases() == []


def test_giving_back_the_last_unit_ends_the_streams_too(client):
    lease = client.acquire(streams=1)
    stream = lease.stream()
    lease.give_back("streams", [0])

    with pytest.raises((leasehold.Closed, leasehold.LeaseLost)):
        stream.submit(int)
    assert not any(thread.name == "leasehold-stream-0" for thread in threading.enumerate())
