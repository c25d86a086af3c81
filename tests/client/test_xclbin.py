"""The xclbin container: its AI Engine resources are found and replaced, and never believed against its bytes."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leasehold import Invalid
from leasehold.artifacts import xclbin
from leasehold.artifacts.xclbin import (
    AIE_RESOURCES,
    AIE_RESOURCES_BIN,
    COLUMNS_MAX,
    SECTIONS_MAX,
    ResourceSection,
    read_note,
    read_xclbin,
    strip_xclbin,
    write_xclbin,
)
from support.strategies import SAME_EVERY_RUN
from support.xclbins import BIN_BYTES, HEADER_BYTES, IMAGE, container, resources_bin

PDI, METADATA = 18, 25
OTHERS = [(PDI, b"", b"\x01" * 33), (METADATA, b"aie", b'{"x": 1}'), (0, b"exactly16letters", b"")]
WHOLE = ResourceSection(AIE_RESOURCES, IMAGE)
PART = ResourceSection(AIE_RESOURCES_BIN, IMAGE, 4, 3, "graph1")


def test_sections_of_both_kinds_are_found_in_their_order():
    second = resources_bin(b"graph2", b"0", b"4", b"image")
    data = container(
        [*OTHERS, (34, b"graph1", resources_bin()), (29, b"", IMAGE), (34, b"graph2", second)], tail=b"MIRROR"
    )

    assert read_xclbin(data) == [PART, WHOLE, ResourceSection(AIE_RESOURCES_BIN, b"image", 0, 4, "graph2")]


def test_a_container_without_them_has_none():
    assert read_xclbin(container(OTHERS)) == []
    assert read_xclbin(container([])) == []
    assert read_note(container(OTHERS)) is None


def test_a_signed_container_is_read_and_its_signature_is_no_place_for_a_section():
    data = container([(29, b"", IMAGE)], signature=b"s" * 64)
    assert read_xclbin(data) == [WHOLE]

    inside = bytearray(data)
    struct.pack_into("<Q", inside, HEADER_BYTES + 32, len(IMAGE) + 1)
    with pytest.raises(Invalid, match="section 0"):
        read_xclbin(bytes(inside))


def test_what_is_written_is_laid_out_as_xrt_reads_it():
    data = write_xclbin([WHOLE, PART])

    assert data[:8] == b"xclbin2\0"
    assert struct.unpack_from("<i", data, 8) == (-1,)
    assert data[12:296] == b"\xff" * 284
    assert struct.unpack_from("<Q", data, 304) == (len(data),)
    assert struct.unpack_from("<I", data, 448) == (2,)
    kind, name, offset, size = struct.unpack_from("<I16s4xQQ", data, 456)
    assert (kind, name, offset % 8, size) == (29, bytes(16), 0, len(IMAGE))
    assert data[offset : offset + size] == IMAGE
    kind, name, offset, size = struct.unpack_from("<I16s4xQQ", data, 496)
    assert (kind, name.rstrip(b"\0"), offset % 8) == (34, b"graph1", 0)
    assert data[offset : offset + size] == resources_bin(version=b"")
    assert len(write_xclbin(())) == HEADER_BYTES + 40  # XRT reads one section's header with the file's own


def test_replacing_keeps_everything_else():
    base = container([*OTHERS, (29, b"", b"old"), (34, b"graph1", resources_bin())], tail=b"XCLBIN_MIRROR_DATA_START{}")
    made = write_xclbin([WHOLE], base, note="text")

    assert read_xclbin(made) == [WHOLE]
    assert read_note(made) == "text"
    unchanged = [slice(0, 304), slice(312, 448), slice(452, 456)]
    assert [made[one] for one in unchanged] == [base[one] for one in unchanged]
    for number, (kind, name, content) in enumerate(OTHERS):
        told = struct.unpack_from("<I16s4xQQ", made, HEADER_BYTES + number * 40)
        assert told[:2] == (kind, name.ljust(16, b"\0"))
        assert made[told[2] : told[2] + told[3]] == content
    assert b"MIRROR" not in made
    assert write_xclbin((), made) == write_xclbin((), base)
    assert write_xclbin([WHOLE], made, note="text") == made


def test_a_long_name_is_whole_in_the_section_and_cut_in_the_table():
    one = ResourceSection(AIE_RESOURCES_BIN, IMAGE, 0, 1, "a graph with a long name")
    data = write_xclbin([one])

    assert read_xclbin(data) == [one]
    assert data[460:476] == b"a graph with a \0"


def test_a_signed_container_is_not_written_over():
    with pytest.raises(Invalid, match="signed"):
        write_xclbin([WHOLE], container([], signature=b"s" * 8))


@pytest.mark.parametrize(
    "one",
    [
        ResourceSection(AIE_RESOURCES, b""),
        ResourceSection(AIE_RESOURCES, IMAGE, 0, 1),
        ResourceSection(AIE_RESOURCES_BIN, IMAGE),
        ResourceSection(AIE_RESOURCES_BIN, IMAGE, -1, 1),
        ResourceSection(AIE_RESOURCES_BIN, IMAGE, 0, 0),
        ResourceSection(AIE_RESOURCES_BIN, IMAGE, 1, COLUMNS_MAX),
        ResourceSection(AIE_RESOURCES_BIN, IMAGE, 0, 1, "a\0b"),
        ResourceSection(AIE_RESOURCES_BIN, IMAGE, 0, 1, "x" * 256),
        ResourceSection(PDI, IMAGE),
    ],
)
def test_what_could_not_be_read_again_is_not_written(one):
    with pytest.raises(Invalid):
        write_xclbin([one])


def test_the_widest_array_and_the_longest_name_are_written():
    widest = ResourceSection(AIE_RESOURCES_BIN, b"x", 0, COLUMNS_MAX, "x" * 255)
    assert read_xclbin(write_xclbin([widest])) == [widest]


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ([(29, b"", IMAGE), (29, b"", IMAGE)], "several sections of the kind 29"),
        ([(29, b"", b"")], "section 0 .* is empty"),
        ([(34, b"", resources_bin()), (34, b"", resources_bin())], "named 'graph1'"),
        ([(34, b"", resources_bin()[: BIN_BYTES - 1])], "has 75 bytes"),
        ([(34, b"", b"")], "has 0 bytes"),
        ([(34, b"", resources_bin(image=b""))], "image is empty"),
        ([(34, b"", resources_bin(start=b""))], "start column is ''"),
        ([(34, b"", resources_bin(start=b"-1"))], "start column is '-1'"),
        ([(34, b"", resources_bin(start=b"0x1"))], "start column is '0x1'"),
        ([(34, b"", resources_bin(start=b" 1"))], "start column is ' 1'"),
        ([(34, b"", resources_bin(start="\u0661".encode()))], "start column"),
        ([(34, b"", resources_bin(start=b"\xff"))], "start column is no UTF-8"),
        ([(34, b"", resources_bin(width=b"0"))], "0 columns from 4 on"),
        ([(34, b"", resources_bin(width=b"252"))], "252 columns from 4 on"),
        ([(34, b"", resources_bin(width=b"999999"))], "number of columns"),
        ([(34, b"", resources_bin(name=b"x" * 256))], "does not end within 255"),
    ],
)
def test_sections_that_make_no_sense_are_refused_by_their_place(sections, match):
    with pytest.raises(Invalid, match=match) as caught:
        read_xclbin(container(sections))
    assert caught.value.facts["fault"]


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        (0, 2**32 - 1, "name is at byte"),
        (0, 75, "name is at byte 75"),
        (4, 75, "image, bytes 75"),
        (4, 2**32 - 1, "image, bytes"),
        (8, 2**32 - 1, "image, bytes"),
        (12, 400, "version is at byte 400"),
        (16, 120, "start column is at byte 120"),  # inside the image
        (20, 0, "number of columns is at byte 0"),
    ],
)
def test_offsets_that_lead_nowhere_are_refused(at, value, match):
    section = bytearray(resources_bin())
    struct.pack_into("<I", section, at, value)
    with pytest.raises(Invalid, match=match):
        read_xclbin(container([(34, b"", bytes(section))]))


def test_a_string_that_does_not_end_is_refused():
    section = resources_bin(image=b"x") + b"no end"
    changed = bytearray(section)
    struct.pack_into("<I", changed, 12, len(section) - 3)
    with pytest.raises(Invalid, match="version does not end"):
        read_xclbin(container([(34, b"", bytes(changed))]))


@pytest.mark.parametrize(
    ("at", "layout", "value", "match"),
    [
        (0, "<8s", b"xclbin1\0", "begins with"),
        (0, "<8s", b"xclbin2x", "begins with"),
        (8, "<i", -2, "signature has -2"),
        (8, "<i", 1 << 30, "signature has"),
        (304, "<Q", 10, "counts 10 bytes"),
        (304, "<Q", 1 << 63, "counts 9223372036854775808 bytes"),
        (448, "<I", 65_537, "counts 65537 sections"),
        (448, "<I", 2**32 - 1, "counts 4294967295 sections"),
        (448, "<I", 100, "counts 100 sections"),
        (HEADER_BYTES + 24, "<Q", HEADER_BYTES, "section 0"),
        (HEADER_BYTES + 24, "<Q", 2**64 - 1, "section 0"),
        (HEADER_BYTES + 32, "<Q", 2**64 - 1, "section 0"),
        (HEADER_BYTES + 40 + 24, "<Q", 536, "sections 0 and 1 both have byte 536"),
    ],
)
def test_a_header_that_contradicts_the_file_is_refused_by_its_place(at, layout, value, match):
    data = bytearray(container([(PDI, b"", b"p" * 24), (29, b"", IMAGE)]))
    struct.pack_into(layout, data, at, value)
    with pytest.raises(Invalid, match=match):
        read_xclbin(bytes(data))


def test_a_file_that_is_cut_off_anywhere_is_refused():
    data = container([(34, b"graph1", resources_bin())])
    for length in range(len(data)):
        with pytest.raises(Invalid):
            read_xclbin(data[:length])


def test_stripping_leaves_the_same_bytes_whatever_was_there():
    bare = container(OTHERS)
    forms = [write_xclbin([WHOLE], bare), write_xclbin([PART], bare, note="text"), container(OTHERS, tail=b"MIRROR")]
    forms += [container(OTHERS, signature=b"s" * 64), container([(29, b"", IMAGE), *OTHERS], signature=b"")]
    assert {strip_xclbin(form) for form in forms} == {strip_xclbin(bare)}
    assert strip_xclbin(container(OTHERS[:2])) != strip_xclbin(bare)
    with pytest.raises(Invalid):
        strip_xclbin(bare[:-1])


def test_the_number_of_sections_has_an_edge():
    assert read_xclbin(container([(0, b"", b"")] * SECTIONS_MAX)) == []
    with pytest.raises(Invalid, match="counts 65537 sections"):
        read_xclbin(container([(0, b"", b"")] * (SECTIONS_MAX + 1)))


def test_the_size_of_an_xclbin_has_a_limit(monkeypatch):
    data = write_xclbin([WHOLE])
    monkeypatch.setattr(xclbin, "XCLBIN_BYTES_MAX", len(data))
    assert read_xclbin(data) == [WHOLE]
    assert write_xclbin([WHOLE]) == data
    monkeypatch.setattr(xclbin, "XCLBIN_BYTES_MAX", len(data) - 1)
    with pytest.raises(Invalid, match="are possible"):
        read_xclbin(data)
    with pytest.raises(Invalid, match="are possible"):
        write_xclbin([WHOLE])


def test_two_notes_are_refused_and_a_stranger_s_is_none():
    note = (31, b"leasehold", struct.pack("<3I36x", 48, 50, 4) + b"l\0text")
    assert read_note(container([note, (31, b"other", b"x")])) == "text"
    with pytest.raises(Invalid, match="second reservation"):
        read_note(container([note, note]))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"x" * 47, "has 47 bytes"),
        (struct.pack("<3I36x", 48, 48, 0), "empty"),
        (struct.pack("<3I36x", 48, 47, 1), "image, bytes 47"),
        (struct.pack("<3I36x", 48, 48, 1) + b"\xff", "no UTF-8"),
    ],
)
def test_a_note_that_is_none_is_refused(data, match):
    with pytest.raises(Invalid, match=match):
        read_note(container([(31, b"leasehold", data)]))


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
wholes = st.builds(lambda data: ResourceSection(AIE_RESOURCES, data), st.binary(min_size=1, max_size=50))
parts = st.builds(
    lambda data, start, width, name: ResourceSection(AIE_RESOURCES_BIN, data, start, width, name),
    st.binary(min_size=1, max_size=50), st.integers(0, 100), st.integers(1, 100), names,
)  # fmt: skip
several = st.tuples(st.lists(wholes, max_size=1), st.lists(parts, max_size=3, unique_by=lambda one: one.name))
strangers = st.lists(
    st.tuples(st.integers(0, 28) | st.integers(35, 2**32 - 1), st.binary(max_size=16), st.binary(max_size=40)),
    max_size=3,
)


@given(several, several, strangers, st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(SAME_EVERY_RUN, max_examples=200)
def test_what_was_written_is_read_again_and_replaced_without_a_trace(first, second, others, note):
    first, second = [*first[0], *first[1]], [*second[0], *second[1]]
    base = container(others)
    once = write_xclbin(first, base, note=note)

    assert read_xclbin(once) == first
    assert read_note(once) == note
    assert write_xclbin(second, once) == write_xclbin(second, base)


@given(st.data())
@settings(SAME_EVERY_RUN, max_examples=500)
def test_no_bytes_crash_the_reader(data):
    good = container([(PDI, b"", b"p" * 20), (34, b"a", resources_bin()), (29, b"", IMAGE)], tail=b"tail")
    at = data.draw(st.integers(HEADER_BYTES - 10, HEADER_BYTES + 220) | st.integers(0, len(good) - 1))
    change = data.draw(st.binary(min_size=1, max_size=12) | st.sampled_from([bytes(8), b"\xff" * 8, b"\xff" * 4]))
    changed = bytearray(good[:at] + change + good[at + len(change) :])
    if data.draw(st.booleans()):  # few get past a wrong length
        del changed[data.draw(st.integers(HEADER_BYTES, len(changed))) :]
        struct.pack_into("<Q", changed, 304, len(changed))
    for read in (read_xclbin, read_note, strip_xclbin):
        with suppress(Invalid):
            read(bytes(changed))
