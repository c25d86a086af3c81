"""Models under a lease: what they may take, what they answer, and what they refuse."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

import leasehold
from demo import models
from leasehold.artifacts.manifest import Manifest
from leasehold.artifacts.packing import RESERVATION_KEY, content_hash_of, pack
from leasehold.model import floor_bytes
from leasehold.onnx_file import NotAModel, weight_bytes
from leasehold.testing import FakeClient
from support.onnx_models import entry

MIB = 1 << 20
SOURCE = Path(__file__).read_bytes()


@pytest.fixture
def lease():
    with FakeClient(memory="256MiB").acquire(memory="128MiB", cores=1, streams=2) as made:
        yield made


def test_it_answers_right_and_on_the_stream_named(lease):
    model = lease.load(models.model_path("magika"))
    out = model.run(models.magika_input(SOURCE), stream=lease.stream(1))

    assert models.magika_answer(out)[0] == "python"
    assert [port.name for port in model.inputs] == ["bytes"]


def test_it_runs_on_the_leased_core_only(lease):
    model = lease.load(models.model_path("magika"))
    everywhere = os.sched_getaffinity(0)
    model.run(models.magika_input(SOURCE))
    pinned = [task for task in os.listdir("/proc/self/task") if _cpus_of(task) == set(lease.cores)]

    assert len(pinned) >= 1
    assert os.sched_getaffinity(0) == everywhere


def test_input_and_output_in_the_window_are_bound_where_they_lie(lease):
    model = lease.load(models.model_path("magika"))
    given = models.magika_input(SOURCE)["bytes"]
    x = lease.memory.array(given.dtype, given.shape)
    y = lease.memory.array("f4", (1, 214))
    x[:] = given

    out = model.run({"bytes": x}, outputs={"target_label": y})

    assert out["target_label"] is y
    offset = y.ctypes.data - lease.memory.address
    in_window = np.frombuffer(bytes(lease.memory[offset : offset + y.nbytes]), "f4")
    assert (in_window == model.run({"bytes": given})["target_label"][0]).all()
    del x, y, out


def test_what_it_answers_outlives_the_lease():
    with FakeClient(memory="64MiB").acquire(memory="32MiB") as lease:
        out = lease.load(models.model_path("magika")).run(models.magika_input(SOURCE))

    assert models.magika_answer(out)[0] == "python"


def test_two_models_keep_each_its_own_cap(lease):
    """One registered arena for both would lift the cap of both: seen with onnxruntime 1.31.1."""
    ocr = lease.load(models.model_path("ocr"), memory="40MiB")
    magika = lease.load(models.model_path("magika"), memory="8MiB")
    wide = np.zeros((1, 3, 48, 4000), "f4")
    many = np.zeros((64, 2048), "i4")

    for model, inputs in ((ocr, {"x": wide}), (magika, {"bytes": many})):
        with pytest.raises(leasehold.Exhausted, match="rmctl plan"):
            model.run(inputs)

    characters = models.ocr_characters(ocr.metadata)
    assert models.ocr_answer(ocr.run(models.ocr_input("card memory")), characters) == "card memory"
    assert models.magika_answer(magika.run(models.magika_input(SOURCE)))[0] == "python"
    with pytest.raises(leasehold.Exhausted):
        ocr.run({"x": wide})


def test_allocations_and_models_together_stay_within_the_lease(lease):
    lease.load(models.model_path("ocr"), memory="60MiB")
    held = lease.memory.array("u1", 60 * MIB)
    with pytest.raises(leasehold.Exhausted, match="8 MiB of its 128 MiB left"):
        lease.load(models.model_path("magika"), memory="9MiB")
    lease.load(models.model_path("magika"), memory="8MiB")

    assert lease.memory_left == 0
    with pytest.raises(leasehold.Exhausted):
        lease.memory.array("u1", 1)
    del held


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr("leasehold.model._load", lambda *_, **__: pytest.fail("it is loaded"))
    with FakeClient(memory="16MiB").acquire(memory="4MiB") as lease:
        with pytest.raises(leasehold.Exhausted) as caught:
            lease.load(models.model_path("ocr"))

        assert caught.value.facts["asked_bytes"] > 4 * MIB
        assert lease.memory_left == 4 * MIB


def test_less_than_the_weights_need_is_refused(lease):
    with pytest.raises(leasehold.Exhausted, match="at least"):
        lease.load(models.model_path("ocr"), memory="12MiB")

    assert lease.memory_left == 128 * MIB


def test_unloading_gives_its_memory_back(lease):
    model = lease.load(models.model_path("magika"), memory="16MiB")
    assert lease.memory_left == 112 * MIB
    model.close()
    model.close()

    assert lease.memory_left == 128 * MIB
    with pytest.raises(leasehold.Invalid):
        model.run(models.magika_input(SOURCE))


def test_without_a_size_it_takes_half_of_what_is_left(lease):
    assert lease.load(models.model_path("magika")).memory_bytes == 64 * MIB
    assert lease.load(models.model_path("magika")).memory_bytes == 32 * MIB


def packed_model(path: Path, **counts) -> Path:
    path.write_bytes(models.model_path("magika").read_bytes())
    pack(path, Manifest("magika", content_hash_of(path), **counts))
    return path


def test_a_packed_reservation_says_how_much_it_takes(lease, tmp_path):
    file = packed_model(tmp_path / "magika.onnx", memory_bytes=20 * MIB)
    model = lease.load(file)

    assert model.memory_bytes == 20 * MIB
    assert lease.memory_left == 108 * MIB
    assert models.magika_answer(model.run(models.magika_input(SOURCE)))[0] == "python"
    assert lease.load(file, memory="16MiB").memory_bytes == 16 * MIB


def test_a_packed_reservation_is_never_less_than_the_weights_need(lease, tmp_path):
    file = packed_model(tmp_path / "magika.onnx", memory_bytes=1)
    assert lease.load(file).memory_bytes == floor_bytes(file)


def test_a_packed_reservation_that_the_lease_cannot_meet_is_refused_before_loading(tmp_path):
    file = packed_model(tmp_path / "magika.onnx", memory_bytes=20 * MIB)
    with FakeClient(memory="64MiB").acquire(memory="16MiB") as small:
        with pytest.raises(leasehold.Exhausted, match="16 MiB"):
            small.load(file)
        assert small.memory_left == 16 * MIB


def test_a_packed_reservation_of_cores_alone_leaves_memory_as_it_is(lease, tmp_path):
    assert lease.load(packed_model(tmp_path / "magika.onnx", cores=1)).memory_bytes == 64 * MIB


@pytest.mark.parametrize("memory", [None, "16MiB"])
def test_a_stale_reservation_is_refused_whatever_memory_is_given(lease, tmp_path, memory):
    file = packed_model(tmp_path / "magika.onnx", memory_bytes=20 * MIB)
    file.write_bytes(file.read_bytes() + entry(b"author", b"somebody"))

    with pytest.raises(leasehold.Invalid, match=r"another content .*'rmctl plan' and 'rmctl pack' again"):
        lease.load(file, memory=memory)
    assert lease.memory_left == 128 * MIB


def test_a_reservation_that_is_none_is_refused(lease, tmp_path):
    file = tmp_path / "magika.onnx"
    file.write_bytes(models.model_path("magika").read_bytes() + entry(RESERVATION_KEY.encode(), b"name = 3"))
    with pytest.raises(leasehold.Invalid, match=r"magika\.onnx: this manifest cannot be used: name"):
        lease.load(file)
    assert lease.memory_left == 128 * MIB


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x08\x12\x07pytorch", SOURCE[:500]])
def test_a_file_that_is_no_model_is_refused(lease, tmp_path, content):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)

    with pytest.raises(leasehold.Invalid):
        lease.load(file)
    assert lease.memory_left == 128 * MIB


def test_a_model_that_is_cut_off_is_refused(lease, tmp_path):
    whole = models.model_path("magika").read_bytes()
    for length in (10, 1000, len(whole) // 2, len(whole) - 1):
        file = tmp_path / f"{length}.onnx"
        file.write_bytes(whole[:length])
        with pytest.raises(leasehold.Invalid):
            lease.load(file)
    assert lease.memory_left == 128 * MIB


def test_a_missing_file_is_just_that(lease):
    with pytest.raises(FileNotFoundError):
        lease.load("/no/such/model.onnx")


@pytest.mark.parametrize(
    "inputs",
    [{}, {"wrong": np.zeros((1, 2048), "i4")}, {"bytes": np.zeros((1, 2048), "f4")}, {"bytes": np.zeros((1, 7), "i4")}],
)
def test_wrong_inputs_are_a_clear_error_and_the_model_goes_on(lease, inputs):
    model = lease.load(models.model_path("magika"))

    with pytest.raises(ValueError, match=r"model\.onnx"):
        model.run(inputs)
    assert models.magika_answer(model.run(models.magika_input(SOURCE)))[0] == "python"


def test_wrong_outputs_are_a_clear_error(lease):
    model = lease.load(models.model_path("magika"))
    inputs = models.magika_input(SOURCE)

    for outputs in ({"nothing": np.zeros(1)}, {"target_label": np.zeros((2, 214), "f4")[:, ::2]}):
        with pytest.raises(ValueError, match="output"):
            model.run(inputs, outputs=outputs)
    with pytest.raises(ValueError, match=r"model\.onnx"):
        model.run(inputs, outputs={"target_label": np.zeros((1, 3), "f4")})


def test_a_lost_lease_runs_nothing():
    client = FakeClient(memory="64MiB")
    lease = client.acquire(memory="32MiB")
    model = lease.load(models.model_path("magika"))
    client.lose(lease)

    with pytest.raises(leasehold.LeaseLost):
        model.run(models.magika_input(SOURCE))
    lease.release()


def test_weights_are_counted_from_the_file():
    path = models.model_path("magika")

    assert 0.9 * path.stat().st_size < weight_bytes(path) < 1.2 * path.stat().st_size


def test_no_bytes_crash_the_reader_of_weights(tmp_path):
    whole = models.model_path("magika").read_bytes()
    random = np.random.default_rng(4711)
    file = tmp_path / "model.onnx"
    for _ in range(30):
        start = int(random.integers(0, len(whole) - 3000))
        file.write_bytes(random.integers(0, 256, 200, "u1").tobytes() + whole[start : start + 2000])
        try:
            weight_bytes(file)
        except NotAModel:
            continue


def _cpus_of(task: str) -> set[int]:
    try:
        return os.sched_getaffinity(int(task))
    except ProcessLookupError:
        return set()


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
