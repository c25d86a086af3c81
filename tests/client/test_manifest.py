"""The reservation manifest: what it says is what it claims, and everything else is refused by its place."""

import os
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leasehold
from leasehold import Invalid
from leasehold.artifacts.manifest import (
    COUNT_MAX,
    DIMENSIONS_MAX,
    INPUTS_MAX,
    MANIFEST_BYTES_MAX,
    NAME_CHARS_MAX,
    PROFILE_CHARS_MAX,
    Manifest,
    ResourceFile,
    hash_text,
    name_of,
)
from leasehold.local import Manager
from support.strategies import SAME_EVERY_RUN

HASH = hash_text(b"what it was made for")
MODEL = Manifest("ocr", HASH, memory_bytes=40 << 20, cores=1, streams=2, measured_with={"x": (1, 3, 48, 640)})
GOOD = f'name = "ocr"\ncontent_hash = "{HASH}"\n[claims]\nmemory_bytes = 4096\n'


def array_file(*claims: leasehold.Claim, profile: str = "aie:4x3") -> bytes:
    manager = Manager(profile)
    manager.acquire(*claims)
    return manager.dump()


DATA = array_file(leasehold.Ids("perfcnt", [1, 3], at=["2,1,core"]), leasehold.Common("bcast_channel"))
DESIGN = Manifest("fir", HASH, "aie:4x3", resources=(ResourceFile(DATA),))


def test_what_a_manifest_says_is_what_is_claimed():
    assert MODEL.claims() == [
        leasehold.Run("memory", size=40 << 20),
        leasehold.Units("cores", 1),
        leasehold.Units("streams", 2),
    ]
    assert Manifest("x", HASH, cores=3).claims() == [leasehold.Units("cores", 3)]
    assert Manager("embedded", cpus=[0, 1]).acquire(*MODEL.claims()).memory_bytes == 40 << 20


def test_an_array_s_resources_are_claimed_unit_by_unit():
    manager = Manager("aie:4x3")
    manager.acquire(*DESIGN.claims(manager._shape()))

    assert manager.dump() == DATA
    with pytest.raises(Invalid, match="on one"):
        DESIGN.claims()
    with pytest.raises(Invalid, match="another shape"):
        DESIGN.claims(Manager("aie:5x3")._shape())


def test_resources_for_some_columns_are_claimed_there_and_what_two_files_share_once():
    two_columns = array_file(leasehold.Ids("perfcnt", [0], at=["0,1,core"]), profile="aie:2x3")
    both = Manifest("fir", HASH, resources=(ResourceFile(two_columns, 1, 2), ResourceFile(two_columns, 2, 2)))
    again = replace(both, resources=(*both.resources, ResourceFile(two_columns, 2, 2)))
    shape = Manager("aie:4x3")._shape()

    assert both.claims(shape) == [leasehold.Ids("perfcnt", [0], at=["1,1,core", "2,1,core"])]
    assert again.claims(shape) == both.claims(shape)
    with pytest.raises(Invalid, match="whole array"):
        both.to_toml()


def test_it_reads_what_it_wrote():
    assert Manifest.from_toml(MODEL.to_toml()) == MODEL
    assert Manifest.from_toml(DESIGN.to_toml()) == DESIGN
    assert Manifest.from_toml(DESIGN.to_toml("fir.bin"), find={"fir.bin": DATA}.__getitem__) == DESIGN


def test_names_that_json_and_toml_write_differently_come_back():
    """Seen with a name beyond the first 65,536 characters: JSON's pair of escapes is no TOML."""
    odd = replace(MODEL, name="ocr 🂡", measured_with={'in "0"\\': (1,), "del\x7f\n\t": (2,), "": (3,), "é🂡": ()})
    assert Manifest.from_toml(odd.to_toml()) == odd


