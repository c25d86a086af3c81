"""What goes into a model and comes out of it: names, types and shapes, and the device buffers that a run is given.

A model may have several groups of shapes; each input and output has one shape in each group. Both classes here are
plain values of the host: they outlive the model they tell of.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import prod

from leasehold.runtime.codes import Code, Fault

GROUPS_MAX = 64


class DataType(IntEnum):
    """Types of elements (axcl_rt_engine_type header)."""

    NONE = 0
    INT4 = 1
    UINT4 = 2
    INT8 = 3
    UINT8 = 4
    INT16 = 5
    UINT16 = 6
    INT32 = 7
    UINT32 = 8
    INT64 = 9
    UINT64 = 10
    FP4 = 11
    FP8 = 12
    FP16 = 13
    BF16 = 14
    FP32 = 15
    FP64 = 16


# By the name of the element in onnxruntime's type, ``tensor(float)``: AXCL's type, and that of an array of it.
_TYPES = {
    "int8": (DataType.INT8, "int8"),
    "uint8": (DataType.UINT8, "uint8"),
    "bool": (DataType.UINT8, "bool"),
    "int16": (DataType.INT16, "int16"),
    "uint16": (DataType.UINT16, "uint16"),
    "int32": (DataType.INT32, "int32"),
    "uint32": (DataType.UINT32, "uint32"),
    "int64": (DataType.INT64, "int64"),
    "uint64": (DataType.UINT64, "uint64"),
    "float16": (DataType.FP16, "float16"),
    "float": (DataType.FP32, "float32"),
    "double": (DataType.FP64, "float64"),
}
_ITEM_BYTES = {"8": 1, "l": 1, "6": 2, "2": 4, "4": 8}  # by the last character of an array's type


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output. ``shapes`` has its shape in each group; ``dtype`` is numpy's name of its type."""

    name: str
    data_type: DataType
    dtype: str
    shapes: tuple[tuple[int, ...], ...]

    def size(self, group: int) -> int:
        """Bytes in a group."""
        return prod(self.shapes[group]) * item_bytes(self.dtype)


@dataclass(frozen=True, slots=True)
class IOInfo:
    """All inputs and outputs of one model."""

    model_id: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    group_count: int

    def check_group(self, group: int) -> None:
        """Refuses a group of shapes that there is not.

        Raises:
            Fault: it is none.
        """
        if not 0 <= group < self.group_count:
            raise Fault(Code.ENGINE_INDEX, f"the model has groups 0 to {self.group_count - 1}, not {group}")


class IO:
    """The buffers of a run, an address and a size for each input and output. They stay the program's own."""

    def __init__(self, info: IOInfo) -> None:
        self.info = info
        self.batch = 0  # 0: as the group says
        self.inputs: list[tuple[int, int] | None] = [None] * len(info.inputs)
        self.outputs: list[tuple[int, int] | None] = [None] * len(info.outputs)

    def set_input(self, which: int | str, address: int, size: int) -> None:
        """Names the buffer of one input, by index or name.

        Raises:
            Fault: there is no such input, a null pointer, or no size.
        """
        self.inputs[_index(self.info.inputs, which)] = _buffer(address, size)

    def set_output(self, which: int | str, address: int, size: int) -> None:
        """Names the buffer of one output, by index or name.

        Raises:
            Fault: there is no such output, a null pointer, or no size.
        """
        self.outputs[_index(self.info.outputs, which)] = _buffer(address, size)

    def input(self, which: int | str) -> tuple[int, int]:
        """Address and size of the buffer of one input; zeros where none was named.

        Raises:
            Fault: there is no such input.
        """
        return self.inputs[_index(self.info.inputs, which)] or (0, 0)

    def output(self, which: int | str) -> tuple[int, int]:
        """Address and size of the buffer of one output; zeros where none was named.

        Raises:
            Fault: there is no such output.
        """
        return self.outputs[_index(self.info.outputs, which)] or (0, 0)

    def set_batch(self, batch: int) -> None:
        """Has runs take ``batch`` for the first dimension of every input and output.

        Raises:
            Fault: no such batch.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise Fault(Code.ENGINE_ILLEGAL, f"a batch is 1 or more, not {batch!r}")
        self.batch = batch

    def shape(self, tensor: Tensor, group: int) -> tuple[int, ...]:
        """The shape that a run has for one of its tensors."""
        shape = tensor.shapes[group]
        return (self.batch, *shape[1:]) if self.batch and shape else shape


def type_of(onnx_type: str) -> tuple[DataType, str]:
    """AXCL's type and numpy's of a type as onnxruntime names it.

    Raises:
        Fault: no buffer can hold it.
    """
    found = _TYPES.get(onnx_type.removeprefix("tensor(").removesuffix(")"))
    if found is None:
        raise Fault(Code.ENGINE_FAILED, f"an input or output of type {onnx_type} has no place in a buffer")
    return found


def item_bytes(dtype: str) -> int:
    """Bytes of one element."""
    return _ITEM_BYTES[dtype[-1]]


def index_of(tensors: tuple[Tensor, ...], name: str) -> int:
    """The index of a name, -1 where there is none."""
    return next((index for index, tensor in enumerate(tensors) if tensor.name == name), -1)


def _index(tensors: tuple[Tensor, ...], which: int | str) -> int:
    index = index_of(tensors, which) if isinstance(which, str) else which
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(tensors):
        raise Fault(Code.ENGINE_INDEX, f"there is none {which!r} of {len(tensors)} inputs or outputs")
    return index


def _buffer(address: int, size: int) -> tuple[int, int]:
    if not address:
        raise Fault(Code.ENGINE_NULL, "a null pointer")
    for number in (address, size):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise Fault(Code.ENGINE_ILLEGAL, f"{number!r} is no address or size of a buffer")
    return address, size
