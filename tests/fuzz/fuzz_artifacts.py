"""Feeds any bytes to the readers of xclbin containers, manifests and packed models: they read them, or refuse them.

Run by hand, with Python 3.11 or later: ``pip install atheris`` and
``PYTHONPATH=.:client:proto:tests python tests/fuzz/fuzz_artifacts.py -max_total_time=600``.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["leasehold"]):
    from leasehold.artifacts import design, manifest, packing, xclbin
    from leasehold.errors import Refused
from support.onnx_models import entry, model
from support.xclbins import container, resources_bin

HASH = manifest.hash_text(b"")
TEXT = manifest.Manifest("ocr", HASH, memory_bytes=4096, measured_with={"x": (1, 3)}).to_toml()
DESIGN = b'name = "a"\nprofile = "aie"\n[[use]]\nresource = "perfcnt"\ncount = 1\ntiles = ["0-3,*,mem"]\n'
XCLBIN = container([(18, b"", b"pdi"), (34, b"a", resources_bin()), (29, b"", b"image")], tail=b"tail")
PACKED = xclbin.write_xclbin([xclbin.ResourceSection(29, b"image")], XCLBIN, note=TEXT)
MODEL = model(entry(b"author", b"a"), entry(packing.RESERVATION_KEY.encode(), TEXT.encode()))
GOOD = [XCLBIN, PACKED, MODEL, TEXT.encode(), DESIGN]
FILE = Path(tempfile.mkdtemp()) / "artifact"


def try_bytes(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():  # any bytes in the place of some of a good file, as few get past its first bytes
        good = provider.PickValueInList(GOOD)
        start = provider.ConsumeIntInRange(0, len(good))
        stop = provider.ConsumeIntInRange(start, min(len(good), start + 16))
        data = good[:start] + provider.ConsumeBytes(16) + good[stop:]
        if data[:8] == xclbin.MAGIC and len(data) > 312 and provider.ConsumeBool():
            data = data[:304] + len(data).to_bytes(8, "little") + data[312:]
    FILE.write_bytes(data)
    for read in (read_containers, read_file, read_texts):
        with suppress(Refused):
            read(data)


def read_containers(data: bytes) -> None:
    sections, note = xclbin.read_xclbin(data), xclbin.read_note(data)
    if int.from_bytes(data[8:12], "little", signed=True) == -1:  # a signed one is not written
        again = xclbin.write_xclbin(sections, data, note=note)
        assert xclbin.read_xclbin(again) == sections
        assert xclbin.read_note(again) == note
        assert xclbin.strip_xclbin(again) == xclbin.strip_xclbin(data)


def read_file(_: bytes) -> None:
    before = packing.content_hash_of(FILE)
    packing.read_packed(FILE)
    resources = (manifest.ResourceFile(b"resources"),)
    packing.pack(FILE, manifest.Manifest("a", HASH, resources=resources))
    assert packing.content_hash_of(FILE) == before
    assert packing.read_fresh(FILE).resources == resources


def read_texts(data: bytes) -> None:
    design_of = data.decode("utf-8", "replace")
    try:
        design.read_design(data)
    except Refused:
        read = manifest.Manifest.from_toml(design_of)
        assert manifest.Manifest.from_toml(read.to_toml()) == read


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()