def test_a_file_and_the_resources_beside_it(tmp_path):
    (tmp_path / "fir.bin").write_bytes(DATA)
    file = tmp_path / "fir.toml"
    file.write_text(DESIGN.to_toml("fir.bin"))
    assert Manifest.read(file) == DESIGN

    (tmp_path / "fir.bin").write_bytes(DATA + b"x")
    with pytest.raises(Invalid, match=r"fir\.toml: .*fir\.bin.* compile again"):
        Manifest.read(file)
    (tmp_path / "fir.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"fir\.bin"):
        Manifest.read(file)
    file.write_bytes(b"\xff")
    with pytest.raises(Invalid, match="no UTF-8"):
        Manifest.read(file)


@pytest.mark.parametrize("name", ["../fir.bin", "/etc/passwd", "..", ".", "", "a/b", "x\\u0000"])
def test_resources_lie_beside_the_manifest_and_nowhere_else(tmp_path, name):
    file = tmp_path / "fir.toml"
    file.write_text(f'name = "fir"\ncontent_hash = "{HASH}"\nresources = "{name}"\nresources_hash = "{HASH}"\n')
    with pytest.raises(Invalid, match="beside it"):
        Manifest.read(file)


def test_resources_that_are_elsewhere_are_not_guessed():
    with pytest.raises(Invalid, match="elsewhere"):
        Manifest.from_toml(DESIGN.to_toml("fir.bin"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "name must be"),
        ("name = ", "no TOML"),
        (GOOD[:-6], "no TOML"),
        ("x = " + "[" * 100_000, "no TOML"),
        (GOOD.replace("4096", "9" * 5_000), "no TOML"),
        (GOOD + GOOD, "no TOML"),
        ("nome = 1\n" + GOOD, "unknown keys: nome"),
        (GOOD + "gpus = 1\n", "claims has unknown keys: gpus"),
        (GOOD.replace('"ocr"', "7"), "name must be"),
        (GOOD.replace('"ocr"', '""'), "name must be"),
        (GOOD.replace('"ocr"', '"a\\nb"'), "name must be"),
        ("profile = 1\n" + GOOD, "profile must be"),
        (GOOD.replace("sha256:", "sha1:"), "content_hash must be"),
        (GOOD.replace(HASH, HASH[:-1]), "content_hash must be"),
        (GOOD.replace(HASH, HASH.upper()), "content_hash must be"),
        (f'name = "a"\ncontent_hash = "{HASH}"\n', "not nothing"),
        (f'name = "a"\ncontent_hash = "{HASH}"\n[claims]\n', "not nothing"),
        (f'name = "a"\ncontent_hash = "{HASH}"\nclaims = 3\n', "claims must be a table"),
        (GOOD.replace("4096", "-1"), "claims.memory_bytes must be"),
        (GOOD.replace("4096", "0"), "claims.memory_bytes is 0"),
        (GOOD.replace("4096", "1.5"), "claims.memory_bytes must be"),
        (GOOD.replace("4096", "true"), "claims.memory_bytes must be"),
        (GOOD.replace("4096", '"4 KiB"'), "claims.memory_bytes must be"),
        (GOOD.replace("4096", str(COUNT_MAX + 1)), "claims.memory_bytes must be"),
        (GOOD + "cores = -1\n", "claims.cores must be"),
        (GOOD + "streams = [1]\n", "claims.streams must be"),
        (GOOD + "[measured_with]\nx = 3\n", "measured_with.x must be a list"),
        (GOOD + "[measured_with]\nx = [1, -3]\n", "measured_with.x must be"),
        (GOOD + "[measured_with]\nx = [[1]]\n", "measured_with.x must be"),
        ("measured_with = 1\n" + GOOD, "measured_with must be a table"),
        (f'resources = "base64:AA=="\nresources_hash = "{HASH}"\n' + GOOD, "not those"),
        (f'resources = "base64:A"\nresources_hash = "{HASH}"\n' + GOOD, "no base64"),
        (f'resources = "base64:\u00e9"\nresources_hash = "{HASH}"\n' + GOOD, "no base64"),
        ('resources = "base64:AA=="\n' + GOOD, "resources_hash must be"),
        (f'resources_hash = "{HASH}"\n' + GOOD, "resources must be"),
        (f'resources = 5\nresources_hash = "{HASH}"\n' + GOOD, "resources must be"),
        (DESIGN.to_toml() + "[claims]\ncores = 1\n", "either"),
    ],
)
def test_what_is_no_manifest_is_refused_by_its_place(text, match):
    with pytest.raises(Invalid, match=match) as caught:
        Manifest.from_toml(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        ({"name": "n" * NAME_CHARS_MAX}, {"name": "n" * (NAME_CHARS_MAX + 1)}),
        ({"profile": "p" * PROFILE_CHARS_MAX}, {"profile": "p" * (PROFILE_CHARS_MAX + 1)}),
        ({"memory_bytes": COUNT_MAX}, {"memory_bytes": COUNT_MAX + 1}),
        ({"measured_with": {"x": (1,) * DIMENSIONS_MAX}}, {"measured_with": {"x": (1,) * (DIMENSIONS_MAX + 1)}}),
        (
            {"measured_with": {str(one): (1,) for one in range(INPUTS_MAX)}},
            {"measured_with": {str(one): (1,) for one in range(INPUTS_MAX + 1)}},
        ),
    ],
)
def test_each_limit_has_an_edge(fits, too_much):
    edge = replace(MODEL, **fits)
    assert Manifest.from_toml(edge.to_toml()) == edge
    with pytest.raises(Invalid):
        replace(MODEL, **too_much)


