"""Bytes of the least that counts as an ONNX model, field by field, with nothing of the code under test."""


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    """A field of a protobuf message that has a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def entry(key: bytes, value: bytes) -> bytes:
    """A ``metadata_props`` entry."""
    return field(14, field(1, key) + field(2, value))


def model(*fields: bytes, graph: bytes = b"") -> bytes:
    """A model: its IR version, a graph, then other fields."""
    return b"\x08\x08" + field(7, field(2, b"g") + graph) + b"".join(fields)
