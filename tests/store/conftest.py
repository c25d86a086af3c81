"""Where the tests of the store put their files when they make them by the hundred."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory for one module; in memory where that is possible, as it is not the disk that is tried."""
    shm = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))
    yield directory
    shutil.rmtree(directory)
