"""``rmctl run``: takes a lease and becomes the command. Same process, so the lease ends with it, however it ends."""

import math
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.text import Text

import leasehold
from leasehold import Client, Lease
from leasehold.cli.claims import claim_options, claims_of
from leasehold.cli.exits import EXIT_REFUSED
from leasehold.cli.output import error_console
from leasehold.cli.parameters import DURATION
from leasehold.inherited import WINDOWS, inheritance
from leasehold.quantity import duration_text

EXIT_CANNOT_RUN, EXIT_NO_COMMAND = 126, 127  # as shells have it

_EPILOG = """\b
Examples:
  rmctl run --memory 512MiB --cores 1 -- python infer.py
  rmctl run --cores 2 --streams 2 --wait 30s -- ./transcode in.mp4
  rmctl run --axcl-python -- detect.py        a program written for AXERA's pyAXCL
\b
The command finds in its environment:
  LEASEHOLD_LEASE, LEASEHOLD_CARD     its lease and card
  LEASEHOLD_CORES, LEASEHOLD_STREAMS  numbers, separated by commas; it runs on these cores
  LEASEHOLD_MEMORY                    bytes
  LEASEHOLD_WINDOWS                   DESCRIPTOR:BYTES of each memory file, separated by commas
"""


@click.command(
    epilog=_EPILOG,
    context_settings={"ignore_unknown_options": False, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] --",
)
@claim_options
@click.option(
    "--wait", type=DURATION, default="0s", show_default=True, metavar="D", help="How long to queue: 30s, 500ms."
)
@click.option("--label", help="What to call the lease.  [default: the command's name]")
@click.option(
    "--axcl-python",
    is_flag=True,
    help="COMMAND finds leasehold's 'axcl' and 'axengine' first; a lease of its own to begin with is then optional.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARGS]...")
@click.pass_obj
def run(
    connect: Callable[[], Client],
    *,
    memory: int | None,
    cores: float | None,
    streams: int | None,
    units: tuple[str, ...],
    card: str | None,
    wait: float,
    label: str | None,
    axcl_python: bool,
    command: tuple[str, ...],
) -> None:
    """Takes a lease and becomes COMMAND: the same process, so the lease ends with it, and its exit status is its own.

    The lease has no keepalive: it lives as long as the process.
    """
    name = Path(command[0]).name
    client = connect()
    environment = dict(os.environ)
    if axcl_python:
        command = _as_python(command)
        environment |= {"PYTHONPATH": _with_axcl_first(environment.get("PYTHONPATH", ""))}
        if not any((memory, cores, streams, units, card, wait, label)):  # it takes what it needs as it goes
            client.check_reachable()
            _become(command, environment | {"LEASEHOLD_ADDRESS": str(client.run_directory)})
    asked = claims_of(memory=memory, cores=cores, streams=streams, units=units)
    client.shown_command = " ".join(command)
    client.open()
    out = error_console()
    text = f"waiting up to {duration_text(wait)} for a lease"
    with out.status(Text(text)) if wait and out.is_terminal else nullcontext():
        lease = client.acquire(card=card, wait=wait, ttl=math.inf, label=label or _label_of(name), **asked)
    environment |= _environment(client, lease)
    try:
        if lease.has_cpus:
            os.sched_setaffinity(0, lease.cores)
    except OSError as fault:  # the daemon may use CPUs that this process may not
        client.close()
        cpus = ", ".join(str(core) for core in lease.cores)
        click.echo(f"rmctl: cannot run on the CPUs of the lease ({cpus}): {fault.strerror}", err=True)
        raise SystemExit(EXIT_REFUSED) from fault
    try:
        _become(command, environment)
    finally:
        client.close()


def _become(command: tuple[str, ...], environment: dict[str, str]) -> NoReturn:
    """Makes this process the command.

    Raises:
        SystemExit: there is no such command, or it cannot be run.
    """
    try:
        os.execvpe(command[0], command, environment)
    except OSError as fault:
        click.echo(f"rmctl: cannot run {command[0]}: {fault.strerror}", err=True)
        raise SystemExit(EXIT_NO_COMMAND if isinstance(fault, FileNotFoundError) else EXIT_CANNOT_RUN) from fault


def _as_python(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with the interpreter of this program, where it is a script's file."""
    return (sys.executable, *command) if command[0].endswith(".py") else command


def _with_axcl_first(path: str) -> str:
    """A path on which ``import axcl`` finds the one of this package."""
    first = Path(leasehold.__file__).parent / "axcl_path"
    return os.pathsep.join([str(first), *filter(None, path.split(os.pathsep))])


def _label_of(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name[:128])


def _environment(client: Client, lease: Lease) -> dict[str, str]:
    """What the command is told; its windows stay open in it."""
    session_id, secret = client.open()
    windows = client.inheritable_windows(lease)
    told: dict[str, Any] = {
        "LEASEHOLD_ADDRESS": client.run_directory,
        "LEASEHOLD_CARD": lease.card,
        "LEASEHOLD_CORES": ",".join(str(core) for core in lease.cores),
        "LEASEHOLD_STREAMS": ",".join(str(stream) for stream in lease.units("streams")),
        "LEASEHOLD_MEMORY": sum(size for _, size in windows),
        WINDOWS: ",".join(f"{fd}:{size}" for fd, size in windows),
    }
    return {name: str(value) for name, value in told.items()} | dict(inheritance(session_id, secret, lease.id))
