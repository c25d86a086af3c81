"""Statements 17 to 33: contexts of a program's own, threads, processes."""

import threading

from leasehold import axcl
from support.statements.case import Case
from support.statements.registry import code, codes, statement
from support.waiting import in_thread

rt = axcl.rt
STALE = "the library touches freed memory; gen-2 refuses"


@statement(17, "CreateContext and DestroyContext", "0, 0")
def pair(case: Case) -> str:
    context, ret = rt.create_context(case.first)
    return codes(ret, rt.destroy_context(context))


@statement(18, "CreateContext, DestroyContext, SetCurrentContext of null", "0x80300202, 0x80300202, 0x80300202")
def null(case: Case) -> str:
    return codes(rt.create_context(None)[1], rt.destroy_context(None), rt.set_current_context(0))


@statement(
    19,
    "CreateContext on an inactive device makes it active, count 1; a second adds nothing, DestroyContext takes nothing",
    "0, 0, 0, 0; ResetDevice 0, then 0x80300183",
)
def activates(case: Case) -> str:
    made = [rt.create_context(case.first) for _ in range(2)]
    ended = [rt.destroy_context(context) for context, _ in made]
    resets = [rt.reset_device(case.first) for _ in range(2)]
    return f"{codes(*(ret for _, ret in made), *ended)}; ResetDevice {code(resets[0])}, then {code(resets[1])}"


@statement(20, "a context belongs to one device; GetDevice follows the current context", "second, first, second")
def device_follows(case: Case) -> str:
    names = {case.first: "first", case.second: "second"}
    one, _ = rt.create_context(case.first)
    other, _ = rt.create_context(case.second)
    seen = [rt.get_device()[0]]
    for context in (one, other):
        rt.set_current_context(context)
        seen.append(rt.get_device()[0])
    return ", ".join(names[device] for device in seen)


@statement(21, "contexts are the process's: one made in a thread is used in another", "SetCurrentContext 0, Malloc 0")
def shared(case: Case) -> str:
    context, _ = rt.create_context(case.first)

    def other() -> str:
        return f"SetCurrentContext {code(rt.set_current_context(context))}, Malloc {code(rt.malloc(64, 0)[1])}"

    return in_thread(other)()


@statement(22, "CreateContext one after the other binds the last", "the last is current")
def last_created(case: Case) -> str:
    made = [rt.create_context(case.first)[0] for _ in range(3)]
    return "the last is current" if rt.get_current_context() == (made[-1], 0) else "another is current"


@statement(23, "SetCurrentContext one after the other: the last counts", "the last is current")
def last_set(case: Case) -> str:
    made = [rt.create_context(case.first)[0] for _ in range(3)]
    for context in (made[2], made[0], made[1]):
        rt.set_current_context(context)
    return "the last is current" if rt.get_current_context() == (made[1], 0) else "another is current"


@statement(24, "a thread has one current context at a time, its own", "each thread sees its own")
def one_a_thread(case: Case) -> str:
    rt.set_device(case.first)
    barrier = threading.Barrier(3)

    def other() -> bool:
        mine, _ = rt.create_context(case.first)
        barrier.wait(20)
        return rt.get_current_context() == (mine, 0)

    joined = [in_thread(other) for _ in range(3)]
    return "each thread sees its own" if all(one() for one in joined) else "threads see one another's"


@statement(
    25,
    "a thread is always bound: a new thread without any call",
    "not bound: GetDevice 0x80300185, CreateStream 0x80300284",
)
def new_thread(case: Case) -> str:
    rt.set_device(case.first)
    device, stream = in_thread(lambda: (rt.get_device()[1], rt.create_stream()[1]))()
    return f"not bound: GetDevice {code(device)}, CreateStream {code(stream)}"


@statement(
    26,
    "DestroyContext of the current context unbinds every thread, and nothing takes its place",
    "0x80300284, 0x80300284",
)
def destroy_current(case: Case) -> str:
    rt.set_device(case.first)
    context, _ = rt.create_context(case.first)
    bound, gone = threading.Event(), threading.Event()

    def other() -> int:
        rt.set_current_context(context)
        bound.set()
        gone.wait(20)
        return rt.create_stream()[1]

    joined = in_thread(other)
    bound.wait(20)
    rt.destroy_context(context)
    gone.set()
    return codes(rt.create_stream()[1], joined())


