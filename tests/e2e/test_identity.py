"""Who may do what to whose lease: the kernel says who a process is, and a second user of this host is a real one."""

import os

import pytest

from support.daemon import is_all_free
from support.puppet import STRANGER_UID
from support.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a second user")]

IMPORTS = """
from support.raw_client import RawClient, told
from rmapi.v1 import resource_manager_pb2 as rm_pb, session_pb2 as pb
from support.served import memory, streams
"""
RAW = "raw = RawClient(run_directory)"
# Everything that a call can do to a lease; each must be refused.
ATTEMPTS = {
    "Release": "rm_pb.ReleaseRequest(lease_id={id!r})",
    "KeepAlive": "rm_pb.KeepAliveRequest(lease_ids=[{id!r}])",
    "Extend": "rm_pb.ExtendRequest(request_id=50, lease_id={id!r}, claims=[streams()])",
    "GiveBack": "rm_pb.GiveBackRequest(request_id=51, lease_id={id!r}, pool='streams', ranges=[dict(start=0, stop=1)])",
    "Revoke": "rm_pb.RevokeRequest(lease_id={id!r}, notice_duration=dict())",
}
FRAMES = {
    "fetch_windows": "pb.FetchWindows(lease_id={id!r})",
    "keep_alive": "rm_pb.KeepAliveRequest(lease_ids=[{id!r}])",
    "release": "rm_pb.ReleaseRequest(lease_id={id!r})",
}


def test_another_user_cannot_touch_a_lease_by_any_call_also_after_a_restart(restarted, puppets):
    owner, stranger = puppets(restarted), puppets(restarted, uid=STRANGER_UID, imports=IMPORTS)
    owner("lease = hold(memory='1MiB', streams=2); lease.memory[:5] = b'hello'")
    stranger(RAW)
    try_everything(stranger, owner("lease.id"))
    restarted.restart()
    assert stranger("raw.attach()") == "session_opened"
    try_everything(stranger, owner("lease.id"))

    assert owner("lease.check(), bytes(lease.memory[:5]) == b'hello', lost") == [None, True, []]
    owner("lease.release()")
    with restarted.connect() as client:
        until(lambda: is_all_free(client))  # it may have been released before its window was handed back


def try_everything(stranger, lease_id: str) -> None:
    for method, request in ATTEMPTS.items():
        assert stranger(f"raw.reason({method!r}, {request.format(id=lease_id)})") == "NOT_OWNER", method
    for frame, body in FRAMES.items():
        assert stranger(f"told(raw.connection.ask({frame}={body.format(id=lease_id)}))") == "NOT_OWNER", frame
    stranger("window = os.memfd_create('leasehold-1')")
    assert stranger(f"raw.hand_back({lease_id!r}, window)") == "NOT_OWNER"
    assert stranger("raw.call('Release', rm_pb.ReleaseRequest(request_id=1)).released") is False


def test_rmctl_revoke_is_not_for_another_user(restarted, puppets):
    stranger = puppets(restarted, uid=STRANGER_UID)
    with restarted.connect() as client:
        lease = client.acquire(streams=1)
        assert stranger.fault(f"client.revoke({lease.id!r})") == "NotOwner"
        lease.check()
    stranger("lease = hold(streams=1)")
    assert stranger.fault("client.revoke(lease.id)") == "NotOwner"  # an owner releases
    with restarted.connect() as client:
        assert client.revoke(stranger("lease.id"))  # and an admin may
        until(lambda: stranger("lost") == ["revoked"])


@pytest.mark.parametrize("uid", [STRANGER_UID, 0], ids=["another user", "the same user"])
def test_a_session_is_attached_by_its_own_process_only_also_after_a_restart(restarted, puppets, uid):
    owner, thief = puppets(restarted), puppets(restarted, uid=uid, imports=IMPORTS)
    owner("lease = hold(memory='1MiB')")
    thief(RAW)
    session_id, secret = owner("client.open()")
    try_to_attach(thief, session_id, secret)
    restarted.restart()
    try_to_attach(thief, session_id, secret)

    with restarted.connect() as client:
        until(lambda: [lease.state for lease in client.leases()] == ["held"])
    assert owner("lease.check(), lost") == [None, []]


def try_to_attach(thief, session_id: str, secret: str) -> None:
    assert thief(f"raw.attach({session_id!r}, {'0' * 64!r})") == "SESSION_UNKNOWN"
    assert thief(f"raw.attach({session_id!r}, {secret!r})") == "NOT_OWNER"
    assert thief("raw.attach()") == "session_opened"


def test_a_wrong_secret_is_worth_nothing_and_the_right_one_acts_as_its_session_in_calls(restarted, puppets):
    """gRPC tells the server nothing about who calls: there the secret alone is the proof, and must be kept.

    Whoever has read it from the memory of the process (as only the same user and root can) may call as that session.
    It gets no window that way, nor may it do what that session may not.
    """
    owner, thief = puppets(restarted), puppets(restarted, uid=STRANGER_UID, imports=IMPORTS)
    owner("lease = hold(streams=2); kept = hold(memory='1MiB')")
    thief(RAW)
    session_id, secret = owner("client.open()")
    lease_id = owner("lease.id")
    thief(f"raw.id, raw.secret = {session_id!r}, {'0' * 64!r}")
    for method, request in ATTEMPTS.items():
        assert thief(f"raw.reason({method!r}, {request.format(id=lease_id)})") == "SESSION_UNKNOWN", method
    restarted.restart()
    for method, request in ATTEMPTS.items():
        assert thief(f"raw.reason({method!r}, {request.format(id=lease_id)})") == "SESSION_UNKNOWN", method

    thief(f"raw.secret = {secret!r}")
    assert thief(f"list(raw.call('KeepAlive', {ATTEMPTS['KeepAlive'].format(id=lease_id)}).lost_lease_ids)") == []
    assert thief(f"raw.call('Release', {ATTEMPTS['Release'].format(id=lease_id)}).released") is True
    assert owner("kept.check()") is None
    until(lambda: owner("lost") == ["the daemon no longer has it"])


def test_root_may_revoke_the_lease_of_another_user_over_a_restart(restarted, puppets):
    """What a session may do is its process's uid at the time it was opened, and stays so over a restart."""
    stranger = puppets(restarted, uid=STRANGER_UID)
    stranger("lease = hold(memory='1MiB', streams=1)")
    with restarted.connect() as client:
        restarted.restart()
        (seen,) = client.leases()
        assert (seen.uid, seen.pid) == (STRANGER_UID, stranger.pid)
        assert client.revoke(seen.id, why="by root", notice=60)  # it may still be on its way to the new daemon
        until(lambda: stranger("lost") == ["by root"])
        until(lambda: is_all_free(client))
