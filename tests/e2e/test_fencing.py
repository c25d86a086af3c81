"""Who must let go and does not: fenced where that is possible, else its units wait for its end, or it is killed."""

import os
import signal
import subprocess
import time

import pytest

from support.daemon import END_S, RMCTL, has_become, is_all_free
from support.waiting import until

# After a restart of the daemon this client keeps its windows to itself.
KEEPS_WINDOWS = "client._windows_held = dict"
HOLDS_ARRAY = "data = lease.memory.array('u1', 4096); data[:] = 7"


def quarantined(client) -> int:
    return sum(pool.quarantined for pool in client.cards()[0].pools)


def hand_back(holder) -> None:
    """Returns once a daemon that was restarted has the holder's windows: they go before whatever it asks."""
    holder("client.acquire(streams=1).release()")


# After a restart.


def test_what_was_not_handed_back_stays_in_quarantine_until_its_process_ends(restarted, puppets):
    holder = puppets(restarted)
    holder("lease = hold(memory='32MiB', streams=4)")
    holder(HOLDS_ARRAY)
    holder(KEEPS_WINDOWS)
    restarted.restart()
    with restarted.connect() as client:
        assert client.revoke(client.leases()[0].id, notice=0)
        until(lambda: not client.leases())
        assert quarantined(client) == 512 + 4
        assert f"units of {holder('lease.id')} are in quarantine" in client.status().warnings[0]
        assert "a lease cannot be fenced" in restarted.logged()
        restarted.restart()  # and so it is over restarts
        assert quarantined(client) == 512 + 4
        assert client.check().differences == []
        assert holder("int(data.sum())") == 7 * 4096  # nothing was taken from it
        with client.acquire(memory="32MiB", streams=252):
            holder.kill()
            client.acquire(memory="32MiB", streams=4, wait=END_S).release()
        assert is_all_free(client)


@pytest.mark.parametrize("fence", ["wait", "kill"])
def test_a_command_that_never_speaks_is_waited_for_or_killed(hurt, fence):
    daemon = hurt("--fence", fence)
    environment = os.environ | {"LEASEHOLD_ADDRESS": str(daemon.run_directory)}
    wanted = ["run", "--memory", "1MiB", "--", "sleep", "1000"]
    with daemon.connect() as client, subprocess.Popen([*RMCTL, *wanted], env=environment) as command:
        until(lambda: has_become(command, "sleep"))
        assert [lease.command for lease in client.leases()] == ["sleep 1000"]
        daemon.restart()
        assert client.revoke(client.leases()[0].id, notice=0)
        if fence == "kill":
            assert command.wait(END_S) == -signal.SIGKILL
        else:
            until(lambda: quarantined(client) == 16)
            assert command.poll() is None
            command.terminate()
            command.wait(END_S)
        until(lambda: is_all_free(client))


def test_a_command_that_never_speaks_is_fenced_by_the_daemon_that_made_its_window(restarted):
    environment = os.environ | {"LEASEHOLD_ADDRESS": str(restarted.run_directory)}
    wanted = ["run", "--memory", "1MiB", "--", "sleep", "1000"]
    with restarted.connect() as client, subprocess.Popen([*RMCTL, *wanted], env=environment) as command:
        until(lambda: has_become(command, "sleep"))
        assert [lease.command for lease in client.leases()] == ["sleep 1000"]
        assert client.revoke(client.leases()[0].id, notice=0)
        until(lambda: is_all_free(client))
        assert command.poll() is None
        command.kill()


def test_fence_kill_spares_who_hands_its_windows_back(hurt, puppets):
    daemon = hurt("--fence", "kill")
    holder = puppets(daemon)
    holder("lease = hold(memory='1MiB', streams=1)")
    holder(HOLDS_ARRAY)
    daemon.restart()
    with daemon.connect() as client:
        hand_back(holder)
        client.revoke(client.leases()[0].id, notice=0)
        until(lambda: is_all_free(client))
        assert holder.fault("lease.check()") == "LeaseLost"