@statement(27, "DestroyContext twice", "SIGSEGV or garbage", ours="0, then 0x80305224", why=STALE)
def destroy_twice(case: Case) -> str:
    context, _ = rt.create_context(case.first)
    return f"{code(rt.destroy_context(context))}, then {code(rt.destroy_context(context))}"


@statement(
    28,
    "SetCurrentContext of a stale handle, of one that never was, and of a default one after the reset",
    "0, 0, 0, and garbage after",
    ours="0x80305224, 0x80305224, 0x80305224, and the binding stays",
    why=STALE,
)
def set_stale(case: Case) -> str:
    rt.set_device(case.first)
    old_default, _ = rt.get_current_context()
    rt.reset_device(case.first)
    stale, _ = rt.create_context(case.first)
    rt.destroy_context(stale)
    rt.set_device(case.first)
    rets = [rt.set_current_context(handle) for handle in (stale, 0xDEADBEEF, old_default)]
    stays = rt.get_current_context() == rt.get_default_context(case.first)
    return f"{codes(*rets)}, and the binding {'stays' if stays else 'is gone'}"


@statement(29, "count 0 while contexts of a program's own live", "0; they are destroyed by force: 0x80300284")
def forced(case: Case) -> str:
    rt.set_device(case.first)
    rt.create_context(case.first)
    return f"{code(rt.reset_device(case.first))}; they are destroyed by force: {code(rt.get_current_context()[1])}"


@statement(
    30, "SetDevice of the same device while bound to a context of one's own", "the binding stays, the count is 2"
)
def set_same(case: Case) -> str:
    rt.set_device(case.first)
    context, _ = rt.create_context(case.first)
    rt.set_device(case.first)
    stays = "the binding stays" if rt.get_current_context() == (context, 0) else "bound to the default context"
    rets = [code(rt.reset_device(case.first)) for _ in range(3)]
    return f"{stays}, the count is {2 if rets == ['0', '0', '0x80300183'] else rets}"


@statement(
    31,
    "SetCurrentContext of a context of another device switches the device, and counts nothing",
    "second; ResetDevice 0, then 0x80300183",
)
def switch(case: Case) -> str:
    other, _ = rt.create_context(case.second)
    rt.set_device(case.first)
    rt.set_current_context(other)
    name = {case.first: "first", case.second: "second"}[rt.get_device()[0]]
    return f"{name}; ResetDevice {code(rt.reset_device(case.second))}, then {code(rt.reset_device(case.second))}"


@statement(
    32,
    "a thread ends while it is bound",
    "the binding stays for its thread id, and a new thread of that id has it",
    ours="new threads: 0x80300284, all of 50",
    why="a binding that nobody made is nobody's",
)
def thread_ends(case: Case) -> str:
    rt.set_device(case.first)
    context, _ = rt.create_context(case.first)
    told = set()
    for _ in range(50):
        told.add(in_thread(lambda: rt.get_current_context()[1])())
        in_thread(lambda: rt.set_current_context(context))()
    return f"new threads: {', '.join(sorted(code(one) for one in told))}, all of 50"


@statement(
    33,
    "fork after Init",
    "the child is unbound, and shares its parent's channel: unsafe",
    ours="every call of the child 0x80300104; the parent goes on: 0",
    why="refused in words, instead of a channel that two processes speak on",
)
def forks(case: Case) -> str:
    done = case.python(
        "axcl.rt.set_device(device)\n"
        "pid = os.fork()\n"
        "calls = [axcl.rt.get_device()[1], axcl.rt.malloc(64, 0)[1], axcl.rt.set_device(device), axcl.init()]\n"
        "if not pid:\n"
        "    print({ret & 0xFFFFFFFF for ret in calls} == {0x80300104}, flush=True)\n"
        "    sys.exit(0)\n"
        "status = os.waitpid(pid, 0)[1]\n"
        "print(status, max(calls), axcl.rt.malloc(64, 0)[1])\n"
    )
    if done.stdout.split() == ["True", "0", "0", "0"] and done.returncode == 0:
        return "every call of the child 0x80300104; the parent goes on: 0"
    return done.stdout + done.stderr
