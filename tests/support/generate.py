"""Generates the protobuf code of the contract: ``python -m tests.support.generate OUTDIR``.

``OUTDIR`` is ``proto`` for the committed code. Quiet: what the plugins print is shown only when they fail.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
SERVICE = "rmapi/v1/resource_manager.proto"


def proto_files() -> list[str]:
    """Every file of the contract, as protoc names it."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("rmapi/v1/*.proto"))


def generate(out: Path) -> None:
    """Writes messages and stubs into ``out``; only the service's own file has stubs."""
    out.mkdir(parents=True, exist_ok=True)
    protoc(f"--python_out={out}", f"--pyi_out={out}", *proto_files())
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    protoc(f"--plugin=protoc-gen-mypy_grpc={plugin}", f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", SERVICE)


def protoc(*args: str) -> None:
    """Runs the compiler over the contract."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"protoc failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.support.generate OUTDIR")
    generate(Path(sys.argv[1]))
