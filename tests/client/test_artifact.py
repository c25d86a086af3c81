"""Reservations in artifacts: packing changes nothing else, a stale one is refused, and a failure leaves the file."""

import hashlib
import os
import struct
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leasehold import Invalid
from leasehold.artifacts import onnx_entry
from leasehold.artifacts.files import replace_file
from leasehold.artifacts.manifest import Manifest, ResourceFile
from leasehold.artifacts.packing import RESERVATION_KEY, check_fresh, content_hash_of, pack, read_fresh, read_packed
from leasehold.artifacts.xclbin import AIE_RESOURCES, AIE_RESOURCES_BIN, ResourceSection, read_xclbin, write_xclbin
from support.onnx_models import entry, field, model, varint
from support.strategies import SAME_EVERY_RUN
from support.xclbins import container

KEY = RESERVATION_KEY.encode()
AUTHOR = entry(b"author", b"somebody")
RESOURCES = (ResourceFile(b"\x01" + bytes(7) + b"\x10" + bytes(23)),)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def for_model(data: bytes, **changes) -> Manifest:
    return replace(Manifest("ocr", sha256(data), memory_bytes=4096, cores=1), **changes)


def for_array(name: str = "fir") -> Manifest:
    return Manifest(name, sha256(b"a design"), "aie", resources=RESOURCES)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model(AUTHOR))
    return path


def test_packing_appends_one_entry_and_keeps_the_hash(file):
    before = file.read_bytes()
    manifest = for_model(before)
    assert content_hash_of(file) == sha256(before)
    assert read_packed(file) is None
    assert read_fresh(file) is None

    assert pack(file, manifest) == manifest
    assert file.read_bytes() == before + entry(KEY, manifest.to_toml().encode())
    assert content_hash_of(file) == sha256(before)
    assert read_packed(file) == read_fresh(file) == manifest


def test_packing_again_replaces_what_was_there(file):
    before = file.read_bytes()
    pack(file, for_model(before, memory_bytes=9))
    pack(file, for_model(before, memory_bytes=8))

    assert read_packed(file).memory_bytes == 8
    assert file.read_bytes().count(KEY) == 1
    assert content_hash_of(file) == sha256(before)


def test_entries_anywhere_in_the_file_are_taken_out(file):
    """Other tools put metadata in front of the graph, and write an entry's fields in another order."""
    odd = field(14, field(2, b"old") + field(1, b"other") + b"\x28\x07" + field(1, KEY))
    file.write_bytes(odd + model(AUTHOR, odd, b"\x28\x03") + odd)
    bare = model(AUTHOR, b"\x28\x03")

    assert content_hash_of(file) == sha256(bare)
    with pytest.raises(Invalid, match="carries 3 reservations; pack it again"):
        read_packed(file)
    pack(file, for_model(bare))
    assert file.read_bytes() == bare + entry(KEY, for_model(bare).to_toml().encode())


def test_another_content_makes_it_stale(file):
    pack(file, for_model(file.read_bytes()))
    file.write_bytes(file.read_bytes() + entry(b"author", b"somebody else"))

    assert read_packed(file).name == "ocr"
    with pytest.raises(Invalid, match=r"another content than that of .*model\.onnx: run 'rmctl plan'") as caught:
        read_fresh(file)
    assert caught.value.facts["content_hash"] == content_hash_of(file)


def test_a_stale_reservation_is_not_packed(file):
    before = file.read_bytes()
    with pytest.raises(Invalid, match="another content"):
        pack(file, for_model(b"another model"))
    assert file.read_bytes() == before


def test_an_array_s_resources_go_along_and_become_the_artifact_s(file):
    packed = pack(file, for_array())

    assert packed.content_hash == content_hash_of(file)
    assert read_fresh(file) == packed == replace(for_array(), content_hash=packed.content_hash)
    file.write_bytes(file.read_bytes() + AUTHOR)
    with pytest.raises(Invalid, match="compile and pack it again"):
        check_fresh(file, packed)


