"""The command ``rmd`` as a real process."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from support.served import RawConnection, greeting

DEADLINE_S = 60.0
COMMAND = [str(Path(sys.executable).with_name("rmd"))]


def environment(home: Path) -> dict[str, str]:
    """The environment of this process, with every place that a daemon may look into under ``home``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LEASEHOLD_", "XDG_", "NOTIFY_"))}
    return kept | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "XDG_STATE_HOME": str(home / "state")}


class Rmd:
    """A daemon that serves when this returns, and is killed at the end of the block."""

    def __init__(self, home: Path, *args: str, run: str = "run", state: str = "state", **more: str) -> None:
        self.run_directory, self.state_directory = home / run, home / state
        places = ["--run-dir", str(self.run_directory), "--state-dir", str(self.state_directory)]
        self.process = subprocess.Popen(
            [*COMMAND, *places, "--card-memory", "16MiB", *args],
            env=environment(home) | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.first_line = self.process.stdout.readline()

    def __enter__(self) -> "Rmd":
        if not self.first_line.startswith("ready "):
            _, said = self.process.communicate(timeout=DEADLINE_S)
            raise AssertionError(f"rmd ended with {self.process.returncode}: {said}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)

    def is_serving(self) -> bool:
        """Whether a session can be opened."""
        with RawConnection(self.run_directory / "session.sock") as connection:
            return greeting(connection).session_opened.pid == os.getpid()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signals it; answers its exit status and what it logged."""
        self.process.send_signal(number)
        _, logged = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, logged


def run_rmd(home: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a daemon that is expected to end by itself."""
    return subprocess.run(
        [*COMMAND, *args], env=environment(home) | more, capture_output=True, text=True, timeout=DEADLINE_S
    )
