"""What every peer is to the benchmarks: a server with an address, and clients in processes of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

START_S = 30.0
_STOP_S = 10.0


class Absent(Exception):
    """A peer is not installed, or does not start here. The text says why, and how to install it."""


class Client(Protocol):
    """One client of a peer, with one connection and one call in flight."""

    def acquire(self) -> Any:  # noqa: ANN401 - whatever the peer's release wants
        """Takes one unit."""

    def release(self, held: Any) -> None:  # noqa: ANN401
        """Gives back what ``acquire`` answered."""

    def close(self) -> None:
        """Ends the connection politely."""


class Server:
    """A peer's process in a directory of its own, ready to serve, until the ``with`` block ends."""

    name: ClassVar[str]
    module: ClassVar[str]  # that has the clients, for processes that import it
    python: ClassVar[Path] = Path(sys.executable)  # that runs the clients
    is_durable_kind: ClassVar[bool] = False  # whether it can keep what it said over a crash of the host
    version: str = ""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        """Sets it up in ``root``, which is its own, and starts it.

        Raises:
            Absent: it cannot be had here.
        """
        assert not durable or self.is_durable_kind, f"{self.name} keeps nothing"
        self.root = root
        self.is_durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.prepare()
        self.start()

    @property
    def address(self) -> str:
        """What a client is made of, as one word."""
        raise AssertionError("every server has one")

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def prepare(self) -> None:
        """What is done once, before it is started for the first time."""

    def command(self) -> Sequence[str]:
        """The command that serves until it is ended."""
        raise AssertionError("every server that is a process has one")

    def is_ready(self) -> bool:
        """Whether a client can connect now."""
        raise AssertionError("every server that is a process has one")

    def start(self) -> None:
        """Starts it, and returns when clients can connect.

        Raises:
            Absent: it does not come up.
        """
        with (self.root / "log").open("ab") as log_file:
            options = {"cwd": self.root, "stdin": subprocess.DEVNULL, "stdout": log_file, "stderr": log_file}
            self._process = subprocess.Popen(self.command(), **{**options, **self.popen()})
        give_up_at = time.monotonic() + START_S
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.stop()
                tail = (self.root / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise Absent(f"{self.name} does not start: {' '.join(tail) or 'it says nothing'}")
            time.sleep(0.002)

    def popen(self) -> dict[str, Any]:
        """More arguments for the process, such as whose it is."""
        return {}

    def kill(self) -> None:
        """Ends it by SIGKILL, and its children with it."""
        assert self._process is not None
        pid = self._process.pid
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
        self._end(signal.SIGKILL)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while any(Path(f"/proc/{child}").exists() for child in children):
            time.sleep(0.001)

    def stop(self) -> None:
        """Ends it politely."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def program(name: str, *, package: str, places: Sequence[str] = ()) -> str:
    """The path of a program.

    Raises:
        Absent: it is not installed; the text names Debian's package.
    """
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        raise Absent(f"{name} is not installed: apt-get install --no-install-recommends {package}")
    return found


def first_line(command: Sequence[str]) -> str:
    """The first line that a command prints, such as its version."""
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return told.splitlines()[0].strip() if told else ""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def can_connect(address: str | tuple[str, int]) -> bool:
    """Whether somebody listens on a Unix path or a TCP port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def client_of(module: Any, address: str, number: int) -> Client:  # noqa: ANN401
    """Client ``number`` of those that a module makes."""
    make: Callable[[str, int], Client] = module.Client
    return make(address, number)
