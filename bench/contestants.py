"""Everything that is measured side by side: each peer started once, durable and not, and those that are absent."""

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bench.harness import remarks, say
from bench.peers import rmd
from bench.peers.base import Absent, Server

PEERS = ("echo", "frames", "redis", "etcd", "postgres", "labgrid", "flock")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server that runs, and how the tables name it."""

    label: str
    server: Server
    module: ModuleType

    @property
    def is_ours(self) -> bool:
        """Whether it is Leasehold."""
        return self.module is rmd

    def has(self, method: str) -> bool:
        """Whether its clients can do that at all."""
        return hasattr(self.module.Client, method)


OURS = {(door, durable): f"{door} door, {'durable' if durable else 'not durable'}"
        for door in (rmd.SESSION, rmd.GRPC) for durable in (False, True)}  # fmt: skip


@contextmanager
def contestants(*names: str, durable: tuple[bool, ...] = (False, True)) -> Iterator[dict[str, Contestant]]:
    """Ours and the peers of those names by their labels, until the block ends; who is absent is not among them."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leasehold-bench-")))
        root.chmod(0o711)
        found: dict[str, Contestant] = {}
        for is_durable in durable:
            server = stack.enter_context(_started(rmd, root, durable=is_durable))
            for door in rmd.doors(server.root / "run"):
                found[OURS[door, is_durable]] = Contestant(OURS[door, is_durable], _ByDoor(server, door), rmd)
        for name in names:
            module = importlib.import_module(f"bench.peers.{name}")
            for is_durable in durable if module.Server.is_durable_kind else (False,):
                label = label_of(module, durable=is_durable)
                try:
                    server = stack.enter_context(_started(module, root, durable=is_durable))
                except Absent as fault:
                    remark(f"{module.Server.name} is absent: {fault}")
                    continue
                found[label] = Contestant(label, server, module)
                remark(f"{module.Server.name} {server.version}")
        yield found


def label_of(module: ModuleType, *, durable: bool) -> str:
    """How the tables name it."""
    name: str = module.Server.name
    kind = "durable" if durable else "not durable"
    return f"{name}, {kind}" if module.Server.is_durable_kind else name


def drawn_label(one: Contestant) -> str:
    """How a picture names it, which says itself whether its servers are durable."""
    label = one.label.removesuffix(", not durable").removesuffix(", durable")
    return f"Leasehold, {label}" if one.is_ours else label


def remark(text: str) -> None:
    """Notes it once for the foot of the table."""
    if text not in remarks:
        remarks.append(text)
        say(f"  {text}")


def _started(module: ModuleType, root: Path, *, durable: bool) -> Server:
    own = root / f"{module.__name__.rpartition('.')[2]}-{'durable' if durable else 'forgetful'}"
    own.mkdir()
    server: Server = module.Server(own, durable=durable)
    return server


class _ByDoor(Server):
    """A daemon that somebody else started and ends, by one of its doors."""

    name = rmd.Server.name
    module = rmd.Server.module

    def __init__(self, server: Server, door: str) -> None:
        self._server = server
        self.root = server.root
        self.version = server.version
        self._door = door

    @property
    def address(self) -> str:
        """The door, and the run directory."""
        return f"{self._door}:{self.root / 'run'}"

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._server.pid

    def start(self) -> None:
        """Starts the daemon again."""
        self._server.start()

    def kill(self) -> None:
        """Ends the daemon by SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        """Whoever started it stops it."""
