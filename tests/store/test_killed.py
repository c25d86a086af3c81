"""A real process is killed at every call to SQLite: what recovers has all that it had answered for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rm.core.snapshot import take
from rm.store.opening import open_database
from rm.store.recovery import recover
from support import killed
from support.history import states

ROOT = Path(__file__).resolve().parents[2]
STATES = states(killed.EVENTS)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_daemon_that_dies_at_any_call_keeps_what_it_answered_and_one_batch_more_at_most(place, when) -> None:
    base = place / when
    base.mkdir()
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, killed.__file__, str(base), when]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    revisions = []
    for number in range(len(list(base.iterdir()))):
        directory = base / str(number)
        said = directory / "answered"
        answered = int((said.read_text().split() or ["0"])[-1]) if said.exists() else 0
        possible = next((end for end in killed.BATCH_ENDS if end > answered), answered)
        database = open_database(directory)
        recovered = take(recover(database))
        database.close()
        revision = recovered.head.revision
        assert answered <= revision <= possible, f"killed at call {number}"
        assert recovered == STATES[revision], f"killed at call {number}"
        revisions.append(revision)
    assert revisions[0] == 0, "killed while the store was made"
    assert revisions[-1] == 60, "the last one came to its end"
    assert len(revisions) > 100