@pytest.mark.parametrize("standstill_s", [0, 1.3])
def test_fence_kill_spares_who_has_no_window_any_more(hurt, puppets, standstill_s):
    daemon = hurt("--fence", "kill")
    holder = puppets(daemon, imports="from support.raw_client import RawClient")
    holder("raw = RawClient(run_directory); lease_id = raw.hold(memory_units=512)")
    holder("os.close(raw.fetch(lease_id))")
    daemon.restart()
    with daemon.connect() as client:
        client.revoke(holder("lease_id"), notice=0)
        until(lambda: not client.leases())
        if standstill_s:  # of a daemon that is about to look who has it
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(standstill_s)
            daemon.process.send_signal(signal.SIGCONT)
        until(lambda: is_all_free(client))
        assert holder("raw.attach()") == "session_opened"


def test_a_childs_copy_of_a_dead_holders_window_keeps_its_units_until_the_child_ends(restarted, puppets):
    holder = puppets(restarted)
    holder("lease = hold(memory='32MiB', streams=4)")
    child = holder("fork_child()")
    restarted.kill()
    holder.kill()
    restarted.start()
    with restarted.connect() as client:
        assert client.leases() == []
        assert quarantined(client) == 512 + 4
        restarted.restart()
        assert quarantined(client) == 512 + 4
        os.kill(child, signal.SIGKILL)
        client.acquire(memory="64MiB", streams=256, wait=END_S).release()
        assert is_all_free(client)


def test_a_childs_copy_is_fenced_where_its_parent_handed_the_window_back(restarted, puppets):
    holder = puppets(restarted)
    holder("lease = hold(memory='32MiB', streams=4)")
    child = holder("fork_child()")
    restarted.restart()
    with restarted.connect() as client:
        hand_back(holder)
        holder.kill()
        until(lambda: is_all_free(client))
        os.kill(child, signal.SIGKILL)


def test_another_file_than_the_window_is_refused_and_the_window_stays_out_of_reach(restarted, puppets):
    holder = puppets(restarted)
    holder("from support.raw_client import RawClient, impostors; raw = RawClient(run_directory)")
    holder("lease_id = raw.hold(memory_units=512); window = raw.fetch(lease_id)")
    restarted.restart()
    assert holder("raw.attach()") == "session_opened"
    names = holder("others = impostors(window); list(others)") or holder("list(others)")
    for name in names:
        assert holder(f"raw.hand_back(lease_id, others[{name!r}])") == "INVALID_REQUEST", name
    assert holder("raw.hand_back(lease_id, window, index=1)") == "INVALID_REQUEST"
    assert holder("raw.hand_back('L999999', window)") == "LEASE_NOT_FOUND"
    with restarted.connect() as client:
        client.revoke(holder("lease_id"), notice=0)
        until(lambda: quarantined(client) == 512)
        holder.kill()
        until(lambda: is_all_free(client))


def test_a_window_handed_back_late_or_twice_is_taken_and_then_it_can_be_fenced(restarted, puppets):
    holder = puppets(restarted)
    holder("from support.raw_client import RawClient, impostors; raw = RawClient(run_directory)")
    holder("lease_id = raw.hold(memory_units=512); window = raw.fetch(lease_id)")
    restarted.restart()
    assert holder("raw.attach(), raw.hand_back(lease_id, window)") == ["session_opened", "windows_returned"]
    assert holder("raw.hand_back(lease_id, window)") == "windows_returned"
    with restarted.connect() as client:
        client.revoke(holder("lease_id"), notice=0)
        until(lambda: is_all_free(client))
        assert holder("os.fstat(window).st_size") == 0


# Revocation.


