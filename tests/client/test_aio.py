"""The ``await`` client against a real daemon."""

import asyncio
import threading
from pathlib import Path

import pytest

import leasehold
import leasehold.aio
from demo import models


def run(daemon, story):
    """Runs a story on a client of its own."""

    async def told():
        async with await leasehold.aio.connect(daemon.run_directory) as client:
            return await story(client)

    return asyncio.run(told())


def test_the_same_names_with_await(daemon, client):
    async def story(aio):
        async with await aio.acquire(memory="32MiB", cores=1, streams=1, label="aio") as lease:
            model = await lease.load(models.model_path("magika"))
            out = await model.run(models.magika_input(Path(__file__).read_bytes()), stream=lease.stream(0))
            assert models.magika_answer(out)[0] == "python"
            stream = lease.stream(0)
            assert await stream.submit(lambda: 42) == 42
            stream.submit(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await stream.synchronize()
            await lease.extend(streams=1)
            await lease.give_back("streams", [0])
            assert lease.units("streams") == (1,)
            assert [one.label for one in await aio.leases("cores")] == ["aio"]
        assert await aio.leases() == []
        assert [event.cause async for event in aio.events(past=1, follow=False)] == ["released"]

    run(daemon, story)


def test_cores_that_are_added_are_cpus_too(daemon):
    async def story(aio):
        async with await aio.acquire(streams=1) as lease:
            assert not lease.has_cpus
            await lease.extend(cores=1)
            assert lease.has_cpus
            assert lease.cores == (await aio.cards())[0].core_cpus[:1]

    run(daemon, story)


def test_refusals_are_the_same_classes(daemon, client):
    async def story(aio):
        with pytest.raises(leasehold.Invalid):
            await aio.acquire(cores=1000)
        async with await aio.acquire(memory="64MiB"):
            with pytest.raises(leasehold.Exhausted):
                await aio.acquire(memory="1MiB")
            with pytest.raises(leasehold.TimedOut):
                await aio.acquire(memory="1MiB", wait="50ms")

    run(daemon, story)


def test_a_cancelled_wait_is_withdrawn_and_others_go_on(daemon, client):
    async def story(aio):
        async with await aio.acquire(memory="64MiB"):
            first = asyncio.create_task(aio.acquire(memory="64MiB", wait=30))
            second = asyncio.create_task(aio.acquire(memory="1MiB", wait=30))
            while client.status().waiter_count < 2:
                await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert client.status().waiter_count == 1
        await (await second).release()

    run(daemon, story)


def test_a_thousand_waits_on_one_client(daemon, client):
    async def story(aio):
        async def once():
            async with await aio.acquire(leasehold.Ids("streams", [0]), wait=110) as lease:
                return lease.token

        async with await aio.acquire(leasehold.Ids("streams", [0])):
            waits = [asyncio.create_task(once()) for _ in range(1000)]
            while client.status().waiter_count < 1000:
                await asyncio.sleep(0.01)
        tokens = await asyncio.gather(*waits)
        assert len(set(tokens)) == 1000

    run(daemon, story)


def test_arrays_that_live_are_a_clear_error(daemon, client):
    async def story(aio):
        lease = await aio.acquire(memory="1MiB")
        array = lease.memory.array("u1", 10)
        with pytest.raises(leasehold.WindowInUse):
            await lease.release()
        del array
        await lease.release()

    run(daemon, story)


def test_a_task_that_is_no_longer_awaited_does_not_harm_its_stream(daemon, client):
    async def story(aio):
        async with await aio.acquire(streams=1) as lease:
            stream, gate = lease.stream(0), threading.Event()
            stream.submit(gate.wait)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.submit(lambda: None), 0.01)
            gate.set()
            assert await stream.submit(lambda: "alive") == "alive"

    run(daemon, story)
