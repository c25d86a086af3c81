"""The embedded card: memory files of this host, its CPUs as cores, streams as threads of the client.

Each allotment of memory is a memfd of its own, sealed against growth: the kernel itself keeps a client inside its
window, and one client cannot reach another's. Pages come at first touch, as zeros, so nothing of one holder is ever
seen by the next. Shrinking stays allowed on purpose: it is the fence. ``ftruncate`` to nothing takes the memory back at
once, and whoever still touches the window gets SIGBUS, as a fault on a real card would end a context.

The kernel frees about 8 GiB a second. So windows that were touched a lot are taken back in a thread: the daemon goes on
serving, and the next holder, who has a file of its own, waits only where the last one lives and had to be fenced. Where
nobody waits it begins a little later: beside the loop it would cost whoever is served now some milliseconds.

The daemon never maps a window. Its descriptors die with it; a client that is still there hands them back to the next
daemon. What was not handed back cannot be truncated: such a window is quiet when no process has it any more.
"""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from rm.core.card import Allotment, CardSpec
from rm.core.errors import CardFailed, InvalidRequest
from rm.core.lease import ANY_WINDOW, Lease, WindowMark
from rm.core.profile import Profile
from rm.core.types import CardId, LeaseId
from rm.devices.backend import Fence, Window
from rm.devices.host import boot_id
from rm.devices.inheritors import Inheritors, are_in_use

NAME = "embedded"
BLOCK_BYTES = 512  # the unit of st_blocks
_AT_ONCE_BYTES = 2 << 20  # a quarter of a millisecond
_SWEEP_DELAY_S = 0.01  # whoever waited for the units has them by then
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@dataclass(slots=True)
class _Windows:
    """The windows of one lease. ``missing`` are those of a daemon before this one that were not handed back yet."""

    here: list[Window] = field(default_factory=list)
    missing: tuple[WindowMark, ...] = ()


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
        self.incarnations = tuple((card.id, boot_id()) for card in self.cards)  # memory is gone when the host boots
        self.warnings: tuple[str, ...] = ()
        if card_count > len(cpus):
            self.warnings = (f"{card_count} cards share {len(cpus)} CPUs: a core of one card may be a core of another",)
        self._unit_bytes = {(card.id, pool.name): pool.unit_bytes for card in self.cards for pool in card.pools}
        self._windows: dict[LeaseId, _Windows] = {}
        self._fencer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fence")
        self._sweeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sweep")
        self.on_in_use: Callable[[LeaseId, float], None] = lambda lease_id, seen_s: None
        self._inheritors = Inheritors(self._seen_in_use)

    # Windows.

    def prepare(
        self, lease_id: LeaseId, card: CardId, allotments: Sequence[Allotment], *, first_index: int
    ) -> tuple[WindowMark, ...]:
        """Makes a sealed memory file for every allotment of memory.

        Raises:
            CardFailed: the host has no descriptor or no memory for it.
        """
        sizes = [
            (index, allotment.units.unit_count * self._unit_bytes[card, allotment.pool])
            for index, allotment in enumerate(allotments, start=first_index)
        ]
        made = _make(lease_id, [(index, size_bytes) for index, size_bytes in sizes if size_bytes])
        if made:
            self._windows.setdefault(lease_id, _Windows()).here.extend(made)
        return tuple(window.mark for window in made)

    def adopt(self, lease: Lease) -> None:
        """Notes which windows a lease has, and that they are still to be handed back."""
        if lease.windows:
            self._windows[lease.id] = _Windows(missing=lease.windows)

    def hand_back(self, lease: Lease, allotment_index: int, fd: int) -> None:
        """Takes a window back: the same file, as large and as sealed as it was made.

        Raises:
            InvalidRequest: it is another file, or has shrunk.
        """
        known = self._windows.get(lease.id, _Windows())
        marks = [mark for mark in lease.windows if mark.allotment_index == allotment_index]
        if not marks or not _is_that_window(fd, marks[0]):
            os.close(fd)
            raise InvalidRequest(f"this is not the window of allotment {allotment_index} of {lease.id}", lease=lease.id)
        if marks[0] not in known.missing:  # the client came back to the same daemon
            os.close(fd)
            return
        known.missing = tuple(mark for mark in known.missing if mark != marks[0])
        known.here.append(Window(marks[0], fd))
        known.here.sort(key=lambda window: window.mark.allotment_index)

    def remake(self, lease: Lease) -> tuple[WindowMark, ...]:
        """Makes missing windows anew, of which no process is seen to have the old one.

        Raises:
            CardFailed: a process has one, or the host cannot make another.
        """
        known = self._windows.get(lease.id, _Windows())
        if not known.missing:
            return lease.windows
        if are_in_use(known.missing):
            text = f"windows of {lease.id} from before the daemon's restart are in use; they must be handed back"
            raise CardFailed(text, lease=lease.id)
        made = _make(lease.id, [(mark.allotment_index, mark.size_bytes) for mark in known.missing])
        known.missing = ()
        known.here = sorted([*known.here, *made], key=lambda window: window.mark.allotment_index)
        return tuple(window.mark for window in known.here)

    def windows(self, lease_id: LeaseId) -> list[Window]:
        """The windows of a lease that are here, in the order of its allotments."""
        return list(self._windows.get(lease_id, _Windows()).here)

    def used_bytes(self, lease_id: LeaseId) -> int:
        """Memory of a lease that has really been touched."""
        return _touched_bytes(self.windows(lease_id))

    # Taking back.

    def give_back(self, lease_id: LeaseId, allotment_index: int) -> None:
        """Takes the window of one allotment back."""
        known = self._windows.get(lease_id, _Windows())
        self._take_back([window for window in known.here if window.mark.allotment_index == allotment_index])
        known.here = [window for window in known.here if window.mark.allotment_index != allotment_index]
        known.missing = tuple(mark for mark in known.missing if mark.allotment_index != allotment_index)

    def end(self, lease_id: LeaseId) -> None:
        """Takes every window of a lease back: small ones before it returns, large ones in a thread."""
        self._take_back(self._windows.pop(lease_id, _Windows()).here)

    def fence(self, lease: Lease, on_quiet: Callable[[], None], *, is_holder_dead: bool) -> Fence:
        """Truncates every window that is here, and watches for the end of those that are not."""
        known = self._windows.pop(lease.id, _Windows())
        missing = (ANY_WINDOW,) if ANY_WINDOW in lease.windows else known.missing
        if missing:
            self._take_back(known.here)
            self._inheritors.watch(lease.id, lease.holder.pid, missing, on_quiet)
            return Fence.OUT_OF_REACH
        if is_holder_dead:  # nobody waits for the kernel: the next holder has a file of its own
            self._take_back(known.here)
            return Fence.QUIET
        return Fence.SOON if self._take_back(known.here, on_quiet) else Fence.QUIET

    def close(self) -> None:
        """Lets every window go; clients that map one keep it until they end."""
        self._inheritors.close()
        self._fencer.shutdown()
        self._sweeper.shutdown()
        for known in self._windows.values():
            for window in known.here:
                os.close(window.fd)
        self._windows.clear()

    def _seen_in_use(self, lease_id: LeaseId, seen_s: float) -> None:
        self.on_in_use(lease_id, seen_s)

    def _take_back(self, windows: list[Window], then: Callable[[], None] | None = None) -> bool:
        """Truncates windows; answers whether that goes on in a thread, which calls ``then`` at its end."""
        if _touched_bytes(windows) <= _AT_ONCE_BYTES:
            _truncate(windows)
            return False
        if then is None:
            self._sweeper.submit(_sweep, windows, time.monotonic() + _SWEEP_DELAY_S)
        else:
            self._fencer.submit(_truncate, windows, then)
        return True


