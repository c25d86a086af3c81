"""Whatever a program hands in: the code of the facts, and nothing else is disturbed."""

import ctypes

import numpy as np
import pytest

from leasehold import axcl
from support import tiny_model
from support.daemon import is_all_free
from support.waiting import in_thread

rt = axcl.rt
H2D, D2H, D2D = axcl.AXCL_MEMCPY_HOST_TO_DEVICE, axcl.AXCL_MEMCPY_DEVICE_TO_HOST, axcl.AXCL_MEMCPY_DEVICE_TO_DEVICE
GARBAGE = 0xDEAD0


@pytest.fixture
def at(daemon, monkeypatch):
    """One of everything, alive and stale. Afterwards what is alive must still work, and all of it must be back."""
    monkeypatch.setenv("LEASEHOLD_ADDRESS", str(daemon.run_directory))
    assert axcl.init() == 0
    here = Everything()
    before = here.state()
    yield here
    assert here.state() == before
    here.check_works()
    assert rt.reset_device(here.device) == 0
    assert axcl.finalize() == 0
    with daemon.connect() as client:
        assert is_all_free(client)


class Everything:
    """A device that is set, with what can be had on it."""

    def __init__(self) -> None:
        self.device = rt.get_device_list()[0][0]
        assert rt.set_device(self.device) == 0
        self.stale_context = self.made(rt.create_context(self.device))
        self.dead_stream = self.made(rt.create_stream())
        rt.destroy_context(self.stale_context)
        self.context = self.made(rt.create_context(self.device))
        self.stream, self.stale_stream = (self.made(rt.create_stream()) for _ in range(2))
        rt.destroy_stream(self.stale_stream)
        self.event, self.stale_event = (self.made(rt.create_event()) for _ in range(2))
        rt.destroy_event(self.stale_event)
        self.block, self.stale_block = (self.made(rt.malloc(4096, 0)) for _ in range(2))
        rt.free(self.stale_block)
        self.host, self.stale_host = (self.made(rt.malloc_host(4096)) for _ in range(2))
        rt.free_host(self.stale_host)
        assert rt.engine_init(axcl.AXCL_VNPU_DISABLE) == 0
        data = tiny_model.model()
        memory = self.made(rt.malloc(len(data), 0))
        assert rt.memcpy(memory, data, len(data), H2D) == 0
        self.model, self.stale_model = (self.made(rt.engine_load_from_mem(memory, len(data))) for _ in range(2))
        rt.engine_unload(self.stale_model)
        self.run = self.made(rt.engine_create_context(self.model))
        self.info, self.stale_info = (self.made(rt.engine_get_io_info(self.model)) for _ in range(2))
        rt.engine_destroy_io_info(self.stale_info)
        self.io, self.stale_io = (self.made(rt.engine_create_io(self.info)) for _ in range(2))
        rt.engine_destroy_io(self.stale_io)
        assert rt.engine_set_input_buffer_by_index(self.io, 0, self.block, 16) == 0
        assert rt.engine_set_output_buffer_by_name(self.io, "y", self.block + 64, 16) == 0

    @staticmethod
    def made(answer):
        value, ret = answer
        assert ret == 0, axcl.last_error()
        return value

    def state(self):
        """What a wrong call must leave as it is."""
        return rt.get_current_context(), rt.get_device(), rt.engine_get_vnpu_kind(), rt.engine_get_affinity(self.model)

    def check_works(self) -> None:
        """Everything that is alive, used once."""
        x, y = np.arange(4, dtype="f4"), np.zeros(4, "f4")
        assert rt.memcpy(self.block, x.ctypes.data, 16, H2D) == 0
        assert rt.engine_execute_async(self.model, self.run, 0, self.io, self.stream) == 0
        assert rt.memcpy_async(y, self.block + 64, 16, D2H, self.stream) == 0
        assert rt.record_event(self.event, self.stream) == 0
        assert rt.synchronize_stream(self.stream) == 0, axcl.last_error()
        assert (y == 2 * x).all()


