"""The recordings of the real AI Engine driver replay without one difference, dumps byte for byte."""

import json

import pytest

from support.daemon import Daemon, is_all_free
from support.recordings import DATA, NAMES, DaemonPlayer, ManagerPlayer, replay


@pytest.fixture(scope="module")
def daemons():
    """A daemon for each kind of array, made when it is first asked for."""
    made: dict[str, Daemon] = {}

    def of(profile: str) -> Daemon:
        if profile not in made:
            made[profile] = Daemon("--profile", profile, "--durability", "none")
        return made[profile]

    yield of
    for daemon in made.values():
        daemon.remove()


def device_of(name: str) -> str:
    return json.loads((DATA / name).read_text())["device"]


def test_there_are_recordings_of_both_kinds_of_array() -> None:
    assert {device_of(name) for name in NAMES} == {"aie", "aie-ml"}
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_replays_in_this_process(name) -> None:
    player = ManagerPlayer(device_of(name))
    assert replay(name, player) == []
    assert player.manager.check() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_replays_through_the_daemon(name, daemons) -> None:
    with daemons(device_of(name)).connect() as client:
        player = DaemonPlayer(client)
        assert replay(name, player) == []
        player.end()
        assert is_all_free(client)
