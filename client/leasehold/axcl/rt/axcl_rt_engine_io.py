"""What goes into a model and comes out of it, and the buffers of a run. Both outlive the model."""

from collections.abc import Callable

from leasehold.axcl.answers import Name, number, ret, text, value, value_ret, values_ret
from leasehold.axcl.constants import AXCL_DATA_LAYOUT_NCHW, AXCL_DATA_LAYOUT_NONE
from leasehold.axcl.rt.axcl_rt_engine_model import engine_of_thread, model_of
from leasehold.runtime import IO, Code, Fault, IOInfo, Tensor
from leasehold.runtime.handles import Handles
from leasehold.runtime.model_io import index_of

__all__ = [
    "engine_create_io",
    "engine_destroy_io",
    "engine_destroy_io_info",
    "engine_get_input_buffer_by_index",
    "engine_get_input_buffer_by_name",
    "engine_get_input_data_layout",
    "engine_get_input_data_type",
    "engine_get_input_dims",
    "engine_get_input_index_by_name",
    "engine_get_input_name_by_index",
    "engine_get_input_size_by_index",
    "engine_get_io_info",
    "engine_get_num_inputs",
    "engine_get_num_outputs",
    "engine_get_output_buffer_by_index",
    "engine_get_output_buffer_by_name",
    "engine_get_output_data_layout",
    "engine_get_output_data_type",
    "engine_get_output_dims",
    "engine_get_output_index_by_name",
    "engine_get_output_name_by_index",
    "engine_get_output_size_by_index",
    "engine_get_shape_groups_count",
    "engine_set_dynamic_batch_size",
    "engine_set_input_buffer_by_index",
    "engine_set_input_buffer_by_name",
    "engine_set_output_buffer_by_index",
    "engine_set_output_buffer_by_name",
]

_infos: Handles[IOInfo] = Handles()
_ios: Handles[IO] = Handles()


@value_ret(0)
def engine_get_io_info(model_id: int) -> int:
    """What goes into a model and comes out of it."""
    return _infos.add(model_of(engine_of_thread(), model_id).info)


@ret
def engine_destroy_io_info(io_info: int) -> None:
    """Lets go of it; what was made of it stays."""
    _info(io_info)
    _infos.pop(number(io_info))


@value_ret(0)
def engine_get_shape_groups_count(io_info: int) -> int:
    """How many groups of shapes a model has."""
    return _info(io_info).group_count


# What there is: one function each for inputs and outputs.


@value(0)
def engine_get_num_inputs(io_info: int) -> int:
    """How many inputs."""
    return len(_info(io_info).inputs)


@value(0)
def engine_get_num_outputs(io_info: int) -> int:
    """How many outputs."""
    return len(_info(io_info).outputs)


@value(0)
def engine_get_input_size_by_index(io_info: int, group: int, index: int) -> int:
    """Bytes of an input in a group; 0 where there is none."""
    return _tensor(io_info, _inputs, index, group).size(group)


@value(0)
def engine_get_output_size_by_index(io_info: int, group: int, index: int) -> int:
    """Bytes of an output in a group; 0 where there is none."""
    return _tensor(io_info, _outputs, index, group).size(group)


@value(None)
def engine_get_input_name_by_index(io_info: int, index: int) -> Name | None:
    """The name of an input; None where there is none."""
    return Name(_tensor(io_info, _inputs, index).name)


@value(None)
def engine_get_output_name_by_index(io_info: int, index: int) -> Name | None:
    """The name of an output; None where there is none."""
    return Name(_tensor(io_info, _outputs, index).name)


@value(-1)
def engine_get_input_index_by_name(io_info: int, name: str | bytes) -> int:
    """The index of an input; -1 where there is none of this name."""
    return index_of(_info(io_info).inputs, text(name))


@value(-1)
def engine_get_output_index_by_name(io_info: int, name: str | bytes) -> int:
    """The index of an output; -1 where there is none of this name."""
    return index_of(_info(io_info).outputs, text(name))


@value_ret([])
def engine_get_input_dims(io_info: int, group: int, index: int) -> list[int]:
    """The shape of an input in a group."""
    return list(_tensor(io_info, _inputs, index, group).shapes[group])


@value_ret([])
def engine_get_output_dims(io_info: int, group: int, index: int) -> list[int]:
    """The shape of an output in a group."""
    return list(_tensor(io_info, _outputs, index, group).shapes[group])


@value_ret(0)
def engine_get_input_data_type(io_info: int, index: int) -> int:
    """The type of an input's elements."""
    return int(_tensor(io_info, _inputs, index).data_type)