C = ctypes.c_void_p

# What is called, and what it must answer. ``e`` is an Everything.
CALLS = {
    # Contexts and devices.
    "a device that is none": (lambda e: rt.set_device("0"), 0x80300184),
    "a device id that is true": (lambda e: rt.set_device(True), 0x80300184),
    "a context of garbage": (lambda e: rt.set_current_context(GARBAGE), 0x80305224),
    "a stream for a context": (lambda e: rt.set_current_context(e.stream), 0x80305224),
    "a stale context": (lambda e: rt.destroy_context(e.stale_context), 0x80305224),
    "a null context": (lambda e: rt.destroy_context(C(None)), 0x80300202),
    "no number for a context": (lambda e: rt.destroy_context("context"), 0xFFFFFFFF),
    "too few arguments": (lambda e: rt.set_current_context(), 0xFFFFFFFF),
    # Streams and events.
    "a stale stream": (lambda e: rt.destroy_stream(e.stale_stream), 0x80300382),
    "a stale stream, by force": (lambda e: rt.destroy_stream_force(e.stale_stream), 0x80300382),
    "a stream of a dead context, destroyed": (lambda e: rt.destroy_stream(e.dead_stream), 0x80300382),
    "a stream of a dead context, awaited": (lambda e: rt.synchronize_stream(e.dead_stream), 0xFFFFFFFF),
    "a stream of a dead context, used": (lambda e: rt.memset_async(e.block, 1, 64, e.dead_stream), 0x80305223),
    "a context for a stream": (lambda e: rt.synchronize_stream(e.context), 0xFFFFFFFF),
    "a null stream": (lambda e: rt.memset_async(e.block, 1, 64, 0), 0x80300302),
    "a limit that is none": (lambda e: rt.synchronize_stream_with_timeout(e.stream, -2), 0x80300303),
    "a limit that is no number": (lambda e: rt.synchronize_stream_with_timeout(e.stream, "1"), 0x80300303),
    "a stale event": (lambda e: rt.record_event(e.stale_event, e.stream), 0x8030522E),
    "a null event": (lambda e: rt.stream_wait_event(e.stream, None), 0x80300302),
    "an event on a stale stream": (lambda e: rt.record_event(e.event, e.stale_stream), 0x80305223),
    # Memory.
    "a null block": (lambda e: rt.free(0), 0x80300502),
    "a block freed twice": (lambda e: rt.free(e.stale_block), 0x80300581),
    "the inside of a block": (lambda e: rt.free(e.block + 1), 0x80300581),
    "host memory for a block": (lambda e: rt.free(e.host), 0x80300581),
    "host memory freed twice": (lambda e: rt.free_host(e.stale_host), 0x80300503),
    "null host memory": (lambda e: rt.free_host(None), 0x80300502),
    "a block for host memory": (lambda e: rt.free_host(e.block), 0x80300503),
    "an unknown policy": (lambda e: rt.malloc(64, 4)[1], 0x80300503),
    "a policy that is no number": (lambda e: rt.malloc(64, "huge")[1], 0x80300503),
    "no size": (lambda e: rt.malloc(0, 0)[1], 0x80300503),
    "a size below 0": (lambda e: rt.malloc_host(-1)[1], 0x80300503),
    "more than the card has": (lambda e: rt.malloc((1 << 32) - 1, 0)[1], 0x8030050C),
    "an unknown kind": (lambda e: rt.memcpy(e.block, e.host, 64, 6), 0x80300503),
    "physical memory": (lambda e: rt.memcpy(e.block, e.host, 64, axcl.AXCL_MEMCPY_HOST_PHY_TO_DEVICE), 0x80300504),
    "a copy past the end": (lambda e: rt.memcpy(e.block, e.host, 4097, H2D), 0x80300503),
    "a copy past the end, on a stream": (lambda e: rt.memcpy_async(e.host, e.block, 4097, D2H, e.stream), 0x80300503),
    "a copy past the end of what is copied from": (lambda e: rt.memcpy(e.block, bytes(63), 64, H2D), 0x80300503),
    "a copy of a stale block": (lambda e: rt.memcpy(e.host, e.stale_block, 64, D2H), 0x80300581),
    "a copy to null": (lambda e: rt.memcpy(None, e.block, 64, D2H), 0x80300502),
    "a copy to nowhere": (lambda e: rt.memcpy(0x1000, e.block, 64, D2H), 0x8030050C),
    "a copy the wrong way": (lambda e: rt.memcpy(e.block, e.host, 64, D2H), 0x80300503),
    "a copy between what is not": (lambda e: rt.memcpy(e.host, e.host, 64, D2D), 0x80300581),
    "a fill past the end": (lambda e: rt.memset(e.block, 1, 4097), 0x80300503),
    "a fill that is no byte": (lambda e: rt.memset(e.block, 256, 1), 0x80300503),
    "a comparison past the end": (lambda e: rt.memcmp(e.block, e.block, 4097), 0x80300503),
    "a flush of what is not": (lambda e: rt.mem_flush(e.stale_block, 64), 0x80300581),
    # The engine.
    "an unknown mode": (lambda e: rt.engine_init(4), 0x80300703),
    "another mode": (lambda e: rt.engine_init(axcl.AXCL_VNPU_ENABLE), 0x8030070C),
    "no path": (lambda e: rt.engine_load_from_file(None)[1], 0x80300702),
    "a file that is not there": (lambda e: rt.engine_load_from_file("/nowhere/model")[1], 0x80300703),
    "a file that is no model": (lambda e: rt.engine_load_from_file(__file__)[1], 0x8030070C),
    "a folder": (lambda e: rt.engine_get_usage("/tmp")[2], 0x80300703),
    "a model at null": (lambda e: rt.engine_load_from_mem(0, 64)[1], 0x80300702),
    "a model in host memory": (lambda e: rt.engine_load_from_mem(e.host, 64)[1], 0x80300703),
    "a model past the end of its block": (lambda e: rt.engine_load_from_mem(e.block, 4097)[1], 0x80300703),
    "a stale model": (lambda e: rt.engine_unload(e.stale_model), 0x80300703),
    "model 0": (lambda e: rt.engine_unload(0), 0x80300703),
    "a context of a stale model": (lambda e: rt.engine_create_context(e.stale_model)[1], 0x80300703),
    "info of a stale model": (lambda e: rt.engine_get_io_info(e.stale_model)[1], 0x80300703),
    "a null info": (lambda e: rt.engine_create_io(0)[1], 0x80300702),
    "a stale info": (lambda e: rt.engine_create_io(e.stale_info)[1], 0x80300703),
    "a group that is none": (lambda e: rt.engine_get_input_dims(e.info, 1, 0)[1], 0x80300781),
    "an index that is none": (lambda e: rt.engine_get_output_data_type(e.info, 1)[1], 0x80300781),
    "a null io": (lambda e: rt.engine_execute(e.model, e.run, 0, None), 0x80300702),
    "a stale io": (lambda e: rt.engine_execute(e.model, e.run, 0, e.stale_io), 0x80300703),
    "an engine context that is none": (lambda e: rt.engine_execute(e.model, 12345, 0, e.io), 0x80300703),
    "a group to run that is none": (lambda e: rt.engine_execute(e.model, e.run, -1, e.io), 0x80300781),
    "a run on a stale stream": (lambda e: rt.engine_execute_async(e.model, e.run, 0, e.io, e.stale_stream), 0x80305223),
    "a null buffer": (lambda e: rt.engine_set_input_buffer_by_index(e.io, 0, 0, 16), 0x80300702),
    "a buffer of no size": (lambda e: rt.engine_set_input_buffer_by_index(e.io, 0, e.block, 0), 0x80300703),
    "a buffer by a name that is none": (
        lambda e: rt.engine_set_input_buffer_by_name(e.io, "z", e.block, 16),
        0x80300781,
    ),
    "no batch": (lambda e: rt.engine_set_dynamic_batch_size(e.io, 0), 0x80300703),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_wrong_call_is_answered_and_disturbs_nothing(at, what) -> None:
    call, code = CALLS[what]
    assert call(at) & 0xFFFFFFFF == code, axcl.last_error()
    assert axcl.last_error()


def test_numbers_may_be_held_as_ctypes_and_numpy_hold_them(at) -> None:
    assert rt.set_current_context(C(at.context)) == 0
    assert rt.set_device(np.int64(at.device)) == rt.reset_device(np.int64(at.device)) == 0
    assert rt.memset(np.uint64(at.block), 7, 64) == 0
    back = (ctypes.c_ubyte * 64)()
    assert rt.memcpy(C(ctypes.addressof(back)), C(at.block), 64, D2H) == 0
    assert set(back) == {7}


def test_a_thread_that_never_set_the_device_may_reset_it(at) -> None:
    assert rt.set_device(at.device) == 0
    assert in_thread(lambda: rt.reset_device(at.device))() == 0


def test_what_the_model_says_of_itself(at) -> None:
    assert rt.engine_get_num_inputs(at.info) == rt.engine_get_num_outputs(at.info) == 1
    assert rt.engine_get_num_inputs(at.stale_info) == 0
    assert rt.engine_get_input_size_by_index(at.info, 0, 0) == 16
    assert rt.engine_get_input_size_by_index(at.info, 1, 0) == 0
    name = rt.engine_get_input_name_by_index(at.info, 0)
    assert (name, name.decode()) == ("x", "x")
    assert rt.engine_get_input_index_by_name(at.info, b"x") == 0
    assert rt.engine_get_input_dims(at.info, 0, 0) == ([1, 4], 0)
    assert rt.engine_get_output_data_type(at.info, 0) == (axcl.AXCL_DATA_TYPE_FP32, 0)
    assert rt.engine_get_shape_groups_count(at.info) == (1, 0)
    assert rt.engine_get_input_buffer_by_name(at.io, "x") == (at.block, 16, 0)
    assert rt.engine_get_model_type_from_model_id(at.model) == (axcl.AXCL_MODEL_TYPE_1CORE, 0)
    assert rt.engine_get_usage_from_model_id(at.model)[1] >= 1 << 20
    assert rt.engine_get_model_compiler_version(at.model) == "onnx"


def test_what_the_card_says_of_itself(at) -> None:
    told, ret = rt.get_device_properties(at.device)
    assert ret == 0
    assert told["totalCmmSize"] == 64 << 10
    assert 0 < told["freeCmmSize"] < told["totalCmmSize"]
    assert rt.get_device_properties(99)[1] & 0xFFFFFFFF == 0x80300184
    assert rt.get_device_count() == (1, 0)
    assert rt.get_version() == (3, 10, 2, 0)
    assert rt.get_soc_name() == "AX650N"


def test_answers_are_not_shared_between_callers(at) -> None:
    dims, _ = rt.engine_get_input_dims(at.info, 9, 0)
    dims.append(1)
    assert rt.engine_get_input_dims(at.info, 9, 0)[0] == []


def test_without_a_daemon_there_is_no_device(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LEASEHOLD_ADDRESS", str(tmp_path))
    assert axcl.init() & 0xFFFFFFFF == 0x8030010B
    assert "no daemon" in axcl.last_error()
    assert rt.get_device_list() == ([], 0)
    assert rt.get_soc_name() == "UNKNOWN"
    assert rt.set_device(0) & 0xFFFFFFFF == 0x8030010B
    assert axcl.finalize() == 0


def test_the_log_takes_levels_and_messages() -> None:
    assert axcl.set_log_level(6) == 0
    assert axcl.set_log_level(7) == -1
    assert axcl.app_log(4, "a word") == 0
    assert axcl.set_log_level(2) == 0
