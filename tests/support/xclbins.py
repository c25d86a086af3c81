"""Containers and sections as XRT's headers lay them out, made field by field with nothing of the code under test."""

import struct
from collections.abc import Sequence

HEADER_BYTES, ENTRY_BYTES, BIN_BYTES = 456, 40, 76
IMAGE = bytes(range(200))


def container(
    sections: Sequence[tuple[int, bytes, bytes]], *, tail: bytes = b"", signature: bytes | None = None
) -> bytes:
    """An xclbin of sections (kind, name, data), each at a multiple of 8, with ``tail`` and a signature behind them."""
    at = max(HEADER_BYTES + ENTRY_BYTES * len(sections), HEADER_BYTES + ENTRY_BYTES)
    body, table = bytearray(at), bytearray()
    for kind, name, data in sections:
        body += bytes(-len(body) % 8)
        table += struct.pack("<I", kind) + name.ljust(16, b"\0") + bytes(4) + struct.pack("<QQ", len(body), len(data))
        body += data
    body += tail + (signature or b"")
    body[:8] = b"xclbin2\0"
    body[8:12] = struct.pack("<i", -1 if signature is None else len(signature))
    body[12:40] = b"\xff" * 28
    body[40:296] = b"\xab" * 256
    body[296:304] = struct.pack("<Q", 0x1122334455667788)
    body[304:312] = struct.pack("<Q", len(body))
    body[328:336] = struct.pack("<HBBHH", 20, 2, 17, 1, 1)
    body[352:361] = b"vck190_dm"
    body[416:432] = bytes(range(16))
    body[448:452] = struct.pack("<I", len(sections))
    body[456 : 456 + len(table)] = table
    return bytes(body)


def resources_bin(
    name: bytes = b"graph1", start: bytes = b"4", width: bytes = b"3", image: bytes = IMAGE, version: bytes = b"1.0"
) -> bytes:
    """The data of a section AIE_RESOURCES_BIN."""
    offsets, strings = [], b""
    for text in (name, version, start, width):
        offsets.append(BIN_BYTES + len(strings))
        strings += text + b"\0"
    at_name, at_version, at_start, at_width = offsets
    head = struct.pack("<6I", at_name, BIN_BYTES + len(strings), len(image), at_version, at_start, at_width)
    return head + bytes(36 + 16) + strings + image
