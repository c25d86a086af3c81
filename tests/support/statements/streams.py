"""Statements 34 to 45: streams and tasks."""

import time

from leasehold import axcl
from leasehold.runtime import default_runtime
from support.statements.case import Case
from support.statements.engines import Loaded
from support.statements.registry import code, codes, statement
from support.waiting import until

rt = axcl.rt


class Gate:
    """Work on a stream that does not end before it is let go."""

    def __init__(self, stream: int) -> None:
        self._event, _ = rt.create_event()
        rt.stream_wait_event(stream, self._event)
        self._opener, _ = rt.create_stream()

    def open(self) -> None:
        """Lets the stream go on."""
        rt.record_event(self._event, self._opener)


@statement(34, "every context has a default stream", "0 and 0, two different ones")
def has_default(case: Case) -> str:
    rt.set_device(case.first)
    default, _ = rt.get_current_context()
    own, _ = rt.create_context(case.first)
    (one, one_ret), (other, other_ret) = rt.get_default_stream(default), rt.get_default_stream(own)
    return f"{code(one_ret)} and {code(other_ret)}, {'two different ones' if one != other else 'the same'}"


@statement(
    35, "the default stream lives and dies with its context, and cannot be destroyed", "0x80300382, by force 0x80300382"
)
def default_stays(case: Case) -> str:
    rt.set_device(case.first)
    stream, _ = rt.get_default_stream(rt.get_current_context()[0])
    return f"{code(rt.destroy_stream(stream))}, by force {code(rt.destroy_stream_force(stream))}"


@statement(36, "SynchronizeStream of a default stream", "0xFFFFFFFF")
def synchronize_default(case: Case) -> str:
    rt.set_device(case.first)
    return code(rt.synchronize_stream(rt.get_default_stream(rt.get_current_context()[0])[0]))


@statement(
    37,
    "calls without a stream go by the default stream, and return when they are done",
    "what was put there before is done before",
)
def by_default_stream(case: Case) -> str:
    rt.set_device(case.first)
    stream, _ = rt.get_default_stream(rt.get_current_context()[0])
    size = 1 << 20
    memory, _ = rt.malloc(size, 0)
    back = bytearray(size)
    for value in range(1, 9):
        rt.memset_async(memory, value, size, stream)
    rt.memcpy(back, memory, size, axcl.AXCL_MEMCPY_DEVICE_TO_HOST)
    return "what was put there before is done before" if set(back) == {8} else f"it saw {set(back)}"


@statement(
    38,
    "CreateStream needs a current context; DestroyStream and SynchronizeStream of null",
    "0x80300284; 0x80300302, 0x80300302",
)
def needs_context(case: Case) -> str:
    return f"{code(rt.create_stream()[1])}; {codes(rt.destroy_stream(0), rt.synchronize_stream(None))}"


@statement(
    39,
    "a stream whose context has ended is of no use",
    "SynchronizeStream 0xFFFFFFFF, DestroyStream 0x80300382; tasks: undefined",
    ours="SynchronizeStream 0xFFFFFFFF, DestroyStream 0x80300382; tasks: 0x80305223, 0x80305223",
    why="one clear answer to whatever is submitted: gen-2's STREAM_NOT_EXIST",
)
def dead_context(case: Case) -> str:
    rt.set_device(case.first)
    memory, _ = rt.malloc(64, 0)
    context, _ = rt.create_context(case.first)
    stream, _ = rt.create_stream()
    event, _ = rt.create_event()
    rt.destroy_context(context)
    rt.set_device(case.first)
    told = f"SynchronizeStream {code(rt.synchronize_stream(stream))}, DestroyStream {code(rt.destroy_stream(stream))}"
    return f"{told}; tasks: {codes(rt.memset_async(memory, 1, 64, stream), rt.record_event(event, stream))}"


@statement(40, "DestroyStream twice", "0, then 0x80300382")
def destroy_twice(case: Case) -> str:
    rt.set_device(case.first)
    stream, _ = rt.create_stream()
    return f"{code(rt.destroy_stream(stream))}, then {code(rt.destroy_stream(stream))}"


