"""How much memory a model's weights will take, told from its file before anything is loaded.

Reads just so much of ONNX (a protobuf; ``onnx.proto`` gives the field numbers) as to count the bytes of its tensors:
initializers, constants, subgraphs and functions, external data included. No package is needed for it.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

# Bytes an element of TensorProto.DataType: half floats count as float32, to which CPU kernels widen them.
_ELEMENT_BYTES = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    8: 64,
    9: 1,
    10: 4,
    11: 8,
    12: 4,
    13: 8,
    14: 8,
    15: 16,
    16: 4,
}
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTION = 7, 14, 25
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODE, _NODE_ATTRIBUTE = 7, 5
_TENSOR_DIMS, _TENSOR_TYPE, _SPARSE_DIMS = 1, 2, 3
_ATTRIBUTE_GRAPHS, _ATTRIBUTE_TENSORS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_LISTS = {6, 11}, {5, 10}, {22, 23}, {4, 7, 8, 9}
_TENSOR_OVERHEAD_BYTES = 64  # what an arena rounds one tensor up by, at most
_DEPTH_MAX = 32  # of subgraphs in subgraphs


class NotAModel(ValueError):
    """The file is no ONNX model."""


def weight_bytes(path: Path) -> int:
    """Bytes of all tensors that the model at ``path`` carries, as loaded.

    Raises:
        NotAModel: it is none.
        OSError: it cannot be read.
    """
    view = _mapped(path)
    total = graph_count = 0
    for number, value in _messages(view):
        if number == _MODEL_GRAPH:
            graph_count += 1
            total += _graph(value, 0)
        elif number == _MODEL_FUNCTION:
            total += sum(_node(node, 0) for inner, node in _messages(value) if inner == _FUNCTION_NODE)
    if graph_count != 1:
        raise NotAModel(f"{path} is no ONNX model: it has {graph_count} graphs")
    return total


def metadata(path: Path) -> dict[str, str]:
    """What the model at ``path`` says of itself, by key.

    Raises:
        NotAModel: it is none.
        OSError: it cannot be read.
    """
    found = {}
    for number, entry in _messages(_mapped(path)):
        if number == _MODEL_METADATA:
            fields = {inner: bytes(text).decode(errors="replace") for inner, text in _messages(entry)}
            found[fields.get(_ENTRY_KEY, "")] = fields.get(_ENTRY_VALUE, "")
    return found


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise NotAModel(f"{path} is an empty file")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _graph(data: memoryview, depth: int) -> int:
    if depth > _DEPTH_MAX:
        raise NotAModel("subgraphs lie too deep in one another")
    total = 0
    for number, value in _messages(data):
        if number == _GRAPH_NODE:
            total += _node(value, depth)
        elif number == _GRAPH_INITIALIZER:
            total += _tensor(value)
        elif number == _GRAPH_SPARSE:
            total += _sparse(value)
    return total


def _node(data: memoryview, depth: int) -> int:
    """Bytes of the tensors and graphs among one node's attributes."""
    attributes = (value for number, value in _messages(data) if number == _NODE_ATTRIBUTE)
    total = 0
    for number, value in (field for attribute in attributes for field in _messages(attribute)):
        if number in _ATTRIBUTE_TENSORS:
            total += _tensor(value)
        elif number in _ATTRIBUTE_SPARSE:
            total += _sparse(value)
        elif number in _ATTRIBUTE_GRAPHS:
            total += _graph(value, depth + 1)
        elif number in _ATTRIBUTE_LISTS:
            total += len(value) * 8
    return total


def _tensor(data: memoryview) -> int:
    kind = next((value for number, value in _fields(data) if number == _TENSOR_TYPE and isinstance(value, int)), 1)
    return _element_count(data, _TENSOR_DIMS) * _ELEMENT_BYTES.get(kind, 1) + _TENSOR_OVERHEAD_BYTES


def _sparse(data: memoryview) -> int:
    """A sparse tensor is loaded as a dense one."""
    parts = sum(_tensor(value) for number, value in _messages(data) if number != _SPARSE_DIMS)
    return _element_count(data, _SPARSE_DIMS) * 8 + parts


def _element_count(data: memoryview, dims_field: int) -> int:
    count = 1
    for number, value in _fields(data):
        if number != dims_field:
            continue
        if isinstance(value, int):
            count *= value
            continue
        at = 0
        while at < len(value):
            dim, at = _varint(value, at)
            count *= dim
    return count


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Those fields of a message that have a length: messages, strings and lists."""
    return ((number, value) for number, value in _fields(data) if isinstance(value, memoryview))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message: their number, and an integer or the bytes."""
    return ((number, value) for number, value, _ in placed_fields(data))


def placed_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview, slice]]:
    """The fields of a protobuf message as ``_fields`` tells them, and where each lies, its key included.

    Raises:
        NotAModel: it is no such message.
    """
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value, slice(start, at)
            continue
        if wire_type not in {1, 2, 5} or number == 0:
            raise NotAModel("these bytes are no ONNX model")
        length = {1: 8, 5: 4}.get(wire_type, 0)
        if wire_type == 2:
            length, at = _varint(data, at)
        if at + length > len(data):
            raise NotAModel("the model's file is cut off")
        begin, at = at, at + length
        yield number, data[begin:at], slice(start, at)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotAModel("the model's file is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise NotAModel("these bytes are no ONNX model")