def test_an_idle_holder_lets_go_at_once_and_learns_why(daemon, client, puppets):
    holder = puppets(daemon)
    holder("lease = hold(memory='32MiB', streams=4, cores=1); lease.memory[:5] = b'hello'")
    told = daemon.rmctl("revoke", holder("lease.id"), "--notice", "1h", "--why", "upgrade")

    assert (told.returncode, told.stderr) == (0, "")
    until(lambda: is_all_free(client))
    until(lambda: holder("lost") == ["upgrade"])
    assert holder.fault("lease.check()") == "LeaseLost"
    assert holder.fault("lease.memory.allocate(64)") == "LeaseLost"
    holder("lease.release(); lease = hold(memory='64MiB')")  # it may go on with another
    assert "has ended" in daemon.rmctl("revoke", "L1").stdout
    holder("lease.release()")


def test_a_busy_holder_has_until_the_end_of_the_notice(daemon, client, puppets):
    holder = puppets(daemon)
    holder("lease = hold(memory='32MiB', streams=4)")
    holder(HOLDS_ARRAY)
    assert client.revoke(holder("lease.id"), notice=1800, why="upgrade")
    assert not client.revoke(holder("lease.id"), notice=3600)  # once is enough, and nothing is added to the notice
    (seen,) = client.leases()
    assert (seen.state, seen.revoked_because) == ("revoking", "upgrade")
    until(lambda: holder("lost") == ["upgrade"])
    assert holder("int(data.sum())") == 7 * 4096  # it may still save what it has
    assert holder.fault("lease.memory.allocate(64)") == "LeaseLost"
    told_at = time.monotonic()
    assert client.revoke(holder("lease.id"), notice=1, why="upgrade")  # sooner after all
    client.acquire(memory="64MiB", streams=256, wait=END_S).release()
    assert time.monotonic() - told_at >= 1

    holder.begin("data.sum()")
    assert holder.wait() == -signal.SIGBUS


def test_a_busy_holder_that_lets_go_in_time_gives_its_units_on_at_once(daemon, client, puppets):
    holder = puppets(daemon)
    holder("lease = hold(memory='32MiB', streams=4)")
    holder(HOLDS_ARRAY)
    client.revoke(holder("lease.id"), notice=3600)
    until(lambda: holder("lost") == ["revoked"])
    holder("del data; lease.release()")
    until(lambda: is_all_free(client))


def test_without_notice_a_busy_holder_is_fenced_now(daemon, client, puppets):
    holder = puppets(daemon)
    holder("lease = hold(memory='32MiB', streams=4)")
    holder(HOLDS_ARRAY)
    client.revoke(holder("lease.id"), notice=0)
    client.acquire(memory="64MiB", streams=256, wait=END_S).release()

    holder.begin("int(data[0])")
    assert holder.wait() == -signal.SIGBUS


def test_a_revocation_goes_on_over_a_restart(restarted, puppets):
    idle, busy, away, late = (puppets(restarted) for _ in range(4))
    for holder in (idle, busy, away, late):
        holder("lease = hold(memory='8MiB', streams=1)")
    for holder in (busy, late):
        holder(HOLDS_ARRAY)
    away.stop()
    with restarted.connect() as client:
        told = {lease.pid: lease.id for lease in client.leases() if lease.pid != idle.pid}
        for lease_id in told.values():
            client.revoke(lease_id, notice=3600, why="upgrade")
        for holder in (busy, late):
            until(lambda holder=holder: holder("lost") == ["upgrade"])
        restarted.kill()
        busy("del data; lease.release()")  # nobody hears it: it is said again
        restarted.start()
        until(lambda: {lease.pid for lease in client.leases()} == {idle.pid, away.pid, late.pid})
        states = {lease.pid: (lease.state, lease.revoked_because) for lease in client.leases()}
        assert states[away.pid] == states[late.pid] == ("revoking", "upgrade")
        away.go_on()  # and is told when it comes back
        until(lambda: {lease.pid for lease in client.leases()} == {idle.pid, late.pid})
        late("del data; lease.release()")
        until(lambda: [lease.pid for lease in client.leases()] == [idle.pid])
        assert idle("lease.check(), lost") == [None, []]
