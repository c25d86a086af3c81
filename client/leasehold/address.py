"""Where the daemon is: the run directory with its two sockets."""

import os
import stat
from pathlib import Path

from leasehold.errors import DaemonUnavailable

GRPC_SOCKET = "rm.sock"
SESSION_SOCKET = "session.sock"
SYSTEM_DIRECTORY = Path("/run/leasehold")


def own_run_directory() -> Path:
    """The run directory that a daemon of this user takes, and its clients look in first."""
    if named := os.environ.get("LEASEHOLD_RUN_DIR"):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "leasehold"
    return SYSTEM_DIRECTORY if os.geteuid() == 0 else Path(f"/tmp/leasehold-{os.geteuid()}")


def find_run_directory(address: str | os.PathLike[str] | None = None) -> Path:
    """The run directory to connect to: the one named, ``$LEASEHOLD_ADDRESS``, the user's, or the system's."""
    named = address or os.environ.get("LEASEHOLD_ADDRESS")
    if named:
        return Path(os.fspath(named).removeprefix("unix:")).resolve()
    own = own_run_directory()
    if not (own / SESSION_SOCKET).exists() and (SYSTEM_DIRECTORY / SESSION_SOCKET).exists():
        return SYSTEM_DIRECTORY
    return own.resolve()


def check_trusted(run_directory: Path) -> None:
    """Refuses a directory into which somebody else could have put a socket: who serves there would learn our secret.

    Raises:
        DaemonUnavailable: it is not there, not root's or ours, or others may write to it.
    """
    try:
        status = os.lstat(run_directory)
    except OSError as fault:
        raise nobody_there(run_directory) from fault
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid in {0, os.geteuid()}
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DaemonUnavailable(
            f"{run_directory} is not trusted: it must be root's or yours, and nobody else's to write"
        )


def nobody_there(run_directory: Path) -> DaemonUnavailable:
    """The error where no daemon serves."""
    return DaemonUnavailable(f"no daemon serves in {run_directory}; start one with 'rmd --run-dir {run_directory}'")
