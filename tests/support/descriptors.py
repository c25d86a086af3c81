"""The descriptors of this process that a daemon within it can leave behind."""

import os
import socket

from rm.service.server import SESSION_SOCKET


def descriptor_count() -> int:
    """How many of the files, windows, pidfds and accepted session connections are open.

    gRPC's sockets, eventfds and epolls are left out: its threads close those of an earlier test when they come to it.
    """
    return sum(map(_is_counted, map(int, os.listdir("/proc/self/fd"))))


def _is_counted(fd: int) -> bool:
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
        return _is_of_a_session(fd) if target.startswith("socket:") else not target.startswith("anon_inode:[event")
    except OSError:  # closed since the listing, as that of the listing itself
        return False


def _is_of_a_session(fd: int) -> bool:
    one = socket.socket(fileno=fd)
    try:
        name = one.getsockname()
    finally:
        one.detach()
    return isinstance(name, str) and os.path.basename(name) == SESSION_SOCKET
