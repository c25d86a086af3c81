"""The benchmarks load without what they compare with, name who is absent, and the quickest of them run."""

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench import contestants, harness
from bench.__main__ import BENCHMARKS
from bench.contestants import PEERS
from bench.harness import remarks
from bench.peers import flock, frames, rmd
from bench.peers.base import Absent, program
from bench.swarm import Swarm

ROOT = Path(__file__).resolve().parents[2]
OF_PEERS = ("psycopg", "labgrid", "redis", "etcd3")


@pytest.mark.parametrize("name", [*BENCHMARKS, *(f"peers.{name}" for name in PEERS), "peers.rmd", "swarm"])
def test_a_module_loads_without_any_peer_s_package(name) -> None:
    """In an interpreter of its own, where these packages cannot be found."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OF_PEERS!r})); import bench.{name}"
    done = subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_peer_that_is_not_installed_is_absent_and_the_text_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(Absent, match="apt-get install --no-install-recommends redis-server"):
        program("redis-server", package="redis-server")


def test_an_absent_peer_is_told_of_and_the_others_are_measured(monkeypatch) -> None:
    monkeypatch.setattr("bench.peers.redis.program", _not_there)
    remarks.clear()
    with contestants.contestants("redis", "flock", durable=(False,)) as found:
        assert "flock" in found
        assert not any(label.startswith("Redis") for label in found)
        assert any(one.is_ours for one in found.values())
    assert "Redis is absent: redis-server is not installed" in remarks


@pytest.mark.parametrize("module", [flock, frames, rmd])
def test_clients_of_a_peer_are_counted_together(module) -> None:
    # Not below pytest's own directory: the path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="lh-") as directory, module.Server(Path(directory)) as server:
        swarm = Swarm(server)
        try:
            for client_count in (1, 3):
                measured = swarm.pairs(client_count, 0.05)
                assert measured.per_s > 0
                assert 0 < measured.p50_us <= measured.p99_us
        finally:
            swarm.close()


def test_a_client_that_fails_fails_the_benchmark(tmp_path, capfd) -> None:
    server = flock.Server(tmp_path)
    swarm = Swarm(server)
    (tmp_path / "unit-0").mkdir()  # not a file that could be locked
    with pytest.raises(RuntimeError, match="ended with status 1"):
        swarm.pairs(1, 0.05)
    swarm.close()
    assert "1 of 1 clients failed" in capfd.readouterr().err


def test_the_quickest_benchmark_runs(monkeypatch) -> None:
    imports = importlib.import_module("bench.imports")
    monkeypatch.setattr(imports, "ROUND_COUNT", 1)
    rows = imports.run()
    assert all(row.ratio.median > 0 for row in rows)
    assert rows[0].bar_text == "<= 1.15x"
    harness.noise.clear()


def test_waiters_of_another_process_are_measured(monkeypatch) -> None:
    waiters = importlib.import_module("bench.waiters")
    for name, value in {"ROUND_COUNT": 1, "WAITER_COUNT": 8, "RELEASE_COUNT": 4, "UNIT_COUNT": 256}.items():
        monkeypatch.setattr(waiters, name, value)
    assert [row.ratio.median > 0 for row in waiters.run()] == [True, True]
    harness.noise.clear()


def _not_there(name: str, **_: object) -> str:
    raise Absent(f"{name} is not installed")