def test_an_xclbin_has_them_as_its_section(tmp_path):
    file, output = tmp_path / "fir.xclbin", tmp_path / "packed.xclbin"
    file.write_bytes(container([(18, b"", b"pdi"), (29, b"", b"old")]))
    packed = pack(file, for_array(), output)

    assert read_xclbin(output.read_bytes()) == [ResourceSection(AIE_RESOURCES, RESOURCES[0].data)]
    assert read_fresh(output) == packed
    assert content_hash_of(file) == content_hash_of(output) == packed.content_hash
    assert (packed.name, packed.profile) == ("fir", "aie")
    pack(output, for_array("again"))
    assert read_fresh(output).name == "again"
    assert output.read_bytes().count(b"leasehold") == 2  # in the table, and in the section

    other = tmp_path / "other.xclbin"
    other.write_bytes(container([(18, b"", b"another pdi")]))
    assert content_hash_of(other) != packed.content_hash
    with pytest.raises(Invalid, match="another content"):
        check_fresh(other, packed)


def test_an_xclbin_that_was_signed_after_it_was_packed_is_fresh_and_not_packed_again(tmp_path):
    file = tmp_path / "fir.xclbin"
    file.write_bytes(container([(18, b"", b"pdi")]))
    packed = pack(file, for_array())
    signed = bytearray(file.read_bytes() + b"s" * 64)
    signed[8:12], signed[304:312] = struct.pack("<i", 64), struct.pack("<Q", len(signed))
    file.write_bytes(signed)

    assert read_fresh(file) == packed
    with pytest.raises(Invalid, match=r"fir\.xclbin: this xclbin is signed"):
        pack(file, for_array())
    assert file.read_bytes() == signed


def test_an_xclbin_whose_section_was_exchanged_is_refused(tmp_path):
    file = tmp_path / "fir.xclbin"
    file.write_bytes(container([(18, b"", b"pdi")]))
    pack(file, for_array())
    note = for_array().to_toml("section:AIE_RESOURCES")
    for sections in ([ResourceSection(AIE_RESOURCES, b"others")], []):
        file.write_bytes(write_xclbin(sections, file.read_bytes(), note=note))
        with pytest.raises(Invalid, match=r"fir\.xclbin"):
            read_packed(file)


def test_an_xclbin_that_was_made_elsewhere_counts_as_fresh(tmp_path):
    file = tmp_path / "graph.xclbin"
    parts = [ResourceSection(AIE_RESOURCES_BIN, b"a", 0, 2, "g1"), ResourceSection(AIE_RESOURCES_BIN, b"b", 5, 1, "g2")]
    file.write_bytes(write_xclbin(parts, container([(18, b"", b"pdi")])))
    found = read_fresh(file)

    assert (found.name, found.profile, found.content_hash) == ("graph", "", content_hash_of(file))
    assert found.resources == (ResourceFile(b"a", 0, 2), ResourceFile(b"b", 5, 1))

    file.write_bytes(write_xclbin([*parts, ResourceSection(AIE_RESOURCES, b"all")], file.read_bytes()))
    assert read_fresh(file).resources == (ResourceFile(b"all"),)  # then the driver looks at no other
    file.write_bytes(container([(18, b"", b"pdi")]))
    assert read_packed(file) is None


def test_counts_for_a_model_are_nothing_for_an_xclbin(tmp_path):
    file = tmp_path / "fir.xclbin"
    file.write_bytes(container([]))
    with pytest.raises(Invalid, match="takes an array's resources"):
        pack(file, Manifest("ocr", content_hash_of(file), cores=1))
    assert file.read_bytes() == container([])


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"name = 1", for_model(b"").to_toml().encode()[:-30], for_array().to_toml("x").encode()]
)
def test_an_entry_that_is_no_reservation_is_refused_by_its_file(file, value):
    file.write_bytes(model(entry(KEY, value)))
    with pytest.raises(Invalid, match=r"model\.onnx") as caught:
        read_packed(file)
    assert caught.value.facts["path"] == str(file)
    assert content_hash_of(file) == sha256(model())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"not a model",
        b"xclbin2",
        b"xclbin2\0",
        model()[:-1],
        field(14, b"\x0a"),
        model() + model(),
        b"\x08\x08",
    ],
)
def test_a_file_that_is_no_artifact_is_refused_and_stays(tmp_path, data):
    file = tmp_path / "artifact"
    file.write_bytes(data)
    for refused in (content_hash_of, read_packed, lambda path: pack(path, for_array())):
        with pytest.raises(Invalid, match=r"/artifact"):
            refused(file)
    assert file.read_bytes() == data
    assert os.listdir(tmp_path) == ["artifact"]