@statement(
    41,
    "DestroyStream waits for the tasks of the stream, DestroyStreamForce does not",
    "waits: all done; by force: cancelled",
)
def destroy_waits(case: Case) -> str:
    rt.set_device(case.first)
    size = 1 << 20
    memory, back = rt.malloc(size, 0)[0], bytearray(size)
    polite, _ = rt.create_stream()
    gate = Gate(polite)
    rt.memset_async(memory, 5, size, polite)
    rt.memcpy_async(back, memory, size, axcl.AXCL_MEMCPY_DEVICE_TO_HOST, polite)
    gate.open()
    rt.destroy_stream(polite)
    waits = "all done" if set(back) == {5} else "not done"
    rude, _ = rt.create_stream()
    gate = Gate(rude)
    rt.memset_async(memory, 6, size, rude)
    rt.destroy_stream_force(rude)
    gate.open()
    rt.memcpy(back, memory, size, axcl.AXCL_MEMCPY_DEVICE_TO_HOST)
    return f"waits: {waits}; by force: {'cancelled' if set(back) == {5} else 'done'}"


@statement(
    42,
    "tasks of one stream run in order; two streams have none between them",
    "in order; the second stream is not held up by the first",
)
def in_order(case: Case) -> str:
    rt.set_device(case.first)
    streams = [default_runtime().find_stream(rt.create_stream()[0]) for _ in range(2)]
    gate, seen = Gate(streams[0].handle), []
    for number in range(100):
        streams[0].submit(seen.append, number)
    streams[1].submit(seen.append, -1)
    rt.synchronize_stream(streams[1].handle)
    first = list(seen)
    gate.open()
    rt.synchronize_stream(streams[0].handle)
    is_ordered, is_free = seen[1:] == list(range(100)), first == [-1]
    return f"{'in order' if is_ordered else seen}; the second stream is {'not ' if is_free else ''}held up by the first"


@statement(
    43,
    "SynchronizeStreamWithTimeout expires",
    "0x80300383 or 0x80300305: not verified",
    ours="0x80300383; nothing is cancelled: 0, and done",
    why="the header's SYNC_TIMEOUT; gen-2 documents that nothing is cancelled",
)
def expires(case: Case) -> str:
    rt.set_device(case.first)
    memory, back = rt.malloc(64, 0)[0], bytearray(64)
    stream, _ = rt.create_stream()
    gate = Gate(stream)
    rt.memset_async(memory, 9, 64, stream)
    rt.memcpy_async(back, memory, 64, axcl.AXCL_MEMCPY_DEVICE_TO_HOST, stream)
    expired = rt.synchronize_stream_with_timeout(stream, 20)
    gate.open()
    waited = rt.synchronize_stream_with_timeout(stream, -1)
    return f"{code(expired)}; nothing is cancelled: {code(waited)}, and {'done' if set(back) == {9} else 'not done'}"


@statement(
    44,
    "a task fails",
    "the synchronize returns its code",
    ours="the synchronize returns its code: 0x8030070C; what lay behind it was cancelled; then 0, and work goes on",
    why="gen-2's sticky error: nothing runs on what a failed task left, until somebody was told",
)
def task_fails(case: Case) -> str:
    loaded = Loaded(case, failing=True)
    stream, _ = rt.create_stream()
    gate = Gate(stream)
    loaded.give((7).to_bytes(4, "little"))  # an index that the model does not have
    rt.engine_execute_async(loaded.model, loaded.context, 0, loaded.io, stream)
    rt.memset_async(loaded.output, 3, 8, stream)
    gate.open()
    failed = rt.synchronize_stream(stream)
    back = bytearray(8)
    rt.memcpy(back, loaded.output, 8, axcl.AXCL_MEMCPY_DEVICE_TO_HOST)
    behind = "was cancelled" if set(back) != {3} else "was done"
    rt.memset_async(loaded.output, 3, 8, stream)
    then = rt.synchronize_stream(stream)
    rt.memcpy(back, loaded.output, 8, axcl.AXCL_MEMCPY_DEVICE_TO_HOST)
    goes_on = "work goes on" if set(back) == {3} else "nothing works"
    told = f"the synchronize returns its code: {code(failed)}; what lay behind it {behind}"
    return f"{told}; then {code(then)}, and {goes_on}"


@statement(
    45,
    "tasks are invisible",
    "only internal symbols",
    ours="no name of axcl.rt has 'task' in it; what is cancelled is told as such: TASK_CANCELLED",
    why="gen-2's code for a task that was cancelled; programs in Python's manner have a Task to wait for",
)
def invisible(case: Case) -> str:
    rt.set_device(case.first)
    names = [name for name in dir(rt) if "task" in name]
    stream = default_runtime().find_stream(rt.create_stream()[0])
    Gate(stream.handle)
    task = stream.submit(time.monotonic)
    rt.destroy_stream_force(stream.handle)
    until(lambda: task.is_done)
    told = getattr(getattr(task.error, "code", None), "name", task.error)
    shown = "no name of axcl.rt has 'task' in it" if not names else str(names)
    return f"{shown}; what is cancelled is told as such: {told}"
