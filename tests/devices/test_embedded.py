"""The embedded card, on the real kernel: windows that cannot grow, that hide what was there, and that can be fenced."""

import errno
import mmap
import os
import queue
import resource
import signal
import subprocess
import sys

import pytest

from rm.core.card import Allotment
from rm.core.errors import CardFailed, InvalidRequest
from rm.core.types import UnitRange, UnitSet
from rm.devices import embedded
from rm.devices.backend import Fence
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import builtin_names, load_profile
from support.descriptors import descriptor_count
from support.windows import UNIT, lease_of, make, memory, never


@pytest.fixture
def backend():
    made = make()
    yield made
    made.close()


def window_of(backend: EmbeddedBackend, lease_id: str = "L1", units: int = 2) -> int:
    """The descriptor of a fresh window, which the back end owns."""
    backend.prepare(lease_id, "0", [memory(0, units)], first_index=0)
    return backend.windows(lease_id)[-1].fd


# Bounds.


def test_a_window_is_as_large_as_its_units(backend) -> None:
    pieces = Allotment("memory", UnitSet((0,), ((UnitRange(0, 2), UnitRange(5, 6)),)))
    backend.prepare("L1", "0", [memory(9, 13), pieces], first_index=0)
    assert [window.mark.size_bytes for window in backend.windows("L1")] == [4 * UNIT, 3 * UNIT]
    assert [os.fstat(window.fd).st_size for window in backend.windows("L1")] == [4 * UNIT, 3 * UNIT]


@pytest.mark.parametrize(
    "grow",
    [
        lambda fd: os.ftruncate(fd, 2 * UNIT + 1),
        lambda fd: os.pwrite(fd, b"x", 2 * UNIT),
        lambda fd: os.posix_fallocate(fd, 0, 3 * UNIT),
    ],
    ids=["ftruncate", "write", "fallocate"],
)
def test_nobody_who_has_a_window_can_make_it_larger(backend, grow) -> None:
    fd = window_of(backend)
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)) as refused:
        grow(fd)
    assert refused.value.errno == errno.EPERM
    assert os.fstat(fd).st_size == 2 * UNIT


def test_nobody_who_has_a_window_can_seal_it_against_its_fence(backend) -> None:
    import fcntl

    fd = window_of(backend)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    backend.end("L1")


def test_the_next_holder_of_the_same_units_sees_zeros(backend) -> None:
    fd = window_of(backend)
    os.pwrite(fd, b"a secret" * 1000, 0)
    backend.end("L1")
    assert os.pread(window_of(backend, "L2"), 2 * UNIT, 0) == bytes(2 * UNIT)


def test_two_leases_share_no_byte(backend) -> None:
    first, second = window_of(backend, "L1"), window_of(backend, "L2")
    os.pwrite(first, b"first", 0)
    assert os.pread(second, 5, 0) == bytes(5)
    assert os.fstat(first).st_ino != os.fstat(second).st_ino


def test_windows_are_not_handed_to_programs_that_the_daemon_starts(backend) -> None:
    assert os.get_inheritable(window_of(backend)) is False


# The fence.

HOLDER = """
import mmap, sys
fd, size = int(sys.argv[1]), int(sys.argv[2])
view = mmap.mmap(fd, size)
view[0] = 7
sys.stdout.write("mapped\\n")
sys.stdout.flush()
sys.stdin.readline()
view[0] = 8
sys.stdout.write("still there\\n")
sys.stdout.flush()
"""


class Holder:
    """A real process that maps a window and touches it again when it is told to."""

    def __init__(self, fd: int, size: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(fd), str(size)],
            pass_fds=[fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        )
        assert self.process.stdout.readline() == "mapped\n"

    def touches(self) -> str:
        """What comes of it: its own words, or the name of the signal that ended it."""
        said, _ = self.process.communicate("\n", timeout=20)
        return said.strip() or signal.Signals(-self.process.returncode).name


def test_the_end_fences_whoever_still_uses_the_window_and_nobody_else(backend) -> None:
    mine, others = window_of(backend, "L1"), window_of(backend, "L2")
    fenced, neighbour = Holder(mine, 2 * UNIT), Holder(others, 2 * UNIT)
    assert backend.fence(lease_of("L1"), never, is_holder_dead=False) is Fence.QUIET
    assert fenced.touches() == "SIGBUS"
    assert neighbour.touches() == "still there"


