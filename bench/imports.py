"""How long starts take: ``import leasehold`` against ``import grpc``, which it needs, and the commands.

Names of the package are loaded when they are used. So what a program pays until it can connect is shown as well, which
is the name ``connect``. The commands are whole processes, against one that imports grpc.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Bar, Round, Row, run_rounds
from bench.processes import Daemon, daemon

ROUND_COUNT = 10
IMPORT_RATIO_MOST = 1.15
_MODULES = {"leasehold": "import leasehold", "connect": "from leasehold import connect", "grpc": "import grpc"}
_PROGRAM = "import time; began = time.perf_counter(); {}; print((time.perf_counter() - began) * 1e3)"
_RMCTL = str(Path(sys.executable).parent / "rmctl")


def run() -> list[Row]:
    """The rows of this benchmark."""
    with daemon("--durability", "none") as run_directory:
        processes = {
            "rmctl --help": [_RMCTL, "--help"],
            "rmctl status": [_RMCTL, "--address", str(run_directory), "status"],
            "python": [sys.executable, "-c", "import grpc"],
        }

        def measure(number: int) -> Round:
            order = sorted([*_MODULES, *processes], reverse=bool(number % 2))
            costs = {name: _process_ms(processes[name]) if name in processes else _import_ms(name) for name in order}
            return costs | {"rmd": _daemon_ms()}

        measure(0)  # writes byte code, and fills the page cache
        rounds = run_rounds(ROUND_COUNT, measure, what="imports")
    rows = [
        rounds.row(
            "imports: import leasehold against import grpc",
            "leasehold",
            "grpc",
            "ms",
            bar=Bar(IMPORT_RATIO_MOST),
            note="names are loaded when they are used: the next row has what a client needs",
        ),
        rounds.row(
            "imports: from leasehold import connect, against import grpc",
            "connect",
            "grpc",
            "ms",
        ),
    ]
    commands = {"rmctl --help": "start to end", "rmctl status": "start to end", "rmd": "start to ready"}
    rows += [
        rounds.row(
            f"imports: {name}, {what}, against a process that imports grpc",
            name,
            "python",
            "ms",
        )
        for name, what in commands.items()
    ]
    return rows


def _import_ms(name: str) -> float:
    program = _PROGRAM.format(_MODULES[name])
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def _process_ms(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"LANG": "C.UTF-8"})
    return (time.perf_counter() - began) * 1e3


def _daemon_ms() -> float:
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root:
        began = time.perf_counter()
        started = Daemon(Path(root), "--durability", "none")
        spent_ms = (time.perf_counter() - began) * 1e3
        started.stop()
        return spent_ms
