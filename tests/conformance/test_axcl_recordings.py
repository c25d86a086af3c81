"""AXERA's own library, recorded under three threads and two cards: every answer is the same here."""

from pathlib import Path

import pytest

from leasehold import axcl
from support.daemon import Daemon, is_all_free
from support.recording import Replay

HERE = Path(__file__).parent / "axcl"
SHARED = Path(__file__).parents[3] / "shared" / "conformance" / "axcl"  # further ones, where they are
FILES = {path.name: path for folder in (SHARED, HERE) for path in sorted(folder.glob("*.json"))}


@pytest.fixture(scope="module")
def two_cards():
    daemon = Daemon("--cards", "2", "--durability", "none")
    yield daemon
    daemon.remove()


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_recording_replays_without_one_difference(two_cards, monkeypatch, name) -> None:
    monkeypatch.setenv("LEASEHOLD_ADDRESS", str(two_cards.run_directory))
    assert axcl.init() == 0
    replay = Replay(FILES[name])
    replay.run()
    assert replay.differences == []
    assert len(replay.steps) > 50
    assert axcl.finalize() == 0
    with two_cards.connect() as client:
        assert is_all_free(client)
