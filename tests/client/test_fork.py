"""Forked children: a session of their own or a clear error, and never a hang."""

import pytest

from support.daemon import python

FORKED = """
import os, sys, leasehold
client = leasehold.connect(sys.argv[1])
lease = client.acquire(memory="1MiB", streams=1)
lease.memory[0] = 7
stream = lease.stream()
stream.submit(int).result()
pid = os.fork()
if pid == 0:
    try:
        for use in (lambda: lease.stream(), lambda: lease.memory.array("u1", 1), lambda: lease.extend(streams=1)):
            try:
                use()
                print("used", flush=True)
            except leasehold.LeaseLost as lost:
                print("of which this one was forked" in str(lost), flush=True)
        with client.acquire(memory="1MiB", label="child") as own:
            (mine,) = [one for one in client.leases() if one.label == "child"]
            print(mine.pid == os.getpid(), own.memory[0], flush=True)
        lease.release()
        client.close()
    finally:
        os._exit(0)
print(os.waitpid(pid, 0)[1])
print(lease.valid, lease.memory[0], [one.id for one in client.leases()] == [lease.id])
with client.acquire(streams=1):
    pass
lease.release()
client.close()
"""

MULTIPROCESSING = """
import multiprocessing, sys, leasehold
from leasehold import connect

def work(number):
    with client.acquire(streams=1, wait=30) as lease:
        return lease.token

client = connect(sys.argv[1])
client.acquire(streams=1).release()
with multiprocessing.get_context("fork").Pool(3) as pool:
    tokens = pool.map(work, range(12))
print(len(set(tokens)))
client.acquire(streams=1).release()
client.close()
"""

WHILE_OTHERS_CALL = """
import os, sys, threading, leasehold
client = leasehold.connect(sys.argv[1])
done = threading.Event()
def busy():
    while not done.is_set():
        client.acquire(streams=1).release()
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads: thread.start()
import leasehold.forks; leasehold.forks._SETTLE_S = 30  # a call of the parent may take its time here
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        with leasehold.connect(sys.argv[1]) as own:
            own.acquire(streams=1).release()
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
done.set()
for thread in threads: thread.join()
client.close()
"""

WHILE_ONE_WAITS = """
import os, sys, threading, leasehold
client = leasehold.connect(sys.argv[1])
lease = client.acquire(leasehold.Ids("streams", [0]))
thread = threading.Thread(target=lambda: client.acquire(leasehold.Ids("streams", [0]), wait=60).release())
thread.start()
while not client.status().waiter_count:
    pass
pid = os.fork()
if pid == 0:
    try:
        client.acquire(vdec=1)
        print("it called", flush=True)
    except leasehold.DaemonUnavailable as fault:
        print("in the middle of a call" in str(fault), flush=True)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
lease.release()
thread.join()
client.close()
"""


def told(daemon, source):
    process = python(f"import warnings; warnings.simplefilter('ignore')\n{source}", str(daemon.run_directory))
    try:
        out, err = process.communicate(timeout=60)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, err
    return out.split("\n")[:-1]


def test_a_forked_child_has_a_session_of_its_own_and_no_part_in_its_parents_lease(daemon, client):
    assert told(daemon, FORKED) == ["True", "True", "True", "True 0", "0", "True 7 True"]


def test_a_pool_of_forked_workers_may_use_the_client_of_their_parent(daemon, client):
    assert told(daemon, MULTIPROCESSING) == ["12"]


def test_forking_while_other_threads_call_hangs_nobody(daemon, client):
    assert told(daemon, WHILE_OTHERS_CALL) == ["0"] * 10


def test_a_fork_in_the_middle_of_a_call_is_a_clear_error_in_the_child_or_none_at_all(daemon, client, door):
    assert told(daemon, WHILE_ONE_WAITS) == {"grpc": ["True", "0"], "session": ["it called", "0"]}[door]


@pytest.mark.parametrize("module", ["leasehold", "leasehold.aio"])
def test_importing_the_library_imports_nothing_heavy(module):
    heavy = "{'grpc', 'numpy', 'onnxruntime', 'click', 'rich', 'bitarray', 'rm'}"
    process = python(f"import sys, {module}; print({heavy} & set(sys.modules))")
    assert process.communicate(timeout=60)[0] == "set()\n"
