"""The engine: modes, models, what they take and give back, and runs."""

import threading

import numpy as np
import pytest

from leasehold import runtime
from leasehold.runtime import Code, Fault
from leasehold.runtime.model_file import ModelFile
from leasehold.testing import FakeClient
from support import tiny_model
from support.waiting import in_thread, until


def code_of(fn, *args, **kwargs):
    with pytest.raises(Fault) as fault:
        fn(*args, **kwargs)
    return fault.value.code


def used(cards, pool: str, card: int = 0) -> float:
    return cards.cards()[card].pool(pool).used


@pytest.fixture
def engine(context):
    engine = context.activation.engine
    engine.init(runtime.VNpuKind.DISABLE)
    return engine


@pytest.fixture
def load(engine):
    return lambda source: engine.load(ModelFile(source))


class Buffers:
    """Device buffers for all inputs and outputs of a model."""

    def __init__(self, device, model, group: int = 0) -> None:
        self.io = model.create_io()
        self.inputs = [device.malloc(tensor.size(group)) for tensor in model.info.inputs]
        self.outputs = [device.malloc(tensor.size(group)) for tensor in model.info.outputs]
        for index, memory in enumerate(self.inputs):
            self.io.set_input(index, memory.address, memory.size)
        for index, memory in enumerate(self.outputs):
            self.io.set_output(index, memory.address, memory.size)

    def run(self, context, execution, x, *, group: int = 0):
        """Copies in, runs, copies out."""
        y = np.zeros(x.shape, x.dtype)
        context.memcpy(self.inputs[0], x, x.nbytes)
        execution.run(self.io, group=group)
        context.memcpy(y, self.outputs[0], y.nbytes)
        return y


def test_a_model_answers_right(context, device, load, add_model) -> None:
    model = load(add_model)
    x = np.arange(4, dtype="f4").reshape(1, 4)
    assert (Buffers(device, model).run(context, model.create_execution(), x) == 2 * x).all()


def test_what_it_says_of_its_inputs_and_outputs(load) -> None:
    info = load(tiny_model.model(shape=("n", 3), elem=tiny_model.INT32, groups=[{"x": (1, 3)}, {"x": (5, 3)}])).info
    (tensor,) = info.outputs
    assert (info.group_count, tensor.name, tensor.data_type.name, tensor.dtype) == (2, "y", "INT32", "int32")
    assert (tensor.shapes, tensor.size(1)) == (((1, 3), (5, 3)), 60)


def test_groups_of_shapes_are_run_each_with_its_own(context, device, load) -> None:
    model = load(tiny_model.model(shape=("n", 3), groups=[{"x": (1, 3)}, {"x": (5, 3)}]))
    execution, buffers = model.create_execution(), Buffers(device, model, group=1)
    for group, rows in ((0, 1), (1, 5)):
        x = np.random.default_rng(group).random((rows, 3), dtype="f4")
        assert (buffers.run(context, execution, x, group=group) == 2 * x).all()
    assert code_of(execution.run, buffers.io, group=2) is Code.ENGINE_INDEX


def test_a_batch_takes_the_place_of_the_first_dimension(context, device, load) -> None:
    model = load(tiny_model.model(shape=("n", 3)))
    buffers = Buffers(device, model)
    buffers.io.set_batch(4)
    assert code_of(model.create_execution().run, buffers.io) is Code.ENGINE_FAILED  # the buffers are of one
    larger = [device.malloc(48) for _ in range(2)]
    buffers.io.set_input("x", larger[0].address, 48)
    buffers.io.set_output("y", larger[1].address, 48)
    buffers.inputs, buffers.outputs = larger[:1], larger[1:]
    x = np.arange(12, dtype="f4").reshape(4, 3)
    assert (buffers.run(context, model.create_execution(), x) == 2 * x).all()
    assert code_of(buffers.io.set_batch, 0) is Code.ENGINE_ILLEGAL


