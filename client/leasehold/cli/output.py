"""How ``rmctl`` speaks: tables for people, JSON for programs, one line for errors."""

import json
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leasehold import Allotment, Client
from leasehold.claims import site_text

_FOLDED, _CUT = {"LABEL", "UNITS"}, {"COMMAND"}
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ALLOTMENTS_SHOWN, _RUNS_SHOWN = 8, 8
_WIDTH_OF_PIPE = 200  # a pipe has no width: enough that no cell is cut


@contextmanager
def reading(connect: Callable[[], Client]) -> Iterator[Client]:
    """A client that needs no session, and fails at once where no daemon is there."""
    client = connect()
    client.check_reachable()
    try:
        yield client
    finally:
        client.close()


def console() -> Console:
    """Where tables go: in colour on a terminal only."""
    width = None if sys.stdout.isatty() else _WIDTH_OF_PIPE
    return Console(soft_wrap=False, markup=False, emoji=False, highlight=False, width=width)


def error_console() -> Console:
    """Where progress and errors go."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


@contextmanager
def files_named() -> Iterator[None]:
    """Tells of a file that cannot be read or written in one line."""
    try:
        yield
    except OSError as fault:
        where = f"{fault.filename}: " if fault.filename else ""
        raise click.ClickException(f"{where}{fault.strerror or fault}") from fault


def say_json(value: Any) -> None:  # noqa: ANN401 - JSON
    """Prints a value as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> Table:
    """A table without lines, for ``console().print``. Columns in ``right`` hold numbers.

    Where it is too wide, LABEL and UNITS are folded and COMMAND is cut; everything else is always shown whole.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numbers, cells = set(right), [list(row) for row in rows]
    for index, column in enumerate(columns):
        is_loose = column in _FOLDED or column in _CUT
        width = max(len(column), *(cell_len(row[index]) for row in cells)) if cells and not is_loose else len(column)
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        made.add_column(column, justify=justify, no_wrap=not is_loose, min_width=width, overflow="fold")
    for row in cells:
        made.add_row(*(_cell(column, text) for column, text in zip(columns, row, strict=True)))
    return made


def _cell(column: str, text: str) -> Text:
    """A cell that shows ``text`` as it is, whatever it looks like."""
    return Text(text, no_wrap=True, overflow="ellipsis") if column in _CUT else Text(text)


def user_name(uid: int) -> str:
    """A user's name, or the number where there is none."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def units_text(allotments: Sequence[Allotment]) -> str:
    """Units of one pool in a few words, however many: ids, and at how many sites where the pool has several."""
    shown = []
    for one in allotments[:_ALLOTMENTS_SHOWN]:
        runs = dict.fromkeys(run for at_site in one.ranges for run in at_site)
        texts = [str(run.start) if len(run) == 1 else f"{run.start}-{run.stop - 1}" for run in runs]
        ids = ",".join(texts[:_RUNS_SHOWN]) + (",..." if len(texts) > _RUNS_SHOWN else "")
        where = f" at {len(one.at)} sites" if len(one.at) > 1 else f" at {site_text(one.at[0])}" if one.at else ""
        shown += [ids + where] if ids else []
    return ", ".join(shown) + (", ..." if len(allotments) > _ALLOTMENTS_SHOWN else "")


def number_text(count: float) -> str:
    """A count without a needless fraction."""
    return f"{count:g}" if count < 1_000_000 else f"{count:.0f}"
