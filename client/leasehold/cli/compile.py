"""``rmctl compile``: finds units for an array design on an empty array, and writes the reservation down."""

import sys
from pathlib import Path

import click

from leasehold.artifacts.design import DESIGN_BYTES_MAX, Compiled, Design, compile_design, read_design
from leasehold.artifacts.files import read_limited, replace_file
from leasehold.card import Allotment
from leasehold.cli.output import as_json, console, files_named, say_json, table
from leasehold.errors import Refused

_EPILOG = """\b
Examples:
  rmctl compile fir-design.toml -o fir.bin     writes fir.bin and fir.toml
  rmctl reserve fir.toml                       sets it aside in the daemon
  rmctl pack fir.xclbin fir.toml               or puts it into the program's artifact

\b
A design:
  name = "fir"
  profile = "aie"                         aie-ml, aie:4x6, or a file
  [[use]]
  resource = "perfcnt"
  count = 2                               units at every tile; or run = 2, ids = [0, 1],
  tiles = ["3,1,core", "0-3,1-8,mem"]     or common = true, one id at all of them
  [[use]]
  resource = "bcast_channel"
  common = true
  tiles = ["*,0,pl", "all"]
"""

_TILES_SHOWN = 3


@click.command(name="compile", epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("design", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="NAME.bin", help="Resource file to write."
)
@as_json
def compile_command(design: Path, output: Path, as_json: bool) -> None:
    """Compiles an array DESIGN to an AI Engine resource file, and a manifest NAME.toml beside it.

    Units are found on an array on which nothing else is taken; exact ids first, then what must be common or in a row.
    """
    try:
        import leasehold.local  # noqa: F401 - to see whether it is there
    except ImportError:
        raise click.ClickException("compile runs the daemon's rules: pip install 'leasehold[daemon]'") from None
    if not output.name.isprintable():
        raise click.UsageError(f"-o {output.name!a}: a name with printable characters is needed")
    manifest_path = output.with_suffix(".toml")
    if output.suffix == ".toml" or design.resolve() in {output.resolve(), manifest_path.resolve()}:
        raise click.UsageError(
            f"-o {output}: {output.name} or {manifest_path.name} would be written over; choose another"
        )
    with files_named():
        data = read_limited(design, DESIGN_BYTES_MAX)
    try:
        read = read_design(data)
        done = compile_design(read)
    except Refused as fault:
        raise type(fault)(f"{design}: {fault}", reason=fault.reason, facts=fault.facts) from fault
    with files_named():
        replace_file(output, [done.data])
        text = f"# What {read.name} uses, compiled by 'rmctl compile'.\n{done.manifest.to_toml(output.name)}"
        replace_file(manifest_path, [text.encode()])
    _say(read, done, output, manifest_path, as_json=as_json)


def _say(design: Design, done: Compiled, output: Path, manifest_path: Path, *, as_json: bool) -> None:
    if as_json:
        uses = [
            {"resource": use.resource, use.kind: use.value, "at": [list(tile) for tile in got.at], "ids": got.ids}
            for use, got in zip(design.uses, done.granted, strict=True)
        ]
        manifest = done.manifest
        told = {"name": manifest.name, "profile": manifest.profile, "content_hash": manifest.content_hash}
        say_json(told | {"resources": str(output), "manifest": str(manifest_path), "uses": uses})
        return
    rows = [(got.pool, _tiles_text(got), _ids_text(got)) for got in done.granted]
    console().print(table(("RESOURCE", "TILES", "UNITS"), rows))
    click.echo(f"{done.manifest.name}: written to {output} and {manifest_path}", file=sys.stderr)


def _tiles_text(got: Allotment) -> str:
    names = [",".join(map(str, tile)) for tile in got.at]
    more = f" and {len(names) - _TILES_SHOWN} more" if len(names) > _TILES_SHOWN else ""
    return "  ".join(names[:_TILES_SHOWN]) + more


def _ids_text(got: Allotment) -> str:
    """The ids, where they are the same at all tiles; else those at the first."""
    count = len(got.ids) // len(got.at)
    first = got.ids[:count]
    text = ",".join(map(str, first[:16])) + (",..." if count > 16 else "")
    is_same = all(got.ids[at : at + count] == first for at in range(0, len(got.ids), count))
    return text if is_same else f"{text} at the first tile"
