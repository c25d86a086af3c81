"""How long ``import leasehold`` takes in a fresh interpreter, against ``import grpc``, which it needs."""

import subprocess
import sys

from bench.harness import Bar, Round, Row, run_rounds

ROUND_COUNT = 10
RATIO_MOST = 1.15
_MODULES = ("leasehold", "grpc")
_PROGRAM = "import time; began = time.perf_counter(); import {}; print((time.perf_counter() - began) * 1e3)"


def run() -> list[Row]:
    """The rows of this benchmark."""
    _measure(0)  # writes byte code, and fills the page cache
    rounds = run_rounds(ROUND_COUNT, _measure, what="imports")
    return [
        Row(
            "imports: import leasehold against import grpc",
            rounds.figure("leasehold", "ms"),
            rounds.figure("grpc", "ms"),
            rounds.ratio("leasehold", "grpc"),
            Bar(RATIO_MOST),
        )
    ]


def _measure(number: int) -> Round:
    return {name: _import_ms(name) for name in sorted(_MODULES, reverse=bool(number % 2))}


def _import_ms(module: str) -> float:
    program = _PROGRAM.format(module)
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
