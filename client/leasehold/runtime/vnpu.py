"""How the NPU of a card is split, what each split takes, and which of its parts a model may be told to use.

The rules are those of the AX8850's engine: a split holds for the whole card, for every process on it. A part is a
virtual NPU; bit i of an affinity is the i-th of the current split.
"""

from enum import IntEnum

from leasehold.runtime.codes import Code, Fault


class VNpuKind(IntEnum):
    """A split of the three groups of the NPU (axcl_rt_engine_type header)."""

    DISABLE = 0  # one NPU of three groups
    ENABLE = 1  # three of one
    BIG_LITTLE = 2  # one of two, one of one
    LITTLE_BIG = 3  # one of one, one of two


class ModelKind(IntEnum):
    """How many groups a model was compiled for."""

    ONE_CORE = 0
    TWO_CORES = 1
    THREE_CORES = 2

    @property
    def core_count(self) -> int:
        """The groups."""
        return self.value + 1


SITE_OF = {
    VNpuKind.DISABLE: "disable",
    VNpuKind.ENABLE: "std",
    VNpuKind.BIG_LITTLE: "big-little",
    VNpuKind.LITTLE_BIG: "little-big",
}
_LARGEST = {VNpuKind.DISABLE: 3, VNpuKind.ENABLE: 1, VNpuKind.BIG_LITTLE: 2, VNpuKind.LITTLE_BIG: 2}
_PARTS = {VNpuKind.DISABLE: (3,), VNpuKind.ENABLE: (1, 1, 1), VNpuKind.BIG_LITTLE: (2, 1), VNpuKind.LITTLE_BIG: (1, 2)}


def vnpu_kind(value: object) -> VNpuKind:
    """A split by its number.

    Raises:
        Fault: there is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value in set(VNpuKind):
        return VNpuKind(value)
    raise Fault(Code.ENGINE_ILLEGAL, f"there is no vNPU kind {value!r}")


def check_takes(split: VNpuKind, model: ModelKind) -> None:
    """Refuses a model that is larger than every part of the split.

    Raises:
        Fault: it is.
    """
    if model.core_count > _LARGEST[split]:
        text = f"a model of {model.core_count} cores has no place in vNPU mode {SITE_OF[split]}"
        raise Fault(Code.ENGINE_FAILED, text)


def parts_for(split: VNpuKind, model: ModelKind) -> int:
    """The affinity of every part that is large enough: what a model has until it is told otherwise."""
    fitting = sum(1 << part for part, size in enumerate(_PARTS[split]) if size >= model.core_count)
    assert fitting, "a model that does not fit was refused"
    return fitting


def check_affinity(split: VNpuKind, model: ModelKind, affinity: object) -> int:
    """An affinity that a model of this size may have under this split.

    Raises:
        Fault: none at all, or one with a part that is not there or too small.
    """
    if isinstance(affinity, bool) or not isinstance(affinity, int) or affinity <= 0:
        raise Fault(Code.ENGINE_ILLEGAL, f"an affinity names at least one part, not {affinity!r}")
    possible = parts_for(split, model)
    if affinity & ~possible:
        text = f"affinity {affinity:#b} where vNPU mode {SITE_OF[split]} has {possible:#b} for this model"
        raise Fault(Code.ENGINE_FAILED, text)
    return affinity
