"""Units handed out inside a lease: against the ledger itself, and in the hands of whoever uses them."""

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
from leasehold import Common, FirstOf, Ids, Run, Units
from leasehold.partition.partition import PLANS_MAX
from leasehold.testing import FakeClient
from rm.core.report import differences

SEED = 20_261_126
PROFILE = """
name = "sliced"
[pools.memory]
memory_mib = 4
[pools.streams]
unit_count = 12
[pools.cores]
unit_count = 3
slices = 4
[pools.perfcnt]
unit_count = 4
sites = ["0,0,core", "1,0,core", "2,0,core"]
"""


@pytest.fixture
def client():
    with FakeClient(memory="16MiB", cores=2) as made:
        yield made
        made.close()
        assert made.check() == []
        assert all(pool.free == pool.total for pool in made.cards()[0].pools)


@pytest.fixture
def lease(client):
    return client.acquire(Ids("streams", [3, 4, 9]), memory="1MiB", cores=1, label="ocr")


@pytest.fixture
def sliced(tmp_path):
    path = tmp_path / "sliced.toml"
    path.write_text(PROFILE)
    return str(path)


def everything(client):
    return client.acquire(
        Units("perfcnt", 4, at=["0,0,core", "1,0,core", "2,0,core"]), memory="4MiB", streams=12, cores=3
    )


def differences_in(partition):
    """What the bits, the index and the counters of its pools have against each other."""
    partition.free(partition.pools[0])  # has what went the short way written down
    return [fault for pool in partition._ground.card.pools.values() for fault in pool.check()]


# What it hands out.


def a_wish(chosen, known):
    """Claims and keywords of one request; claim objects come again, as those of a program do."""
    sites = chosen.sample(["0,0,core", "1,0,core", "2,0,core"], chosen.randint(1, 3))
    kind = chosen.randrange(9)
    if kind == 0:
        return (), {"memory": chosen.choice(["64KiB", "100KiB", 1 << 20, "3MiB"])}
    if kind == 1:
        return (), {"streams": chosen.choice([1, 1, 1, 2, 5, 13])}
    if kind == 2:
        return (chosen.choice(known),), {}
    if kind == 3:
        return (), {"cores": chosen.choice([0.25, 0.5, 1, 2, 0.3])}
    if kind == 4:
        return (Units("perfcnt", chosen.randint(1, 2), at=sites), Run("perfcnt", 2, align=2, at=sites)), {}
    if kind == 5:
        return (Common("perfcnt", at=chosen.choice([(), sites])),), {"streams": 1}
    if kind == 6:
        return (Ids("streams", chosen.sample(range(14), 2)),), {"memory": "64KiB"}
    if kind == 7:
        return (FirstOf(Run("streams", 4), Units("streams", 2)), Run("memory", 3, align=4)), {}
    return (Run("memory", chosen.randint(1, 70), max_extents=chosen.randint(1, 3)),), {}


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_it_grants_and_refuses_as_the_ledger_does_on_a_card_of_these_units(sliced, seed):
    chosen = random.Random(seed)
    known = [Run("memory", 4), Run("memory", 1), Units("streams", 1), Units("streams", 3), Run("streams", 2)]
    with FakeClient(sliced) as card, FakeClient(sliced) as reference:
        lease = everything(card)
        partition = lease.partition()
        out = []
        for _ in range(300):
            if out and chosen.random() < 0.45:
                part, its_lease = out.pop(chosen.randrange(len(out)))
                part.release()
                its_lease.release()
                continue
            claims, keywords = a_wish(chosen, known)
            try:
                its_lease = reference.acquire(*claims, **keywords)
            except leasehold.Refused as refusal:
                kind = type(refusal)  # a reason has one kind
                with pytest.raises(kind):
                    partition.acquire(*claims, **keywords)
                continue
            part = partition.acquire(*claims, **keywords)
            assert part.allotments == its_lease.allotments, (claims, keywords)
            out.append((part, its_lease))
        for part, its_lease in out:
            part.release()
            its_lease.release()
        assert differences_in(partition) == []
        assert [partition.free(pool) for pool in partition.pools] == [12, 64, 3, 12]
        lease.release()
        assert differences(card._ledger) == []


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_parts_never_overlap_and_never_leave_the_lease_and_all_is_free_in_the_end(client, seed):
    chosen = random.Random(seed)
    ids = sorted(chosen.sample(range(256), 40))
    with client.acquire(Ids("streams", ids), Ids("vdec", [1, 5, 6, 7]), memory="2MiB") as lease:
        mine = {(pool, unit) for pool in ("streams", "vdec", "memory") for unit in lease.units(pool)}
        partition = lease.partition()
        taken = {}
        for _ in range(600):
            if taken and chosen.random() < 0.48:
                part = chosen.choice(list(taken))
                part.release()
                del taken[part]
            else:
                wish = {pool: chosen.randint(1, 3) for pool in ("streams", "vdec") if chosen.random() < 0.6}
                size = chosen.choice([None, "64KiB", "192KiB"])
                if not wish and size is None:
                    continue
                try:
                    part = partition.acquire(memory=size, **wish)
                except leasehold.Exhausted:
                    continue
                units = {(pool, unit) for pool in ("streams", "vdec", "memory") for unit in part.units(pool)}
                assert units <= mine
                assert not any(units & others for others in taken.values())
                taken[part] = units
            assert set(partition.parts) == set(taken)
        for part in taken:
            part.release()
        assert differences_in(partition) == []
        assert {pool: partition.free(pool) for pool in partition.pools} == {"streams": 40, "vdec": 4, "memory": 32}


