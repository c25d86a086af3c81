"""The ledger in the caller's process."""

import pytest

import leasehold
from leasehold.local import Manager


def test_the_same_claims_and_rules_without_a_daemon():
    manager = Manager("ax-m1")
    lease = manager.acquire(
        leasehold.FirstOf(leasehold.Units("cores", 3), leasehold.Units("cores", 2)), memory="1GiB", streams=2
    )
    other = manager.acquire(leasehold.Run("memory", size="64KiB", align=4))

    assert lease.units("cores") == (0, 1, 2)
    assert other.units("memory") == (16384,)
    with pytest.raises(leasehold.Exhausted) as caught:
        manager.acquire(cores=1)
    assert caught.value.facts["free_count"] == 0
    with pytest.raises(leasehold.Held):
        manager.acquire(leasehold.Ids("streams", [1]))

    lease = manager.extend(lease, vdec=2)
    lease = manager.give_back(lease, "cores", [1])
    assert (lease.units("cores"), lease.units("vdec")) == ((0, 2), (0, 1))
    manager.release(lease)
    manager.release(lease)
    assert manager.give_back(other, "memory", [16384]) is None
    assert manager.leases() == []
    assert manager.check() == []
    assert all(pool.free == pool.total for pool in manager.cards()[0].pools)


def test_a_profile_of_ones_own_with_sites_and_slices(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\n[pools.counter]\nunit_count = 4\nsites = ["0,0,core", "0,1,core"]\n[pools.npu]\n'
        "unit_count = 2\nslices = 2\n"
    )
    manager = Manager(str(file))

    at = [(0, 1, "core"), (0, 0, "core")]
    counters = manager.acquire(leasehold.Units("counter", 2, at=at))
    common = manager.acquire(leasehold.Common("counter"))
    half = manager.acquire(npu=0.5)

    assert counters.allotments[0].at == ((0, 1, "core"), (0, 0, "core"))
    assert counters.allotments[0].ids == (0, 1, 0, 1)
    assert common.allotments[0].ids == (2, 2)
    assert half.units("npu") == (0,)
    assert manager.acquire(npu=1).units("npu") == (1,)
    assert manager.cards()[0].pool("npu").free == 0.5


@pytest.mark.parametrize("profile", ["nothing", "/no/such.toml"])
def test_an_unknown_profile_is_refused(profile):
    with pytest.raises(leasehold.Invalid):
        Manager(profile)


def test_a_lease_that_never_was_cannot_be_released():
    with pytest.raises(leasehold.NotFound):
        Manager("ax-m1").release("L1")
