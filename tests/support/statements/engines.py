"""Statements 46 to 60: the beginning and the end, memory, the engine."""

from leasehold import axcl
from support import tiny_model
from support.statements.case import Case
from support.statements.registry import code, codes, statement

rt = axcl.rt
MIB = 1 << 20


class Loaded:
    """A small model on the first device, with an engine context and buffers."""

    def __init__(self, case: Case, *, failing: bool = False) -> None:
        rt.set_device(case.first)
        assert rt.engine_init(axcl.AXCL_VNPU_DISABLE) == 0, axcl.last_error()
        path = case.model(shape=(1, 4))
        if failing:
            path = str(case.directory / "failing.onnx")
            (case.directory / "failing.onnx").write_bytes(tiny_model.failing_model())
        self.model, ret = rt.engine_load_from_file(path)
        assert ret == 0, axcl.last_error()
        self.context, _ = rt.engine_create_context(self.model)
        self.info, _ = rt.engine_get_io_info(self.model)
        self.io, _ = rt.engine_create_io(self.info)
        sizes = rt.engine_get_input_size_by_index(self.info, 0, 0), rt.engine_get_output_size_by_index(self.info, 0, 0)
        self.input, self.output = (rt.malloc(size, 0)[0] for size in sizes)
        rt.engine_set_input_buffer_by_index(self.io, 0, self.input, sizes[0])
        rt.engine_set_output_buffer_by_index(self.io, 0, self.output, sizes[1])

    def give(self, data: bytes) -> None:
        """Puts ``data`` into the input."""
        assert rt.memcpy(self.input, data, len(data), axcl.AXCL_MEMCPY_HOST_TO_DEVICE) == 0, axcl.last_error()

    def execute(self, group: int = 0) -> int:
        """Runs it."""
        return rt.engine_execute(self.model, self.context, group, self.io)


@statement(
    46,
    "Init once, first, and a Finalize for it; Init twice",
    "0, 0, and SIGABRT at the end",
    ours="0, 0; after one Finalize Malloc 0, after the second 0x80300284; exit status 0",
    why="counted, as gen-2 documents",
)
def init_twice(case: Case) -> str:
    again = axcl.init()
    rt.set_device(case.first)
    axcl.finalize()
    after_one = rt.malloc(64, 0)[1]
    axcl.finalize()
    after_two = rt.malloc(64, 0)[1]
    done = case.python("axcl.init(); axcl.finalize()")
    told = f"after one Finalize Malloc {code(after_one)}, after the second {code(after_two)}"
    return f"0, {code(again)}; {told}; exit status {done.returncode}"


@statement(47, "Malloc, a copy to the device, an engine call without a context", "0x80300284, 0x80300284, 0x80300284")
def without_context(case: Case) -> str:
    copied = rt.memcpy(0x1234, bytes(64), 64, axcl.AXCL_MEMCPY_HOST_TO_DEVICE)
    return codes(rt.malloc(64, 0)[1], copied, rt.engine_init(0))


@statement(48, "MallocHost, a copy within the host without a context", "0, 0, FreeHost 0")
def host_memory(case: Case) -> str:
    memory, ret = rt.malloc_host(64)
    copied = rt.memcpy(memory, axcl.utils.bytes_to_ptr(b"x" * 64), 64, axcl.AXCL_MEMCPY_HOST_TO_HOST)
    assert axcl.utils.ptr_to_bytes(memory, 64) == b"x" * 64
    return f"{codes(ret, copied)}, FreeHost {code(rt.free_host(memory))}"


@statement(49, "the device's memory is at its end", "Malloc 0x8030050C, EngineLoad 0x8030070C")
def out_of_memory(case: Case) -> str:
    rt.set_device(case.first)
    rt.engine_init(axcl.AXCL_VNPU_DISABLE)
    while rt.malloc(16 * MIB, 0)[1] == 0:
        pass
    return f"Malloc {code(rt.malloc(16 * MIB, 0)[1])}, EngineLoad {code(rt.engine_load_from_file(case.model())[1])}"


@statement(
    50, "Free of an unknown address, of one inside a block, of one that was freed", "0x80300581, 0x80300581, 0x80300581"
)
def free_wrong(case: Case) -> str:
    rt.set_device(case.first)
    memory, _ = rt.malloc(8192, 0)
    inside = rt.free(memory + 4096)
    rt.free(memory)
    return codes(rt.free(0x14926F000), inside, rt.free(memory))


