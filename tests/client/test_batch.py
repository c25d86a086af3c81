"""Many leases in one message, and many calls at once."""

import asyncio

import pytest

import leasehold
import leasehold.aio
from leasehold import batch
from leasehold.testing import FakeClient


def test_each_wish_gets_its_lease_or_its_own_refusal_in_their_order(client):
    got = client.acquire_many(
        [{"streams": 2}, {"streams": 256}, {"claims": [leasehold.Ids("vdec", [3])], "label": "x"}]
    )
    assert [type(one) for one in got] == [leasehold.Lease, leasehold.Exhausted, leasehold.Lease]
    assert (got[0].units("streams"), got[2].units("vdec"), got[2].label) == ((0, 1), (3,), "x")
    assert got[1].facts["free_count"] == 254, "the first was decided before it"
    client.release_many(one for one in got if isinstance(one, leasehold.Lease))
    assert [got[0].valid, got[2].valid] == [False, False]


def test_memory_comes_with_its_windows(client):
    first, second = client.acquire_many([{"memory": "1MiB"}, {"memory": "2MiB"}])
    second.memory[0] = 7
    assert (first.memory[0], second.memory[0], second.memory.size) == (0, 7, 2 << 20)
    client.release_many([first, second])


def test_more_than_fit_into_one_message_go_in_several(client, monkeypatch):
    monkeypatch.setattr(batch, "OPERATIONS_MAX", 7)
    leases = client.acquire_many([{"streams": 1}] * 20)
    assert [lease.units("streams") for lease in leases] == [(index,) for index in range(20)]
    client.release_many(leases)


@pytest.mark.parametrize(
    "wish", [{"streams": 1, "wait": 1}, {"priority": 1}, {"reservation": "r"}, {}, {"streams": "x"}]
)
def test_what_no_wish_can_be_is_refused_and_nothing_is_asked(client, wish):
    before = client.status().revision
    with pytest.raises(leasehold.Invalid):
        client.acquire_many([{"streams": 1}, wish])
    assert client.status().revision == before


def test_memory_in_use_keeps_all_of_them(client):
    leases = client.acquire_many([{"streams": 1}, {"memory": "1MiB"}])
    array = leases[1].memory.array("u1", 4)
    with pytest.raises(leasehold.WindowInUse):
        client.release_many(leases)
    assert [lease.valid for lease in leases] == [True, True]
    assert len(client.leases()) == 2
    del array
    client.release_many(leases)


def test_calls_of_one_turn_of_the_loop_are_all_answered(daemon):
    async def use() -> None:
        async with await leasehold.aio.connect(daemon.run_directory) as client:
            leases = await asyncio.gather(*(client.acquire(streams=1) for _ in range(200)))
            assert len({lease.units("streams") for lease in leases}) == 200
            await asyncio.gather(*(lease.release() for lease in leases))
            assert await client.leases() == []

    asyncio.run(use())


def test_one_that_waits_does_not_hold_up_the_others(daemon):
    async def use() -> None:
        async with await leasehold.aio.connect(daemon.run_directory) as client:
            holder = await client.acquire(leasehold.Ids("vdec", [0]))
            waiting = asyncio.create_task(client.acquire(leasehold.Ids("vdec", [0]), wait=20))
            for _ in range(20):
                await (await client.acquire(streams=1)).release()
            assert not waiting.done()
            await holder.release()
            await (await waiting).release()

    asyncio.run(use())


def test_the_fake_client_has_the_same_names():
    client = FakeClient(cores=2)
    got = client.acquire_many([{"cores": 2}, {"cores": 1}, {"claims": [leasehold.Ids("streams", [3])]}])
    assert [type(one) for one in got] == [leasehold.Lease, leasehold.Exhausted, leasehold.Lease]
    client.release_many(one for one in got if isinstance(one, leasehold.Lease))
    with pytest.raises(leasehold.Invalid):
        client.acquire_many([{"cores": 2}, {}])
    client.acquire_many([{"cores": 2}])[0].release()
