"""The options by which a command line says what it wants to lease."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--memory", metavar="SIZE", help="Memory, in one run: 512MiB, 64KiB or bytes."),
    click.option("--cores", type=float, metavar="N", help="Cores."),
    click.option("--streams", type=int, metavar="N", help="Streams."),
    click.option("--units", "units", multiple=True, metavar="POOL=N", help="Units of any other pool; may be repeated."),
    click.option("--card", metavar="ID", help="Card to take them from.  [default: the first that fits]"),
)


def claim_options(command: F) -> F:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def claims_of(
    *, memory: str | None, cores: float | None, streams: int | None, units: tuple[str, ...]
) -> dict[str, Any]:
    """What the options say, as the client's keyword arguments.

    Raises:
        click.UsageError: nothing is asked for, or POOL=N is written otherwise.
    """
    asked: dict[str, Any] = {"memory": memory, "cores": cores, "streams": streams}
    for text in units:
        pool, equals, count = text.partition("=")
        if not equals or not pool.isidentifier() or pool in asked or not count.isdigit():
            raise click.UsageError(f"--units {text}: write POOL=N, such as vdec=2")
        asked[pool] = int(count)
    if all(value is None for value in asked.values()):
        raise click.UsageError("nothing is asked for: name --memory, --cores, --streams or --units")
    return asked
