"""Devices: the cards as one process uses them, each with a count of who in the process does."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leasehold.card import Card
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.context import Context
from leasehold.runtime.device_memory import DeviceMemory

if TYPE_CHECKING:
    from leasehold.runtime.activation import Activation
    from leasehold.runtime.runtime import Runtime


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """What a device is and has. Sizes in bytes; loads in percent; a temperature of 0 means that nobody knows."""

    name: str
    software_version: str
    total_memory: int
    free_memory: int
    core_count: int
    cores_in_use: float
    temperature: int = 0

    @property
    def core_load(self) -> float:
        """How much of the cores is leased, in percent."""
        return 100 * self.cores_in_use / self.core_count if self.core_count else 0.0


class Device:
    """A card as this process sees it. A context manager: set in its block, and reset at the end of it."""

    def __init__(self, runtime: "Runtime", index: int, card: Card) -> None:
        """``id`` is the number of the card where its id is one, else its index."""
        self.runtime = runtime
        self.index = index
        self.card = card  # its shape; how much is free is asked anew
        self.id = int(card.id) if card.id.isascii() and card.id.isdigit() and len(card.id) < 9 else index
        self.ref_count = 0
        self.activation: Activation | None = None
        self.changing = threading.RLock()  # its count and its activation, but not the end of one

    @property
    def is_active(self) -> bool:
        """Whether this process uses it."""
        return self.activation is not None

    @property
    def default_context(self) -> Context:
        """The context that setting the device binds.

        Raises:
            Fault: the device is not active.
        """
        activation = self.activation
        if activation is None:
            raise Fault(Code.NOT_ACTIVE, f"device {self.id} is not active in this process")
        return activation.default_context

    def set(self) -> None:
        """Uses it once more, and binds this thread to its default context; see ``Runtime.set_device``."""
        self.runtime.set_device(self.id)

    def reset(self) -> None:
        """Uses it once less; see ``Runtime.reset_device``."""
        self.runtime.reset_device(self.id)

    def create_context(self) -> Context:
        """A context of its own, bound to this thread; see ``Runtime.create_context``."""
        return self.runtime.create_context(self.id)

    def malloc(self, size: int) -> DeviceMemory:
        """``size`` bytes of its memory, whatever this thread is bound to.

        Raises:
            Fault: no size, no room, the lease is lost, or the device is not active.
        """
        arena = self.default_context.activation.arena
        return DeviceMemory(arena, arena.malloc(size))

    def properties(self) -> DeviceProperties:
        """What it is and has, for all processes together."""
        return self.runtime.properties(self.id)

    def __enter__(self) -> "Device":
        self.set()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        self.reset()

    def __repr__(self) -> str:
        return f"<device {self.id}: card {self.card.id}, set {self.ref_count} times>"
