"""The embedded card after a restart of the daemon: windows come back from their clients, or are out of its reach."""

import fcntl
import os
import queue

import pytest

from rm.core.errors import CardFailed, InvalidRequest
from rm.core.lease import ANY_WINDOW, WindowMark
from rm.devices import inheritors
from rm.devices.backend import Fence
from support.descriptors import descriptor_count
from support.windows import DEADLINE_S, UNIT, Keeper, lease_of, make, memory, never

SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Restarted:
    """A back end that was restarted, and what clients of the one before it kept: descriptors of two windows."""

    def __init__(self) -> None:
        before = make()
        before.prepare("L1", "0", [memory(0, 2), memory(2, 3)], first_index=0)
        self.marks = tuple(window.mark for window in before.windows("L1"))
        self.kept = [os.dup(window.fd) for window in before.windows("L1")]
        before.close()
        self.backend = make()
        self.lease = lease_of("L1", *self.marks, pid=2**22 + 1)
        self.backend.adopt(self.lease)

    def hand_back(self, index: int, fd: int | None = None) -> None:
        self.backend.hand_back(self.lease, index, os.dup(self.kept[index] if fd is None else fd))

    def sizes(self) -> list[int]:
        return [os.fstat(fd).st_size for fd in self.kept]

    def close(self) -> None:
        self.backend.close()
        for fd in self.kept:
            os.close(fd)


@pytest.fixture
def restarted():
    made = Restarted()
    yield made
    made.close()


# Handing back.


def test_an_adopted_lease_has_the_windows_that_were_handed_back_in_the_order_of_its_allotments(restarted) -> None:
    backend = restarted.backend
    assert backend.windows("L1") == []
    restarted.hand_back(1)
    assert [window.mark for window in backend.windows("L1")] == [restarted.marks[1]]
    restarted.hand_back(0)
    assert [window.mark for window in backend.windows("L1")] == list(restarted.marks)
    os.pwrite(restarted.kept[0], b"x", 0)
    assert backend.used_bytes("L1") > 0


def test_a_lease_whose_windows_are_back_can_be_fenced_though_its_holder_lives(restarted) -> None:
    for index in (0, 1):
        restarted.hand_back(index)
    assert restarted.backend.fence(restarted.lease, never, is_holder_dead=False) is Fence.QUIET
    assert restarted.sizes() == [0, 0]


def test_handing_back_again_changes_nothing_and_keeps_no_descriptor(restarted) -> None:
    restarted.hand_back(0)
    before = descriptor_count()
    restarted.hand_back(0)
    assert descriptor_count() == before
    assert len(restarted.backend.windows("L1")) == 1


def test_a_daemon_that_was_not_restarted_takes_what_it_has_and_keeps_no_second_descriptor() -> None:
    backend = make()
    backend.prepare("L1", "0", [memory(0, 1)], first_index=0)
    (window,) = backend.windows("L1")
    before = descriptor_count()
    backend.hand_back(lease_of("L1", window.mark), 0, os.dup(window.fd))
    assert (backend.windows("L1"), descriptor_count()) == ([window], before)
    backend.close()


def another_file(restarted: Restarted) -> int:
    fd = os.memfd_create("leasehold-L1-0", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 2 * UNIT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def the_other_window(restarted: Restarted) -> int:
    return os.dup(restarted.kept[1])


def one_that_has_shrunk(restarted: Restarted) -> int:
    os.ftruncate(restarted.kept[0], UNIT)
    return os.dup(restarted.kept[0])


def one_that_is_open_for_reading_only(restarted: Restarted) -> int:
    return os.open(f"/proc/self/fd/{restarted.kept[0]}", os.O_RDONLY)


def no_memory_at_all(restarted: Restarted) -> int:
    return os.open("/dev/null", os.O_RDWR)


def an_end_of_a_pipe(restarted: Restarted) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    "make_wrong",
    [
        another_file,
        the_other_window,
        one_that_has_shrunk,
        one_that_is_open_for_reading_only,
        no_memory_at_all,
        an_end_of_a_pipe,
    ],
)
def test_what_is_not_the_window_as_it_was_made_is_refused_and_not_kept(restarted, make_wrong) -> None:
    wrong = make_wrong(restarted)
    before = descriptor_count()
    with pytest.raises(InvalidRequest, match="not the window of allotment 0 of L1"):
        restarted.hand_back(0, wrong)
    assert descriptor_count() == before
    assert restarted.backend.windows("L1") == []
    os.close(wrong)


