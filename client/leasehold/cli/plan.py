"""``rmctl plan``: measures what a model needs, and writes it down."""

import sys
from pathlib import Path

import click
from rich.text import Text

from leasehold.artifacts.files import replace_file
from leasehold.artifacts.plan import check_holdable, empty_card, measure
from leasehold.cli.output import as_json, error_console, files_named, say_json
from leasehold.quantity import size_text

_EPILOG = """\b
Examples:
  rmctl plan model.onnx -o model.toml
  rmctl plan ocr.onnx --shape x=1,3,48,640     the widest input it will meet
  rmctl plan model.onnx -o model.toml --profile ax-m1
  rmctl pack model.onnx model.toml             the model carries it from then on
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=N,N,...", help="Shape of an input; may be repeated.")
@click.option("--profile", default="", metavar="NAME", help="Kind of card that it is for.  [default: any]")
@as_json
def plan(model: Path, output: Path | None, shapes: tuple[str, ...], profile: str, as_json: bool) -> None:
    """Measures the memory that MODEL needs, weights included, and writes a reservation manifest.

    Runs it in child processes under smaller and smaller caps; that takes some seconds. A reservation that no card of
    the profile could hold, with everything free, is refused.
    """
    try:
        import onnxruntime  # noqa: F401 - to see whether it is there

        import leasehold.local  # noqa: F401
    except ImportError:
        raise click.ClickException("plan runs the model: pip install 'leasehold[embedded,daemon]'") from None
    if not model.is_file():
        raise click.ClickException(f"there is no file {model}")
    card = empty_card(profile)
    out = error_console()
    with out.status(Text(f"measuring {model.name}")) as progress:

        def on_try(size: int, fits: bool) -> None:
            text = f"{model.name}: {size_text(size)} {'is enough' if fits else 'is too little'}"
            progress.update(Text(text)) if out.is_terminal else click.echo(text, err=True)

        with files_named():
            found = measure(model, dict(_shape(text) for text in shapes), on_try=on_try)
    manifest = found.manifest(card.cards()[0].profile if profile else "")  # by its name, also where it is a file
    check_holdable(manifest, card)
    text = f"# What {manifest.name} needs, measured by 'rmctl plan'.\n{manifest.to_toml()}"
    if as_json:
        say_json({name: getattr(found, name) for name in found.__dataclass_fields__} | {"profile": manifest.profile})
    elif output is None:
        click.echo(text, nl=False)
    if output is not None:
        with files_named():
            replace_file(output, [text.encode()])
        needs = f"{size_text(found.memory_bytes)}, {found.cores} core and {found.streams} stream"
        click.echo(f"{found.name} needs {needs}; written to {output}", file=sys.stderr)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, numbers = text.partition("=")
    dims = numbers.split(",")
    if not name or not equals or not all(dim.isdigit() and int(dim) > 0 for dim in dims):
        raise click.UsageError(f"--shape {text}: write INPUT=N,N,..., such as x=1,3,48,320")
    return name, tuple(int(dim) for dim in dims)
