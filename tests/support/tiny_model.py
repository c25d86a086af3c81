"""Small ONNX models, written out by hand: protobuf needs no package for that (numbers are those of ``onnx.proto``)."""

import json
import struct
from collections.abc import Mapping, Sequence

FLOAT, INT32 = 1, 6
Dim = int | str


def model(
    *,
    shape: Sequence[Dim] = (1, 4),
    op: str = "Add",
    elem: int = FLOAT,
    cores: int = 1,
    groups: Sequence[Mapping[str, Sequence[int]]] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """``y = x op x``, element by element; ``groups`` are its groups of shapes, for dimensions given by name."""
    node = _node(op, ["x", "x"], ["y"])
    told = {"npu_mode": f"NPU{cores}"} | dict(metadata or {})
    if groups is not None:
        told["shape_groups"] = json.dumps([{name: list(dims) for name, dims in group.items()} for group in groups])
    return _model([node], [_value("x", elem, shape)], [_value("y", elem, shape)], told)


def slow_model(*, size: int = 256, rounds: int = 8, cores: int = 1) -> bytes:
    """Matrix products: ``y`` is ``x``, ``size`` by ``size``, times the identity, ``rounds`` times."""
    weights = b"".join(
        struct.pack(f"<{size}f", *(1.0 if row == column else 0.0 for column in range(size))) for row in range(size)
    )
    names = ["x", *(f"t{number}" for number in range(rounds - 1)), "y"]
    nodes = [_node("MatMul", [names[number], "w"], [names[number + 1]]) for number in range(rounds)]
    tensor = _packed(1, [size, size]) + _int(2, FLOAT) + _text(8, "w") + _bytes(9, weights)
    ports = [_value(name, FLOAT, (size, size)) for name in ("x", "y")]
    return _model(nodes, ports[:1], ports[1:], {"npu_mode": f"NPU{cores}"}, initializers=[tensor])


def failing_model() -> bytes:
    """Loads, and runs with zeros; with anything else as its index it fails while it runs: ``y = w[x]``, w of 1 row."""
    tensor = _packed(1, [1, 2]) + _int(2, FLOAT) + _text(8, "w") + _bytes(9, struct.pack("<2f", 1.0, 2.0))
    node = _node("Gather", ["w", "x"], ["y"])
    return _model([node], [_value("x", INT32, (1,))], [_value("y", FLOAT, (1, 2))], {}, initializers=[tensor])


def _model(nodes, inputs, outputs, metadata, *, initializers=()) -> bytes:
    graph = b"".join(_bytes(1, node) for node in nodes) + _text(2, "g")
    graph += b"".join(_bytes(5, tensor) for tensor in initializers)
    graph += b"".join(_bytes(11, port) for port in inputs) + b"".join(_bytes(12, port) for port in outputs)
    entries = b"".join(_bytes(14, _text(1, key) + _text(2, value)) for key, value in metadata.items())
    return _int(1, 8) + _bytes(8, _text(1, "") + _int(2, 13)) + _bytes(7, graph) + entries


def _node(op: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    return b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs) + _text(4, op)


def _value(name: str, elem: int, shape: Sequence[Dim]) -> bytes:
    dims = b"".join(_bytes(1, _int(1, dim) if isinstance(dim, int) else _text(2, dim)) for dim in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, elem) + _bytes(2, dims)))


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _int(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _packed(number: int, values: Sequence[int]) -> bytes:
    return _bytes(number, b"".join(_varint(value) for value in values))
