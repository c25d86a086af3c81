"""The embedded card: memory files of this host, its CPUs as cores, streams as threads of the client.

Each allotment of memory is a memfd of its own, sealed against growth: the kernel itself keeps a client inside its
window, and one client cannot reach another's. Pages come at first touch, as zeros, so nothing of one holder is ever
seen by the next. Shrinking stays allowed on purpose: it is the fence. ``ftruncate`` to nothing takes the memory back at
once, and whoever still touches the window gets SIGBUS, as a fault on a real card would end a context.

The kernel frees about 8 GiB a second. So windows that were touched a lot are taken back in a thread: the daemon goes on
serving, and the next holder, who has a file of its own, waits only where the last one lives and had to be fenced.

The daemon never maps a window.
"""

import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rm.core.card import Allotment, CardSpec
from rm.core.errors import CardFailed
from rm.core.profile import Profile
from rm.core.types import CardId, LeaseId, PoolName
from rm.devices.backend import Window

NAME = "embedded"
BLOCK_BYTES = 512  # the unit of st_blocks
_AT_ONCE_BYTES = 2 << 20  # a quarter of a millisecond
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class EmbeddedBackend:
    """All embedded cards of this host. The CPUs are dealt to them round robin."""

    def __init__(self, profile: Profile, *, card_count: int, memory_bytes: int, cpus: Sequence[int]) -> None:
        """Makes ``card_count`` cards of ``memory_bytes`` each. Where CPUs are fewer than cards, cards share them.

        Raises:
            InvalidRequest: the profile does not fit this host.
        """
        assert card_count >= 1
        assert cpus
        shares = [tuple(cpus[index::card_count]) or (cpus[index % len(cpus)],) for index in range(card_count)]
        self.cards: tuple[CardSpec, ...] = tuple(
            profile.card(CardId(str(index)), backend=NAME, memory_bytes=memory_bytes, cpus=share)
            for index, share in enumerate(shares)
        )
        self.warnings: tuple[str, ...] = ()
        if card_count > len(cpus):
            self.warnings = (f"{card_count} cards share {len(cpus)} CPUs: a core of one card may be a core of another",)
        self._unit_bytes = {(card.id, pool.name): pool.unit_bytes for card in self.cards for pool in card.pools}
        self._windows: dict[LeaseId, list[Window]] = {}
        self._fence = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fence")

    def prepare(self, lease_id: LeaseId, card: CardId, allotments: Sequence[Allotment], *, first_index: int) -> None:
        """Makes a sealed memory file for every allotment of memory.

        Raises:
            CardFailed: the host has no descriptor or no memory for it.
        """
        made: list[Window] = []
        for index, allotment in enumerate(allotments, start=first_index):
            size_bytes = allotment.units.unit_count * self._unit_bytes[card, PoolName(allotment.pool)]
            if not size_bytes:
                continue
            try:
                made.append(Window(index, size_bytes, _sealed_memory(f"leasehold-{lease_id}-{index}", size_bytes)))
            except OSError as fault:
                for window in made:
                    os.close(window.fd)
                text = f"no memory file of {size_bytes} bytes could be made: {fault.strerror}"
                raise CardFailed(text, size_bytes=size_bytes) from fault
        if made:
            self._windows.setdefault(lease_id, []).extend(made)

    def windows(self, lease_id: LeaseId) -> list[Window]:
        """The windows of a lease, in the order of its allotments."""
        return list(self._windows.get(lease_id, ()))

    def used_bytes(self, lease_id: LeaseId) -> int:
        """Memory of a lease that has really been touched."""
        return _touched_bytes(self._windows.get(lease_id, []))

    def give_back(self, lease_id: LeaseId, allotment_index: int) -> None:
        """Takes the window of one allotment back."""
        windows = self._windows.get(lease_id, [])
        self._take_back([window for window in windows if window.allotment_index == allotment_index])
        self._windows[lease_id] = [window for window in windows if window.allotment_index != allotment_index]

    def end(self, lease_id: LeaseId, on_quiet: Callable[[], None] | None = None) -> bool:
        """Takes every window of a lease back: small ones before it returns, large ones in a thread."""
        return self._take_back(self._windows.pop(lease_id, []), on_quiet)

    def _take_back(self, windows: list[Window], on_quiet: Callable[[], None] | None = None) -> bool:
        if _touched_bytes(windows) <= _AT_ONCE_BYTES:
            _truncate(windows)
            return True
        self._fence.submit(_truncate, windows, on_quiet)
        return on_quiet is None

    def close(self) -> None:
        """Lets every window go; clients that map one keep it until they end."""
        self._fence.shutdown()
        for windows in self._windows.values():
            for window in windows:
                os.close(window.fd)
        self._windows.clear()


def _sealed_memory(name: str, size_bytes: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def _touched_bytes(windows: list[Window]) -> int:
    return sum(os.fstat(window.fd).st_blocks * BLOCK_BYTES for window in windows)


def _truncate(windows: list[Window], on_quiet: Callable[[], None] | None = None) -> None:
    for window in windows:
        os.ftruncate(window.fd, 0)
        os.close(window.fd)
    if on_quiet is not None:
        on_quiet()
