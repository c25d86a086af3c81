"""``python -m bench``: runs the benchmarks and prints one table."""

import importlib
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from bench import harness
from bench.harness import SEED, Figure, Row, say
from bench.page import write

BENCHMARKS = {
    "runs": "taking and giving back runs of units in pools of 2^10 to 2^24 units",
    "array": "a few counters, and a channel over all modules, on a large AI Engine array and on a small one",
    "inference": "one inference under a lease against bare onnxruntime",
    "cores": "two models on one core against two models on leased cores of their own",
    "kill": "from SIGKILL of a holder to the grant of a waiter",
    "reclaim": "the same without memory, against peers",
    "restart": "from the start of a daemon with 10,000 leases to its first grant",
    "recovery": "from the start of a server with 10,000 leases to its first answer, against peers",
    "waiters": "a Release while 1,000 requests wait",
    "axcl": "AXCL's model on leases: overlapping work against waiting, and what the model costs",
    "doors": "the session door against the gRPC door and bare frames",
    "scale": "1,000 sessions, 10,000 leases, 5,000 waiters, 100 watchers: memory, idle CPU, latency",
    "anatomy": "where the time of a pair goes: the CPU of each process, the stages in the daemon, a commit",
    "pairs": "acquire + release pairs a second by 1 to 64 clients, against bare transports and peers",
    "keepalives": "keepalives a second, against peers",
    "partition": "units handed out inside a lease, against a pair of acquire and release over gRPC",
    "imports": "import leasehold against import grpc; how long rmctl takes, and a daemon until it serves",
}
_TABLE_WIDTH = 160  # where standard output is no terminal

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

_EPILOG = """\b
Examples:
  python -m bench                          all of them, a quarter of an hour, or two on a busy machine
  python -m bench --list                   their names
  python -m bench --only kill --only pairs some of them
  python -m bench --json bench.json        the table, and the figures in a file
  python -m bench --from bench.json --write   docs/benchmarks.md from such files, without measuring
"""


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only", multiple=True, metavar="NAME", type=click.Choice(list(BENCHMARKS)), help="Only this one; may be repeated."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Writes the figures there too."
)
@click.option(
    "--from",
    "read_paths",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Measures nothing and reads figures that --json wrote; may be repeated, a later file holds.",
)
@click.option("--write", "writes", is_flag=True, help="Writes the figures and plots into docs/benchmarks.md.")
@click.option("--list", "lists", is_flag=True, help="Lists the benchmarks.")
def command(
    *, only: tuple[str, ...], json_path: Path | None, read_paths: tuple[Path, ...], writes: bool, lists: bool
) -> None:
    """Measures Leasehold against bare or peer baselines, interleaved with them, and prints one table.

    A figure is a median with its spread in brackets. Rounds in which other processes took more than a tenth of the CPUs
    are repeated. The exit status is 0 even where a bar is missed; the last line says so.
    """
    if lists:
        for name, what in BENCHMARKS.items():
            click.echo(f"{name:10} {what}")
        return
    if read_paths:
        document = _read(read_paths)
    else:
        document = _measure([name for name in BENCHMARKS if not only or name in only], json_path)
    if not writes:
        return
    missing = [name for name in BENCHMARKS if name not in document["benchmarks"]]
    if missing:
        raise click.ClickException(f"--write needs every benchmark, or the page would lose some: {', '.join(missing)}")
    for path in write(document, _PAGE):
        say(f"{path.name} written")


def _measure(names: list[str], json_path: Path | None) -> dict[str, Any]:
    """Runs them and prints their table; what is measured goes to the file as soon as it is."""
    rows: dict[str, list[Row]] = {}
    document: dict[str, Any] = {"seed": SEED, "benchmarks": {}}
    all_noise: list[str] = []
    all_began = time.monotonic()
    for name in names:
        say(f"{name}: {BENCHMARKS[name]}")
        began = time.monotonic()
        try:
            rows[name] = importlib.import_module(f"bench.{name}").run()
        except RuntimeError as fault:  # a model is missing, or a process of ours ended
            raise click.ClickException(f"{name}: {fault}") from fault
        document["benchmarks"][name] = {
            "machine": _machine(),
            "elapsed_s": time.monotonic() - began,
            "rows": [row.to_json() for row in rows[name]],
            "noise": list(harness.noise),
            "remarks": list(harness.remarks),
            "charts": [chart.to_json() for chart in harness.charts],
        }
        all_noise += harness.noise
        harness.noise.clear()
        harness.remarks.clear()
        harness.charts.clear()
        if json_path is not None:
            json_path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _print(rows, all_noise, time.monotonic() - all_began)
    if json_path is not None:
        say(f"figures written to {json_path}")
    return document


def _read(paths: tuple[Path, ...]) -> dict[str, Any]:
    """What these files have, in the order of the table."""
    parts: dict[str, Any] = {}
    for path in paths:
        try:
            parts |= json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        except (ValueError, KeyError, TypeError) as fault:
            raise click.ClickException(f"{path} has no figures: {fault}") from fault
    return {"seed": SEED, "benchmarks": {name: parts[name] for name in BENCHMARKS if name in parts}}


def _print(rows: dict[str, list[Row]], all_noise: list[str], elapsed_s: float) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=_TABLE_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, title=_machine(), title_justify="left", title_style="")
    for name in ("what", "figure", "baseline", "ratio", "bar", "met"):
        table.add_column(name, justify="left" if name == "what" else "right", overflow="fold")
    for row in (row for of_one in rows.values() for row in of_one):
        met = {None: "", True: "yes", False: "NO"}[row.is_met]
        what = "\n  ".join([row.what, *(f"[dim]{more}[/dim]" for more in (row.note, row.limit_text) if more)])
        table.add_row(what, _text(row.figure), _text(row.baseline), _text(row.ratio), row.bar_text, met)
    console.print(table)
    missed = [row.what for of_one in rows.values() for row in of_one if row.is_met is False]
    verdict = f"{len(missed)} bars MISSED: " + "; ".join(missed) if missed else "Every bar is met."
    for line in all_noise:
        console.print(line, highlight=False)
    console.print(f"{verdict} Seed {SEED}, {elapsed_s:.0f} s.", highlight=False)


def _text(figure: Figure | None) -> str:
    return "" if figure is None else str(figure)


def _machine() -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"{when}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    command(prog_name="python -m bench")
