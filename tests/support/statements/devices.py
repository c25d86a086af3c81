"""Statements 1 to 16: devices, and their default contexts."""

import threading

from leasehold import axcl
from support.statements.case import PROCESSES, Case
from support.statements.registry import code, codes, statement
from support.waiting import in_thread

rt = axcl.rt


@statement(
    1,
    "the first SetDevice begins the life of the device: default context, default stream, thread bound",
    "0; bound to the default context; CreateStream 0",
)
def first_set(case: Case) -> str:
    ret = rt.set_device(case.first)
    is_default = rt.get_current_context() == rt.get_default_context(case.first)
    _, stream_ret = rt.create_stream()
    return (
        f"{code(ret)}; {'bound to the default context' if is_default else 'not bound'}; CreateStream {code(stream_ret)}"
    )


@statement(2, "each SetDevice adds 1, each ResetDevice takes 1, from any thread", "0, 0, 0, 0, then 0x80300183")
def counted(case: Case) -> str:
    rets = [rt.set_device(case.first), in_thread(lambda: rt.set_device(case.first))()]
    rets += [in_thread(lambda: rt.reset_device(case.first))(), rt.reset_device(case.first)]
    return f"{codes(*rets)}, then {code(rt.reset_device(case.first))}"


@statement(
    3,
    "SetDevice twice, ResetDevice once: the device is still usable",
    "the same context is current; GetDevice 0, CreateStream 0",
)
def reset_once_of_two(case: Case) -> str:
    rt.set_device(case.first)
    rt.set_device(case.first)
    before = rt.get_current_context()
    rt.reset_device(case.first)
    same = "the same context is current" if rt.get_current_context() == before else "unbound"
    return f"{same}; GetDevice {code(rt.get_device()[1])}, CreateStream {code(rt.create_stream()[1])}"


@statement(
    4,
    "SetDevice twice, ResetDevice twice: its resources are gone",
    "GetDevice 0x80300185, GetCurrentContext 0x80300284, CreateStream 0x80300284, Malloc 0x80300284",
)
def reset_twice_of_two(case: Case) -> str:
    for step in (rt.set_device, rt.set_device, rt.reset_device, rt.reset_device):
        step(case.first)
    asked = {"GetDevice": rt.get_device, "GetCurrentContext": rt.get_current_context, "CreateStream": rt.create_stream}
    told = [f"{name} {code(ask()[1])}" for name, ask in asked.items()]
    return ", ".join([*told, f"Malloc {code(rt.malloc(64, 0)[1])}"])


@statement(5, "ResetDevice at count 0", "0x80300183")
def reset_at_zero(case: Case) -> str:
    return code(rt.reset_device(case.first))


@statement(6, "SetDevice, ResetDevice, CreateContext of an unknown device", "0x80300184, 0x80300184, 0x80300184")
def unknown_device(case: Case) -> str:
    return codes(rt.set_device(99), rt.reset_device(99), rt.create_context(99)[1])


@statement(
    7, "other processes are not affected by this one's count reaching 0", "the other's Malloc 0, before and after"
)
def other_process(case: Case) -> str:
    ask = case.other_process()
    ask("axcl.rt.set_device(device)")
    rt.set_device(case.first)
    before = ask("axcl.rt.malloc(4096, 0)[1]")
    rt.reset_device(case.first)
    after = ask("axcl.rt.malloc(4096, 0)[1]")
    return f"the other's Malloc {code(int(before))}, before and after" if before == after else f"{before}, {after}"


@statement(
    8,
    "memory is of one device: an address of one under a context of another",
    "Free 0x80300581, MemFlush 0x80300581; copies are not checked",
    ours="Free 0x80300581, MemFlush 0x80300581; copies 0x80300581, 0x80300581",
    why="an unchecked copy reaches into memory of others",
)
def across_devices(case: Case) -> str:
    rt.set_device(case.first)
    there, _ = rt.malloc(4096, 0)
    rt.set_device(case.second)
    here, _ = rt.malloc(4096, 0)
    copies = [
        rt.memcpy(here, there, 4096, axcl.AXCL_MEMCPY_DEVICE_TO_DEVICE),
        rt.memcpy(there, bytes(4096), 4096, axcl.AXCL_MEMCPY_HOST_TO_DEVICE),
    ]
    return f"Free {code(rt.free(there))}, MemFlush {code(rt.mem_flush(there, 64))}; copies {codes(*copies)}"


@statement(
    9,
    "two devices in turn: the last SetDevice binds, the other stays active",
    "second, first; both still at count 2 and 1",
)
def two_devices(case: Case) -> str:
    names = {case.first: "first", case.second: "second"}
    rt.set_device(case.first)
    rt.set_device(case.second)
    seen = [names[rt.get_device()[0]]]
    rt.set_device(case.first)
    seen.append(names[rt.get_device()[0]])
    rets = [rt.reset_device(case.first), rt.reset_device(case.first), rt.reset_device(case.second)]
    over = [rt.reset_device(case.first), rt.reset_device(case.second)]
    is_right = not any(rets) and all(code(ret) == "0x80300183" for ret in over)
    return f"{', '.join(seen)}; {'both still at count 2 and 1' if is_right else codes(*rets, *over)}"