@value_ret(0)
def engine_get_output_data_type(io_info: int, index: int) -> int:
    """The type of an output's elements."""
    return int(_tensor(io_info, _outputs, index).data_type)


@value_ret(0)
def engine_get_input_data_layout(io_info: int, index: int) -> int:
    """The order of an input's dimensions, by the header's numbers."""
    return _layout(_tensor(io_info, _inputs, index))


@value_ret(0)
def engine_get_output_data_layout(io_info: int, index: int) -> int:
    """The order of an output's dimensions, by the header's numbers."""
    return _layout(_tensor(io_info, _outputs, index))


# The buffers of a run.


@value_ret(0)
def engine_create_io(io_info: int) -> int:
    """An empty set of buffers."""
    return _ios.add(IO(_info(io_info)))


@ret
def engine_destroy_io(io: int) -> None:
    """Lets go of it; a run that was submitted with it has what it needs."""
    io_of(io)
    _ios.pop(number(io))


@ret
def engine_set_input_buffer_by_index(io: int, index: int, data_buffer: int, size: int) -> None:
    """Names the buffer of an input."""
    io_of(io).set_input(index, number(data_buffer), size)


@ret
def engine_set_input_buffer_by_name(io: int, name: str | bytes, data_buffer: int, size: int) -> None:
    """Names the buffer of an input."""
    io_of(io).set_input(text(name), number(data_buffer), size)


@ret
def engine_set_output_buffer_by_index(io: int, index: int, data_buffer: int, size: int) -> None:
    """Names the buffer of an output."""
    io_of(io).set_output(index, number(data_buffer), size)


@ret
def engine_set_output_buffer_by_name(io: int, name: str | bytes, data_buffer: int, size: int) -> None:
    """Names the buffer of an output."""
    io_of(io).set_output(text(name), number(data_buffer), size)


@values_ret(0, 0)
def engine_get_input_buffer_by_index(io: int, index: int) -> tuple[int, int]:
    """Address and size of an input's buffer; zeros where none was named."""
    return io_of(io).input(index)


@values_ret(0, 0)
def engine_get_input_buffer_by_name(io: int, name: str | bytes) -> tuple[int, int]:
    """Address and size of an input's buffer; zeros where none was named."""
    return io_of(io).input(text(name))


@values_ret(0, 0)
def engine_get_output_buffer_by_index(io: int, index: int) -> tuple[int, int]:
    """Address and size of an output's buffer; zeros where none was named."""
    return io_of(io).output(index)


@values_ret(0, 0)
def engine_get_output_buffer_by_name(io: int, name: str | bytes) -> tuple[int, int]:
    """Address and size of an output's buffer; zeros where none was named."""
    return io_of(io).output(text(name))


@ret
def engine_set_dynamic_batch_size(io: int, batch_size: int) -> None:
    """Has runs take so much for the first dimension of every input and output."""
    io_of(io).set_batch(batch_size)


def io_of(handle: object) -> IO:
    """A live set of buffers.

    Raises:
        Fault: a null handle, or one that stands for none, or none any more.
    """
    if not number(handle):
        raise Fault(Code.ENGINE_NULL, "a null io")
    found = _ios.get(number(handle))
    if found is None:
        raise Fault(Code.ENGINE_ILLEGAL, f"there is no io {number(handle):#x}, or not any more")
    return found


_Side = Callable[[IOInfo], tuple[Tensor, ...]]


def _inputs(info: IOInfo) -> tuple[Tensor, ...]:
    return info.inputs


def _outputs(info: IOInfo) -> tuple[Tensor, ...]:
    return info.outputs


def _info(handle: object) -> IOInfo:
    if not number(handle):
        raise Fault(Code.ENGINE_NULL, "a null io info")
    found = _infos.get(number(handle))
    if found is None:
        raise Fault(Code.ENGINE_ILLEGAL, f"there is no io info {number(handle):#x}, or not any more")
    return found


def _tensor(io_info: object, side: _Side, index: int, group: int = 0) -> Tensor:
    info = _info(io_info)
    if type(group) is not int or type(index) is not int:
        raise Fault(Code.ENGINE_ILLEGAL, "a group and an index are whole numbers")
    info.check_group(group)
    tensors = side(info)
    if not 0 <= index < len(tensors):
        raise Fault(Code.ENGINE_INDEX, f"there is none {index} of {len(tensors)} inputs or outputs")
    return tensors[index]


def _layout(tensor: Tensor) -> int:
    return AXCL_DATA_LAYOUT_NCHW if len(tensor.shapes[0]) == 4 else AXCL_DATA_LAYOUT_NONE  # ONNX's own order
