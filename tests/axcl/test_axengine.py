"""``InferenceSession`` as in axengine: onnxruntime's surface, on a card under a lease."""

import gc
from functools import partial

import numpy as np
import pytest

from demo import models
from leasehold import axengine
from leasehold.runtime import Fault, VNpuKind, default_runtime
from support import tiny_model
from support.daemon import is_all_free
from support.waiting import in_thread


@pytest.fixture(autouse=True)
def address(daemon, monkeypatch):
    monkeypatch.setenv("LEASEHOLD_ADDRESS", str(daemon.run_directory))
    yield
    gc.collect()
    default_runtime().close()
    with daemon.connect() as client:
        assert is_all_free(client)


def test_a_real_model_answers_as_under_onnxruntime() -> None:
    with axengine.InferenceSession(str(models.model_path("magika"))) as session:
        (argument,) = session.get_inputs()
        assert (argument.name, argument.dtype, argument.shape) == ("bytes", "int32", (1, 2048))
        feed = models.magika_input(b"import os\nprint(os.getcwd())\n" * 10)
        (scores,) = session.run(None, feed)
    assert models.magika_answer({"target_label": scores})[0] == "python"


def test_it_takes_bytes_names_and_groups() -> None:
    model = tiny_model.model(shape=("n", 2), groups=[{"x": (1, 2)}, {"x": (3, 2)}])
    providers = [("AXCLRTExecutionProvider", {"device_id": 0})]
    with axengine.InferenceSession(model, providers=providers) as session:
        assert session.get_providers() == ["AXCLRTExecutionProvider"]
        assert [one.shape for group in (0, 1) for one in session.get_outputs(group)] == [(1, 2), (3, 2)]
        x = np.arange(6, dtype="f4").reshape(3, 2)
        assert (session.run(["y"], {"x": x}, shape_group=1)[0] == 2 * x).all()


def test_threads_that_never_bound_anything_may_run_it() -> None:
    with axengine.InferenceSession(tiny_model.model()) as session:
        x = np.ones((1, 4), "f4")
        joined = [in_thread(partial(session.run, None, {"x": x})) for _ in range(4)]
        assert [one()[0].sum() for one in joined] == [8.0] * 4


def test_two_sessions_share_a_device_and_each_ends_by_itself(daemon) -> None:
    one, other = (axengine.InferenceSession(tiny_model.model()) for _ in range(2))
    one.close()
    one.close()
    assert other.run(None, {"x": np.ones((1, 4), "f4")})[0].sum() == 8
    del other
    gc.collect()
    with daemon.connect() as client:
        assert is_all_free(client)


def test_a_card_in_the_mode_of_others_is_used_as_it_is(daemon) -> None:
    import leasehold

    with daemon.connect() as others, others.acquire(leasehold.Units("vnpu", 1, at=["std"])):
        with pytest.warns(UserWarning, match="the card is in vNPU mode std, by others"):
            session = axengine.InferenceSession(tiny_model.model())
        with session:
            session.run(None, {"x": np.ones((1, 4), "f4")})
            assert default_runtime().current_context().activation.engine.kind() is VNpuKind.ENABLE
        with pytest.warns(UserWarning, match="std"), pytest.raises(Fault, match="3 cores has no place"):
            axengine.InferenceSession(tiny_model.model(cores=3))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"providers": "CPUExecutionProvider"}, "only AXCLRTExecutionProvider is served"),
        ({"providers": ["AxEngineExecutionProvider"]}, "only AXCLRTExecutionProvider is served"),
        ({"provider_options": [{"device_id": 7}]}, "there are 1 cards, not a number 7"),
    ],
)
def test_what_is_not_served_is_refused(options, says) -> None:
    with pytest.raises(ValueError, match=says):
        axengine.InferenceSession(tiny_model.model(), **options)


@pytest.mark.parametrize(
    ("feed", "says"),
    [
        ({}, "the input x is missing"),
        ({"x": np.ones((1, 5), "f4")}, r"float32 \(1, 4\), not float32 \(1, 5\)"),
        ({"x": np.ones((1, 4), "f8")}, "not float64"),
        ({"x": np.ones((1, 4), "f4"), "z": np.ones(1)}, "no inputs"),
    ],
)
def test_a_wrong_input_is_refused_and_the_next_is_good(feed, says) -> None:
    with axengine.InferenceSession(tiny_model.model()) as session:
        with pytest.raises(ValueError, match=says):
            session.run(None, feed)
        with pytest.raises(ValueError, match="outputs"):
            session.run(["nobody"], {"x": np.ones((1, 4), "f4")})
        assert session.run(None, {"x": np.ones((1, 4), "f4")})[0].sum() == 8


def test_a_model_that_cannot_be_loaded_leaves_nothing() -> None:
    with pytest.raises(Fault):
        axengine.InferenceSession(b"no model")
    assert not default_runtime().device(0).is_active
