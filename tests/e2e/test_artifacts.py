"""From what is measured or compiled to an artifact that carries it, with ``rmctl`` as its users run it; no daemon."""

import json
import os
import subprocess
import tomllib

import pytest

import leasehold
from demo import models
from leasehold.artifacts.manifest import Manifest
from leasehold.artifacts.packing import content_hash_of, read_fresh
from leasehold.artifacts.xclbin import AIE_RESOURCES, read_xclbin
from leasehold.local import Manager
from leasehold.testing import FakeClient
from support.daemon import RMCTL
from support.onnx_models import entry
from support.xclbins import container

DESIGN = """\
name = "fir"
profile = "aie"
[[use]]
resource = "perfcnt"
count = 2
tiles = ["3,1,core", "0-3,1-8,mem"]
[[use]]
resource = "perfcnt"
ids = [0]
tiles = ["3,1,core"]
[[use]]
resource = "bcast_channel"
common = true
tiles = ["all"]
"""


@pytest.fixture
def rmctl(tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LEASEHOLD_ADDRESS": str(tmp_path / "no-daemon")}
        command = [*RMCTL, *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


def refused(told: subprocess.CompletedProcess[str], status: int = 1) -> str:
    """What was said by a command that ended with ``status``: a line for its user, and no traceback."""
    assert told.returncode == status, told
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    assert status == 2 or told.stderr.count("\n") == 1, told.stderr
    return told.stderr


def test_a_model_is_measured_packed_and_loaded_with_what_was_measured(rmctl, tmp_path):
    model, plan = tmp_path / "ocr.onnx", tmp_path / "ocr.toml"
    model.write_bytes(models.model_path("ocr").read_bytes())
    told = rmctl("plan", "ocr.onnx", "--shape", "x=1,3,48,320", "-o", "ocr.toml")
    assert told.returncode == 0, told.stderr
    assert "1 core and 1 stream; written to ocr.toml" in told.stderr
    manifest = Manifest.read(plan)
    assert (manifest.name, manifest.profile, manifest.cores, manifest.streams) == ("ocr", "", 1, 1)
    assert manifest.content_hash == content_hash_of(model)

    told = rmctl("pack", "ocr.onnx", "ocr.toml", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["memory_bytes"] == manifest.memory_bytes
    assert read_fresh(model) == manifest
    with FakeClient(memory="256MiB").acquire(memory="128MiB", cores=1, streams=1) as lease:
        loaded = lease.load(model)
        assert loaded.memory_bytes == manifest.memory_bytes
        answer = loaded.run(models.ocr_input("card"), stream=lease.stream(0))
        assert models.ocr_answer(answer, models.ocr_characters(loaded.metadata)) == "card"


def test_a_stale_reservation_is_refused_and_measured_anew(rmctl, tmp_path):
    model = tmp_path / "magika.onnx"
    model.write_bytes(models.model_path("magika").read_bytes())
    assert rmctl("plan", "magika.onnx", "-o", "plan.toml").returncode == 0
    assert rmctl("pack", "magika.onnx", "plan.toml", "-o", "packed.onnx").returncode == 0
    packed = tmp_path / "packed.onnx"
    packed.write_bytes(packed.read_bytes() + entry(b"author", b"somebody"))

    with FakeClient(memory="64MiB").acquire(memory="32MiB") as lease:
        with pytest.raises(leasehold.Invalid, match="run 'rmctl plan' and 'rmctl pack' again"):
            lease.load(packed)
        assert lease.memory_left == 32 << 20
    assert "another content" in refused(rmctl("pack", "packed.onnx", "plan.toml"))
    assert rmctl("plan", "packed.onnx", "-o", "plan.toml").returncode == 0
    assert rmctl("pack", "packed.onnx", "plan.toml").returncode == 0
    assert read_fresh(packed).memory_bytes == Manifest.read(tmp_path / "plan.toml").memory_bytes


def test_a_plan_that_no_card_could_hold_is_refused(rmctl, tmp_path):
    model = models.model_path("magika")
    said = refused(rmctl("plan", model, "--profile", "nothing", "-o", "plan.toml"))
    assert "there is no profile 'nothing'" in said
    assert "MiB" not in said  # nothing was measured for it
    told = rmctl("plan", model, "--profile", "aie", "-o", "plan.toml")
    assert told.returncode == 1
    assert "needs more than any card of profile aie has: card 0 has no pool 'memory'" in told.stderr
    small = tmp_path / "small.toml"
    small.write_text(
        'name = "small"\n[pools.memory]\nmemory_mib = 2\n[pools.cores]\nunit_count = 1\n'
        "[pools.streams]\nunit_count = 1\n"
    )
    told = rmctl("plan", model, "--profile", small, "-o", "plan.toml")
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "needs more than any card of profile small has: pool memory" in told.stderr
    assert not (tmp_path / "plan.toml").exists()

    told = rmctl("plan", model, "--profile", "ax-m1")
    assert told.returncode == 0
    assert tomllib.loads(told.stdout)["profile"] == "ax-m1"
    assert json.loads(rmctl("plan", model, "--json").stdout)["streams"] == 1


def test_a_design_is_compiled_and_both_files_say_so(rmctl, tmp_path):
    (tmp_path / "design.toml").write_text(DESIGN)
    told = rmctl("compile", "design.toml", "-o", "fir.bin")
    assert told.returncode == 0, told.stderr
    tiles = ["3,1,core", "0,1,mem", "0,2,mem", "and", "30", "more"]
    assert told.stdout.splitlines()[1].split() == ["perfcnt", *tiles, "1,2", "at", "the", "first", "tile"]
    assert "written to fir.bin and fir.toml" in told.stderr

    manifest = Manifest.read(tmp_path / "fir.toml")
    assert (manifest.name, manifest.profile) == ("fir", "aie")
    manager = Manager("aie")
    manager.load((tmp_path / "fir.bin").read_bytes())
    assert manager.static("perfcnt", (3, 1, "core")) == 3
    assert manager.static("bcast_channel", (49, 8, "mem")) == 1

    told = rmctl("compile", "design.toml", "-o", "fir.bin", "--json")
    uses = json.loads(told.stdout)["uses"]
    assert uses[1] == {"resource": "perfcnt", "ids": [0], "at": [[3, 1, "core"]]}
    assert uses[2]["ids"] == [0] * 850


def test_a_compiled_design_is_packed_into_an_xclbin_and_a_model(rmctl, tmp_path):
    (tmp_path / "design.toml").write_text(DESIGN)
    (tmp_path / "app.xclbin").write_bytes(container([(18, b"", b"pdi")]))
    (tmp_path / "model.onnx").write_bytes(models.model_path("magika").read_bytes())
    assert rmctl("compile", "design.toml", "-o", "fir.bin").returncode == 0
    data = (tmp_path / "fir.bin").read_bytes()

    assert rmctl("pack", "app.xclbin", "fir.toml", "-o", "packed.xclbin").returncode == 0
    (section,) = read_xclbin((tmp_path / "packed.xclbin").read_bytes())
    assert (section.kind, section.data) == (AIE_RESOURCES, data)
    told = rmctl("pack", "model.onnx", "fir.bin", "--json")
    assert json.loads(told.stdout)["resources_bytes"] == len(data)
    for artifact, profile in (("packed.xclbin", "aie"), ("model.onnx", "")):
        packed = read_fresh(tmp_path / artifact)
        assert (packed.name, packed.profile, packed.resources[0].data) == ("fir", profile, data)
    with FakeClient(memory="64MiB").acquire(memory="32MiB") as lease:
        assert lease.load(tmp_path / "model.onnx").memory_bytes == 16 << 20  # units of an array say nothing of memory


def test_what_cannot_be_compiled_is_one_line_and_leaves_nothing(rmctl, tmp_path):
    design = tmp_path / "fir.toml"
    design.write_text(DESIGN.replace("count = 2", "count = 5"))
    assert "fir.toml: [[use]] 1 (perfcnt): " in refused(rmctl("compile", "fir.toml", "-o", "out.bin"))
    design.write_text(DESIGN + "x = \n")
    assert "fir.toml: this design cannot be compiled: it is no TOML" in refused(
        rmctl("compile", "fir.toml", "-o", "out.bin")
    )
    assert "none.toml: No such file" in refused(rmctl("compile", "none.toml", "-o", "out.bin"))
    design.write_text(DESIGN)
    assert "nowhere/out.bin: No such file" in refused(rmctl("compile", "fir.toml", "-o", "nowhere/out.bin"))
    assert "would be written over" in refused(rmctl("compile", "fir.toml", "-o", "fir.bin"), 2)
    assert "would be written over" in refused(rmctl("compile", "fir.toml", "-o", "x.toml"), 2)
    assert "Missing option" in refused(rmctl("compile", "fir.toml"), 2)
    assert "printable" in refused(rmctl("compile", "fir.toml", "-o", "a\nb.bin"), 2)
    assert os.listdir(tmp_path) == ["fir.toml"]
    assert design.read_text() == DESIGN


def test_what_cannot_be_packed_is_one_line_and_changes_nothing(rmctl, tmp_path):
    (tmp_path / "app.xclbin").write_bytes(container([]))
    (tmp_path / "text").write_text("no artifact, and no reservation")
    (tmp_path / "bad.toml").write_text("name = 3")
    data = Manager("aie:2x3").dump()
    (tmp_path / "array.bin").write_bytes(data)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    assert "none.xclbin: No such file" in refused(rmctl("pack", "none.xclbin", "array.bin"))
    assert "cannot read none.toml: No such file" in refused(rmctl("pack", "app.xclbin", "none.toml"))
    assert "bad.toml: this manifest cannot be used: name" in refused(rmctl("pack", "app.xclbin", "bad.toml"))
    assert "text: " in refused(rmctl("pack", "app.xclbin", "text"))
    assert "text: " in refused(rmctl("pack", "text", "array.bin"))
    assert "carries no reservation" in refused(rmctl("pack", "app.xclbin", "app.xclbin"))
    assert "No such file" in refused(rmctl("pack", "app.xclbin", "array.bin", "-o", "nowhere/out"))
    assert "Is a directory" in refused(rmctl("pack", "app.xclbin", "array.bin", "-o", "."))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_plan_that_cannot_be_written_is_one_line(rmctl):
    told = rmctl("plan", models.model_path("magika"), "-o", "nowhere/plan.toml")
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    assert "nowhere/plan.toml: No such file" in told.stderr.splitlines()[-1]


def test_the_help_shows_a_way_from_a_design_to_an_artifact(rmctl):
    for command in ("plan", "compile", "pack"):
        told = rmctl(command, "--help")
        assert told.returncode == 0
        assert "Examples:" in told.stdout
        assert "rmctl pack" in told.stdout
