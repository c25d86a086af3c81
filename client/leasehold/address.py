"""Where the daemon is: the run directory with its two sockets."""

import os
from pathlib import Path

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
        return Path(os.fspath(named).removeprefix("unix:"))
    own = own_run_directory()
    if not (own / SESSION_SOCKET).exists() and (SYSTEM_DIRECTORY / SESSION_SOCKET).exists():
        return SYSTEM_DIRECTORY
    return own
