"""Puts the service on its sockets: the gRPC server with its options, health and reflection, and the session socket."""

import os
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rm.core import limits
from rm.service.engine import Engine
from rm.service.servicer import Servicer
from rm.service.session_socket import SessionSocket
from rm.service.sessions import Session, Sessions
from rm.service.timer import Timer
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc

GRPC_SOCKET = "rm.sock"
SESSION_SOCKET = "session.sock"
UNIX_PATH_BYTES_MAX = 107  # sun_path of the kernel, less the closing zero
STOP_GRACE_S = 2.0

# The defaults drop bursts of over 1,000 calls, notice a peer that hangs after 60 s whatever the keepalive says, cut off
# clients that ping often, and share a TCP port between two daemons.
SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    ("grpc.max_concurrent_streams", 32_768),
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.server_handshake_timeout_ms", 5_000),
)


class Server:
    """Everything that listens."""

    def __init__(self, engine: Engine, *, admin_uids: frozenset[int]) -> None:
        self._engine = engine
        self._sessions = Sessions(self._on_death)
        self._session_socket = SessionSocket(engine, self._sessions)
        self._servicer = Servicer(engine, self._sessions, admin_uids=admin_uids, pid=os.getpid())
        self._health = health.aio.HealthServicer()
        self._timer = Timer(engine)
        self._grpc: grpc.aio.Server | None = None

    async def start(self, run_directory: Path, *, socket_mode: int = 0o666, group_id: int = -1) -> None:
        """Listens on both sockets of ``run_directory``, which must be locked: what lies there is stale.

        Raises:
            OSError: a socket cannot be made there.
        """
        grpc_path, session_path = run_directory / GRPC_SOCKET, run_directory / SESSION_SOCKET
        for path in (grpc_path, session_path):
            if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
                raise OSError(f"the path of a socket has at most {UNIX_PATH_BYTES_MAX} bytes: {path}")
            path.unlink(missing_ok=True)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        pb_grpc.add_ResourceManagerServiceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        service = pb.DESCRIPTOR.services_by_name["ResourceManagerService"].full_name
        reflection.enable_server_reflection((service, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        server.add_insecure_port(f"unix:{grpc_path}")
        self._session_socket.listen(session_path)
        for path in (grpc_path, session_path):
            os.chown(path, -1, group_id)
            path.chmod(socket_mode)
        await server.start()
        self._grpc = server
        for name in ("", service):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._timer.start()

    async def stop(self) -> None:
        """Lets calls in flight end, then closes both sockets. Leases stay in the ledger."""
        self._engine.stop()
        self._engine.log.close()
        await self._health.enter_graceful_shutdown()
        await self._timer.stop()
        if self._grpc is not None:
            await self._grpc.stop(STOP_GRACE_S)
        self._session_socket.close()
        self._sessions.close_all()
        await self._engine.store.close()
        self._engine.backend.close()

    def _on_death(self, session: Session) -> None:
        self._engine.end_session(session.id, "process died", is_violent=True)
