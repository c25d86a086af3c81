"""What a compiler set aside: ``rmctl reservations``, ``reserve``, ``unreserve``, ``dump``; and ``gate``, ``ungate``."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from leasehold import Client, ReservationInfo
from leasehold.artifacts.files import replace_file
from leasehold.cli.output import as_json, console, files_named, number_text, reading, say_json, table, user_name
from leasehold.quantity import size_text

_RESERVE_EPILOG = """\b
Examples:
  rmctl reserve model.toml                     what 'rmctl plan model.onnx -o model.toml' measured
  rmctl reserve model.onnx                     what 'rmctl pack' put into it
  rmctl reserve fir.bin --name fir --shared    an AI Engine resource file, for everybody to claim from
  rmctl reserve design.xclbin --replace        instead of what has its name now
"""
_DUMP_EPILOG = """\b
Examples:
  rmctl dump -o held.bin                       what is held now, as the AI Engine driver's resource file
  rmctl dump --with-reserved -o all.bin        and what is reserved
"""
_GATE_EPILOG = """\b
Examples:
  rmctl gate 3,5                               tile 3,5 and those above it in column 3
  rmctl gate                                   every tile but the shim's
  rmctl ungate 3,5                             tile 3,5 and those below it
"""


@click.command()
@as_json
@click.pass_obj
def reservations(connect: Callable[[], Client], as_json: bool) -> None:
    """Lists what is reserved, by name: for whom, how much of it is held."""
    with reading(connect) as client:
        found = client.reservations()
    if as_json:
        say_json([asdict(one) for one in found])
        return
    if not found:
        console().print("nothing is reserved")
        return
    rows = [
        (
            one.name,
            one.card,
            "nobody" if one.owner_uid < 0 else user_name(one.owner_uid),
            "everybody" if one.shared or one.owner_uid < 0 else "owner",
            pool.pool,
            _amount(pool.units, pool.unit_bytes),
            _amount(pool.held, pool.unit_bytes),
            _amount(pool.quarantined, pool.unit_bytes),
        )
        for one in found
        for pool in one.pools
    ]
    columns = ("RESERVATION", "CARD", "OWNER", "FOR", "POOL", "RESERVED", "HELD", "QUARANTINED")
    console().print(table(columns, rows, right=columns[5:]))


@click.command(epilog=_RESERVE_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="Name of the reservation.  [default: the file's own, or its name]")
@click.option("--card", metavar="ID", help="Card to take the units from.  [default: the first that fits]")
@click.option("--shared", is_flag=True, help="Anybody may claim from it.  [default: this user, and admins]")
@click.option("--replace", is_flag=True, help="Put it in the place of the reservation of this name.")
@as_json
@click.pass_obj
def reserve(
    connect: Callable[[], Client],
    *,
    file: Path,
    name: str | None,
    card: str | None,
    shared: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Sets aside what FILE says: a manifest, an AI Engine resource file, or an artifact with either packed into it.

    All of it or nothing. Plain claims never take it; who claims it by name, or by unit ids, does. The same content is
    set aside once, however often it is asked for. It outlives the daemon, until 'rmctl unreserve'.
    """
    with connect() as client:
        client.open()  # where no daemon is there, that is said at once
        made = client.reserve(file, name=name, card=card, shared=shared, replace=replace)
    if as_json:
        say_json(asdict(made))
    else:
        click.echo(f"reserved as {made.name} on card {made.card}: {_pools_text(made)}")


@click.command()
@click.argument("name")
@click.pass_obj
def unreserve(connect: Callable[[], Client], name: str) -> None:
    """Takes the reservation NAME away; its units go to their pools. Refused while some of them are held."""
    with connect() as client:
        client.unreserve(name)
    click.echo(f"{name} is no longer reserved")


@click.command(epilog=_DUMP_EPILOG)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@click.option("--card", metavar="ID", help="An array among several cards.  [default: the first card]")
@click.option("--with-reserved", is_flag=True, help="Write what is reserved too, and not only what is held.")
@click.pass_obj
def dump(connect: Callable[[], Client], *, output: Path | None, card: str | None, with_reserved: bool) -> None:
    """Writes the units of an AI Engine array that are held as the driver's resource file."""
    if output is None and sys.stdout.isatty():
        raise click.UsageError("a terminal cannot show a resource file: name a file with -o")
    with reading(connect) as client:
        data = client.dump(card, with_reserved=with_reserved)
    if output is None:
        sys.stdout.buffer.write(data)
        return
    with files_named():
        replace_file(output, [data])
    click.echo(f"{len(data)} bytes written to {output}", file=sys.stderr)


@click.command(epilog=_GATE_EPILOG)
@click.argument("tiles", nargs=-1, metavar="[COLUMN,ROW]...")
@click.option("--card", metavar="ID", help="An array among several cards.  [default: the first card]")
@click.pass_obj
def gate(connect: Callable[[], Client], tiles: tuple[str, ...], card: str | None) -> None:
    """Says that the clocks of TILES are off, and of those above them: no claim gets units there. For admins."""
    with connect() as client:
        client.open()
        client.gate(_tiles(tiles), card=card)


@click.command(epilog=_GATE_EPILOG)
@click.argument("tiles", nargs=-1, metavar="[COLUMN,ROW]...")
@click.option("--card", metavar="ID", help="An array among several cards.  [default: the first card]")
@click.pass_obj
def ungate(connect: Callable[[], Client], tiles: tuple[str, ...], card: str | None) -> None:
    """Says that the clocks of TILES run, and of those below them. For admins."""
    with connect() as client:
        client.open()
        client.ungate(_tiles(tiles), card=card)


def _tiles(texts: tuple[str, ...]) -> list[tuple[int, int]] | None:
    found = []
    for text in texts:
        column, comma, row = text.partition(",")
        if not comma or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in (column, row)):
            raise click.UsageError(f"{text!r} is no tile: write COLUMN,ROW, such as 3,5")
        found.append((int(column), int(row)))
    return found or None


def _pools_text(made: ReservationInfo) -> str:
    return ", ".join(f"{_amount(pool.units, pool.unit_bytes)} of {pool.pool}" for pool in made.pools)


def _amount(units: float, unit_bytes: int) -> str:
    return size_text(int(units * unit_bytes)) if unit_bytes else number_text(units)