def test_a_file_without_the_seals_is_refused_though_all_else_is_as_it_was(restarted) -> None:
    fd = os.memfd_create("leasehold-L2-0", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, UNIT)
    status = os.fstat(fd)
    lease = lease_of("L2", WindowMark(0, UNIT, status.st_dev, status.st_ino))
    restarted.backend.adopt(lease)
    for seals in (0, fcntl.F_SEAL_GROW, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        with pytest.raises(InvalidRequest):
            restarted.backend.hand_back(lease, 0, os.dup(fd))
    os.close(fd)


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_a_window_that_the_lease_never_had_is_refused(restarted, index) -> None:
    before = descriptor_count()
    with pytest.raises(InvalidRequest):
        restarted.backend.hand_back(restarted.lease, index, os.dup(restarted.kept[0]))
    assert descriptor_count() == before


# Out of reach.


def test_a_lease_whose_windows_are_not_back_is_quiet_when_the_last_process_that_has_one_ends(restarted) -> None:
    told = queue.SimpleQueue()
    restarted.hand_back(1)
    with Keeper("maps", restarted.kept[0]):
        answer = restarted.backend.fence(restarted.lease, lambda: told.put("quiet"), is_holder_dead=False)
        assert answer is Fence.OUT_OF_REACH
        assert restarted.sizes() == [2 * UNIT, 0], "what is here is fenced at once"
        assert told.empty()
    assert told.get(timeout=DEADLINE_S) == "quiet"


def test_a_child_of_a_dead_holder_keeps_its_windows_in_use(restarted) -> None:
    told = queue.SimpleQueue()
    with Keeper("opens in a child", restarted.kept[0]):
        answer = restarted.backend.fence(restarted.lease, lambda: told.put("quiet"), is_holder_dead=True)
        assert answer is Fence.OUT_OF_REACH
        assert inheritors.are_in_use(restarted.marks)
        assert told.empty()
    assert told.get(timeout=DEADLINE_S) == "quiet"


def test_what_a_salvaged_store_may_have_granted_waits_for_every_window_there_is(restarted, monkeypatch) -> None:
    files = {(5, 77)}
    monkeypatch.setattr(inheritors, "_files_in_use", lambda: (set(files), set()))
    monkeypatch.setattr(inheritors, "_PERIOD_S", 0.01)
    told = queue.SimpleQueue()
    lease = lease_of("salvage-0", ANY_WINDOW)
    restarted.backend.adopt(lease)
    assert restarted.backend.fence(lease, lambda: told.put("quiet"), is_holder_dead=True) is Fence.OUT_OF_REACH
    assert told.empty()
    files.clear()
    assert told.get(timeout=DEADLINE_S) == "quiet"


def test_a_lease_without_memory_is_quiet_at_once(restarted) -> None:
    lease = lease_of("L2")
    restarted.backend.adopt(lease)
    assert restarted.backend.fence(lease, never, is_holder_dead=False) is Fence.QUIET


def test_a_polite_end_needs_no_window_and_what_is_given_back_need_not_come_back(restarted) -> None:
    restarted.hand_back(1)
    restarted.backend.give_back("L1", 0)
    assert restarted.backend.fence(restarted.lease, never, is_holder_dead=False) is Fence.QUIET
    restarted.backend.end("L1")
    assert restarted.backend.windows("L1") == []


# Making anew.


def test_windows_that_nobody_has_are_made_anew_and_known_by_their_new_marks(restarted) -> None:
    marks = restarted.backend.remake(restarted.lease)
    assert [(mark.allotment_index, mark.size_bytes) for mark in marks] == [(0, 2 * UNIT), (1, UNIT)]
    assert {mark.inode for mark in marks}.isdisjoint({mark.inode for mark in restarted.marks})
    windows = restarted.backend.windows("L1")
    assert tuple(window.mark for window in windows) == marks
    assert [fcntl.fcntl(window.fd, fcntl.F_GET_SEALS) for window in windows] == [SEALS] * 2


def test_a_window_that_somebody_has_is_not_made_anew(restarted) -> None:
    with Keeper("maps", restarted.kept[1]), pytest.raises(CardFailed, match="must be handed back"):
        restarted.backend.remake(restarted.lease)
    assert restarted.backend.windows("L1") == []


def test_only_what_is_missing_is_made_anew(restarted) -> None:
    restarted.hand_back(1)
    first, second = restarted.backend.remake(restarted.lease)
    assert (first == restarted.marks[0], second == restarted.marks[1]) == (False, True)
    assert [window.mark for window in restarted.backend.windows("L1")] == [first, second]


def test_where_nothing_is_missing_nothing_is_made() -> None:
    backend = make()
    marks = backend.prepare("L1", "0", [memory(0, 1)], first_index=0)
    before = descriptor_count()
    assert backend.remake(lease_of("L1", *marks)) == marks
    assert descriptor_count() == before
    backend.close()


def test_the_word_for_a_card_changes_with_the_boot_and_with_nothing_else(monkeypatch) -> None:
    first, second = make(2), make(2)
    assert first.incarnations == second.incarnations
    assert [card for card, _ in first.incarnations] == ["0", "1"]
    monkeypatch.setattr("rm.devices.embedded.boot_id", lambda: "another boot")
    assert dict(make(2).incarnations) == {"0": "another boot", "1": "another boot"}