@statement(
    51,
    "EngineInit in one mode while another process has the card in another",
    "0x8030070C; GetVNpuKind tells that one: 1",
)
def other_mode(case: Case) -> str:
    ask = case.other_process()
    ask("axcl.rt.set_device(device)")
    assert ask("axcl.rt.engine_init(axcl.AXCL_VNPU_ENABLE)") == "0"
    rt.set_device(case.first)
    ret = rt.engine_init(axcl.AXCL_VNPU_BIG_LITTLE)
    assert "held by L" in axcl.last_error(), axcl.last_error()
    return f"{code(ret)}; GetVNpuKind tells that one: {rt.engine_get_vnpu_kind()[0]}"


@statement(52, "EngineInit in the same mode again", "0, 0; counted: Finalize 0, 0, then 0x8030070C")
def same_mode(case: Case) -> str:
    rt.set_device(case.first)
    begun = [rt.engine_init(axcl.AXCL_VNPU_ENABLE) for _ in range(2)]
    ended = [rt.engine_finalize() for _ in range(3)]
    return f"{codes(*begun)}; counted: Finalize {codes(*ended[:2])}, then {code(ended[2])}"


@statement(53, "EngineFinalize without EngineInit", "0x8030070C")
def finalize_alone(case: Case) -> str:
    rt.set_device(case.first)
    return code(rt.engine_finalize())


@statement(54, "SetAffinity: none, one that the mode does not have, one that it has", "0x80300703, 0x8030070C, 0")
def affinity(case: Case) -> str:
    loaded = Loaded(case)
    return codes(*(rt.engine_set_affinity(loaded.model, one) for one in (0, 0b100, 0b001)))


@statement(55, "Set and GetContextAffinity", "0x80300704, 0x80300704")
def context_affinity(case: Case) -> str:
    loaded = Loaded(case)
    told = rt.engine_get_context_affinity(loaded.model, loaded.context)[1]
    return codes(rt.engine_set_context_affinity(loaded.model, loaded.context, 1), told)


@statement(
    56,
    "models that a mode does not take: 3 cores and 2 under STD, 3 under BIG_LITTLE",
    "0x8030070C, 0x8030070C, 0x8030070C; 2 under BIG_LITTLE 0",
)
def too_large_for_mode(case: Case) -> str:
    rt.set_device(case.first)
    told = []
    for mode, cores in ((1, 3), (1, 2), (2, 3), (2, 2)):
        rt.engine_init(mode)
        told.append(rt.engine_load_from_file(case.model(cores=cores))[1])
        rt.engine_finalize()
    return f"{codes(*told[:3])}; 2 under BIG_LITTLE {code(told[3])}"


@statement(
    57,
    "EngineUnload while IOInfo and IO of the model live",
    "forbidden by the documents",
    ours="0; they live on: 1 input; Execute 0x80300703",
    why="as gen-2 documents: they are values of the host",
)
def unload_first(case: Case) -> str:
    loaded = Loaded(case)
    ret = rt.engine_unload(loaded.model)
    return f"{code(ret)}; they live on: {rt.engine_get_num_inputs(loaded.info)} input; Execute {code(loaded.execute())}"


@statement(
    58, "Execute: io null, a buffer that was not set, one that is too small", "0x80300702, 0x8030070C, 0x8030070C"
)
def bad_buffers(case: Case) -> str:
    loaded = Loaded(case)
    null = rt.engine_execute(loaded.model, loaded.context, 0, 0)
    empty, _ = rt.engine_create_io(loaded.info)
    unset = rt.engine_execute(loaded.model, loaded.context, 0, empty)
    rt.engine_set_output_buffer_by_index(loaded.io, 0, loaded.output, 15)
    return codes(null, unset, loaded.execute())


@statement(59, "a group of shapes, an index that there is not", "0x80300781, 0x80300781")
def out_of_range(case: Case) -> str:
    loaded = Loaded(case)
    return codes(loaded.execute(group=1), rt.engine_set_input_buffer_by_index(loaded.io, 1, loaded.input, 16))


@statement(60, "a name, an index that there is not", "index -1, name None")
def no_name(case: Case) -> str:
    loaded = Loaded(case)
    index = rt.engine_get_input_index_by_name(loaded.info, "nobody")
    return f"index {index}, name {rt.engine_get_output_name_by_index(loaded.info, 5)}"
