"""Streams: ordered, pinned, and honest about errors."""

import os
import threading

import pytest

import leasehold
from leasehold.stream import Stream


@pytest.fixture
def stream():
    made = Stream(7, cpus=(), check_lease=lambda: None)
    yield made
    made.close()


def test_tasks_run_one_after_another_in_the_order_they_were_submitted(stream):
    seen = []
    tasks = [stream.submit(seen.append, number) for number in range(1000)]
    stream.synchronize()

    assert seen == list(range(1000))
    assert all(task.done() for task in tasks)


def test_a_task_has_its_result(stream):
    assert stream.submit(lambda a, b: a + b, 1, b=2).result() == 3


def test_an_error_is_delivered_at_synchronize_once_and_stops_nothing(stream):
    seen = []
    failed = stream.submit(lambda: 1 / 0)
    stream.submit(int, "x")
    stream.submit(seen.append, 1)

    with pytest.raises(ZeroDivisionError):
        stream.synchronize()
    stream.synchronize()

    assert seen == [1]
    with pytest.raises(ZeroDivisionError):
        failed.result()


def test_synchronize_has_a_time_limit(stream):
    gate = threading.Event()
    stream.submit(gate.wait)

    with pytest.raises(TimeoutError):
        stream.synchronize(timeout=0.01)

    gate.set()
    stream.synchronize(timeout=10)


def test_its_thread_is_pinned_and_no_other_is():
    everywhere = os.sched_getaffinity(0)
    cpu = max(everywhere)
    stream = Stream(0, cpus=(cpu,), check_lease=lambda: None)

    assert stream.submit(os.sched_getaffinity, 0).result() == {cpu}
    assert os.sched_getaffinity(0) == everywhere
    stream.close()


def test_a_closed_stream_takes_nothing_and_ends_what_it_had():
    stream = Stream(0, cpus=(), check_lease=lambda: None)
    task = stream.submit(lambda: "ended")
    stream.close()
    stream.close()

    assert task.result(0) == "ended"
    with pytest.raises(leasehold.Closed):
        stream.submit(print)


def test_nothing_runs_once_the_lease_is_lost():
    lost = threading.Event()

    def check():
        if lost.is_set():
            raise leasehold.LeaseLost("L1", "test")

    stream = Stream(0, cpus=(), check_lease=check)
    gate = threading.Event()
    stream.submit(gate.wait)
    late = stream.submit(lambda: "ran")
    lost.set()
    gate.set()

    with pytest.raises(leasehold.LeaseLost):
        late.result()
    with pytest.raises(leasehold.LeaseLost):
        stream.submit(print)
    with pytest.raises(leasehold.LeaseLost):
        stream.synchronize()
    stream.close()


def test_a_task_does_not_keep_its_arguments_alive(stream):
    class Thing:
        pass

    import weakref

    thing = Thing()
    seen = weakref.ref(thing)
    stream.submit(lambda one: None, thing)
    stream.synchronize()
    del thing
    stream.submit(lambda: None).result()

    assert seen() is None


def test_a_cpu_that_is_not_allowed_is_said_at_once():
    with pytest.raises(leasehold.LeaseholdError, match="may not run on CPU 1023"):
        Stream(0, cpus=(1023,), check_lease=lambda: None)


def test_a_task_whose_awaiter_gave_up_is_left_out_and_the_stream_goes_on(stream):
    gate = threading.Event()
    stream.submit(gate.wait)
    given_up = stream.submit(lambda: "ran")
    assert given_up._future.cancel()
    gate.set()

    assert stream.submit(lambda: "next").result(timeout=10) == "next"
    stream.synchronize(timeout=10)


def test_a_task_that_waits_for_its_own_stream_is_an_error_and_no_hang(stream):
    later = []
    for wait in (stream.synchronize, lambda: later[0].result()):  # noqa: PLW0108 - not there yet
        gate = threading.Event()
        task = stream.submit(lambda wait=wait, gate=gate: (gate.wait(), wait()))
        later[:] = [stream.submit(int)]
        gate.set()
        with pytest.raises(RuntimeError, match="own stream"):
            task.result(timeout=10)
    with pytest.raises(RuntimeError):
        stream.synchronize()
