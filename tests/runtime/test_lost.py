"""A lease that the daemon takes back: every call has an answer, nothing crashes, and there is a way on."""

import time

import pytest

from leasehold import runtime
from leasehold.runtime import Code, Fault
from leasehold.runtime.model_file import ModelFile
from support import tiny_model
from support.daemon import is_all_free
from support.waiting import until

SIZE = 1 << 20


@pytest.fixture
def rt(daemon):
    with daemon.connect() as client:
        made = runtime.Runtime(client)
        yield made
        made.close()
    with daemon.connect() as after:
        until(lambda: is_all_free(after))


def code_of(fn, *args):
    with pytest.raises(Fault) as fault:
        fn(*args)
    return fault.value.code


def revoke_all(daemon, notice: float) -> None:
    with daemon.connect() as admin:
        for lease in admin.leases():
            admin.revoke(lease.id, notice=notice)


def test_every_call_answers_and_the_device_can_be_used_anew(daemon, rt) -> None:
    rt.set_device(0)
    device = rt.device(0)
    context, block = device.default_context, device.malloc(SIZE)
    stream, event, activation = rt.create_stream(), rt.create_event(), context.activation
    revoke_all(daemon, 0)
    until(lambda: activation.lost_because)
    assert activation.lost_because == "revoked"
    assert rt.current_device() is device
    assert code_of(device.malloc, 64) is Code.MEMORY_LOST
    assert code_of(context.memset, block, 1, 64) is Code.MEMORY_LOST
    assert code_of(stream.memset, block, 1, 64) is Code.MEMORY_LOST
    assert code_of(stream.synchronize) is Code.FAIL
    assert code_of(stream.record, event) is Code.FAIL
    assert code_of(stream.submit, int) is Code.FAIL
    assert code_of(rt.create_stream) is Code.NO_CONNECT
    assert code_of(rt.create_context, 0) is Code.NO_CONNECT
    assert code_of(activation.engine.init, 0) is Code.ENGINE_LOST
    assert code_of(rt.set_device, 0) is Code.NO_CONNECT
    assert code_of(rt.synchronize_device) is Code.FAIL
    stream.destroy()
    rt.reset_device(0)
    rt.set_device(0)
    device.malloc(SIZE).free()
    rt.reset_device(0)


def test_it_is_let_go_of_at_once_where_nothing_uses_it_and_not_only_when_the_notice_is_over(daemon, rt) -> None:
    rt.set_device(0)
    device = rt.device(0)
    device.malloc(SIZE)
    engine = device.default_context.activation.engine
    engine.init(0)
    engine.load(ModelFile(tiny_model.model())).create_execution()
    began = time.monotonic()
    revoke_all(daemon, 15)
    with daemon.connect() as other:
        until(lambda: not other.leases())
    assert time.monotonic() - began < 10
    rt.reset_device(0)


def test_work_under_way_keeps_it_until_it_has_ended_and_what_is_behind_fails(daemon, rt) -> None:
    import threading

    rt.set_device(0)
    device = rt.device(0)
    block, back, stream, opened = device.malloc(SIZE), bytearray(SIZE), rt.create_stream(), threading.Event()
    stream.submit(opened.wait, 20)
    stream.memcpy(back, block, SIZE)
    revoke_all(daemon, 15)
    until(lambda: device.default_context.activation.lost_because)
    with daemon.connect() as other:
        assert other.leases()
        opened.set()
        until(lambda: not other.leases())
    assert code_of(stream.synchronize) is Code.MEMORY_LOST
    rt.reset_device(0)


def test_memory_that_is_fenced_in_the_middle_of_it_is_an_answer(daemon, rt) -> None:
    rt.set_device(0)
    device = rt.device(0)
    context = device.default_context
    block = device.malloc(32 << 20)
    revoke_all(daemon, 0)
    codes = set()
    give_up_at = time.monotonic() + 20
    while not codes and time.monotonic() < give_up_at:
        try:
            context.memset(block, 1, 32 << 20)
        except Fault as fault:
            codes.add(fault.code)
    assert codes == {Code.MEMORY_LOST}
    rt.reset_device(0)


def test_a_daemon_that_is_gone_is_told_and_the_end_does_not_hang(own_daemon) -> None:
    rt = runtime.Runtime(own_daemon.connect())
    rt.set_device(0)
    block = rt.device(0).malloc(SIZE)
    own_daemon.kill()
    context = rt.device(0).default_context
    context.memset(block, 1, SIZE)  # what is held is used without asking
    own_daemon.start()
    rt.device(0).malloc(64 << 10)  # and the daemon knows of it when it is back
    rt.reset_device(0)
    rt.client.close()
