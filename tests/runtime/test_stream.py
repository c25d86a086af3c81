"""Streams: order, errors that stick, waits with limits, and ends, polite and forced."""

import os
import threading

import pytest

from leasehold.runtime import Code, Fault
from support.waiting import in_thread, until


class Broken(Exception):
    """What a task of a test raises."""


def fail():
    raise Broken("it broke")


@pytest.fixture
def stream(context):
    made = context.create_stream()
    yield made
    if made.is_live:
        made.destroy(is_forced=True)


@pytest.fixture
def gate(stream):
    """Holds the stream until it is set."""
    opened = threading.Event()
    stream.submit(opened.wait, 20)
    yield opened
    opened.set()


def test_a_stream_is_a_unit_of_the_card_and_its_thread_begins_with_the_first_task(cards, context) -> None:
    before = cards.cards()[0].pool("streams").used
    others = set(threading.enumerate())

    def begun() -> int:
        return sum(thread.name.startswith("leasehold-axcl-") for thread in set(threading.enumerate()) - others)

    stream = context.create_stream()
    assert cards.cards()[0].pool("streams").used == before + 1
    assert begun() == 0
    stream.synchronize()
    assert begun() == 0
    stream.submit(int)
    assert begun() == 1
    stream.destroy()
    until(lambda: begun() == 0)
    assert cards.cards()[0].pool("streams").used == before


def test_a_task_answers_and_can_be_waited_for(stream) -> None:
    seen = []
    task = stream.submit(seen.append, 1)
    task.wait(20)
    assert (seen, task.is_done, task.error) == ([1], True, None)


def test_a_failed_task_stops_the_stream_until_it_is_synchronized(stream, gate) -> None:
    seen = []
    first, behind = stream.submit(fail), stream.submit(seen.append, 1)
    gate.set()
    with pytest.raises(Broken):
        first.wait(20)
    with pytest.raises(Fault) as cancelled:
        behind.wait(20)
    assert cancelled.value.code is Code.TASK_CANCELLED
    late = stream.submit(seen.append, 2)
    with pytest.raises(Fault):
        late.wait(20)
    with pytest.raises(Broken):
        stream.synchronize()
    stream.synchronize()
    stream.submit(seen.append, 3).wait(20)
    assert seen == [3]


def test_a_wait_that_took_too_long_leaves_the_error_to_the_next(stream, gate) -> None:
    stream.submit(fail)
    with pytest.raises(TimeoutError):
        stream.synchronize(timeout=0.01)
    gate.set()
    with pytest.raises(Broken):
        stream.synchronize(timeout=20)


def test_of_two_who_wait_at_once_one_hears_of_the_error_and_both_return(stream, gate) -> None:
    stream.submit(fail)

    def wait():
        try:
            stream.synchronize(20)
        except Broken:
            return "broken"
        return "good"

    waiting = [in_thread(wait) for _ in range(2)]
    gate.set()
    assert sorted(one() for one in waiting) == ["broken", "good"]


def test_a_task_cannot_wait_for_its_own_stream(stream) -> None:
    stream.submit(stream.synchronize)
    with pytest.raises(Fault, match="its own stream"):
        stream.synchronize()


def test_destroying_waits_for_what_was_submitted(stream, gate) -> None:
    seen = []
    stream.submit(seen.append, 1)
    ended = in_thread(stream.destroy)
    until(lambda: not stream.is_live)
    assert seen == []
    gate.set()
    ended()
    assert seen == [1]


def test_by_force_it_does_not_wait_and_its_unit_is_back_when_the_last_task_has_ended(cards, stream, gate) -> None:
    used = cards.cards()[0].pool("streams").used
    behind = stream.submit(int)
    stream.destroy(is_forced=True)
    assert cards.cards()[0].pool("streams").used == used
    gate.set()
    until(lambda: behind.is_done)
    assert behind.error.code is Code.TASK_CANCELLED
    until(lambda: cards.cards()[0].pool("streams").used == used - 1)


@pytest.mark.parametrize("what", ["submit", "synchronize", "record", "wait", "memset", "destroy"])
def test_a_stream_that_is_no_more_has_one_answer_to_everything(context, device, what) -> None:
    stream, event, block = context.create_stream(), context.activation.create_event(), device.malloc(64)
    stream.destroy()
    calls = {
        "submit": lambda: stream.submit(int),
        "synchronize": stream.synchronize,
        "record": lambda: stream.record(event),
        "wait": lambda: stream.wait(event),
        "memset": lambda: stream.memset(block, 0, 64),
        "destroy": stream.destroy,
    }
    with pytest.raises(Fault) as refused:
        calls[what]()
    assert refused.value.code is (Code.STREAM_DESTROY if what == "destroy" else Code.STREAM_NOT_EXIST)


def test_a_context_ends_when_the_tasks_of_its_streams_have(rt, device) -> None:
    context = rt.create_context(0)
    stream, seen, opened = context.create_stream(), [], threading.Event()
    stream.submit(opened.wait, 20)
    stream.submit(seen.append, 1)
    ended = in_thread(context.destroy)
    until(lambda: not context.is_live)
    opened.set()
    ended()
    assert seen == [1]
    assert not stream.is_live


def test_reset_waits_for_a_stream_that_another_thread_destroys(rt, device) -> None:
    context = rt.create_context(0)
    stream, seen, opened = context.create_stream(), [], threading.Event()
    stream.submit(opened.wait, 20)
    stream.submit(seen.append, 1)
    destroyed = in_thread(context.destroy)
    until(lambda: not context.is_live)
    reset = in_thread(lambda: rt.reset_device(0))
    until(lambda: not device.is_active)
    opened.set()
    reset()
    assert seen == [1]
    destroyed()


def test_tasks_run_on_the_leased_cores_while_there_are_some(context, add_model) -> None:
    everywhere = os.sched_getaffinity(0)
    stream, seen = context.create_stream(), []
    stream.submit(lambda: seen.append(os.sched_getaffinity(0)))
    stream.synchronize()
    engine = context.activation.engine
    engine.init(0)
    with _loaded(engine, add_model):
        stream.submit(lambda: seen.append(os.sched_getaffinity(0)))
        stream.synchronize()
        cpus = set(context.activation.cpus)
    stream.submit(lambda: seen.append(os.sched_getaffinity(0)))
    stream.synchronize()
    assert seen == [everywhere, cpus, everywhere]
    assert os.sched_getaffinity(0) == everywhere
    engine.finalize()


def test_a_context_may_have_255_streams_and_a_device_100_contexts_and_the_end_is_an_answer(cards, rt, context) -> None:
    streams = [context.create_stream() for _ in range(255)]  # with the default one, all that the card has
    with pytest.raises(Fault) as refused:
        context.create_stream()
    assert refused.value.code is Code.STREAM_CREATE
    for stream in streams:
        stream.destroy()
    contexts = [rt.create_context(0) for _ in range(100)]
    for one in contexts:
        one.destroy()
    context.bind()
    assert cards.cards()[0].pool("contexts").used == 1
    rt.reset_device(0)
    assert cards.leases() == []


def _loaded(engine, path):
    from leasehold.runtime.model_file import ModelFile

    return engine.load(ModelFile(path))