def test_memory_is_the_hosts_again_although_a_holder_still_maps_it(backend) -> None:
    fd = window_of(backend)
    keeper = os.dup(fd)
    try:
        view = mmap.mmap(keeper, 2 * UNIT)
        view[:] = b"x" * (2 * UNIT)
        assert os.fstat(keeper).st_blocks > 0
        backend.end("L1")
        assert (os.fstat(keeper).st_size, os.fstat(keeper).st_blocks) == (0, 0)
    finally:
        os.close(keeper)


def test_giving_one_allotment_back_fences_that_one_only(backend) -> None:
    backend.prepare("L1", "0", [memory(0, 1), memory(1, 2)], first_index=0)
    first, second = (os.dup(window.fd) for window in backend.windows("L1"))
    backend.give_back("L1", 0)
    assert [os.fstat(fd).st_size for fd in (first, second)] == [0, UNIT]
    for fd in (first, second):
        os.close(fd)


def test_closing_leaves_the_windows_of_those_who_map_them(backend) -> None:
    keeper = os.dup(window_of(backend))
    backend.close()
    assert os.fstat(keeper).st_size == 2 * UNIT
    os.close(keeper)


# What it costs.


def test_memory_is_used_when_it_is_touched_and_not_when_it_is_granted(backend) -> None:
    fd = window_of(backend, units=16)
    assert backend.used_bytes("L1") == 0
    os.pwrite(fd, b"x", 0)
    os.pwrite(fd, b"x", 5 * mmap.PAGESIZE)
    assert 2 * mmap.PAGESIZE <= backend.used_bytes("L1") < 16 * UNIT
    os.pwrite(fd, b"x" * 16 * UNIT, 0)
    assert backend.used_bytes("L1") == 16 * UNIT
    backend.end("L1")
    assert backend.used_bytes("L1") == 0


def test_a_host_out_of_descriptors_fails_the_card_and_nothing_is_left(backend) -> None:
    before = descriptor_count()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    highest = max(taken)
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with pytest.raises(CardFailed) as failed:
            backend.prepare("L1", "0", [memory(index, index + 1) for index in range(60)], first_index=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failed.value.facts == {"size_bytes": UNIT}
    assert descriptor_count() == before
    assert backend.windows("L1") == []
    backend.prepare("L1", "0", [memory(0, 1)], first_index=0)
    assert len(backend.windows("L1")) == 1


def test_an_extension_that_fails_leaves_the_windows_that_were_there(backend, monkeypatch) -> None:
    fd = window_of(backend)

    def full(name: str, flags: int) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "memfd_create", full)
    with pytest.raises(CardFailed):
        backend.prepare("L1", "0", [memory(5, 6)], first_index=1)
    assert [window.fd for window in backend.windows("L1")] == [fd]


def test_a_thousand_leases_leave_no_descriptor(backend) -> None:
    before = descriptor_count()
    for index in range(1_000):
        window_of(backend, f"L{index}", 1)
        backend.end(f"L{index}")
    assert descriptor_count() == before
    assert backend._windows == {}


# The shape of the cards.


LARGE_UNITS = 256  # 16 MiB: more than is taken back at once


def make_with_large_window(touched=True):
    backend = EmbeddedBackend(load_profile("embedded"), card_count=1, memory_bytes=2 * LARGE_UNITS * UNIT, cpus=(0,))
    units = UnitSet((0,), ((UnitRange(0, LARGE_UNITS),),))
    backend.prepare("L1", "0", [Allotment("memory", units)], first_index=0)
    (window,) = backend.windows("L1")
    kept = os.dup(window.fd)
    if touched:
        os.pwrite(kept, bytes(window.mark.size_bytes), 0)
    return backend, kept


def test_a_large_window_of_the_dead_is_given_on_at_once_and_taken_back_in_the_background() -> None:
    backend, kept = make_with_large_window()
    assert backend.fence(lease_of("L1"), never, is_holder_dead=True) is Fence.QUIET
    assert backend.windows("L1") == []
    backend.close()
    assert os.fstat(kept).st_size == 0
    os.close(kept)


