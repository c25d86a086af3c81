"""Finding the daemon's session socket, and making sure whose it is before anything is said to it."""

import os
import socket
import struct
from pathlib import Path

from leasehold.address import SESSION_SOCKET, check_trusted, nobody_there
from leasehold.errors import DaemonUnavailable

HANDSHAKE_S = 5.0


def probe_server(run_directory: Path) -> None:
    """Makes sure that a daemon listens in a run directory.

    Raises:
        DaemonUnavailable: none does, or one that is not trusted.
    """
    connect_to_server(run_directory / SESSION_SOCKET).close()


def connect_to_server(path: Path) -> socket.socket:
    """A connection to the daemon that listens on ``path``, with a time limit.

    Raises:
        DaemonUnavailable: none does, or one that is not trusted.
    """
    check_trusted(path.parent)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as fault:
        raise DaemonUnavailable(f"cannot connect to {path}: {fault.strerror}") from fault
    try:
        connection.settimeout(HANDSHAKE_S)
        connection.connect(str(path))
        _check_server(connection, path)
    except OSError as fault:
        connection.close()
        raise nobody_there(path.parent) from fault
    except BaseException:
        connection.close()
        raise
    return connection


def _check_server(connection: socket.socket, path: Path) -> None:
    """Accepts only a daemon of root or of this user: anybody may put a socket into a shared directory."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in {0, os.geteuid()}:
        raise DaemonUnavailable(f"{path} is served by uid {uid}, which is neither root nor you: not trusted")