def test_a_file_that_is_not_there_is_just_that(tmp_path):
    for missing in (content_hash_of, read_packed, lambda path: pack(path, for_array())):
        with pytest.raises(FileNotFoundError, match="nothing"):
            missing(tmp_path / "nothing")


def test_the_length_of_an_entry_has_an_edge(file, monkeypatch):
    manifest = for_model(file.read_bytes())
    monkeypatch.setattr(onnx_entry, "VALUE_BYTES_MAX", len(manifest.to_toml()))
    pack(file, manifest)
    assert read_packed(file) == manifest
    before = file.read_bytes()
    monkeypatch.setattr(onnx_entry, "VALUE_BYTES_MAX", len(manifest.to_toml()) - 1)
    with pytest.raises(Invalid, match="are possible"):
        read_packed(file)
    with pytest.raises(Invalid, match="are possible"):
        pack(file, manifest)
    assert file.read_bytes() == before


def test_a_large_model_is_never_in_memory_as_a_whole(file):
    size = 64 << 20
    file.write_bytes(model(graph=field(5, field(9, bytes(size)))))
    tracemalloc.start()
    try:
        pack(file, for_array())
        assert read_fresh(file).name == "fir"
        assert tracemalloc.get_traced_memory()[1] < size // 8
    finally:
        tracemalloc.stop()


def test_the_output_is_as_readable_as_the_artifact_and_a_link_stays_one(tmp_path, file):
    file.chmod(0o640)
    link, output = tmp_path / "link.onnx", tmp_path / "out.onnx"
    link.symlink_to(file)
    pack(link, for_array(), output)
    assert output.stat().st_mode & 0o777 == 0o640
    pack(link, for_array())

    assert link.is_symlink()
    assert read_packed(file).name == "fir"
    assert sorted(os.listdir(tmp_path)) == ["link.onnx", "model.onnx", "out.onnx"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"before")

    def broken():
        yield b"a part"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_file(target, broken())
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["target"]
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(tmp_path / "none" / "target", [b""])
    assert caught.value.filename == str(tmp_path / "none" / "target")


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    mask = os.umask(0o027)
    try:
        replace_file(tmp_path / "new", [b"a", b"b"])
    finally:
        os.umask(mask)
    assert (tmp_path / "new").read_bytes() == b"ab"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


ours = st.builds(lambda value: (True, entry(KEY, value)), st.binary(max_size=20))
keys = st.sampled_from([b"author", b"", KEY + b"x", KEY[:-1]])
others = st.builds(lambda key, value: (False, entry(key, value)), keys, st.binary(max_size=20))
numbers = st.integers(0, 2**63).map(lambda value: (False, b"\x28" + varint(value)))
strangers = st.builds(
    lambda number, value: (False, field(number, value)),
    st.sampled_from([1, 2, 6, 8, 13, 15, 25, 3000]), st.binary(max_size=20),
)  # fmt: skip
pieces = st.lists(ours | others | numbers | strangers, max_size=6)


@given(pieces, pieces)
@settings(SAME_EVERY_RUN, max_examples=200)
def test_whatever_else_a_model_has_is_kept_byte_by_byte(tmp_path_factory, before, behind):
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    file.write_bytes(b"".join(piece for _, piece in [*before, (False, model()), *behind]))
    kept = b"".join(piece for is_ours, piece in [*before, (False, model()), *behind] if not is_ours)
    assert content_hash_of(file) == sha256(kept)
    packed = pack(file, for_array())

    assert file.read_bytes() == kept + entry(KEY, packed.to_toml().encode())
    assert read_fresh(file) == packed


@given(st.data())
@settings(SAME_EVERY_RUN, max_examples=300)
def test_no_bytes_crash_what_reads_artifacts(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("any") / "artifact"
    good = data.draw(
        st.sampled_from(
            [model(AUTHOR, entry(KEY, for_model(model()).to_toml().encode())), write_xclbin([], None, note="a = 1")]
        )
    )
    start = data.draw(st.integers(0, len(good)))
    file.write_bytes(
        good[:start] + data.draw(st.binary(max_size=10)) + good[data.draw(st.integers(start, len(good))) :]
    )
    for read in (content_hash_of, read_packed, read_fresh):
        with suppress(Invalid):
            read(file)