def test_the_length_of_a_manifest_has_an_edge(tmp_path):
    file = tmp_path / "long.toml"
    file.write_text(GOOD + "#" * (MANIFEST_BYTES_MAX - len(GOOD)))
    assert Manifest.read(file).memory_bytes == 4096
    file.write_text(GOOD + "#" * (MANIFEST_BYTES_MAX - len(GOOD) + 1))
    with pytest.raises(Invalid, match="more than"):
        Manifest.read(file)
    with pytest.raises(Invalid, match="characters"):
        Manifest.from_toml(file.read_text())


def test_what_would_be_too_long_to_be_read_again_is_not_written():
    inline = Manifest("fir", HASH, resources=(ResourceFile(bytes(MANIFEST_BYTES_MAX * 3 // 4 - 512)),))
    assert Manifest.from_toml(inline.to_toml()) == inline
    longer = replace(inline, resources=(ResourceFile(bytes(MANIFEST_BYTES_MAX * 3 // 4)),))
    with pytest.raises(Invalid, match="more than"):
        longer.to_toml()
    assert len(longer.to_toml("fir.bin")) < 400


def test_a_file_s_name_becomes_a_name(tmp_path):
    assert name_of(tmp_path / "ocr v2.onnx") == "ocr v2"
    assert name_of(tmp_path / ("x" * 100 + ".onnx")) == "x" * NAME_CHARS_MAX
    assert name_of(tmp_path / os.fsdecode(b"a\xff\nb.onnx")) == "a__b"
    assert name_of(tmp_path / "..onnx")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
shapes = st.dictionaries(texts, st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=3)
counts = st.integers(0, COUNT_MAX)


@given(texts.filter(lambda text: text and text.isprintable()), counts, counts, st.integers(1, 9), shapes)
@settings(SAME_EVERY_RUN, max_examples=200)
def test_whatever_it_says_comes_back(name, memory_bytes, cores, streams, measured_with):
    one = Manifest(name, HASH, memory_bytes=memory_bytes, cores=cores, streams=streams, measured_with=measured_with)
    assert Manifest.from_toml(one.to_toml()) == one
    assert tomllib.loads(one.to_toml())["name"] == name


@given(st.data())
@settings(SAME_EVERY_RUN, max_examples=300)
def test_no_text_crashes_the_reader(data):
    good = data.draw(st.sampled_from([MODEL.to_toml(), Manifest("d", HASH, resources=(ResourceFile(b"x"),)).to_toml()]))
    start = data.draw(st.integers(0, len(good)))
    text = good[:start] + data.draw(texts) + good[data.draw(st.integers(start, len(good))) :]
    try:
        made = Manifest.from_toml(text)
    except Invalid:
        return
    assert Manifest.from_toml(made.to_toml()) == made
