"""A model before it is loaded: its bytes, and what they say of the cores and shapes that it was made for.

On the embedded card a model is ONNX. Two entries of its metadata stand for what a compiler fixes on a real one:
``npu_mode`` is ``NPU1``, ``NPU2`` or ``NPU3``, the cores it takes (1 unless said); ``shape_groups`` is a JSON list with
an object for each group, from the name of each input to its shape. Dimensions that stay open are 1.
"""

import hashlib
import json
import os
from pathlib import Path

from leasehold import onnx_file
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.model_io import GROUPS_MAX
from leasehold.runtime.vnpu import ModelKind

Shapes = dict[str, tuple[int, ...]]
ModelSource = str | os.PathLike[str] | bytes

_DIMS_MAX = 32
_KINDS = {"NPU1": ModelKind.ONE_CORE, "NPU2": ModelKind.TWO_CORES, "NPU3": ModelKind.THREE_CORES}


class ModelFile:
    """A model's file, or its bytes as if they were one. A context manager: bytes go at the end of its block."""

    def __init__(self, model: ModelSource) -> None:
        """Reads what the model says of itself.

        Raises:
            Fault: there is no such file, or it is no model.
        """
        self._fd = -1
        if isinstance(model, bytes):
            self._fd = os.memfd_create("leasehold-model", os.MFD_CLOEXEC)
            with open(self._fd, "wb", closefd=False) as file:
                file.write(model)
            self.path, self.name = Path(f"/proc/self/fd/{self._fd}"), f"{len(model)} bytes"
        else:
            self.path = Path(os.fsdecode(model))
            self.name = self.path.name
        try:
            self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
            self.metadata = onnx_file.metadata(self.path)
            self.weight_bytes = onnx_file.weight_bytes(self.path)
        except OSError as fault:
            self.close()
            raise Fault(Code.ENGINE_ILLEGAL, f"{self.name} cannot be read: {fault.strerror}") from fault
        except onnx_file.NotAModel as fault:
            self.close()
            raise Fault(Code.ENGINE_FAILED, f"{self.name}: {fault}") from fault
        try:
            self.kind = _kind(self.metadata.get("npu_mode", "NPU1"))
            self.groups = _groups(self.metadata.get("shape_groups", ""))
        except Fault:
            self.close()
            raise

    def check_unchanged(self) -> None:
        """Refuses a file that is another one by now.

        Raises:
            Fault: it is, or it is gone.
        """
        try:
            digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as fault:
            raise Fault(Code.ENGINE_FAILED, f"{self.name} cannot be read any more: {fault.strerror}") from fault
        if digest != self.digest:
            raise Fault(Code.ENGINE_FAILED, f"{self.name} has changed since it was loaded")

    def close(self) -> None:
        """Lets go of its bytes."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "ModelFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        self.close()


def _kind(text: str) -> ModelKind:
    kind = _KINDS.get(text.upper())
    if kind is None:
        raise Fault(Code.ENGINE_FAILED, f"npu_mode {text!r} is none of {', '.join(_KINDS)}")
    return kind


def _groups(text: str) -> tuple[Shapes, ...]:
    """The groups of shapes that a model names; one in which every open dimension is 1, where it names none."""
    if not text:
        return ({},)
    try:
        told = json.loads(text)
    except ValueError as fault:
        raise Fault(Code.ENGINE_FAILED, f"shape_groups is no JSON: {fault}") from fault
    is_list = isinstance(told, list) and 1 <= len(told) <= GROUPS_MAX
    if not is_list or not all(isinstance(group, dict) and all(map(_is_shape, group.values())) for group in told):
        text = f"shape_groups must be a list of 1 to {GROUPS_MAX} objects from names to shapes"
        raise Fault(Code.ENGINE_FAILED, text)
    return tuple({str(name): tuple(shape) for name, shape in group.items()} for group in told)


def _is_shape(shape: object) -> bool:
    is_list = isinstance(shape, list) and len(shape) <= _DIMS_MAX
    return is_list and all(type(dim) is int and 1 <= dim < 1 << 31 for dim in shape)  # type: ignore[attr-defined]
