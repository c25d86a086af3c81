"""The options by which a command line says what it wants to lease."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from leasehold.cli.parameters import SIZE

F = TypeVar("F", bound=Callable[..., Any])
_COUNT_MAX = (1 << 31) - 1  # more than any pool has


class Amount(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A count above 0 on the command line; a fraction where a unit can be cut."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """A number from what was given."""
        try:
            amount = float(value)
        except ValueError:
            amount = math.nan
        if not 0 < amount <= _COUNT_MAX:
            self.fail(f"{value!r} is no count above 0", param, ctx)
        return amount


_OPTIONS = (
    click.option("--memory", type=SIZE, metavar="SIZE", help="Memory, in one run: 512MiB, 64KiB or bytes."),
    click.option("--cores", type=Amount(), metavar="N", help="Cores."),
    click.option("--streams", type=click.IntRange(1, _COUNT_MAX), metavar="N", help="Streams."),
    click.option("--units", "units", multiple=True, metavar="POOL=N", help="Units of any other pool; may be repeated."),
    click.option("--card", metavar="ID", help="Card to take them from.  [default: the first that fits]"),
)


def claim_options(command: F) -> F:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def claims_of(
    *, memory: int | None, cores: float | None, streams: int | None, units: tuple[str, ...]
) -> dict[str, Any]:
    """What the options say, as the client's keyword arguments.

    Raises:
        click.UsageError: nothing is asked for, or POOL=N is written otherwise.
    """
    asked: dict[str, Any] = {"memory": memory, "cores": cores, "streams": streams}
    for text in units:
        pool, equals, count = text.partition("=")
        if not equals or not pool.isidentifier() or pool in asked or not _is_count(count):
            raise click.UsageError(f"--units {text}: write POOL=N, such as vdec=2")
        asked[pool] = int(count)
    if all(value is None for value in asked.values()):
        raise click.UsageError("nothing is asked for: name --memory, --cores, --streams or --units")
    return asked


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= _COUNT_MAX
