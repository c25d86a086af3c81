"""Sessions of the daemon before this one: known again by what the kernel says of their processes, or dead."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from rm.core import limits
from rm.core.errors import NotOwner, QuotaExceeded, SessionUnknown
from rm.core.session import SessionRecord
from rm.service import sessions as module
from rm.service.sessions import Peer, Session, Sessions, hash_of, start_ticks_of
from support.daemon_parts import run_async
from support.descriptors import descriptor_count

DEADLINE_S = 30.0
WAITS = "import sys; sys.stdin.read()"


def nobody_dies(session: Session) -> None:
    raise AssertionError(f"{session.id} is not dead")


class Child:
    """A process with a session of the daemon before this one."""

    def __init__(self, executable: str = sys.executable) -> None:
        self.process = subprocess.Popen([executable, "-c", WAITS], executable=executable, stdin=subprocess.PIPE)
        self._pidfd = os.pidfd_open(self.process.pid)
        self.peer = Peer(self.process.pid, os.getuid(), self._pidfd)

    def recorded(self) -> tuple[SessionRecord, str]:
        """What the daemon before this one wrote down, and the secret that it told."""
        before = Sessions(nobody_dies)
        session = before.open(self.peer, command="./detect")
        record, secret = session.record(), session.secret
        before.close_all()
        return record, secret

    def kill(self, *, is_reaped: bool = True) -> None:
        self.process.kill()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        if is_reaped:
            self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._pidfd)


@pytest.fixture
def child():
    made = Child()
    yield made
    made.close()


@pytest.fixture(params=[True, False], ids=["pidfd inodes", "start times"])
def kernel(request, monkeypatch):
    """A kernel that tells processes apart by the inodes of their pidfds, and one before 6.9 that does not."""
    if request.param and not module.pidfd_inodes_differ():
        pytest.skip("this kernel has one inode for all pidfds")
    monkeypatch.setattr(module, "pidfd_inodes_differ", lambda: request.param)
    return request.param


@run_async
async def test_a_living_process_is_known_again_by_its_session_and_old_secret(kernel, child) -> None:
    record, secret = child.recorded()
    sessions = Sessions(nobody_dies)
    assert sessions.resume(record)
    assert sessions.get(record.id).secret == "", "no disk has it"
    session = sessions.authenticate(record.id, secret)
    assert (session.record(), session.secret) == (record, secret)
    assert sessions.authenticate(record.id, secret) is session
    with pytest.raises(SessionUnknown):
        sessions.authenticate(record.id, secret[:-1])
    assert sessions.attach(child.peer, record.id, secret) is session
    assert sessions.get(record.id) is session
    with pytest.raises(SessionUnknown):
        sessions.authenticate(record.id, "")
    sessions.close_all()


@run_async
async def test_what_is_written_down_is_no_secret_and_enough_to_know_it_again(kernel, child) -> None:
    record, secret = child.recorded()
    assert record.secret_hash == hash_of(secret)
    assert secret.encode() not in record.secret_hash
    assert (record.holder.pid, record.holder.uid, record.holder.command) == (child.peer.pid, os.getuid(), "./detect")
    assert (record.process.pidfd_inode != 0, record.process.start_ticks == 0) == (kernel, kernel)


@pytest.mark.parametrize("is_reaped", [True, False], ids=["gone", "a zombie"])
@run_async
async def test_a_dead_process_is_not_resumed_and_keeps_no_descriptor(kernel, child, is_reaped) -> None:
    record, secret = child.recorded()
    child.kill(is_reaped=is_reaped)
    sessions = Sessions(nobody_dies)
    before = descriptor_count()
    assert not sessions.resume(record)
    assert (descriptor_count(), len(sessions)) == (before, 0)
    with pytest.raises(SessionUnknown):
        sessions.authenticate(record.id, secret)


@run_async
async def test_another_process_under_the_same_pid_is_not_taken_for_it(kernel, child) -> None:
    record, _ = child.recorded()
    known = record.process
    other = replace(known, pidfd_inode=known.pidfd_inode + 1) if kernel else replace(known, start_ticks=1)
    sessions = Sessions(nobody_dies)
    before = descriptor_count()
    assert not sessions.resume(replace(record, process=other))
    assert (descriptor_count(), len(sessions)) == (before, 0)


@run_async
async def test_a_record_of_another_kind_of_kernel_is_not_taken_for_it(kernel, child, monkeypatch) -> None:
    record, _ = child.recorded()
    monkeypatch.setattr(module, "pidfd_inodes_differ", lambda: not kernel)
    assert not Sessions(nobody_dies).resume(record)


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
@run_async
async def test_a_pid_that_none_can_be_is_dead(child, pid) -> None:
    record, _ = child.recorded()
    assert not Sessions(nobody_dies).resume(replace(record, process=replace(record.process, pid=pid)))


@pytest.mark.parametrize("said", [errno.ENOENT, errno.EINVAL, errno.ESRCH], ids=errno.errorcode.get)
@run_async
async def test_a_pid_that_the_kernel_says_is_no_process_is_dead(child, monkeypatch, said) -> None:
    record, _ = child.recorded()

    def refused(pid: int) -> int:
        raise OSError(said, os.strerror(said))

    monkeypatch.setattr(os, "pidfd_open", refused)
    sessions = Sessions(nobody_dies)
    assert not sessions.resume(record)
    assert len(sessions) == 0


@run_async
async def test_a_pid_that_is_now_the_id_of_a_thread_is_dead(kernel, child) -> None:
    record, _ = child.recorded()
    done = threading.Event()
    thread = threading.Thread(target=done.wait, args=(DEADLINE_S,))
    thread.start()
    before = descriptor_count()
    assert not Sessions(nobody_dies).resume(replace(record, process=replace(record.process, pid=thread.native_id)))
    assert descriptor_count() == before
    done.set()
    thread.join()


@run_async
async def test_where_the_host_does_not_tell_nobody_is_taken_for_dead(child, monkeypatch) -> None:
    record, _ = child.recorded()

    def exhausted(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", exhausted)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        Sessions(nobody_dies).resume(record)


@run_async
async def test_the_death_of_a_resumed_process_is_told(kernel, child) -> None:
    record, _ = child.recorded()
    deaths: asyncio.Queue[Session] = asyncio.Queue()
    sessions = Sessions(deaths.put_nowait)
    assert sessions.resume(record)
    child.kill()
    assert (await asyncio.wait_for(deaths.get(), DEADLINE_S)).id == record.id
    assert len(sessions) == 0


@run_async
async def test_another_process_does_not_attach_to_a_resumed_session(kernel, child) -> None:
    record, secret = child.recorded()
    sessions, other = Sessions(nobody_dies), Child()
    assert sessions.resume(record)
    if not kernel:
        other.peer = replace(other.peer, pid=other.process.pid)
    with pytest.raises(NotOwner):
        sessions.attach(other.peer, record.id, secret)
    other.close()
    sessions.close_all()


@run_async
async def test_resumed_sessions_count_as_any_others(child, monkeypatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_PER_PROCESS_MAX", 2)
    sessions = Sessions(nobody_dies)
    for record, _ in (child.recorded(), child.recorded()):
        assert sessions.resume(record)
    with pytest.raises(QuotaExceeded):
        sessions.open(child.peer)
    sessions.close_all()
    assert sessions._count_by_process == sessions._count_by_uid == {}


@run_async
async def test_an_admin_is_one_by_its_user_also_after_a_restart(child) -> None:
    record, _ = child.recorded()
    for admin_uids, is_admin in ((frozenset({os.getuid()}), True), (frozenset({os.getuid() + 1}), False)):
        sessions = Sessions(nobody_dies, admin_uids=admin_uids)
        assert sessions.resume(record)
        asker = sessions.asker(sessions.get(record.id))
        assert (asker.is_admin, asker.session, asker.holder) == (is_admin, record.id, record.holder)
        sessions.close_all()


# What is asked of the kernel.


def test_the_start_of_a_process_is_read_whatever_its_name(tmp_path) -> None:
    odd = tmp_path / "x) R 1 (y 2"
    odd.symlink_to(sys.executable)
    child = Child(str(odd))
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime", encoding="ascii") as uptime:
        now_ticks = float(uptime.read().split()[0]) * ticks_per_s
    assert 0 <= now_ticks + 1 - start_ticks_of(child.process.pid) < DEADLINE_S * ticks_per_s
    child.close()
    with pytest.raises(ProcessLookupError):
        start_ticks_of(child.process.pid)


@run_async
async def test_killing_a_session_kills_its_process_and_nobody_elses_when_that_is_dead(child) -> None:
    sessions = Sessions(nobody_dies)
    session = sessions.open(child.peer)
    sessions._on_death = lambda session: None
    session.kill()
    assert child.process.wait(DEADLINE_S) == -signal.SIGKILL
    session.kill()
    sessions.close_all()
