"""A real daemon in a process of its own, and what tests do to it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import leasehold

RMD = [sys.executable, "-c", "from rm.daemon.main import main; main()"]
RMCTL = [sys.executable, "-c", "from leasehold.cli import main; main()"]
END_S = 20


class Daemon:
    """An ``rmd`` with directories of its own. The run directory is short: a socket's path has 107 bytes at most."""

    def __init__(self, *options: str, card_memory: str = "64MiB") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lh-"))
        self.directory.chmod(0o755)
        self.run_directory = self.directory / "run"
        self._options = ["--card-memory", card_memory, *options]
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it serves."""
        command = [*RMD, "--run-dir", str(self.run_directory), "--state-dir", str(self.directory / "state")]
        command += ["--log-level", "warning", *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"the daemon said {line!r}"

    def connect(self) -> leasehold.Client:
        """A client of it."""
        return leasehold.connect(self.run_directory)

    def rmctl(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        """Runs ``rmctl`` against it."""
        environment = os.environ | {"LEASEHOLD_ADDRESS": str(self.run_directory)}
        command = [*RMCTL, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(END_S)
        self.process.stdout.close()

    def stop(self) -> int:
        """SIGTERM; answers its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(END_S)
        self.process.stdout.close()
        return status

    def remove(self) -> None:
        """Ends it and removes its directories."""
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def python(source: str, *arguments: str, **options) -> subprocess.Popen[str]:
    """A Python process that runs ``source``, with pipes to talk through."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", source, *arguments], text=True, **pipes)


def has_become(command: subprocess.Popen[bytes], name: str) -> bool:
    """Whether ``rmctl run`` has fetched the windows of its lease and become the command."""
    return Path(f"/proc/{command.pid}/comm").read_text() == f"{name}\n"


def is_all_free(client: leasehold.Client) -> bool:
    """Whether every bit of every pool is free, and the books agree."""
    pools = [pool for card in client.cards() for pool in card.pools]
    return all(pool.free == pool.total for pool in pools) and not client.check().differences
