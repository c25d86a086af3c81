"""The command ``rmd``."""

import asyncio
import grp
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
import structlog

from leasehold.address import own_run_directory
from leasehold.cli.parameters import SIZE
from rm.core.errors import InvalidRequest, Refusal, ShuttingDown
from rm.core.ledger import Ledger
from rm.daemon.config import (
    CARD_COUNT,
    Config,
    default_card_memory_bytes,
    default_state_directory,
    read_config_file,
)
from rm.daemon.logs import set_up_logs
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import load_profile
from rm.service import system as system_units
from rm.service.clock import SystemClock
from rm.service.engine import Engine
from rm.service.restart import CardsDiffer
from rm.service.server import GRPC_SOCKET, SESSION_SOCKET, Server
from rm.store.damage import StoreDamaged
from rm.store.database import FILE, DiskFull
from rm.store.directory import DirectoryTaken, DirectoryUnsafe, OwnedDirectory
from rm.store.salvage import NothingToSalvage, salvage
from rm.store.sqlite_store import SqliteStore
from rm.store.store import MemoryStore, Store

# As sysexits.h has them.
EXIT_DAMAGED = 65  # the state cannot be read; an operator must decide
EXIT_FAULT = 70  # a mistake of our own
EXIT_CANNOT_CREATE = 73  # a directory or a socket cannot be made
EXIT_STORE = 74  # what was to be kept could not be written
EXIT_TAKEN = 75  # another daemon is there; try again when it is gone
EXIT_CARDS_DIFFER = 78  # the state is of other cards than those that are configured

_EPILOG = """\b
Examples:
  rmd                                   one embedded card, for this user
  rmd --card-memory 2GiB --cards 2      two cards of 2 GiB each
  rmd --profile ax-m1                   the shape of an AX-M1, on memory of this host
  rmd --profile aie --system ecc        an AI Engine array, less what ECC scrubbing needs
  rmd --profile aie:10x5 --strict-ids   one of 10 columns and 5 rows, for programs compiled for it
  rmd --config /etc/leasehold.toml      options from a file: profile = "embedded", cards = 2, ...
  rmd --recover salvage                 goes on without a state that is damaged; see docs/operations.md
\b
Exit status: 0 stopped, 2 usage, 65 damaged state, 70 fault of its own, 73 cannot create,
74 cannot write its state, 75 another daemon is there, 78 state of other cards.
"""
_log = structlog.get_logger(__name__)


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--profile", default="embedded", show_default=True, help="Kind of card: a name, or a TOML file.")
@click.option("--cards", type=CARD_COUNT, default=1, show_default=True, help="How many embedded cards.")
@click.option("--card-memory", type=SIZE, help="Memory of each card.  [default: a quarter of the host's, up to 8GiB]")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the state lies.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where the sockets lie.")
@click.option(
    "--durability",
    type=click.Choice(["full", "none"]),
    default="full",
    show_default=True,
    help="What is on disk before an answer: everything, or nothing (for measurements and throw-away runs).",
)
@click.option(
    "--recover",
    type=click.Choice(["salvage"]),
    help="Goes on though the state is damaged: every unit stays in quarantine until its card proves it unused.",
)
@click.option(
    "--fence",
    type=click.Choice(["wait", "kill"]),
    default="wait",
    show_default=True,
    help="What to do with a process that must let go and cannot be made to: wait for its end, or kill it.",
)
@click.option(
    "--system",
    multiple=True,
    metavar="NAME",
    help="Units that the system keeps for itself, as the profile names them: ecc, error-broadcast. May be repeated.",
)
@click.option(
    "--strict-ids", is_flag=True, help="A claim by id must name reserved units.  [default: free ones as well]"
)
@click.option("--group", help="Only members of this group may connect.  [default: everybody on this host]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=read_config_file,
    help="A TOML file with these options by name; the command line wins.",
)
@click.version_option(package_name="leasehold", prog_name="rmd")
def command(
    *,
    profile: str,
    cards: int,
    card_memory: int | None,
    state_dir: Path | None,
    run_dir: Path | None,
    durability: str,
    recover: str | None,
    fence: str,
    system: tuple[str, ...],
    strict_ids: bool,
    group: str | None,
    log_level: str,
    config: Path | None,
) -> None:
    """Shares the accelerator cards of this host: owns their bitmaps, and hands out leases.

    Says 'ready' with its addresses on standard output once it serves. SIGTERM or Ctrl-C shuts it down.
    """
    set_up_logs(log_level)
    told = Config(
        profile=profile,
        card_count=cards,
        card_memory_bytes=card_memory or default_card_memory_bytes(cards),
        state_directory=state_dir or default_state_directory(),
        run_directory=run_dir or own_run_directory(),
        durability=durability,
        salvages=recover is not None,
        kills_to_fence=fence == "kill",
        ids_need_reserved=strict_ids,
        system=tuple(dict.fromkeys(system)),
        group=group,
    )
    try:
        with ExitStack() as owned:
            for path, mode in ((told.run_directory, 0o755), (told.state_directory, 0o700)):
                owned.callback(OwnedDirectory(path, mode=mode).release)
            status = asyncio.run(_serve(told))
    except DirectoryTaken as taken:
        _exit(EXIT_TAKEN, f"{taken}; stop it first, or name others with --run-dir and --state-dir")
    except StoreDamaged as damage:
        _exit(EXIT_DAMAGED, str(damage))
    except CardsDiffer as fault:
        _exit(EXIT_CARDS_DIFFER, str(fault))
    except (DirectoryUnsafe, DiskFull, OSError) as fault:
        _exit(EXIT_CANNOT_CREATE, str(fault))
    except ShuttingDown as refusal:
        _exit(EXIT_STORE, str(refusal))
    except (NothingToSalvage, Refusal) as refusal:
        _exit(2, str(refusal))
    sys.exit(status)


