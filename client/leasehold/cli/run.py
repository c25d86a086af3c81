"""``rmctl run``: takes a lease and becomes the command. Same process, so the lease ends with it, however it ends."""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from rich.text import Text

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
    command: tuple[str, ...],
) -> None:
    """Takes a lease and becomes COMMAND: the same process, so the lease ends with it, and its exit status is its own.

    The lease has no keepalive: it lives as long as the process.
    """
    asked = claims_of(memory=memory, cores=cores, streams=streams, units=units)
    name = Path(command[0]).name
    client = connect()
    client.shown_command = " ".join(command)
    client.open()
    out = error_console()
    text = f"waiting up to {duration_text(wait)} for a lease"
    with out.status(Text(text)) if wait and out.is_terminal else nullcontext():
        lease = client.acquire(card=card, wait=wait, ttl=math.inf, label=label or _label_of(name), **asked)
    environment = os.environ | _environment(client, lease)
    try:
        if lease.has_cpus:
            os.sched_setaffinity(0, lease.cores)
    except OSError as fault:  # the daemon may use CPUs that this process may not
        client.close()
        cpus = ", ".join(str(core) for core in lease.cores)
        click.echo(f"rmctl: cannot run on the CPUs of the lease ({cpus}): {fault.strerror}", err=True)
        raise SystemExit(EXIT_REFUSED) from fault
    try:
        os.execvpe(command[0], command, environment)
    except OSError as fault:
        client.close()
        click.echo(f"rmctl: cannot run {command[0]}: {fault.strerror}", err=True)
        raise SystemExit(EXIT_NO_COMMAND if isinstance(fault, FileNotFoundError) else EXIT_CANNOT_RUN) from fault


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
