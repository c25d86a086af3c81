"""What the benchmarks of inference share: the model, its input, and bare sessions of onnxruntime."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from demo.models import Array, magika_input, model_path

MODEL_MEMORY = "16MiB"
LEASE_MEMORY = "24MiB"  # the model's arena, and a window for the input


def magika() -> Path:
    """The model's file.

    Raises:
        RuntimeError: its wheel is not installed.
    """
    try:
        return model_path("magika")
    except ModuleNotFoundError as fault:
        text = "the model is missing: .venv/bin/pip install --no-deps magika==1.0.3 (make bench does it)"
        raise RuntimeError(text) from fault


def sample_input() -> dict[str, Array]:
    """The model's input for the text of this file."""
    return magika_input(Path(__file__).read_bytes())


def bare_session(thread_count: int) -> ort.InferenceSession:
    """The same model as onnxruntime loads it by itself, with its own defaults but for the number of threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(magika()), options, providers=["CPUExecutionProvider"])


def equal_outputs(one: dict[str, Array], other: dict[str, Array]) -> bool:
    """Whether two runs say the same, but for the rounding of another order of sums."""
    return one.keys() == other.keys() and all(np.allclose(one[key], other[key], atol=1e-4) for key in one)