def _make(lease_id: LeaseId, sizes: Sequence[tuple[int, int]]) -> list[Window]:
    """A sealed memory file for each (index of the allotment, bytes)."""
    made: list[Window] = []
    for index, size_bytes in sizes:
        try:
            fd = _sealed_memory(f"leasehold-{lease_id}-{index}", size_bytes)
        except OSError as fault:
            for window in made:
                os.close(window.fd)
            text = f"no memory file of {size_bytes} bytes could be made: {fault.strerror}"
            raise CardFailed(text, size_bytes=size_bytes) from fault
        status = os.fstat(fd)
        made.append(Window(WindowMark(index, size_bytes, status.st_dev, status.st_ino), fd))
    return made


def _sealed_memory(name: str, size_bytes: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def _is_that_window(fd: int, mark: WindowMark) -> bool:
    with suppress(OSError):  # a descriptor of another kind knows no seals
        status = os.fstat(fd)
        is_same_file = (status.st_dev, status.st_ino, status.st_size) == (mark.device, mark.inode, mark.size_bytes)
        is_writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        return is_same_file and is_writable and fcntl.fcntl(fd, fcntl.F_GET_SEALS) == _SEALS
    return False


def _touched_bytes(windows: list[Window]) -> int:
    return sum(os.fstat(window.fd).st_blocks * BLOCK_BYTES for window in windows)


def _sweep(windows: list[Window], not_before_s: float) -> None:
    time.sleep(max(0.0, not_before_s - time.monotonic()))
    _truncate(windows)


def _truncate(windows: list[Window], then: Callable[[], None] = lambda: None) -> None:
    for window in windows:
        os.ftruncate(window.fd, 0)
        os.close(window.fd)
    then()
