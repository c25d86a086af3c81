"""Units handed out inside a lease: against the ledger itself, and in the hands of whoever uses them."""

import random

import pytest
from bitarray.util import zeros
from hypothesis import given
from hypothesis import strategies as st

import leasehold
from leasehold import Common, FirstOf, Ids, Run, Units
from leasehold.partition.partition import PLANS_MAX
from leasehold.partition.row import Row
from leasehold.testing import FakeClient
from rm.core.bitmap import first_gap, runs_of_clear_bits
from rm.core.pool import Pool, PoolSpec
from rm.core.report import differences
from rm.core.types import PoolName
from support.parts import differences_in
from support.strategies import SAME_EVERY_RUN

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
def client(fake_client):
    return fake_client


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


@SAME_EVERY_RUN
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(0, 30)), max_size=60))
def test_what_lies_loose_is_what_the_search_would_find(steps):
    """A row against the bits themselves, whatever is taken and given back in whatever order."""
    pool = Pool(PoolSpec(PoolName("memory"), 16))
    row, bits, out = Row(pool, pool.free_runs), zeros(16, endian="little"), []
    for is_taken, count, pick in steps:
        if is_taken:
            expected = first_gap(bits, count)
            assert row.take(count) == expected
            if expected >= 0:
                out.append((expected, expected + count, row.gives))
                bits[expected : expected + count] = 1
        elif out:
            start, stop, gives = out.pop(pick % len(out))
            row.give_back(start, stop, gives)
            bits[start:stop] = 0
    row.settle()
    assert list(row.runs) == list(runs_of_clear_bits(bits))


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
