"""What a file sets aside: a manifest, an AI Engine resource file, or an artifact into which either was packed."""

from pathlib import Path

from leasehold.aie.resource_file import is_resource_file
from leasehold.artifacts.files import read_limited
from leasehold.artifacts.manifest import MANIFEST_BYTES_MAX, Manifest, ResourceFile, hash_text, name_of
from leasehold.artifacts.packing import check_fresh, read_packed
from leasehold.errors import Invalid

_HEAD_BYTES = 16


def manifest_of(path: Path) -> Manifest:
    """The reservation that the file at ``path`` is, or carries.

    Raises:
        Invalid: it is none and carries none, or one that was made for another content; the text says what to do.
    """
    try:
        if path.suffix == ".toml":
            return Manifest.read(path)
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if is_resource_file(head):
            data = read_limited(path, MANIFEST_BYTES_MAX)
            return Manifest(name_of(path), hash_text(data), resources=(ResourceFile(data),))
        manifest = _read_artifact(path)
    except OSError as fault:
        raise Invalid(f"cannot read {path}: {fault.strerror}", facts={"path": str(path)}) from fault
    if manifest is None:
        text = f"{path} carries no reservation; 'rmctl plan' or 'rmctl compile' makes one, 'rmctl pack' puts it in"
        raise Invalid(text, facts={"path": str(path)})
    return manifest


def _read_artifact(path: Path) -> Manifest | None:
    try:
        manifest = read_packed(path)
    except Invalid as fault:
        text = f"{path} is neither a manifest (.toml) nor a resource file nor an artifact that carries one: {fault}"
        raise Invalid(text, facts={"path": str(path)}) from fault
    if manifest is not None:
        check_fresh(path, manifest)
    return manifest
