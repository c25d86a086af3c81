"""The command itself: which subcommands there are, and how errors end it.

A subcommand is imported when it is called: most of the time of a short command goes into imports.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from leasehold.cli.exits import EXIT_NO_DAEMON, EXIT_REFUSED
from leasehold.errors import DaemonUnavailable, LeaseholdError

if TYPE_CHECKING:
    from leasehold.client import Client

_EPILOG = """\b
Examples:
  rmctl status                                   what there is, and how much of it is free
  rmctl who memory                               who holds card memory
  rmctl run --memory 512MiB --cores 1 -- ./job   a program under a lease
  rmctl explain --cores 2                        what would happen, and who is in the way
"""

# Where each subcommand is, and what the list of them says of it: the beginning of its own help.
COMMANDS: dict[str, tuple[str, str]] = {
    "cards": ("looking:cards", "Lists the cards, one line a pool."),
    "check": ("looking:check", "Compares bitmaps, leases and what is on disk, unit by unit; exits 1 and names the"),
    "compile": (
        "compile:compile_command",
        "Compiles an array DESIGN to an AI Engine resource file, and a manifest NAME.toml",
    ),
    "dump": (
        "reservations:dump",
        "Writes the units of an AI Engine array that are held as the driver's resource file.",
    ),
    "events": ("looking:events", "Shows what happened to leases; with --json, one object a line."),
    "explain": ("looking:explain", "Says what would happen to a request, and who is in the way."),
    "gate": (
        "reservations:gate",
        "Says that the clocks of TILES are off, and of those above them: no claim gets units",
    ),
    "leases": ("looking:leases", "Lists the leases, oldest first."),
    "map": ("looking:map_command", "Draws the bitmaps of POOL, or of every pool: a letter and a colour a lease."),
    "pack": ("pack:pack", "Puts a RESERVATION into an ARTIFACT: an ONNX model or an xclbin, which then carries"),
    "plan": ("plan:plan", "Measures the memory that MODEL needs, weights included, and writes a reservation"),
    "reservations": ("reservations:reservations", "Lists what is reserved, by name: for whom, how much of it is held."),
    "reserve": (
        "reservations:reserve",
        "Sets aside what FILE says: a manifest, an AI Engine resource file, or an artifact",
    ),
    "revoke": ("admin:revoke", "Ends somebody's LEASE: its holder is told to let go, and loses its memory by force"),
    "run": ("run:run", "Takes a lease and becomes COMMAND: the same process, so the lease ends with it, and"),
    "stats": ("stats:stats", "Counts the units of POOL, or of every pool: free, held, reserved, and whose they"),
    "status": ("looking:status", "Shows the cards with their pools, sessions and waiters."),
    "ungate": ("reservations:ungate", "Says that the clocks of TILES run, and of those below them."),
    "unreserve": ("reservations:unreserve", "Takes the reservation NAME away; its units go to their pools."),
    "who": ("looking:who", "Names who holds the units of POOL, or of every pool."),
}


class _Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(import_module(f"leasehold.cli.{module}"), name)
        assert isinstance(found, click.Command), f"{cmd_name} is no command"
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands, without an import of any."""
        width = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _shortened(COMMANDS[name][1], width)) for name in self.list_commands(ctx)])


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--address", metavar="DIR", help="Run directory of the daemon.  [default: $LEASEHOLD_ADDRESS, or found]")
@click.version_option(package_name="leasehold", prog_name="rmctl")
@click.pass_context
def app(ctx: click.Context, address: str | None) -> None:
    """Looks at the daemon that shares this host's accelerator cards, and runs programs under a lease.

    Exit status: 0 done, 1 refused, 2 usage, 69 no daemon.
    """

    def connect() -> "Client":
        from leasehold.client import Client

        return Client(address)

    ctx.obj = connect


def run_app() -> None:
    """Runs the command; every error is one line, and has its exit status."""
    try:
        app(prog_name="rmctl", standalone_mode=False)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except DaemonUnavailable as fault:
        click.echo(f"rmctl: {fault}", err=True)
        sys.exit(EXIT_NO_DAEMON)
    except LeaseholdError as fault:
        click.echo(f"rmctl: {fault}", err=True)
        sys.exit(EXIT_REFUSED)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()


def _shortened(text: str, width: int) -> str:
    """The words of ``text`` that fit into ``width``."""
    if len(text) <= width:
        return text
    return text[: width - 2].rpartition(" ")[0] + "..."