@statement(
    10,
    "the device is lost: here, the daemon took its lease back",
    "Malloc 0x80300509, Memcpy 0x80300509, EngineInit 0x80300709, SynchronizeStream 0xFFFFFFFF",
    ours="Malloc 0x80300509, Memcpy 0x80300509, EngineInit 0x80300709, SynchronizeStream 0xFFFFFFFF; "
    "SetDevice 0x80300181 until it was reset, then 0",
    why="a way back: the count must reach 0, then SetDevice takes a new lease",
)
def lost(case: Case) -> str:
    rt.set_device(case.first)
    memory, _ = rt.malloc(4096, 0)
    stream, _ = rt.create_stream()
    case.lose_lease()
    told = {
        "Malloc": rt.malloc(4096, 0)[1],
        "Memcpy": rt.memcpy(memory, bytes(64), 64, axcl.AXCL_MEMCPY_HOST_TO_DEVICE),
        "EngineInit": rt.engine_init(0),
        "SynchronizeStream": rt.synchronize_stream(stream),
    }
    text = ", ".join(f"{name} {code(ret)}" for name, ret in told.items())
    while_lost = rt.set_device(case.first)
    rt.reset_device(case.first)
    return f"{text}; SetDevice {code(while_lost)} until it was reset, then {code(rt.set_device(case.first))}"


@statement(
    11,
    "ResetDevice to 0 while work is queued",
    "undocumented, not verified on hardware",
    ours="waits for it: the copies of a 16 MiB chain are all there",
    why="gen-2 documents that it waits",
)
def reset_waits(case: Case) -> str:
    rt.set_device(case.first)
    stream, _ = rt.create_stream()
    size = 2 << 20
    memory, back = rt.malloc(size, 0)[0], bytearray(size)
    for value in range(1, 9):
        rt.memset_async(memory, value, size, stream)
    rt.memcpy_async(back, memory, size, axcl.AXCL_MEMCPY_DEVICE_TO_HOST, stream)
    rt.reset_device(case.first)
    return "waits for it: the copies of a 16 MiB chain are all there" if set(back) == {8} else "does not wait"


@statement(
    12,
    "the process ends without ResetDevice or Finalize",
    "without Reset: fine; without Finalize: SIGABRT",
    ours="without Reset: exit status 0; without Finalize: exit status 0",
    why="a crash at the end helps nobody; what was held is back either way",
)
def exit_without(case: Case) -> str:
    without_reset = case.python("axcl.rt.set_device(device); axcl.rt.malloc(4096, 0); axcl.finalize()")
    without_both = case.python("axcl.rt.set_device(device); axcl.rt.malloc(4096, 0)")
    return (
        f"without Reset: exit status {without_reset.returncode}; "
        f"without Finalize: exit status {without_both.returncode}"
    )


@statement(
    13,
    "the default context is one for each device and process: a second thread's SetDevice has the same",
    "the same handle, and the count is 2",
)
def one_default(case: Case) -> str:
    rt.set_device(case.first)

    def other() -> int:
        rt.set_device(case.first)
        return rt.get_current_context()[0]

    same = in_thread(other)() == rt.get_current_context()[0]
    rets = [rt.reset_device(case.first) for _ in range(3)]
    is_two = [code(ret) for ret in rets] == ["0", "0", "0x80300183"]
    return f"{'the same handle' if same else 'another handle'}, and the count is {2 if is_two else codes(*rets)}"


@statement(14, "DestroyContext of the default context", "0x80300282; the binding stays")
def destroy_default(case: Case) -> str:
    rt.set_device(case.first)
    context, _ = rt.get_current_context()
    ret = rt.destroy_context(context)
    return f"{code(ret)}; {'the binding stays' if rt.get_current_context() == (context, 0) else 'unbound'}"


@statement(15, "count 0 ends the default context for all threads", "every bound thread: 0x80300284")
def default_ends(case: Case) -> str:
    bound, ended, told = threading.Event(), threading.Event(), []

    def other() -> None:
        rt.set_device(case.first)
        bound.set()
        ended.wait(20)
        told.append(rt.get_current_context()[1])

    joined = in_thread(other)
    bound.wait(20)
    rt.set_device(case.first)
    rt.reset_device(case.first)
    rt.reset_device(case.first)
    ended.set()
    joined()
    told.append(rt.get_current_context()[1])
    return f"every bound thread: {code(told[0])}" if told[0] == told[1] else codes(*told)


@statement(16, "the default context of a device that is not active", "0x80300183")
def no_default(case: Case) -> str:
    return code(rt.get_default_context(case.first)[1])


@statement(61, f"one process more than the card serves ({PROCESSES})", "SetDevice 0x80300186")
def too_many_processes(case: Case) -> str:
    with case.daemon.connect() as client, client.acquire(processes=PROCESSES, card="0"):
        return f"SetDevice {code(rt.set_device(case.first))}"
