"""The gRPC socket against those who break its rules, and against a second user of the host."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rm.core import limits
from rmapi.v1 import resource_manager_pb2 as pb
from support.served import DEADLINE_S, memory, serving, streams

CODE = grpc.StatusCode
SERVICE = "rmapi.v1.ResourceManagerService"
NOISE = random.Random(1).randbytes(5_000)


@pytest.mark.parametrize("door", ["grpc"], indirect=True)
def test_a_message_that_is_too_long_is_refused_and_others_are_served(served, witness) -> None:
    request = pb.KeepAliveRequest(lease_ids=["x" * 1_000] * (limits.MESSAGE_BYTES_MAX // 1_000 + 1))
    with pytest.raises(grpc.RpcError) as raised:
        witness.call("KeepAlive", request)
    assert raised.value.code() == CODE.RESOURCE_EXHAUSTED
    assert witness.is_served()


@pytest.mark.parametrize("door", ["grpc"], indirect=True)
def test_metadata_that_is_too_long_is_refused_and_others_are_served(served, witness) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        served.stub().GetStatus(pb.GetStatusRequest(), metadata=(("x", "y" * 100_000),), timeout=DEADLINE_S)
    assert raised.value.code() == CODE.RESOURCE_EXHAUSTED
    assert witness.is_served()


@pytest.mark.parametrize("door", ["grpc"], indirect=True)
@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1_000,
        NOISE,
    ],
    ids=["zeros", "http 1", "preface and noise", "noise"],
)
def test_noise_on_the_grpc_socket_costs_only_its_connection(served, witness, data) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(str(served.grpc_path))
        connection.sendall(data)
        assert witness.is_served()
    assert witness.is_served()


@pytest.mark.parametrize("door", ["grpc"], indirect=True)
def test_bytes_that_are_no_message_are_refused_and_others_are_served(served, witness) -> None:
    call = served.channel().unary_unary(f"/{SERVICE}/Acquire")
    with pytest.raises(grpc.RpcError) as raised:
        call(b"\xff\xff\xff", metadata=witness.metadata, timeout=DEADLINE_S)
    assert raised.value.code() in {CODE.INTERNAL, CODE.UNKNOWN, CODE.INVALID_ARGUMENT}
    assert witness.is_served()


@pytest.mark.parametrize("door", ["grpc"], indirect=True)
def test_a_method_that_is_not_there_is_unimplemented(served) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        served.channel().unary_unary(f"/{SERVICE}/Steal")(b"", timeout=DEADLINE_S)
    assert raised.value.code() == CODE.UNIMPLEMENTED


def test_many_calls_at_once_are_all_answered(served, witness) -> None:
    for _ in range(8):  # of which one that reads no answer meanwhile is still heard
        calls = [
            witness.stub.KeepAlive.future(pb.KeepAliveRequest(), metadata=witness.metadata, timeout=DEADLINE_S)
            for _ in range(200)
        ]
        assert {call.result().revision for call in calls} == {served.engine.ledger.revision}


# What tools ask.


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_is_serving(served, name) -> None:
    stub = health_pb2_grpc.HealthStub(served.channel())
    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_service_and_knows_its_file(served) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel())
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, found = stub.ServerReflectionInfo(iter(asked), timeout=DEADLINE_S)
    assert SERVICE in {one.name for one in listed.list_services_response.service}
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in found.file_descriptor_response.file_descriptor_proto
    ]
    assert any(service.name == "ResourceManagerService" for file in files for service in file.service)


def test_both_sockets_are_for_everybody_or_as_they_were_told(served) -> None:
    assert [path.stat().st_mode & 0o777 for path in (served.grpc_path, served.session_path)] == [0o666, 0o666]


# A second user.

STRANGER = """
import json, os, sys
import grpc
from rmapi.v1 import resource_manager_pb2 as pb, resource_manager_pb2_grpc as pb_grpc, session_pb2, types_pb2
from support.served import RawConnection, greeting
from pathlib import Path

run, lease_id, session_id, secret = Path(sys.argv[1]), *sys.argv[2:]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
connection = RawConnection(run / "session.sock")
stolen = connection.ask(
    attach_session=session_pb2.AttachSession(protocol_version=1, session_id=session_id, session_secret=secret)
)
connection = RawConnection(run / "session.sock")
opened = greeting(connection).session_opened
metadata = (("rmapi-session-id", opened.session_id), ("rmapi-session-secret", opened.session_secret))
stub = pb_grpc.ResourceManagerServiceStub(grpc.insecure_channel(f"unix:{run / 'rm.sock'}"))
ranges = [types_pb2.UnitRange(start=0, stop=1)]
calls = {
    "release": lambda: stub.Release(pb.ReleaseRequest(lease_id=lease_id), metadata=metadata),
    "keepalive": lambda: stub.KeepAlive(pb.KeepAliveRequest(lease_ids=[lease_id]), metadata=metadata),
    "give back": lambda: stub.GiveBack(
        pb.GiveBackRequest(request_id=1, lease_id=lease_id, pool="streams", ranges=ranges), metadata=metadata
    ),
}
said = {"attach": stolen.fault.detail.reason}
for name, call in calls.items():
    try:
        call()
        said[name] = "done"
    except grpc.RpcError as refused:
        said[name] = refused.code().name
said["windows"] = connection.ask(fetch_windows=session_pb2.FetchWindows(lease_id=lease_id)).fault.detail.reason
claim = types_pb2.Claim(pool="streams", units=types_pb2.UnitsClaim(unit_count=1))
own = stub.Acquire(pb.AcquireRequest(request_id=2, claims=[claim]), metadata=metadata).lease
said["own uid"] = own.holder.uid
print(json.dumps(said))
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes a second user")
def test_a_second_user_cannot_end_keep_alive_or_see_into_the_firsts_lease() -> None:
    run_directory = Path(tempfile.mkdtemp(prefix="leasehold-"))
    run_directory.chmod(0o755)
    try:
        with serving(run_directory) as served:
            client = served.open_session()
            lease = client.acquire(memory(1), streams(), request_id=1)
            tests = Path(__file__).resolve().parents[1]
            done = subprocess.run(
                [sys.executable, "-c", STRANGER, str(run_directory), lease.id, client.id, client.secret],
                env=os.environ | {"PYTHONPATH": str(tests)},
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == {
                "attach": "NOT_OWNER",
                "release": "PERMISSION_DENIED",
                "keepalive": "PERMISSION_DENIED",
                "give back": "PERMISSION_DENIED",
                "windows": "NOT_OWNER",
                "own uid": 65534,
            }
            served.until(lambda: list(served.engine.ledger.leases) == [lease.id])
            assert client.is_served()
    finally:
        shutil.rmtree(run_directory)
