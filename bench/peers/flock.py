"""flock: one lock file a unit. The kernel is the server, so nothing is counted, queued in order, or kept."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from bench.peers.base import Server as BaseServer


class Server(BaseServer):
    """A directory of lock files."""

    name = "flock"
    module = "bench.peers.flock"
    version = "the kernel's"

    @property
    def address(self) -> str:
        """The directory."""
        return str(self.root)

    def start(self) -> None:
        """There is nothing to start."""


class Client:
    """Locks a file of its own: opened, locked, unlocked and closed each time."""

    def __init__(self, address: str, number: int) -> None:
        self._path = str(Path(address) / f"unit-{number}")

    def acquire(self) -> int:
        """Takes the lock, which nobody else wants."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def wait(self) -> int:
        """Takes the lock once it is free."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def release(self, held: int) -> None:
        """Gives the lock back."""
        fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)

    def close(self) -> None:
        """There is nothing to close."""


def hold(address: str) -> Client:
    """Holds the lock."""
    client = Client(address, 0)
    client.acquire()
    return client


def wait(address: str, ready: Callable[[], None]) -> Client:
    """Gets the lock once it is free."""
    client = Client(address, 0)
    ready()
    client.wait()
    return client
