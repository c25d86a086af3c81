"""Reservations inside the artifacts that they were compiled for: the metadata of an ONNX model, sections of an xclbin.

What is packed into a model is its manifest, an array's resources in it, under the key ``leasehold.reservation``. Into
an xclbin go the resources, as section AIE_RESOURCES, which XRT reads too, and the manifest beside them.

An artifact's content hash is that of its bytes without what can be packed into it: packing does not change it, nor does
signing an xclbin, and every other change does. A model's external data is no part of it. A reservation of another hash
is stale.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from leasehold.artifacts.files import read_limited, replace_file
from leasehold.artifacts.manifest import Manifest, ResourceFile, hash_text, name_of
from leasehold.artifacts.onnx_entry import chunks_without, entry_bytes, find_entries, hash_without
from leasehold.artifacts.xclbin import (
    AIE_RESOURCES,
    MAGIC,
    XCLBIN_BYTES_MAX,
    ResourceSection,
    read_note,
    read_xclbin,
    strip_xclbin,
    write_xclbin,
)
from leasehold.errors import Invalid

RESERVATION_KEY = "leasehold.reservation"

_IN_SECTION = "section:AIE_RESOURCES"


def content_hash_of(path: Path) -> str:
    """What an artifact is, whatever is packed into it: ``sha256:`` and 64 digits.

    Raises:
        Invalid: the file is neither an ONNX model nor an xclbin.
        OSError: it cannot be read.
    """
    if _is_xclbin(path):
        with _named(path):
            return hash_text(strip_xclbin(_read_xclbin_file(path)))
    with path.open("rb") as file:
        return f"sha256:{hash_without(file, find_entries(file, RESERVATION_KEY))}"


def read_packed(path: Path) -> Manifest | None:
    """The reservation that an artifact carries, fresh or stale; None where it carries none.

    An xclbin that was made elsewhere has resources and no manifest: they count as made for it, under its file's name.

    Raises:
        Invalid: the file is neither an ONNX model nor an xclbin, or what it carries is no reservation.
        OSError: it cannot be read.
    """
    with _named(path):
        return _read_packed_xclbin(path) if _is_xclbin(path) else _read_packed_model(path)


def check_fresh(path: Path, manifest: Manifest) -> None:
    """Refuses a reservation that was made for another content than that of the artifact.

    Raises:
        Invalid: it was; the text says what to do.
        OSError: the artifact cannot be read.
    """
    content_hash = content_hash_of(path)
    if manifest.content_hash != content_hash:
        text = f"reservation {manifest.name} was made for another content than that of {path}"
        again = "compile and pack it again" if manifest.resources else "run 'rmctl plan' and 'rmctl pack' again"
        facts = {"path": str(path), "content_hash": content_hash, "made_for": manifest.content_hash}
        raise Invalid(f"{text}: {again}", facts=facts)


def read_fresh(path: Path) -> Manifest | None:
    """The reservation that an artifact carries, if any; never a stale one.

    Raises:
        Invalid: as ``read_packed`` and ``check_fresh``.
        OSError: it cannot be read.
    """
    manifest = read_packed(path)
    if manifest is not None:
        check_fresh(path, manifest)
    return manifest


def pack(path: Path, manifest: Manifest, output: Path | None = None) -> Manifest:
    """Writes the artifact with the reservation in it to ``output`` (else in its place); answers what it now carries.

    What it carried before is replaced. Counts that were measured must be for this artifact; an array's resources, which
    were compiled of a design, become its own: their content hash is that of the artifact from now on. The output is
    there whole, or as it was.

    Raises:
        Invalid: the reservation is stale, or none that such an artifact can carry.
        OSError: a file cannot be read or written.
    """
    if _is_xclbin(path) and not manifest.resources:
        raise Invalid(f"{path} is an xclbin, and takes an array's resources; {manifest.name} has counts for a model")
    if manifest.resources:
        manifest = replace(manifest, content_hash=content_hash_of(path))
    else:
        check_fresh(path, manifest)
    target = path if output is None else output
    if _is_xclbin(path):
        section = ResourceSection(AIE_RESOURCES, manifest.whole_resources())
        with _named(path):
            packed = write_xclbin([section], _read_xclbin_file(path), note=manifest.to_toml(_IN_SECTION))
        replace_file(target, [packed], like=path)
        return manifest
    with path.open("rb") as file:
        entries = find_entries(file, RESERVATION_KEY)
        entry = entry_bytes(RESERVATION_KEY, manifest.to_toml())
        replace_file(target, (part for parts in (chunks_without(file, entries), [entry]) for part in parts), like=path)
    return manifest


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the artifact in front of what is wrong with it."""
    try:
        yield
    except Invalid as fault:
        text = str(fault) if str(fault).startswith(str(path)) else f"{path}: {fault}"
        raise Invalid(text, facts=fault.facts | {"path": str(path)}) from fault


def _read_packed_model(path: Path) -> Manifest | None:
    with path.open("rb") as file:
        values = find_entries(file, RESERVATION_KEY).values
    if not values:
        return None
    if len(values) > 1:
        raise Invalid(f"it carries {len(values)} reservations; pack it again")
    try:
        return Manifest.from_toml(values[0].decode())
    except UnicodeDecodeError as fault:
        raise Invalid("the reservation that it carries is no UTF-8; pack it again") from fault


def _read_packed_xclbin(path: Path) -> Manifest | None:
    data = _read_xclbin_file(path)
    sections, note = read_xclbin(data), read_note(data)
    whole = [section.data for section in sections if section.kind == AIE_RESOURCES]

    def in_section(place: str) -> bytes:
        if place != _IN_SECTION or not whole:
            raise Invalid(f"its resources are not there: {place!r}; pack it again")
        return whole[0]

    if note is not None:
        return Manifest.from_toml(note, find=in_section)
    if not sections:
        return None
    # XRT looks at the sections for some columns only where there is none for the whole array (zocl_edge_xclbin.c).
    parts = [ResourceFile(one) for one in whole] or [
        ResourceFile(one.data, one.start_column or 0, one.column_count) for one in sections
    ]
    return Manifest(name_of(path), hash_text(strip_xclbin(data)), resources=tuple(parts))


def _is_xclbin(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _read_xclbin_file(path: Path) -> bytes:
    return read_limited(path, XCLBIN_BYTES_MAX)
