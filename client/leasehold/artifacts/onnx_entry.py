"""One entry of an ONNX model's metadata, read, taken out and put in without touching the rest of the file.

The entries are field 14 of ModelProto, each a StringStringEntryProto with a key (1) and a value (2) (``onnx.proto``).
Protobuf lets a repeated field go on anywhere, so a new entry is put behind everything else. The file is walked field by
field and never held in memory, however large its weights are.
"""

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from leasehold.errors import Invalid
from leasehold.onnx_file import NotAModel, placed_fields

VALUE_BYTES_MAX = 8 << 20

_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_LENGTH_DELIMITED = 2
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entries:
    """Where a model's file has entries of a key, and what they say. ``others`` are the bytes between them, in order."""

    values: tuple[bytes, ...]
    others: tuple[slice, ...]


def find_entries(file: BinaryIO, key: str) -> Entries:
    """All metadata entries of ``key`` in a model's file.

    Raises:
        Invalid: the file is no ONNX model.
    """
    size = file.seek(0, 2)
    if size == 0:
        raise Invalid(f"{file.name} is an empty file, and no ONNX model", facts={"path": str(file.name)})
    view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))  # closed with the last that refers to it
    try:
        return _find(view, key.encode())
    except NotAModel as fault:
        raise Invalid(f"{file.name}: {fault}", facts={"path": str(file.name)}) from fault


def hash_without(file: BinaryIO, entries: Entries) -> str:
    """The sha256 of a model's file as it is without ``entries``, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks_without(file, entries):
        digest.update(chunk)
    return digest.hexdigest()


def chunks_without(file: BinaryIO, entries: Entries) -> Iterator[bytes]:
    """The bytes of a model's file without ``entries``, a piece at a time.

    Raises:
        Invalid: the file has become shorter meanwhile.
    """
    for part in entries.others:
        file.seek(part.start)
        left = part.stop - part.start
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise Invalid(f"{file.name} was changed while it was read; try again", facts={"path": str(file.name)})
            left -= len(chunk)
            yield chunk


def entry_bytes(key: str, value: str) -> bytes:
    """An entry as it stands in a model's file.

    Raises:
        Invalid: the value is too long.
    """
    text = value.encode()
    if len(text) > VALUE_BYTES_MAX:
        raise Invalid(f"an entry of {len(text)} bytes is too long; {VALUE_BYTES_MAX} are possible")
    return _field(_MODEL_METADATA, _field(_ENTRY_KEY, key.encode()) + _field(_ENTRY_VALUE, text))


def _find(view: memoryview, key: bytes) -> Entries:
    values, others, at, graph_count = [], [], 0, 0
    for number, value, place in placed_fields(view):
        graph_count += number == _MODEL_GRAPH
        if number != _MODEL_METADATA or isinstance(value, int):
            continue
        entry = {inner: part for inner, part, _ in placed_fields(value) if not isinstance(part, int)}
        if entry.get(_ENTRY_KEY, b"") != key:  # of a field that stands twice the last one counts, as protobuf has it
            continue
        text = entry.get(_ENTRY_VALUE, b"")
        if len(text) > VALUE_BYTES_MAX:
            raise NotAModel(f"its entry {key.decode()} has {len(text)} bytes; {VALUE_BYTES_MAX} are possible")
        values.append(bytes(text))
        others.append(slice(at, place.start))
        at = place.stop
    if graph_count != 1:
        raise NotAModel(f"this is no ONNX model: it has {graph_count} graphs")
    return Entries(tuple(values), (*others, slice(at, len(view))))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
