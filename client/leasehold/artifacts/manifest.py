"""The reservation manifest: what a compiler or ``rmctl plan`` found that a model or a design needs, as a TOML file.

    name = "ocr"
    profile = ""                       # kind of card that it was made for; none: any
    content_hash = "sha256:..."        # of what it was made for

    [claims]                           # for models: how much, and where is the daemon's business
    memory_bytes = 41943040
    cores = 1
    streams = 1

    [measured_with]                    # shapes of the model's inputs
    x = [1, 3, 48, 640]

For an AI Engine array there is, in place of ``[claims]``, the driver's resource file, which names each unit:

    resources = "fir.bin"              # beside the manifest; or base64:...
    resources_hash = "sha256:..."
"""

import base64
import binascii
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from leasehold.aie.array import ArrayShape
from leasehold.aie.resource_file import Resources, claims_of, read_resources
from leasehold.artifacts.files import read_limited
from leasehold.claims import Claim, Run, Units
from leasehold.errors import Invalid

MANIFEST_BYTES_MAX = 4 << 20  # resources of 50 by 9 tiles have 4,752 bytes
NAME_CHARS_MAX = 64
PROFILE_CHARS_MAX = 128
COUNT_MAX = (1 << 63) - 1
INPUTS_MAX, DIMENSIONS_MAX = 1_024, 64
INLINE = "base64:"

_KEYS = {"name", "profile", "content_hash", "claims", "measured_with", "resources", "resources_hash"}
_COUNTS = ("memory_bytes", "cores", "streams")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ResourceFile:
    """A driver's resource file for an array: for all its columns, or for ``column_count`` from ``start_column`` on."""

    data: bytes
    start_column: int = 0
    column_count: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A reservation before it is one: counts for a model, or resource files for an array, and never both.

    ``content_hash`` is that of the model or design it was made for. A count of 0 is not claimed. ``measured_with`` has
    the shapes of a model's inputs.
    """

    name: str
    content_hash: str
    profile: str = ""
    memory_bytes: int = 0
    cores: int = 0
    streams: int = 0
    resources: tuple[ResourceFile, ...] = ()
    measured_with: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what no reservation can be.

        Raises:
            Invalid: a value out of range, nothing that is claimed, or counts beside resources.
        """
        _check_text("name", self.name, least=1, most=NAME_CHARS_MAX)
        _check_text("profile", self.profile, least=0, most=PROFILE_CHARS_MAX)
        _check_hash("content_hash", self.content_hash)
        for key in _COUNTS:
            _check_count(f"claims.{key}", getattr(self, key))
        _check_shapes(self.measured_with)
        has_counts = any(getattr(self, key) for key in _COUNTS)
        if has_counts == bool(self.resources):
            raise _wrong("it claims either memory_bytes, cores and streams or an array's resources, and not nothing")

    @classmethod
    def from_toml(cls, text: str, *, find: Callable[[str], bytes] | None = None) -> "Manifest":
        """Reads a manifest; ``find`` fetches the resource file of a name, where there is one to fetch.

        Raises:
            Invalid: it is no manifest; the text names the place.
        """
        if len(text) > MANIFEST_BYTES_MAX:
            raise _wrong(f"it has {len(text)} characters; {MANIFEST_BYTES_MAX} are possible")
        try:
            document = tomllib.loads(text)
        except (
            ValueError,
            RecursionError,
        ) as fault:  # also numbers of thousands of digits, and brackets nested as deep
            raise _wrong(f"it is no TOML: {fault}") from fault
        _check_keys("it", document, _KEYS)
        claims, shapes = document.get("claims", {}), document.get("measured_with", {})
        _check_keys("claims", claims, set(_COUNTS))
        _check_keys("measured_with", shapes, None)
        for name, shape in shapes.items():
            if not isinstance(shape, list):
                raise _wrong(f"measured_with.{name} must be a list of numbers, not {_shown(shape)}")
        for key in _COUNTS:
            if key in claims and claims[key] == 0:
                raise _wrong(f"claims.{key} is 0: leave out what is not needed")
        return cls(
            name=document.get("name", ""),
            content_hash=document.get("content_hash", ""),
            profile=document.get("profile", ""),
            resources=_find_resources(document, find),
            measured_with={name: tuple(shape) for name, shape in shapes.items()},
            **{key: claims.get(key, 0) for key in _COUNTS},
        )

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Reads a manifest's file, and the resource file beside it that it names.

        Raises:
            Invalid: it is no manifest, or its resource file is another than it was written with.
            OSError: a file cannot be read.
        """

        def beside(name: str) -> bytes:
            if name in {"", ".", ".."} or "/" in name or "\0" in name:
                raise _wrong(f"resources must be the name of a file beside it, not {name!r}")
            return read_limited(path.parent / name, MANIFEST_BYTES_MAX)

        try:
            return cls.from_toml(read_limited(path, MANIFEST_BYTES_MAX).decode(), find=beside)
        except UnicodeDecodeError as fault:
            raise Invalid(f"{path}: this manifest cannot be used: it is no UTF-8") from fault
        except Invalid as fault:
            raise Invalid(f"{path}: {fault}", facts=fault.facts | {"path": str(path)}) from fault

    def to_toml(self, resources: str = "") -> str:
        """The manifest as TOML. An array's resources go along in it, or lie elsewhere, under the name ``resources``.

        Raises:
            Invalid: it has resources for some columns only, which a manifest cannot say, or too many to be read again.
        """
        lines = [f"name = {_quoted(self.name)}", f"profile = {_quoted(self.profile)}"]
        lines.append(f"content_hash = {_quoted(self.content_hash)}")
        if self.resources:
            data = self.whole_resources()
            place = resources or INLINE + base64.b64encode(data).decode()
            lines += [f"resources = {_quoted(place)}", f"resources_hash = {_quoted(hash_text(data))}"]
        else:
            lines += ["", "[claims]", *(f"{key} = {count}" for key in _COUNTS if (count := getattr(self, key)))]
        if self.measured_with:
            lines += ["", "[measured_with]"]
            lines += [f"{_quoted(name)} = {list(shape)}" for name, shape in self.measured_with.items()]
        text = "\n".join(lines) + "\n"
        if len(text.encode()) > MANIFEST_BYTES_MAX:
            raise _wrong(f"it would have more than the {MANIFEST_BYTES_MAX} bytes that are possible")
        return text

    def whole_resources(self) -> bytes:
        """The one resource file, for a whole array.

        Raises:
            Invalid: there is none, or several, or it is for some columns.
        """
        if len(self.resources) != 1 or self.resources[0].column_count is not None:
            raise _wrong("it has no resources for a whole array")
        return self.resources[0].data

    def claims(self, shape: ArrayShape | None = None) -> list[Claim]:
        """What is to be claimed or reserved; ``shape`` is that of the array, which resources can only be read for.

        Raises:
            Invalid: the resources were made for another array, or there is none.
        """
        if not self.resources:
            counts = [Units(pool, count) for pool, count in (("cores", self.cores), ("streams", self.streams)) if count]
            return [*([Run("memory", size=self.memory_bytes)] if self.memory_bytes else []), *counts]
        if shape is None:
            raise _wrong(f"{self.name} was compiled for an AI Engine array, and can only be claimed on one")
        together: Resources = {}
        for part in self.resources:
            found = read_resources(part.data, shape, start_column=part.start_column, column_count=part.column_count)
            for pool, by_site in found.items():
                mine = together.setdefault(pool, {})
                mine.update({site: mine.get(site, frozenset()) | ids for site, ids in by_site.items()})
        return [*claims_of(together)]


def hash_text(data: bytes) -> str:
    """The hash of some bytes, as manifests have it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def name_of(path: Path) -> str:
    """A name for what lies in a file: the file's own, cut and cleaned to what a reservation can be called."""
    text = "".join(char if char.isprintable() else "_" for char in path.stem)
    return text[:NAME_CHARS_MAX] or "unnamed"


