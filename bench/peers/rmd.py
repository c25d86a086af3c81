"""Leasehold itself, as one of those that are measured: the daemon, and the blocking library as users have it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import leasehold
from bench.peers.base import Server as BaseServer
from bench.processes import Daemon
from rmapi.v1 import resource_manager_pb2 as pb

SESSION, GRPC = "session", "grpc"
SESSIONS = 4  # that hold many leases together: one may have 4,096
# Room for whatever is asked of it: 10,000 leases by a hundred sessions.
PROFILE = """
name = "bench"
[pools.streams]
unit_count = 65536
[pools.wanted]
unit_count = 1
[pools.memory]
memory_mib = 64
"""


class Server(BaseServer):
    """``rmd``. Both doors lead to the same daemon."""

    name = "Leasehold"
    module = "bench.peers.rmd"
    is_durable_kind = True
    door = GRPC

    @property
    def address(self) -> str:
        """The door, and the run directory."""
        return f"{self.door}:{self.root / 'run'}"

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._daemon is not None
        return self._daemon.pid

    def prepare(self) -> None:
        """Says which version it is."""
        from importlib.metadata import version

        self.version = version("leasehold")
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Starts it, and returns when it says that it is ready."""
        if self._daemon is None:
            options = () if self.is_durable else ("--durability", "none")
            self._daemon = Daemon(self.root, *options, profile=PROFILE)
        else:
            self._daemon.start()

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        assert self._daemon is not None
        self._daemon.kill()

    def stop(self) -> None:
        """Ends it by SIGTERM."""
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None


def doors(run_directory: Path) -> list[str]:
    """The doors that this version has: the quicker first."""
    found = []
    for door in (SESSION, GRPC):
        try:
            leasehold.connect(run_directory, door=door).close()
        except leasehold.Invalid:
            continue
        found.append(door)
    return found


class Client:
    """One session, and one unit of a pool at a time."""

    def __init__(self, address: str, _: int) -> None:
        door, run_directory = address.split(":", 1)
        self._client = leasehold.connect(run_directory, door=door)

    def acquire(self) -> leasehold.Lease:
        """Any free unit."""
        return self._client.acquire(streams=1)

    def release(self, held: leasehold.Lease) -> None:
        """Gives it back."""
        held.release()

    def keep_alive(self, held: leasehold.Lease) -> None:
        """What the library's own thread does a few times in a lease's ttl, called from here."""
        call: Any = self._client._call
        assert not call("KeepAlive", pb.KeepAliveRequest(lease_ids=[held.id])).lost_lease_ids

    def acquire_wanted(self, wait_s: float = 0.0) -> leasehold.Lease:
        """The one unit of a pool that has no other, once it is free."""
        return self._client.acquire(wanted=1, wait=wait_s)

    def close(self) -> None:
        """Ends the session."""
        self._client.close()


def hold(address: str) -> Client:
    """Holds it, and answers who must stay for it."""
    client = Client(address, 0)
    client.acquire_wanted()
    return client


def wait(address: str, ready: Callable[[], None]) -> Client:
    """Gets it once it is free; ``ready`` is called before."""
    client = Client(address, 1)
    ready()
    client.acquire_wanted(wait_s=60.0)
    return client


def fill(address: str, count: int) -> list[Client]:
    """Holds so many leases, and answers who must stay for them."""
    clients = [Client(address, number) for number in range(SESSIONS)]
    for number in range(count):
        clients[number % len(clients)].acquire()
    return clients
