"""The xclbin container, so far as to find, write and replace what it says of AI Engine resources.

Layout (XRT ``xclbin.h``, structs axlf, axlf_header, axlf_section_header; little-endian, aligned as C does):

    0  magic "xclbin2" and a NUL      296  u64 unique id                   456  section headers, 40 bytes each:
    8  i32 length of a signature      304  u64 bytes in all                     0  u32 kind
   12  28 bytes reserved              416  16 bytes uuid                        4  16 bytes name
   40  256 bytes key block            448  u32 count of sections               24  u64 offset, u64 size

A signature, where there is one (its length is not -1), is the file's last bytes and counts in its length. Sections
begin at multiples of 8. AIE_RESOURCES (29) is a driver's resource file for the whole array. Each AIE_RESOURCES_BIN (34)
is one for some columns: a struct aie_resources_bin of 76 bytes, then strings and the file, by offsets from the
section's begin; where it starts and how wide it is are decimal strings too (XRT ``SectionAIEResourcesBin.cxx`` and
``zocl_aie.c``).

A reservation that was packed has a note beside its resources: VENDER_METADATA (31), named ``leasehold``, 48 bytes of
struct vender_metadata, a name and a text.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from leasehold.errors import Invalid

AIE_RESOURCES, VENDER_METADATA, AIE_RESOURCES_BIN = 29, 31, 34
MAGIC = b"xclbin2\0"
XCLBIN_BYTES_MAX = 1 << 30  # XRT's drivers take no more
SECTIONS_MAX = 0x10000  # XCLBIN_MAX_NUM_SECTION
COLUMNS_MAX = 255  # the driver keeps a column in a byte
STRING_BYTES_MAX = 255

_HEADER_BYTES, _FILE_BYTES_MIN = 456, 496  # XRT reads the first section header together with the file's own
_SIGNATURE_AT, _LENGTH_AT, _COUNT_AT = 8, 304, 448
_I32, _U32, _U64 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<Q")
_SECTION = struct.Struct("<I16s4xQQ")
_BIN = struct.Struct("<6I36x16x")  # name, image offset, image size, version, start column, number of columns
_NOTE = struct.Struct("<3I36x")  # name, image offset, image size
_NOTE_NAME = b"leasehold"
_UNSIGNED = -1
_NAME_BYTES_MAX = 15  # in the table; the name in the section itself is the whole one


@dataclass(frozen=True, slots=True)
class ResourceSection:
    """A driver's resource file inside an xclbin.

    One of the kind ``AIE_RESOURCES`` is for the whole array and has no columns. One of the kind ``AIE_RESOURCES_BIN``
    is for ``column_count`` columns from ``start_column`` on, and has a name that no other in its xclbin has.
    """

    kind: int
    data: bytes
    start_column: int | None = None
    column_count: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Section:
    """Any section: its number in the table, its name as it stands there, and its bytes."""

    number: int
    kind: int
    name: bytes
    data: bytes

    def __str__(self) -> str:
        return f"section {self.number} (kind {self.kind})"


def is_xclbin(data: bytes) -> bool:
    """Whether ``data`` begins as an xclbin does."""
    return data.startswith(MAGIC)


def read_xclbin(data: bytes) -> list[ResourceSection]:
    """What an xclbin says of AI Engine resources, in its order; empty where it says nothing.

    Raises:
        Invalid: it is no xclbin, is cut off, or contradicts itself; the text names the place.
    """
    found = []
    for section in _sections(data):
        if section.kind == AIE_RESOURCES:
            if not section.data:
                raise _wrong(f"{section} is empty")
            found.append(ResourceSection(AIE_RESOURCES, section.data))
        elif section.kind == AIE_RESOURCES_BIN:
            found.append(_resources_bin(section))
    _check_once(found)
    return found


def read_note(data: bytes) -> str | None:
    """The text that was packed beside an xclbin's resources; None where there is none.

    Raises:
        Invalid: as ``read_xclbin``; also where there are two.
    """
    notes = [section for section in _sections(data) if _is_note(section)]
    if not notes:
        return None
    if len(notes) > 1:
        raise _wrong(f"{notes[1]}: a second reservation of the name {_NOTE_NAME.decode()}")
    (note,) = notes
    _check_size(note, _NOTE.size)
    _, offset, size = _NOTE.unpack_from(note.data)
    try:
        return _image(note, offset, size, _NOTE.size).decode()
    except UnicodeDecodeError as fault:
        raise _wrong(f"{note}: its text is no UTF-8") from fault


def write_xclbin(resources: Iterable[ResourceSection], base: bytes | None = None, *, note: str | None = None) -> bytes:
    """An xclbin with ``resources``: a new one, or ``base`` with its own resources and its note replaced.

    Of ``base`` its header, its uuid too, and its other sections are kept, in their order. What no section refers to,
    such as the mirror of the headers that xclbinutil puts behind them, is left out: its offsets would be wrong.

    Raises:
        Invalid: ``base`` is no xclbin or is signed; resources that no xclbin can have.
    """
    made = list(resources)
    for one in made:
        _check_to_write(one)
    _check_once(made)
    kept = [] if base is None else _others(base)
    if base is not None and _signature_bytes(base) is not None:
        raise Invalid("this xclbin is signed, and would not be what was signed; pack first, and sign then")
    ours = [_Section(0, one.kind, one.name.encode()[:_NAME_BYTES_MAX], _section_bytes(one)) for one in made]
    if note is not None:
        ours.append(_Section(0, VENDER_METADATA, _NOTE_NAME, _note_bytes(note)))
    return _file(_new_header() if base is None else base[:_HEADER_BYTES], [*kept, *ours])


def strip_xclbin(data: bytes) -> bytes:
    """An xclbin without resources, note and signature: the same bytes whichever of them it has.

    Raises:
        Invalid: as ``read_xclbin``.
    """
    kept, header = _others(data), bytearray(data[:_HEADER_BYTES])
    _I32.pack_into(header, _SIGNATURE_AT, _UNSIGNED)
    return _file(bytes(header), kept)


def _others(data: bytes) -> list[_Section]:
    """Those sections of an xclbin that are neither resources nor a note."""
    ours = {AIE_RESOURCES, AIE_RESOURCES_BIN}
    return [section for section in _sections(data) if section.kind not in ours and not _is_note(section)]


def _is_note(section: _Section) -> bool:
    return section.kind == VENDER_METADATA and section.name.partition(b"\0")[0] == _NOTE_NAME


# Reading.


def _sections(data: bytes) -> list[_Section]:
    if not is_xclbin(data):
        raise _wrong(f"it begins with {bytes(data[:8])!r}, not with {MAGIC!r}")
    if len(data) < _HEADER_BYTES:
        raise _wrong(f"it has {len(data)} bytes, its header alone has {_HEADER_BYTES}")
    (length,), (count,) = _U64.unpack_from(data, _LENGTH_AT), _U32.unpack_from(data, _COUNT_AT)
    if length != len(data):
        raise _wrong(f"its header counts {length} bytes, it has {len(data)}")
    if length > XCLBIN_BYTES_MAX:
        raise _wrong(f"it has {length} bytes; {XCLBIN_BYTES_MAX} are possible")
    first, end = _HEADER_BYTES + count * _SECTION.size, length - (_signature_bytes(data) or 0)
    if count > SECTIONS_MAX or first > end:
        raise _wrong(f"its header counts {count} sections, more than its {length} bytes can have")
    return _table(data, count, first=first, end=end)


def _table(data: bytes, count: int, *, first: int, end: int) -> list[_Section]:
    """The sections of the table; what they refer to lies in ``[first, end)``, and no byte is in two of them."""
    found, taken = [], []
    for number in range(count):
        kind, name, offset, size = _SECTION.unpack_from(data, _HEADER_BYTES + number * _SECTION.size)
        if size and (offset < first or offset + size > end):
            raise _wrong(
                f"section {number} (kind {kind}): bytes {offset} to {offset + size} are not in {first} to {end}"
            )
        found.append(_Section(number, kind, name, bytes(data[offset : offset + size]) if size else b""))
        if size:
            taken.append((offset, offset + size, number))
    taken.sort()
    for (_, stop, one), (start, _, other) in pairwise(taken):
        if start < stop:
            raise _wrong(f"sections {one} and {other} both have byte {start}")
    return found


def _signature_bytes(data: bytes) -> int | None:
    (size,) = _I32.unpack_from(data, _SIGNATURE_AT)
    if size < _UNSIGNED or size > len(data) - _HEADER_BYTES:
        raise _wrong(f"its signature has {size} bytes")
    return None if size == _UNSIGNED else size


def _resources_bin(section: _Section) -> ResourceSection:
    _check_size(section, _BIN.size)
    name, offset, size, version, start, width = _BIN.unpack_from(section.data)
    image = _image(section, offset, size, _BIN.size)
    in_image = range(offset, offset + size)
    _string(section, "version", version, in_image)
    start_column = _number(section, "start column", start, in_image)
    column_count = _number(section, "number of columns", width, in_image)
    if column_count < 1 or start_column + column_count > COLUMNS_MAX:
        text = f"{column_count} columns from {start_column} on; an array has 1 to {COLUMNS_MAX}"
        raise _wrong(f"{section}: {text}")
    text = _string(section, "name", name, in_image)
    return ResourceSection(AIE_RESOURCES_BIN, image, start_column, column_count, text)


def _image(section: _Section, offset: int, size: int, head_bytes: int) -> bytes:
    if size < 1:
        raise _wrong(f"{section}: its image is empty")
    if offset < head_bytes or offset + size > len(section.data):
        text = f"its image, bytes {offset} to {offset + size}, is not in {head_bytes} to {len(section.data)}"
        raise _wrong(f"{section}: {text}")
    return section.data[offset : offset + size]


def _number(section: _Section, what: str, at: int, in_image: range) -> int:
    text = _string(section, what, at, in_image)
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise _wrong(f"{section}: its {what} is {text!r}, no decimal number")
    return int(text)


def _string(section: _Section, what: str, at: int, in_image: range) -> str:
    if not _BIN.size <= at < len(section.data) or at in in_image:
        raise _wrong(f"{section}: its {what} is at byte {at}, where no string can be")
    end = section.data.find(b"\0", at, min(at + STRING_BYTES_MAX + 1, len(section.data)))
    if end < 0:
        raise _wrong(f"{section}: its {what} does not end within {STRING_BYTES_MAX} bytes")
    try:
        return section.data[at:end].decode()
    except UnicodeDecodeError as fault:
        raise _wrong(f"{section}: its {what} is no UTF-8") from fault


def _check_size(section: _Section, head_bytes: int) -> None:
    if len(section.data) < head_bytes:
        raise _wrong(f"{section} has {len(section.data)} bytes, its head alone has {head_bytes}")


def _check_once(found: Sequence[ResourceSection]) -> None:
    if sum(one.kind == AIE_RESOURCES for one in found) > 1:
        raise _wrong(f"it has several sections of the kind {AIE_RESOURCES} (AIE_RESOURCES)")
    counts = Counter(one.name for one in found if one.kind == AIE_RESOURCES_BIN)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise _wrong(f"it has several sections of the kind {AIE_RESOURCES_BIN} (AIE_RESOURCES_BIN) named {twice[0]!r}")


def _wrong(why: str) -> Invalid:
    return Invalid(f"this xclbin cannot be used: {why}", facts={"fault": why})


# Writing.


def _check_to_write(one: ResourceSection) -> None:
    """Refuses what could not be read again."""
    has_columns = one.start_column is not None and one.column_count is not None
    if one.kind not in {AIE_RESOURCES, AIE_RESOURCES_BIN} or has_columns != (one.kind == AIE_RESOURCES_BIN):
        raise Invalid(f"resources are of the kind {AIE_RESOURCES}, or of {AIE_RESOURCES_BIN} with their columns")
    if not one.data:
        raise Invalid("resources of no bytes cannot be written")
    start, width = one.start_column or 0, 1 if one.column_count is None else one.column_count
    if start < 0 or width < 1 or start + width > COLUMNS_MAX:
        raise Invalid(f"{width} columns from {start} on; an array has 1 to {COLUMNS_MAX}")
    if "\0" in one.name or len(one.name.encode()) > STRING_BYTES_MAX:
        raise Invalid(f"a section's name has up to {STRING_BYTES_MAX} bytes, and no NUL, not {one.name!r}")


def _section_bytes(one: ResourceSection) -> bytes:
    """The bytes of a section: the head, then the strings, then the image, as xclbinutil has them."""
    if one.kind == AIE_RESOURCES:
        return one.data
    strings, offsets = b"", []
    for text in (one.name, "", str(one.start_column), str(one.column_count)):
        offsets.append(_BIN.size + len(strings))
        strings += text.encode() + b"\0"
    name, version, start, width = offsets
    return _BIN.pack(name, _BIN.size + len(strings), len(one.data), version, start, width) + strings + one.data


def _note_bytes(text: str) -> bytes:
    name, image = _NOTE_NAME + b"\0", text.encode()
    return _NOTE.pack(_NOTE.size, _NOTE.size + len(name), len(image)) + name + image


def _new_header() -> bytes:
    header = bytearray(_HEADER_BYTES)
    header[: len(MAGIC)] = MAGIC
    header[_SIGNATURE_AT:296] = b"\xff" * (296 - _SIGNATURE_AT)  # no signature, reserved, an empty key block
    return bytes(header)


def _file(header: bytes, sections: Sequence[_Section]) -> bytes:
    parts, table = [], []
    at = max(_HEADER_BYTES + len(sections) * _SECTION.size, _FILE_BYTES_MIN)
    begin = at
    for section in sections:
        offset = at + -at % 8
        table.append(_SECTION.pack(section.kind, section.name, offset if section.data else 0, len(section.data)))
        if section.data:
            parts += [bytes(offset - at), section.data]
            at = offset + len(section.data)
    if at > XCLBIN_BYTES_MAX:
        raise Invalid(f"this xclbin would have {at} bytes; {XCLBIN_BYTES_MAX} are possible")
    head = bytearray(header + b"".join(table))
    head += bytes(begin - len(head))
    _U64.pack_into(head, _LENGTH_AT, at)
    _U32.pack_into(head, _COUNT_AT, len(sections))
    return bytes(head) + b"".join(parts)
