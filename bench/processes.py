"""Processes that the benchmarks start: a daemon of their own, and workers that are spoken to in lines."""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

_STOP_S = 10.0


class Daemon:
    """A daemon in directories of its own, under ``root``."""

    def __init__(self, root: Path, *options: str, profile: str = "") -> None:
        """Starts it, and waits until it serves. ``profile`` is the text of one, where it is not the usual one."""
        self.run_directory = root / "run"
        if profile:
            (root / "profile.toml").write_text(profile, encoding="utf-8")
            options = (*options, "--profile", str(root / "profile.toml"))
        places = ("--run-dir", self.run_directory, "--state-dir", root / "state", "--log-level", "warning")
        self._command = [str(Path(sys.executable).parent / "rmd"), *map(str, places), *options]
        self._log = root / "log"
        self.start()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    def start(self) -> None:
        """Starts it, and returns when it says that it is ready."""
        with self._log.open("ab") as log_file:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log_file)
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith(b"ready "):
            raise RuntimeError(f"rmd did not start: {self._log.read_text(encoding='utf-8')}")

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self._process.kill()
        self._gone()

    def stop(self) -> None:
        """Ends it by SIGTERM."""
        self._process.terminate()
        self._gone()

    def _gone(self) -> None:
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def restartable_daemon(*options: str, profile: str = "") -> Iterator[Daemon]:
    """A daemon, ready to serve, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root:
        started = Daemon(Path(root), *options, profile=profile)
        try:
            yield started
        finally:
            started.stop()


@contextmanager
def daemon(*options: str) -> Iterator[Path]:
    """The run directory of a daemon, ready to serve, until the block ends."""
    with restartable_daemon(*options) as started:
        yield started.run_directory


class Worker:
    """A process that runs one function of a benchmark, ``module:function``, with arguments that are strings.

    The function reads orders from standard input and answers each with a line.
    """

    def __init__(self, function: str, *arguments: object, python: Path = Path(sys.executable)) -> None:
        """Starts it. ``python`` is the interpreter, where a peer has one of its own."""
        command = [str(python), "-m", "bench.processes", function, *map(str, arguments)]
        root = Path(__file__).resolve().parent.parent
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, bufsize=1
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Sends an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Its next line.

        Raises:
            RuntimeError: it ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with status {self._process.wait()}")
        return line.rstrip("\n")

    def kill(self) -> None:
        """Ends it by SIGKILL, at once; ``close`` waits for that."""
        os.kill(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends it, and waits until it has ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask_all(workers: list[Worker], line: str) -> list[str]:
    """Sends one order to all, then hears from all."""
    for worker in workers:
        worker.tell(line)
    return [worker.hear() for worker in workers]


def cpu_s(pid: int) -> float:
    """What all threads of a process have had of CPUs, by its own clock: /proc counts in ticks of 10 ms."""
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid of the C library numbers it


def orders() -> Iterator[str]:
    """In a worker: the orders as they come, until its starter closes or ends."""
    for line in sys.stdin:
        yield line.rstrip("\n")


def answer(line: object) -> None:
    """In a worker: answers an order."""
    print(line, flush=True)


def _main() -> None:
    module, _, function = sys.argv[1].partition(":")
    getattr(importlib.import_module(module), function)(*sys.argv[2:])


if __name__ == "__main__":
    _main()