def test_a_large_window_of_the_living_is_not_quiet_before_it_is_fenced() -> None:
    backend, kept = make_with_large_window()
    sizes = queue.SimpleQueue()
    told = backend.fence(lease_of("L1"), lambda: sizes.put(os.fstat(kept).st_size), is_holder_dead=False)
    assert told is Fence.SOON
    assert sizes.get(timeout=20) == 0
    backend.close()
    os.close(kept)


def test_only_where_nobody_waits_is_memory_taken_back_a_little_later(monkeypatch) -> None:
    monkeypatch.setattr(embedded, "_SWEEP_DELAY_S", 20)
    slept = queue.SimpleQueue()
    monkeypatch.setattr(embedded.time, "sleep", slept.put)
    backend, kept = make_with_large_window()
    fenced = queue.SimpleQueue()
    backend.fence(lease_of("L1"), lambda: fenced.put(os.fstat(kept).st_size), is_holder_dead=False)
    assert fenced.get(timeout=20) == 0
    assert slept.empty()
    backend.prepare("L2", "0", [Allotment("memory", UnitSet((0,), ((UnitRange(0, LARGE_UNITS),),)))], first_index=0)
    os.pwrite(backend.windows("L2")[0].fd, bytes(LARGE_UNITS * UNIT), 0)
    backend.end("L2")
    backend.close()
    assert 0 < slept.get(timeout=20) <= 20
    os.close(kept)


def test_a_large_window_that_was_hardly_touched_is_fenced_at_once() -> None:
    backend, kept = make_with_large_window(touched=False)
    assert backend.fence(lease_of("L1"), never, is_holder_dead=False) is Fence.QUIET
    assert os.fstat(kept).st_size == 0
    backend.close()
    os.close(kept)


@pytest.mark.parametrize(
    ("card_count", "cpus", "dealt"),
    [
        (1, (0, 1, 2, 3), [(0, 1, 2, 3)]),
        (2, (0, 1, 2, 3, 4), [(0, 2, 4), (1, 3)]),
        (3, (4, 6, 9), [(4,), (6,), (9,)]),
    ],
)
def test_cpus_are_dealt_round_robin_and_each_to_one_card(card_count, cpus, dealt) -> None:
    backend = make(card_count, cpus)
    assert [card.core_cpus for card in backend.cards] == dealt
    cores = [next(pool for pool in card.pools if pool.name == "cores").unit_count for card in backend.cards]
    assert cores == [len(share) for share in dealt]
    assert backend.warnings == ()


def test_where_cpus_are_fewer_than_cards_they_are_shared_and_it_is_said() -> None:
    backend = make(5, (3, 8))
    assert [card.core_cpus for card in backend.cards] == [(3,), (8,), (3,), (8,), (3,)]
    assert backend.warnings == ("5 cards share 2 CPUs: a core of one card may be a core of another",)


def test_less_memory_than_one_unit_is_no_card() -> None:
    with pytest.raises(InvalidRequest, match="memory"):
        EmbeddedBackend(load_profile("embedded"), card_count=1, memory_bytes=UNIT - 1, cpus=(0,))


@pytest.mark.parametrize("name", builtin_names())
def test_every_profile_that_ships_makes_a_card(name) -> None:
    backend = make(profile=name)
    assert backend.cards[0].profile == name
    pools = {pool.name for pool in backend.cards[0].pools}
    assert {"memory", "streams"} <= pools or {"perfcnt", "bcast_channel", "columns"} <= pools, "a card, or an array"


def test_there_are_the_profiles_that_the_readme_names() -> None:
    assert {"embedded", "ax-m1", "llm-8850"} <= set(builtin_names())


@pytest.mark.parametrize("name", ["", "nothing", "../embedded", "/nowhere.toml", "embedded.toml", "\0/x"])
def test_a_profile_that_is_not_there_is_refused_in_words(name) -> None:
    with pytest.raises(InvalidRequest, match="profile"):
        load_profile(name)


def test_a_profile_of_ones_own_is_read_from_its_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[pools.lanes]\nunit_count = 3\n')
    assert load_profile(str(path)).name == "mine"
