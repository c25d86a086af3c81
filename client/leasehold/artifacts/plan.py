"""How much memory a model needs: measured, by running it under smaller and smaller caps in children of this process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leasehold.artifacts.manifest import Manifest, name_of
from leasehold.artifacts.packing import content_hash_of
from leasehold.errors import Exhausted, Invalid, Refused

if TYPE_CHECKING:
    from leasehold.local import Manager

GRAIN_BYTES = 64 << 10
CEILING_BYTES = 1 << 36
_CARD_BYTES_MAX = 1 << 40
_FITS_NOT = 3  # the child's exit status where the cap was too small
_ROUNDS = 2  # runs a try: the second meets what the first left behind
_KINDS = {
    "tensor(float)": "f4",
    "tensor(double)": "f8",
    "tensor(float16)": "f2",
    "tensor(int8)": "i1",
    "tensor(uint8)": "u1",
    "tensor(int32)": "i4",
    "tensor(int64)": "i8",
    "tensor(bool)": "?",
}

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a model needs. ``memory_bytes`` holds for the shapes it was measured with, and smaller ones.

    One core and one stream: a model under a lease runs on one stream, whose thread is pinned to the lease's cores.
    """

    name: str
    content_hash: str
    memory_bytes: int
    cores: int
    streams: int
    shapes: dict[str, tuple[int, ...]]

    def manifest(self, profile: str = "") -> Manifest:
        """The plan as a reservation manifest, for cards of a profile; none means any.

        Raises:
            Invalid: there is no such profile's name.
        """
        return Manifest(
            self.name,
            self.content_hash,
            profile,
            memory_bytes=self.memory_bytes,
            cores=self.cores,
            streams=self.streams,
            measured_with=self.shapes,
        )


def empty_card(profile: str) -> "Manager":
    """A card of a profile on which everything is free; of none, an embedded card with all of this host's memory.

    Needs the extra ``daemon``.

    Raises:
        Invalid: there is no such profile.
    """
    from leasehold.local import Manager

    host_bytes = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _CARD_BYTES_MAX)
    return Manager(profile or "embedded", memory=host_bytes)


def check_holdable(manifest: Manifest, card: "Manager") -> None:
    """Refuses what not even ``card``, on which everything is free, can hold. Takes it there.

    Raises:
        Invalid: it cannot.
    """
    try:
        card.acquire(*manifest.claims())
    except Refused as fault:
        kind = f"card of profile {manifest.profile}" if manifest.profile else "card of this host"
        text = f"{manifest.name} needs more than any {kind} has: {fault}"
        raise Invalid(text, facts=fault.facts | {"profile": manifest.profile}) from fault


def measure(path: Path, shapes: Shapes, *, on_try: Callable[[int, bool], None] = lambda size, fits: None) -> Plan:
    """Bisects the least memory that the model at ``path`` loads and runs with; ``on_try`` hears of each try.

    ``shapes`` gives the shapes of inputs that the model leaves open; an open dimension is 1 unless given.

    Raises:
        Invalid: no model, or shapes that it does not take.
        Exhausted: it needs more than this host can give.
        OSError: the file cannot be read.
    """
    from leasehold.model import floor_bytes

    content_hash = content_hash_of(path)
    low = floor_bytes(path)
    high = low
    tried = _try(path, shapes, high)
    on_try(high, tried is not None)
    while tried is None:
        low, high = high, high * 2
        if high > CEILING_BYTES:
            raise Exhausted(f"{path.name} does not run within {CEILING_BYTES} bytes", facts={"path": str(path)})
        tried = _try(path, shapes, high)
        on_try(high, tried is not None)
    used = tried
    while high - low > GRAIN_BYTES:
        middle = (low + high) // 2
        tried = _try(path, shapes, middle)
        on_try(middle, tried is not None)
        low, high = (low, middle) if tried is not None else (middle, high)
    size = -(-high // GRAIN_BYTES) * GRAIN_BYTES
    return Plan(name_of(path), content_hash, size, cores=1, streams=1, shapes=used)


def _try(path: Path, shapes: Shapes, memory_bytes: int) -> dict[str, tuple[int, ...]] | None:
    """The shapes it ran with, or None where it did not fit."""
    asked = json.dumps([str(path), memory_bytes, {name: list(shape) for name, shape in shapes.items()}])
    child = [sys.executable, "-m", "leasehold.artifacts.plan", asked]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    if done.returncode == _FITS_NOT:
        return None
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}"
        raise Invalid(f"{path.name} cannot be run: {reason}", facts={"path": str(path)})
    return {name: tuple(shape) for name, shape in json.loads(done.stdout).items()}


def _run_child(asked: str) -> int:
    """In the child: loads and runs the model under a cap."""
    import numpy as np

    from leasehold.held_lease import HeldLease
    from leasehold.model import Model
    from rmapi.v1 import types_pb2

    path, memory_bytes, shapes = json.loads(asked)
    lease = HeldLease(types_pb2.Lease(id="plan"), core_cpus=(), windows={})
    lease._budget.total_bytes = memory_bytes
    try:
        model = Model(  # not by ``lease.load``: a reservation that it carries may be stale, and is not asked
            Path(path),
            memory_bytes=memory_bytes,
            budget=lease._budget,
            cpus=(),
            default_stream=lease._own_stream(),
            check_lease=lease.check,
        )
        used = {port.name: shapes.get(port.name) or _closed(port.shape) for port in model.inputs}
        inputs = {port.name: np.zeros(used[port.name], _KINDS[port.type]) for port in model.inputs}
        for _ in range(_ROUNDS):
            model.run(inputs)
    except Exhausted:
        return _FITS_NOT
    except (Invalid, ValueError, KeyError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    sys.stdout.write(json.dumps(used))
    return 0


def _closed(shape: Sequence[int | str | None]) -> list[int]:
    return [dim if isinstance(dim, int) else 1 for dim in shape]


if __name__ == "__main__":
    sys.exit(_run_child(sys.argv[1]))
