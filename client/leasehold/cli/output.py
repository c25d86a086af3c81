"""How ``rmctl`` speaks: tables for people, JSON for programs, one line for errors."""

import json
import pwd
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import click
from rich.console import Console
from rich.table import Table

EXIT_REFUSED = 1
EXIT_NO_DAEMON = 69
_WIDTH_OF_PIPE = 200  # a pipe has no width: enough that no cell is cut


def console() -> Console:
    """Where tables go: in colour on a terminal only."""
    return Console(soft_wrap=False, highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_PIPE)


def error_console() -> Console:
    """Where progress and errors go."""
    return Console(stderr=True, highlight=False)


def say_json(value: Any) -> None:  # noqa: ANN401 - JSON
    """Prints a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> Table:
    """A table without lines, for ``console().print``. Columns in ``right`` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numbers = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def user_name(uid: int) -> str:
    """A user's name, or the number where there is none."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def number_text(count: float) -> str:
    """A count without a needless fraction."""
    return f"{count:g}" if count < 1_000_000 else f"{count:.0f}"