def test_usage_before_a_load_is_what_the_load_takes_and_takes_nothing(cards, engine, load, add_model) -> None:
    with ModelFile(add_model) as file:
        told = engine.usage(file)
    assert used(cards, "memory") == 0
    model = load(add_model)
    assert used(cards, "memory") * (64 << 10) == told == model.memory_bytes
    model.unload()
    assert used(cards, "memory") == 0


def test_a_model_that_needs_more_than_its_weights_say_is_given_more_and_that_is_remembered(cards, load) -> None:
    large = tiny_model.model(shape=(1, 1_000_000), metadata={"compiler_version": "large"})
    model = load(large)
    assert model.memory_bytes >= 4_000_000
    assert used(cards, "memory") * (64 << 10) == model.memory_bytes
    first = model.memory_bytes
    model.unload()
    assert load(large).memory_bytes == first


def test_bytes_are_a_model_too(context, device, load) -> None:
    model = load(tiny_model.model())
    x = np.ones((1, 4), "f4")
    model.create_execution()
    again = model.create_execution()  # needs the bytes once more
    assert (Buffers(device, model).run(context, again, x) == 2).all()


def test_each_context_takes_memory_and_a_core_once_more_and_unload_gives_it_back(
    cards, engine, load, add_model
) -> None:
    model = load(add_model)
    one = used(cards, "memory")
    model.create_execution()
    assert (used(cards, "memory"), used(cards, "cores")) == (one, 1)
    model.create_execution()
    assert (used(cards, "memory"), used(cards, "cores")) == (2 * one, 1)  # the card of this test has one
    assert model.memory_bytes == 2 * one * (64 << 10)
    model.unload()
    assert (used(cards, "memory"), used(cards, "cores"), engine.activation.cpus) == (0, 0, ())


def test_a_file_that_changed_is_not_loaded_once_more(load, add_model) -> None:
    model = load(add_model)
    model.create_execution()
    add_model.write_bytes(tiny_model.model(op="Mul"))
    assert code_of(model.create_execution) is Code.ENGINE_FAILED


def test_a_model_that_is_unloaded_goes_when_its_last_run_has_ended(cards, context, device, load, add_model) -> None:
    model, stream, opened = load(add_model), context.create_stream(), threading.Event()
    buffers, x, y = Buffers(device, model), np.ones((1, 4), "f4"), np.zeros((1, 4), "f4")
    context.memcpy(buffers.inputs[0], x, 16)
    execution = model.create_execution()
    stream.submit(opened.wait, 20)
    stream.execute(execution, buffers.io)
    stream.memcpy(y, buffers.outputs[0], 16)
    model.unload()
    assert code_of(stream.execute, execution, buffers.io) is Code.ENGINE_ILLEGAL
    assert used(cards, "memory") > 1
    opened.set()
    stream.synchronize(20)
    assert (y == 2).all()
    assert used(cards, "memory") == 1  # the buffers


def test_a_run_that_fails_is_told_and_the_next_goes_well(context, device, load) -> None:
    model, stream = load(tiny_model.failing_model()), context.create_stream()
    buffers, execution = Buffers(device, model), model.create_execution()
    context.memcpy(buffers.inputs[0], np.full(1, 5, "i4"), 4)
    assert code_of(execution.run, buffers.io) is Code.ENGINE_FAILED
    stream.execute(execution, buffers.io)
    assert code_of(stream.synchronize) is Code.ENGINE_FAILED
    context.memcpy(buffers.inputs[0], np.zeros(1, "i4"), 4)
    stream.execute(execution, buffers.io)
    stream.synchronize()


