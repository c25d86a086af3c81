"""A partition and the lease round it: memory, threads, forks, and how both end."""

import asyncio
import gc
import random
import subprocess
import sys
import threading

import numpy as np
import pytest

import leasehold
import leasehold.aio
from leasehold import Ids, Run
from support.parts import differences_in

SEED = 20_261_126


@pytest.fixture
def client(fake_client):
    return fake_client


@pytest.fixture
def lease(client):
    return client.acquire(Ids("streams", [3, 4, 9]), memory="1MiB", cores=1, label="ocr")


# Memory.


def test_the_memory_of_a_part_lies_in_the_window_of_the_lease(client):
    client.acquire(memory="128KiB")  # so that ids and offsets differ
    with client.acquire(memory="512KiB") as lease, lease.partition() as partition:
        with partition.acquire(memory="64KiB"), partition.acquire(memory="100KiB") as part:
            assert (part.units("memory"), part.offset, len(part.memory)) == ((3, 4), 65_536, 131_072)
            array = np.frombuffer(part.memory, "u4")
            array[:] = 0xABCD
            assert bytes(lease.memory[65_536:65_540]) == b"\xcd\xab\0\0"
            assert lease.memory[65_535] == lease.memory[65_536 + 131_072] == 0
            del array
        with partition.acquire(Run("memory", 8, max_extents=2)) as part:
            assert [len(buffer) for buffer in part.buffers] == [524_288]


def test_memory_in_pieces_has_a_buffer_for_each(lease):
    with lease.partition() as partition:
        parts = [partition.acquire(memory="256KiB") for _ in range(4)]
        parts[0].release()
        parts[2].release()
        with partition.acquire(Run("memory", 6, max_extents=2)) as part:
            assert [len(buffer) for buffer in part.buffers] == [262_144, 131_072]
            assert part.units("memory") == (0, 1, 2, 3, 8, 9)
        for part in partition.parts:
            part.release()


def test_a_part_is_not_given_back_while_an_array_of_its_memory_lives(lease):
    with lease.partition() as partition:
        for part in [partition.acquire(memory="64KiB"), partition.acquire(memory="64KiB")]:
            array = np.frombuffer(part.memory, "u1")[5:]
            with pytest.raises(leasehold.WindowInUse, match="drop them"):
                part.release()
            assert part in partition.parts
            del array
            gc.collect()
            part.release()
            with pytest.raises(leasehold.Closed):
                _ = part.memory
    assert lease.memory_left == 1 << 20


def test_an_error_in_the_block_wins_and_the_part_is_back_when_its_arrays_are_gone(lease):
    arrays = []

    def fail(partition):
        with partition.acquire(memory="1MiB") as part:
            arrays.append(np.frombuffer(part.memory, "u1"))
            raise ZeroDivisionError

    with lease.partition() as partition:
        with pytest.raises(ZeroDivisionError):
            fail(partition)
        with pytest.raises(leasehold.Exhausted):
            partition.acquire(memory="64KiB")
        arrays.clear()
        gc.collect()
        partition.acquire(memory="1MiB").release()


def test_memory_belongs_to_the_partition_or_to_the_arrays_of_the_lease_never_to_both(lease):
    array = lease.memory.array("u1", 10)
    with pytest.raises(leasehold.Exhausted):
        lease.partition()
    with lease.partition("streams", "cores") as partition:
        assert partition.pools == ("streams", "cores")
        assert partition.acquire(streams=1).memory is None
        partition.parts[0].release()
    del array
    gc.collect()
    with lease.partition(), pytest.raises(leasehold.Exhausted):
        lease.memory.array("u1", 10)
    assert lease.memory.array("u1", 10).size == 10


def test_two_partitions_never_hand_out_the_same(client, lease):
    lease.extend(memory="128KiB")
    with lease.partition("streams", "memory") as one:
        with pytest.raises(leasehold.Invalid, match="another partition"):
            lease.partition("streams")
        with pytest.raises(leasehold.Invalid, match="another partition"):
            lease.partition("memory")
        with pytest.raises(leasehold.Invalid, match="no units of pool 'vdec'"):
            lease.partition("vdec")
        with pytest.raises(leasehold.Invalid, match="2 windows"):
            lease.partition("memory", window=2)
        with lease.partition("memory", window=1) as other, lease.partition() as rest:
            assert rest.pools == ("cores",)
            assert other.free("memory") == 2
            assert (one.acquire(memory="64KiB").units("memory"), other.acquire(memory=1).units("memory")) == (
                (0,),
                (16,),
            )
            with pytest.raises(leasehold.Invalid, match="all that it has"):
                lease.partition()
            for part in (*one.parts, *other.parts):
                part.release()
    with pytest.raises(leasehold.Closed, match="closed"):
        one.acquire(streams=1)


# The lease round it.