async def _serve(config: Config) -> int:
    """Serves until it is told to stop; answers the exit status."""
    _raise_descriptor_limit()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # before the store is opened: its end is orderly from then on
        loop.add_signal_handler(number, stopped.set)
    profile = load_profile(config.profile)
    backend = EmbeddedBackend(
        profile,
        card_count=config.card_count,
        memory_bytes=config.card_memory_bytes,
        cpus=sorted(os.sched_getaffinity(0)),
    )
    store, ledger = _open_store(config, backend)
    engine = Engine(ledger, store, backend, SystemClock(), on_failure=stopped.set)
    server = Server(
        engine,
        admin_uids=frozenset({0, os.geteuid()}),
        kills_to_fence=config.kills_to_fence,
        ids_need_reserved=config.ids_need_reserved,
        keep_system_units=partial(system_units.keep, engine, profile.system, config.system, uid=os.geteuid()),
    )
    group_id = _group_id(config.group)
    starting = asyncio.create_task(
        server.start(config.run_directory, socket_mode=0o660 if config.group else 0o666, group_id=group_id)
    )
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # a start on a full disk waits for room
            starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
            _say_ready(config)
        await stopping
        because = engine.commits.failed_because
        _log.log(logging.ERROR if because else logging.INFO, "stopping", leases=len(ledger.leases), failed=because)
    finally:
        await server.stop()
    if store.synced.failed is not None:
        return EXIT_STORE
    return EXIT_FAULT if engine.commits.failed_because else 0


def _open_store(config: Config, backend: EmbeddedBackend) -> tuple[Store, Ledger]:
    """The store, and the books as it has them."""
    if config.durability == "none":
        if (config.state_directory / FILE).exists():  # its leases may live: their units must not be granted again
            text = f"{config.state_directory} has the state of a durable daemon; name another --state-dir"
            raise InvalidRequest(text)
        return MemoryStore(), Ledger(backend.cards)
    if config.salvages:
        report = salvage(config.state_directory, backend.cards)
        _log.warning("salvaged", **asdict(report))
    return SqliteStore.open(config.state_directory)


def _group_id(name: str | None) -> int:
    """The group that may connect; -1 where everybody may."""
    if name is None:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as fault:
        raise InvalidRequest(f"there is no group {name!r} on this host") from fault


def _say_ready(config: Config) -> None:
    run = config.run_directory
    line = f"ready grpc=unix:{run / GRPC_SOCKET} session=unix:{run / SESSION_SOCKET}\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    _log.info(
        "serving", run_dir=str(run), profile=config.profile, cards=config.card_count, durability=config.durability
    )
    if address := os.environ.get("NOTIFY_SOCKET"):  # systemd's sd_notify; a leading @ is the abstract namespace
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))


def _raise_descriptor_limit() -> None:
    """A session costs three descriptors and a window one: takes as many as the host allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _exit(status: int, text: str) -> None:
    sys.stderr.write(f"rmd: {text}\n")
    sys.exit(status)


def main() -> None:
    """Runs the command."""
    command(prog_name="rmd")
