"""Artifacts that carry a reservation, made as a user would: with ``rmctl compile`` and ``rmctl pack``."""

import os
import shutil
import subprocess
from pathlib import Path

from demo import models
from leasehold.artifacts.xclbin import write_xclbin
from support.daemon import RMCTL

DESIGN = """
name = "fir"
profile = "{profile}"
[[use]]
resource = "perfcnt"
count = 2
tiles = ["3,1,core", "3,2,core"]
[[use]]
resource = "bcast_channel"
common = true
tiles = ["*,0,pl", "all"]
[[use]]
resource = "trace_ctrl"
ids = [0]
tiles = ["3,1,mem"]
"""


def rmctl(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs ``rmctl`` where it needs no daemon."""
    environment = os.environ | {"LEASEHOLD_ADDRESS": "/no/such/directory"}
    return subprocess.run([*RMCTL, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60)


def compiled(directory: Path, profile: str) -> Path:
    """The manifest of a design, with its resource file beside it."""
    design = directory / "design.toml"
    design.write_text(DESIGN.format(profile=profile))
    told = rmctl("compile", design, "-o", directory / "fir.bin")
    assert told.returncode == 0, told.stderr
    return directory / "fir.toml"


def packed_xclbin(directory: Path, profile: str) -> Path:
    """An xclbin into which the design is packed."""
    path = directory / "program.xclbin"
    path.write_bytes(write_xclbin(()))
    return _packed(path, compiled(directory, profile))


def packed_model(directory: Path, profile: str) -> Path:
    """An ONNX model into which the design is packed."""
    path = directory / "model.onnx"
    shutil.copy(models.model_path("magika"), path)
    return _packed(path, compiled(directory, profile))


def _packed(path: Path, manifest: Path) -> Path:
    told = rmctl("pack", path, manifest)
    assert told.returncode == 0, told.stderr
    return path
