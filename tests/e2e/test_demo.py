"""The demo is a test: it ends well only where every step of its story was true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the demo runs two models at once")
def test_the_story_is_true():
    told = subprocess.run([sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=500)

    assert told.returncode == 0, told.stdout + told.stderr
    for step in range(1, 8):
        assert f"\n{step}. " in told.stdout
    assert "every step was true" in told.stdout
    assert "\x1b[" not in told.stdout