def test_a_lease_with_parts_out_is_not_released_and_holds_on(client, lease):
    partition = lease.partition()
    part = partition.acquire(streams=1)

    for end in (lease.release, partition.close, client.close):
        with pytest.raises(leasehold.WindowInUse, match="1 in all"):
            end()
    assert [one.id for one in client.leases()] == [lease.id]
    assert partition.acquire(streams=1).units("streams") == (4,)

    for one in partition.parts:
        one.release()
    lease.release()
    assert client.leases() == []
    with pytest.raises(leasehold.Closed):
        partition.acquire(streams=1)
    part.release()


def test_leaving_the_block_of_a_lease_by_an_error_ends_its_parts(client):
    def fail():
        with client.acquire(streams=2, memory="1MiB") as lease:
            parts.append(lease.partition().acquire(streams=1, memory="64KiB"))
            raise ZeroDivisionError

    parts = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert client.leases() == []
    parts[0].release()


def test_once_the_lease_is_lost_the_very_next_call_says_so(client, lease):
    partition = lease.partition()
    part = partition.acquire(memory="64KiB", streams=1)
    partition.acquire(streams=1).release()
    client.lose(lease)

    with pytest.raises(leasehold.LeaseLost):
        partition.acquire(streams=1)
    with pytest.raises(leasehold.LeaseLost):
        _ = part.memory
    part.release()
    lease.release()


def test_units_of_a_partition_are_not_given_back_from_under_it(client, lease):
    with lease.partition("streams", "memory") as partition:
        for pool, ids in (("streams", [3]), ("memory", lease.units("memory"))):
            with pytest.raises(leasehold.WindowInUse):
                lease.give_back(pool, ids)
        lease.give_back("cores", lease.units("cores"))
        assert partition.free("streams") == 3
    lease.give_back("streams", [3])
    assert lease.units("streams") == (4, 9)


def test_refreshing_takes_in_what_the_lease_was_extended_by_and_keeps_what_is_out(client, lease):
    with lease.partition("streams") as partition:
        parts = [partition.acquire(streams=1), partition.acquire(streams=1)]
        lease.extend(Ids("streams", [200, 201]), memory="64KiB")
        assert partition.free("streams") == 1
        partition.refresh()
        assert partition.free("streams") == 3
        assert partition.acquire(Run("streams", 2)).units("streams") == (200, 201)
        assert [part.units("streams") for part in parts] == [(3,), (4,)]
        assert differences_in(partition) == []
        for part in partition.parts:
            part.release()
        assert partition.free("streams") == 5


def test_threads_never_get_the_same_unit(client):
    lease = client.acquire(streams=8)
    partition = lease.partition()
    lock, out, faults = threading.Lock(), set(), []

    def take_and_give(seed):
        chosen = random.Random(seed)
        for _ in range(400):
            try:
                part = partition.acquire(streams=chosen.choice([1, 1, 1, 2]))
            except leasehold.Exhausted:
                continue
            units = set(part.units("streams"))
            with lock:
                if out & units:
                    faults.append(out & units)
                out.update(units)
            with lock:
                out.difference_update(units)
            part.release()

    threads = [threading.Thread(target=take_and_give, args=(SEED + number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert partition.free("streams") == 8
    assert differences_in(partition) == []
    lease.release()


FORKED = """
import os, leasehold
from leasehold.testing import FakeClient
client = FakeClient(memory="1MiB", cores=1)
lease = client.acquire(memory="1MiB", streams=4)
partition = lease.partition()
part = partition.acquire(streams=1)
partition.acquire(streams=1).release()
with partition._lock:  # as when another thread is in the middle of a call
    pid = os.fork()
if pid == 0:
    try:
        try:
            partition.acquire(streams=1)
        except leasehold.LeaseLost as lost:
            print("of which this one was forked" in str(lost), flush=True)
        part.release()
    finally:
        os._exit(0)
print(os.waitpid(pid, 0)[1], partition.parts == (part,), partition.free("streams"))
part.release()
lease.release()
"""


def test_a_forked_child_is_told_that_the_lease_is_its_parent_s():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["True", "0 True 3.0"], done.stderr


WITHOUT = """
import sys
sys.modules["bitarray"] = None
import leasehold
from leasehold.held_lease import HeldLease
from rmapi.v1 import types_pb2 as pb
lease = HeldLease(pb.Lease(id="L1"), core_cpus=(), windows={})
try:
    lease.partition()
except ModuleNotFoundError as fault:
    print(fault)
"""


def test_without_the_extra_it_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout == "lease.partition() needs bitarray, which comes with: pip install 'leasehold[daemon]'\n"


def test_a_partition_of_a_daemon_s_lease_works_for_both_clients(daemon):
    async def story():
        async with (
            await leasehold.aio.connect(daemon.run_directory) as aio,
            await aio.acquire(memory="1MiB", streams=2) as lease,
        ):
            with lease.partition() as partition, partition.acquire(memory="64KiB", streams=1) as part:
                return len(part.memory), len(part.units("streams"))

    assert asyncio.run(story()) == (65_536, 1)
    with (
        daemon.connect() as client,
        client.acquire(memory="1MiB", streams=2) as lease,
        lease.partition() as partition,
        partition.acquire(memory="64KiB") as part,
    ):
        part.memory[:3] = b"abc"
        assert lease.memory[part.offset : part.offset + 3] == b"abc"
