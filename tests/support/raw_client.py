"""A client without the library: it speaks frames and gRPC itself, and says only what a test has it say."""

import fcntl
import os
import socket

import grpc

from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc
from rmapi.v1 import session_pb2 as pb
from support.served import LENGTH, PROTOCOL_VERSION, RawConnection, greeting, memory, refusal_of, streams


class RawClient:
    """A session of this process, and its windows."""

    def __init__(self, run_directory: str) -> None:
        self._run_directory = run_directory
        self._connect()
        opened = greeting(self.connection).session_opened
        self.id, self.secret = opened.session_id, opened.session_secret

    def _connect(self) -> None:
        self.connection = RawConnection(f"{self._run_directory}/session.sock")
        self._channel = grpc.insecure_channel(f"unix:{self._run_directory}/rm.sock")
        self.stub = pb_grpc.ResourceManagerServiceStub(self._channel)

    def close(self) -> None:
        """Hangs up; the session stays."""
        self.connection.socket.close()
        self._channel.close()

    @property
    def metadata(self):
        return (("rmapi-session-id", self.id), ("rmapi-session-secret", self.secret))

    def call(self, method, request):
        """Calls a method as this session."""
        return getattr(self.stub, method)(request, metadata=self.metadata, timeout=20, wait_for_ready=True)

    def reason(self, method, request) -> str:
        """Why a call is refused."""
        code, detail = refusal_of(self.call, method, request)
        return detail.reason or code.name

    def hold(self, *, memory_units: int = 0, stream_count: int = 0, request_id: int = 1) -> str:
        """Acquires a lease without a keepalive; answers its id."""
        claims = [memory(memory_units)] if memory_units else []
        claims += [streams(stream_count)] if stream_count else []
        request = rm_pb.AcquireRequest(request_id=request_id, claims=claims, ttl_duration={})
        return self.call("Acquire", request).lease.id

    def fetch(self, lease_id: str) -> int:
        """Fetches the first window of a lease."""
        body = pb.ClientFrame(correlation_id=7, fetch_windows=pb.FetchWindows(lease_id=lease_id)).SerializeToString()
        self.connection.send(LENGTH.pack(len(body)) + body)
        _, (fd,) = self.connection.receive_with_descriptors()
        return fd

    def attach(self, session_id: str = "", secret: str = "") -> str:
        """Attaches to its session, or to another's; answers what came of it."""
        self._connect()
        known = {"session_id": session_id or self.id, "session_secret": secret or self.secret}
        asked = pb.AttachSession(protocol_version=PROTOCOL_VERSION, **known)
        return told(self.connection.ask(attach_session=asked))

    def hand_back(self, lease_id: str, *fds: int, index: int = 0) -> str:
        """Hands descriptors back as the windows of a lease; answers what came of it."""
        indexes = range(index, index + len(fds))
        frame = pb.ReturnWindows(lease_id=lease_id, allotment_indexes=indexes)
        body = pb.ClientFrame(correlation_id=7, return_windows=frame).SerializeToString()
        socket.send_fds(self.connection.socket, [LENGTH.pack(len(body)) + body], fds)
        return told(self.connection.receive())


def told(frame: pb.ServerFrame) -> str:
    """The reason of a refusal, else what kind of answer it is."""
    return frame.fault.detail.reason or frame.WhichOneof("body")


def impostors(window: int) -> dict[str, int]:
    """Files that look like a window and are not it, or cannot be taken for it."""
    size = os.fstat(window).st_size
    twin = os.memfd_create("leasehold-L1-0", os.MFD_ALLOW_SEALING)
    os.ftruncate(twin, size)
    fcntl.fcntl(twin, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return {
        "a twin": twin,
        "read only": os.open(f"/proc/self/fd/{window}", os.O_RDONLY),
        "a pipe": os.pipe()[1],
        "a directory": os.open("/", os.O_RDONLY),
    }