def test_the_daemon_sees_one_lease(client, lease):
    before = client.leases()
    with lease.partition() as partition, partition.acquire(streams=2, memory="64KiB"):
        assert client.leases() == before


def test_ids_are_those_of_the_card(lease):
    with lease.partition() as partition:
        first, second = partition.acquire(streams=1), partition.acquire(Ids("streams", [9]))
        assert (first.units("streams"), second.units("streams"), second.units("cores")) == ((3,), (9,), ())
        assert repr(second) == f"<Part of {lease.id}: streams (9,)>"
        with pytest.raises(leasehold.Exhausted):
            partition.acquire(Run("streams", 2))
        first.release()
        second.release()
        assert partition.acquire(Run("streams", 2)).units("streams") == (3, 4)
        partition.parts[0].release()


def test_the_short_way_and_the_long_way_find_the_same_units(lease):
    """The first call of a wish goes the long way, the next ones the short one, until there is no room."""
    with lease.partition() as partition:
        claim = Run("memory", 5)
        parts = [partition.acquire(claim) for _ in range(3)]
        assert [part.units("memory")[0] for part in parts] == [0, 5, 10]
        assert len(partition._quick) == 2
        parts[1].release()
        parts[1].release()
        assert partition.acquire(claim).units("memory") == (5, 6, 7, 8, 9)
        with pytest.raises(leasehold.Exhausted, match="64 KiB free"):
            partition.acquire(claim)
        assert differences_in(partition) == []
        for part in partition.parts:
            part.release()
        assert partition.free("memory") == 16


def test_a_claim_whose_sites_may_change_is_read_anew_each_time(lease):
    with lease.partition() as partition:
        sites = []
        claim = Units("streams", 1, at=sites)
        partition.acquire(claim).release()
        sites.append("nowhere")
        with pytest.raises(leasehold.Invalid, match="no site"):
            partition.acquire(claim)


@pytest.mark.parametrize("wrong", [{"streams": True}, {"memory": True}, {"memory": [1]}, {"streams": []}, {}])
def test_what_is_no_wish_is_invalid_also_after_one_that_looks_alike(lease, wrong):
    with lease.partition() as partition:
        partition.acquire(streams=1).release()
        partition.acquire(memory=1).release()
        with pytest.raises(leasehold.Invalid):
            partition.acquire(**wrong)


def test_no_more_wishes_are_remembered_than_may_be(lease):
    with lease.partition() as partition:
        for count in range(1, PLANS_MAX + 2):
            partition.acquire(memory=count).release()
            assert len(partition._plans) <= PLANS_MAX
        assert len(partition._plans) == 1


# How it refuses.


def test_a_refusal_says_which_parts_are_in_the_way(lease):
    with lease.partition() as partition:
        partition.acquire(streams=2, label="a")
        quick = [partition.acquire(cores=1, label="b")]
        with pytest.raises(
            leasehold.Held, match=f"unit 4 of pool streams of lease {lease.id} is held; held by a part 'a'"
        ):
            partition.acquire(Ids("streams", [4]))
        with pytest.raises(leasehold.Exhausted) as refused:
            partition.acquire(cores=1)
        (holder,) = refused.value.facts["holders"]
        assert (holder["label"], holder["lease"], refused.value.facts["card"]) == ("b", lease.id, "0")
        for part in (*quick, *partition.parts):
            part.release()


@pytest.mark.parametrize(
    ("claims", "keywords"),
    [
        ((), {"streams": 4}),
        ((), {"memory": "1088KiB"}),
        ((Ids("streams", [5]),), {}),
        ((Ids("streams", [200]),), {}),
        ((Run("streams", 3),), {}),
        ((Units("streams", 2), Ids("streams", [3, 4])), {}),
        ((), {"vdec": 1}),
        ((Units("streams", 1, reservation="r"),), {}),
    ],
)
def test_what_these_units_can_never_be_is_invalid_also_while_some_are_out(lease, claims, keywords):
    with lease.partition() as partition:
        for _ in range(2):
            with pytest.raises(leasehold.Invalid) as refused:
                partition.acquire(*claims, **keywords)
            assert f"lease {lease.id}" in str(refused.value)
            assert differences_in(partition) == []
            partition.acquire(streams=1)
        for part in partition.parts:
            part.release()


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
