"""What was packed, reserved through a daemon, and claimed by whom it is for."""

import json
from pathlib import Path

import pytest

import leasehold
from demo import models
from leasehold.artifacts.xclbin import AIE_RESOURCES_BIN, ResourceSection, write_xclbin
from leasehold.local import Manager
from support.daemon import Daemon
from support.onnx_models import entry
from support.xclbins import container


@pytest.fixture
def array():
    started = Daemon("--profile", "aie:6x3")
    yield started
    started.remove()


def test_a_packed_model_is_reserved_and_loaded_from_its_reservation(daemon, tmp_path):
    model, plan = tmp_path / "magika.onnx", tmp_path / "plan.toml"
    model.write_bytes(models.model_path("magika").read_bytes())
    for command in (("plan", model, "-o", plan), ("pack", model, plan), ("reserve", model)):
        told = daemon.rmctl(*map(str, command))
        assert told.returncode == 0, told.stderr

    with daemon.connect() as client:
        (kept,) = client.reservations()
        assert kept.name == "magika"
        with client.acquire(reservation="magika") as lease:
            loaded = lease.load(model)
            assert models.magika_answer(loaded.run(models.magika_input(Path(__file__).read_bytes())))[0] == "python"
            assert lease.memory_left == 0
            assert client.reserve(model).content_hash == kept.content_hash  # the same content is the same reservation

        model.write_bytes(model.read_bytes() + entry(b"author", b"somebody"))
        with pytest.raises(leasehold.Invalid, match="another content"):
            client.reserve(model)
    assert daemon.rmctl("reserve", str(model)).returncode == 1


def test_a_compiled_design_is_reserved_out_of_its_xclbin(array, tmp_path):
    (tmp_path / "design.toml").write_text(
        'name = "fir"\nprofile = "aie:6x3"\n[[use]]\nresource = "perfcnt"\ncount = 1\ntiles = ["2-3,1,core"]\n'
    )
    (tmp_path / "fir.xclbin").write_bytes(container([(18, b"", b"pdi")]))
    compiled = array.rmctl("compile", "design.toml", "-o", "fir.bin", "--json", cwd=tmp_path)
    assert json.loads(compiled.stdout)["uses"][0]["ids"] == [0, 0]
    assert array.rmctl("pack", "fir.xclbin", "fir.toml", cwd=tmp_path).returncode == 0

    with array.connect() as client:
        assert client.reserve(tmp_path / "fir.xclbin").name == "fir"
        plain = client.acquire(leasehold.Units("perfcnt", 1, at=[(2, 1, "core")]))
        assert plain.units("perfcnt") == (1,)
        with client.acquire(reservation="fir") as lease:
            assert lease.units("perfcnt") == (0, 0)
        plain.release()
        assert client.dump(with_reserved=True) == (tmp_path / "fir.bin").read_bytes()


def test_graphs_that_were_compiled_apart_are_reserved_each_in_its_columns(array, tmp_path):
    manager = Manager("aie:2x3")
    manager.request_specific("perfcnt", (1, 2, "core"), 3)
    parts = [ResourceSection(AIE_RESOURCES_BIN, manager.dump(), start, 2, f"graph{start}") for start in (0, 4)]
    file = tmp_path / "graphs.xclbin"
    file.write_bytes(write_xclbin(parts, container([(18, b"", b"pdi")])))

    with array.connect() as client:
        client.reserve(file)
        with client.acquire(reservation="graphs") as lease:
            (got,) = lease.allotments
            assert (got.at, got.ids) == (((1, 2, "core"), (5, 2, "core")), (3, 3))