def _find_resources(document: Mapping[str, object], find: Callable[[str], bytes] | None) -> tuple[ResourceFile, ...]:
    if "resources" not in document and "resources_hash" not in document:
        return ()
    place, told = document.get("resources"), document.get("resources_hash")
    if not isinstance(place, str):
        raise _wrong(f"resources must be the name of a file, not {_shown(place)}")
    _check_hash("resources_hash", told)
    if place.startswith(INLINE):
        try:
            data = base64.b64decode(place.removeprefix(INLINE), validate=True)
        except (binascii.Error, ValueError) as fault:
            raise _wrong(f"resources is no base64: {fault}") from fault
    elif find is None:
        raise _wrong(f"its resources are elsewhere: {place!r}")
    else:
        data = find(place)
    if hash_text(data) != told:
        raise _wrong(f"its resources ({place[:40]}) are not those that it was written with; compile again")
    return (ResourceFile(data),)


def _check_keys(what: str, table: object, known: set[str] | None) -> None:
    if not isinstance(table, dict):
        raise _wrong(f"{what} must be a table, not {_shown(table)}")
    if known is not None and (unknown := table.keys() - known):
        names = ", ".join(sorted(known))
        raise _wrong(f"{what} has unknown keys: {', '.join(sorted(unknown))}; there are {names}")


def _check_text(key: str, value: object, *, least: int, most: int) -> None:
    if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
        raise _wrong(f"{key} must be a text of {least} to {most} printable characters, not {_shown(value)}")


def _check_hash(key: str, value: object) -> None:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _wrong(f"{key} must be sha256: and 64 digits of hexadecimal, not {_shown(value)}")


def _check_count(key: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_MAX:
        raise _wrong(f"{key} must be a whole number from 0 to 2^63 - 1, not {_shown(value)}")


def _check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    if len(shapes) > INPUTS_MAX:
        raise _wrong(f"measured_with has {len(shapes)} inputs; {INPUTS_MAX} are possible")
    for name, shape in shapes.items():
        if len(shape) > DIMENSIONS_MAX:
            raise _wrong(f"measured_with.{name} has {len(shape)} dimensions; {DIMENSIONS_MAX} are possible")
        for dimension in shape:
            _check_count(f"measured_with.{name}", dimension)


def _quoted(text: str) -> str:
    """A TOML string: as JSON, but for pairs of surrogates, which TOML does not know, and for DEL, which it escapes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _wrong(why: str) -> Invalid:
    return Invalid(f"this manifest cannot be used: {why}", facts={"fault": why})
