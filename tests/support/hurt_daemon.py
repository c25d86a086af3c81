"""A daemon to which a test does what hosts do to daemons: restarts with other options, a bad disk, few descriptors."""

import os
import re
import resource
import signal
import subprocess
from pathlib import Path

from support.daemon import END_S, RMD, Daemon


class HurtDaemon(Daemon):
    """Its state may lie elsewhere, its environment and its descriptors may be chosen, and what it logs can be read."""

    def __init__(
        self,
        *options: str,
        card_memory: str = "64MiB",
        state_directory: Path | None = None,
        descriptors_max: int = 0,
        **environment: str,
    ) -> None:
        self._state_directory = state_directory
        self._descriptors_max = descriptors_max
        self.wrapper: tuple[str, ...] = ()
        self.environment = environment
        super().__init__(*options, card_memory=card_memory)

    @property
    def state_directory(self) -> Path:
        return self._state_directory or self.directory / "state"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    def start(self, *more: str) -> None:
        """Starts it with ``more`` options, and waits until it serves."""
        self.launch(*more)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"the daemon said {line!r}, {self.logged()}"

    def launch(self, *more: str, inherited: tuple[int, ...] = ()) -> None:
        """Starts it with ``more`` options and these descriptors, and does not wait."""
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                self._command(*more),
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=inherited,
                preexec_fn=self._limit if self._descriptors_max else None,
            )

    def refuse(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Starts it where it is to end by itself."""
        return subprocess.run(
            self._command(*more), env=self._environment(), capture_output=True, text=True, timeout=END_S
        )

    def wait(self) -> int:
        """Its exit status, once it has ended by itself."""
        status = self.process.wait(END_S)
        self.process.stdout.close()
        return status

    def restart(self, *, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends it by a signal, and starts it again."""
        self.process.send_signal(number)
        status = self.wait()
        assert status == (0 if number == signal.SIGTERM else -number), self.logged()
        self.start()

    def logged(self) -> str:
        """What it has logged since it was first started, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log_path.read_text())

    def _command(self, *more: str) -> list[str]:
        places = ["--run-dir", str(self.run_directory), "--state-dir", str(self.state_directory)]
        return [*self.wrapper, *RMD, *places, "--log-level", "warning", *self._options, *more]

    def _environment(self) -> dict[str, str]:
        return os.environ | self.environment

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors_max, self._descriptors_max))


def free_units(client, pool: str) -> int:
    """How many units of a pool can be had."""
    return sum(one.free for card in client.cards() for one in card.pools if one.name == pool)
