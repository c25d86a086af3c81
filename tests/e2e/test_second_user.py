"""A second user of the same host may use the card, and may not touch what another user holds."""

import os

import grpc
import pytest

from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc
from support.daemon import python

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a second user")]

NOBODY = 65534
OTHER_USER = """
import os, sys
import leasehold.client
from rmapi.v1 import resource_manager_pb2 as pb
os.setgid(65534); os.setuid(65534)  # only now: the interpreter itself may lie where root alone can read
run_directory, lease_id = sys.argv[1:]
with leasehold.connect(run_directory) as client:
    with client.acquire(memory="1MiB", label="theirs") as own:
        (mine,) = [one for one in client.leases() if one.label == "theirs"]
        print(mine.uid, flush=True)
        calls = {
            "Release": pb.ReleaseRequest(lease_id=lease_id),
            "KeepAlive": pb.KeepAliveRequest(lease_ids=[lease_id]),
        }
        for name in ("Release", "KeepAlive"):
            try:
                client._call(name, calls[name])
                print("done", flush=True)
            except leasehold.NotOwner as refusal:
                print(refusal.reason, flush=True)
        try:
            client._session().fetch_windows(lease_id)
            print("fetched", flush=True)
        except leasehold.NotOwner as refusal:
            print(refusal.reason, flush=True)
"""


def test_another_user_cannot_end_renew_or_map_a_lease(daemon, client):
    with client.acquire(memory="1MiB", streams=1) as lease:
        process = python(OTHER_USER, str(daemon.run_directory), lease.id)
        out, err = process.communicate(timeout=60)

        assert out.split() == [str(NOBODY), "NOT_OWNER", "NOT_OWNER", "NOT_OWNER"], err
        assert lease.valid
        assert [one.id for one in client.leases()] == [lease.id]


def test_a_session_id_without_its_secret_is_worth_nothing(daemon, client):
    with client.acquire(streams=1) as lease:
        session_id = client._session().session_id
        with grpc.insecure_channel(f"unix:{daemon.run_directory}/rm.sock") as channel:
            stub = pb_grpc.ResourceManagerServiceStub(channel)
            for secret in ("", "0" * 64):
                metadata = (("rmapi-session-id", session_id), ("rmapi-session-secret", secret))
                with pytest.raises(grpc.RpcError) as caught:
                    stub.Release(pb.ReleaseRequest(lease_id=lease.id), metadata=metadata, timeout=10)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert lease.valid
