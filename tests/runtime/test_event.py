"""Events: order between streams, and nobody hangs whatever becomes of a record."""

import threading

import pytest

from leasehold.runtime import Code, Fault
from support.waiting import in_thread, until


@pytest.fixture
def streams(context):
    return [context.create_stream() for _ in range(2)]


@pytest.fixture
def event(rt, context):
    return rt.create_event()


def code_of(fn, *args):
    with pytest.raises(Fault) as fault:
        fn(*args)
    return fault.value.code


def test_a_wait_is_for_the_record_before_it(streams, event) -> None:
    first, second = streams
    opened, seen = threading.Event(), []
    first.submit(opened.wait, 20)
    first.submit(seen.append, "first")
    first.record(event)
    second.wait(event)
    second.submit(seen.append, "second")
    assert not event.has_happened
    opened.set()
    second.synchronize(20)
    assert seen == ["first", "second"]
    assert event.has_happened


def test_a_wait_before_any_record_is_for_the_next(streams, event) -> None:
    first, second = streams
    seen = []
    second.wait(event)
    second.submit(seen.append, "second")
    first.submit(seen.append, "first")
    first.record(event)
    second.synchronize(20)
    assert seen == ["first", "second"]


def test_streams_of_two_contexts_of_a_device_may_use_it_but_not_those_of_another(rt, streams, event) -> None:
    other = rt.create_context(0).create_stream()
    other.record(event)
    streams[0].wait(event)
    streams[0].synchronize(20)
    rt.set_device(1)
    assert code_of(rt.create_stream().wait, event) is Code.STREAM_ILLEGAL


def test_a_record_that_is_cancelled_fails_its_waits(streams, event) -> None:
    first, second = streams

    def fail():
        raise ValueError("it broke")

    opened = threading.Event()
    first.submit(opened.wait, 20)
    first.submit(fail)
    first.record(event)
    second.wait(event)
    opened.set()
    assert code_of(second.synchronize, 20) is Code.EVENT_WAIT
    with pytest.raises(ValueError, match="it broke"):
        first.synchronize()


def test_a_stream_that_is_destroyed_gives_up_an_event_that_nobody_has_recorded(streams, event) -> None:
    streams[0].wait(event)
    behind = streams[0].submit(int)
    streams[0].destroy()
    assert behind.error.code is Code.TASK_CANCELLED


def test_a_reset_frees_every_stream_that_waits(rt, context, streams, event) -> None:
    other = rt.create_event()
    streams[0].wait(event)
    streams[0].record(other)
    streams[1].wait(other)
    last = streams[1].submit(int)
    in_thread(lambda: rt.reset_device(0))()
    assert last.error.code is Code.TASK_CANCELLED


def test_a_wait_with_a_limit_fails_its_stream_when_it_is_over(streams, event) -> None:
    streams[0].wait(event, timeout=0.01)
    behind = streams[0].submit(int)
    assert code_of(streams[0].synchronize, 20) is Code.EVENT_WAIT
    assert behind.error.code is Code.TASK_CANCELLED
    streams[0].synchronize(20)


def test_an_event_that_is_destroyed_fails_the_waits_for_a_record_that_never_comes(streams, event) -> None:
    streams[0].wait(event)
    event.destroy()
    assert code_of(streams[0].synchronize, 20) is Code.EVENT_WAIT
    assert code_of(streams[0].record, event) is Code.EVENT_NOT_EXIST
    assert code_of(event.destroy) is Code.EVENT_NOT_EXIST


def test_it_can_be_recorded_again(streams, event) -> None:
    first, second = streams
    for number in range(20):
        seen = []
        first.submit(seen.append, number)
        first.record(event)
        second.wait(event)
        second.submit(seen.append, -number)
        second.synchronize(20)
        assert seen == [number, -number]


def test_ten_streams_in_a_row_of_events(rt, context) -> None:
    streams, seen, last = [context.create_stream() for _ in range(10)], [], None
    for number, stream in enumerate(streams):
        if last is not None:
            stream.wait(last)
        stream.submit(seen.append, number)
        last = rt.create_event()
        stream.record(last)
    until(lambda: last.has_happened)
    assert seen == list(range(10))
