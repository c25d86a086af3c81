"""A block of device memory in the hands of a program that likes objects better than addresses."""

from contextlib import suppress

from leasehold.runtime.blocks import Block
from leasehold.runtime.codes import Fault
from leasehold.runtime.memory import Arena


class DeviceMemory:
    """``size`` bytes at ``address`` of a device. A context manager: it is freed at the end of its block."""

    def __init__(self, arena: Arena, block: Block) -> None:
        self._arena = arena
        self.address = block.address
        self.size = block.size

    def free(self) -> None:
        """Gives it back; work under way keeps it until that has ended.

        Raises:
            Fault: it was freed already.
        """
        self._arena.free(self.address)

    def __enter__(self) -> "DeviceMemory":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        with suppress(Fault):  # it may have been freed inside, or its device reset
            self.free()

    def __int__(self) -> int:
        return self.address

    def __repr__(self) -> str:
        return f"<{self.size} bytes at {self.address:#x}>"
