"""``rmctl pack``: puts a reservation into the artifact that it was compiled for."""

import sys
from pathlib import Path

import click

from leasehold.artifacts import packing
from leasehold.artifacts.reservable import manifest_of
from leasehold.cli.output import as_json, files_named, say_json

_EPILOG = """\b
Examples:
  rmctl pack model.onnx model.toml                  the manifest of 'rmctl plan', in the model's metadata
  rmctl pack fir.xclbin fir.toml -o packed.xclbin   the manifest of 'rmctl compile', as section AIE_RESOURCES
  rmctl pack fir.xclbin fir.bin                     an AI Engine resource file by itself
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("reservation", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: ARTIFACT itself]")
@as_json
def pack(artifact: Path, reservation: Path, output: Path | None, as_json: bool) -> None:
    """Puts a RESERVATION into an ARTIFACT: an ONNX model or an xclbin, which then carries it.

    RESERVATION is a manifest (.toml) or an AI Engine resource file. What the artifact carried before is replaced. Its
    content hash stays as it was.
    """
    with files_named():
        packed = packing.pack(artifact, manifest_of(reservation), output)
    target = artifact if output is None else output
    if as_json:
        names = ("name", "profile", "content_hash", "memory_bytes", "cores", "streams")
        told = {name: getattr(packed, name) for name in names}
        say_json(told | {"resources_bytes": sum(len(one.data) for one in packed.resources), "artifact": str(target)})
    else:
        click.echo(f"{target} carries reservation {packed.name}", file=sys.stderr)