def test_buffers_must_be_there_and_large_enough_and_aligned_and_of_this_device(rt, device, load, add_model) -> None:
    model = load(add_model)
    execution, io = model.create_execution(), model.create_io()
    assert code_of(execution.run, io) is Code.ENGINE_FAILED
    block = device.malloc(64)
    io.set_input(0, block.address, 16)
    io.set_output(0, block.address + 16, 15)
    assert code_of(execution.run, io) is Code.ENGINE_FAILED
    io.set_output(0, block.address + 18, 16)
    assert code_of(execution.run, io) is Code.ENGINE_FAILED
    io.set_output(0, block.address + 56, 16)  # past its end
    assert code_of(execution.run, io) is Code.ENGINE_FAILED
    rt.set_device(1)
    io.set_output(0, rt.device(1).malloc(16).address, 16)
    rt.device(0).default_context.bind()
    assert code_of(execution.run, io) is Code.ENGINE_FAILED
    io.set_output(0, block.address + 16, 16)
    execution.run(io)
    block.free()
    assert code_of(execution.run, io) is Code.ENGINE_FAILED


def test_buffers_and_contexts_of_another_model_or_device_are_refused(rt, device, engine, load, add_model) -> None:
    one, other = load(add_model), load(add_model)
    assert code_of(one.create_execution().run, other.create_io()) is Code.ENGINE_ILLEGAL
    assert code_of(engine.execution, one, other.create_execution().id) is Code.ENGINE_ILLEGAL
    rt.set_device(1)
    assert code_of(rt.device(1).default_context.activation.engine.model, one.id) is Code.ENGINE_ILLEGAL
    assert code_of(one.create_execution().run, one.create_io()) is Code.ENGINE_ILLEGAL  # bound to the other device
    stream = rt.create_stream()
    assert code_of(stream.execute, one.create_execution(), one.create_io()) is Code.ENGINE_ILLEGAL


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("/nowhere/at/all.onnx", Code.ENGINE_ILLEGAL),
        (b"no model at all", Code.ENGINE_FAILED),
        (b"", Code.ENGINE_FAILED),
        (tiny_model.model(metadata={"npu_mode": "NPU9"}), Code.ENGINE_FAILED),
        (tiny_model.model(metadata={"shape_groups": "["}), Code.ENGINE_FAILED),
        (tiny_model.model(metadata={"shape_groups": "[[1]]"}), Code.ENGINE_FAILED),
        (tiny_model.model(shape=("n", 4), groups=[{"x": (1, 5)}]), Code.ENGINE_FAILED),
        (tiny_model.model(op="NoSuchOp"), Code.ENGINE_FAILED),
    ],
)
def test_what_is_no_model_is_refused_and_leaves_nothing(cards, load, source, code) -> None:
    assert code_of(load, source) is code
    assert used(cards, "memory") == used(cards, "cores") == 0


def test_a_model_that_does_not_fit_is_refused_and_leaves_nothing(cards, device, load) -> None:
    device.malloc(63 << 20)
    before = used(cards, "memory")
    assert code_of(load, tiny_model.slow_model(size=512)) is Code.ENGINE_FAILED
    assert used(cards, "memory") == before


# Modes.


def test_a_mode_is_shared_and_another_is_refused_with_who_holds_it(cards, rt) -> None:
    other = runtime.Runtime(cards)  # as another process would
    rt.set_device(0)
    other.set_device(0)
    here, there = (one.device(0).default_context.activation.engine for one in (rt, other))
    here.init(1)
    there.init(1)
    assert used(cards, "vnpu") == 2
    there.finalize()
    with pytest.raises(Fault, match=r"card 0 is in mode std \(held by L1 'axcl' \(pid") as refused:
        there.init(2)
    assert refused.value.code is Code.ENGINE_FAILED
    assert there.kind() is runtime.VNpuKind.ENABLE
    here.finalize()
    there.init(2)
    assert here.kind() is runtime.VNpuKind.BIG_LITTLE
    other.close()


def test_who_waits_for_another_mode_gets_it_when_the_last_has_gone(cards, rt) -> None:
    other = runtime.Runtime(cards)
    rt.set_device(0)
    other.set_device(0)
    here, there = (one.device(0).default_context.activation.engine for one in (rt, other))
    here.init(1)
    waiting = in_thread(lambda: there.init(0, wait=20))
    assert here.kind() is runtime.VNpuKind.ENABLE
    here.finalize()
    waiting()
    assert here.kind() is runtime.VNpuKind.DISABLE
    assert used(cards, "vnpu") == 1
    other.close()


def test_a_wait_that_is_too_long_is_refused(cards, rt) -> None:
    other = runtime.Runtime(cards)
    rt.set_device(0)
    other.set_device(0)
    rt.device(0).default_context.activation.engine.init(1)
    with pytest.raises(Fault, match="WAIT_TIMED_OUT"):
        other.device(0).default_context.activation.engine.init(0, wait=0.01)
    other.close()


def test_finalize_unloads_what_is_left_and_a_model_needs_an_engine_in_use(cards, engine, load, add_model) -> None:
    model = load(add_model)
    engine.finalize()
    assert not model.is_live
    assert used(cards, "memory") == used(cards, "vnpu") == used(cards, "cores") == 0
    assert code_of(load, add_model) is Code.ENGINE_FAILED


def test_the_mode_stays_until_the_last_run_has_ended(cards, context, engine, load, add_model) -> None:
    model, stream, opened, device = load(add_model), context.create_stream(), threading.Event(), context.device
    stream.submit(opened.wait, 20)
    stream.execute(model.create_execution(), Buffers(device, model).io)
    engine.finalize()
    assert used(cards, "vnpu") == 1
    assert code_of(engine.init, 1) is Code.ENGINE_FAILED
    opened.set()
    stream.synchronize(20)
    until(lambda: used(cards, "vnpu") == 0)
    engine.init(1)


def test_a_card_without_modes_or_cores_runs_models_all_the_same(tmp_path, add_model) -> None:
    profile = tmp_path / "plain.toml"
    pools = "[pools.memory]\nmemory_mib = 64\n[pools.streams]\nunit_count = 4\n[pools.contexts]\nunit_count = 2\n"
    profile.write_text(f'name = "plain"\n{pools}')
    rt = runtime.Runtime(FakeClient(str(profile)))
    with rt.device(0) as device:
        context = device.default_context
        context.activation.engine.init(2)
        assert code_of(context.activation.engine.init, 1) is Code.ENGINE_FAILED
        model = context.activation.engine.load(ModelFile(add_model))
        assert (Buffers(device, model).run(context, model.create_execution(), np.ones((1, 4), "f4")) == 2).all()
        rt.create_context(0)
        assert code_of(rt.create_context, 0) is Code.CONTEXT_CREATE
        rt.create_stream(), rt.create_stream()
        assert code_of(rt.create_stream) is Code.STREAM_CREATE
    rt.close()


@pytest.mark.parametrize("kind", [-1, 4, None, "std", True])
def test_a_mode_that_is_none_is_refused(context, kind) -> None:
    assert code_of(context.activation.engine.init, kind) is Code.ENGINE_ILLEGAL


@pytest.mark.parametrize(
    ("mode", "cores", "affinity"), [(0, 1, 1), (0, 3, 1), (1, 1, 7), (2, 1, 3), (2, 2, 1), (3, 1, 3), (3, 2, 2)]
)
def test_a_model_may_run_on_every_part_that_is_large_enough(context, mode, cores, affinity) -> None:
    engine = context.activation.engine
    engine.init(mode)
    model = engine.load(ModelFile(tiny_model.model(cores=cores)))
    assert model.affinity == affinity
    model.set_affinity(affinity & -affinity)
    assert code_of(model.set_affinity, 8) is Code.ENGINE_FAILED
    assert code_of(model.set_affinity, 0) is Code.ENGINE_ILLEGAL
    assert model.affinity == affinity & -affinity


def test_two_contexts_of_a_model_run_at_the_same_time_and_one_does_not(context, device, load) -> None:
    model = load(tiny_model.slow_model(size=128, rounds=2))
    one, other = model.create_execution(), model.create_execution()
    streams = [context.create_stream() for _ in range(2)]
    with one._session.running:  # as while it runs
        first = streams[0].execute(one, Buffers(device, model).io)
        second = streams[1].execute(other, Buffers(device, model).io)
        until(lambda: second.is_done)
        assert not first.is_done
    first.wait(20)
