"""Puts the service on its sockets: the gRPC server with its options, health and reflection, and the session socket."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rm.core import limits
from rm.core.lease import Lease
from rm.core.types import LeaseId
from rm.devices.host import boot_id
from rm.service.calls import Calls
from rm.service.engine import Engine
from rm.service.methods import Methods
from rm.service.restart import resume
from rm.service.servicer import SERVICE, Servicer
from rm.service.session_socket import SessionSocket
from rm.service.sessions import Session, Sessions
from rm.service.timer import Timer

GRPC_SOCKET = "rm.sock"
SESSION_SOCKET = "session.sock"
UNIX_PATH_BYTES_MAX = 107  # sun_path of the kernel, less the closing zero
STOP_GRACE_S = 2.0
FRESH_S = 1.0  # how old may be what was seen of a holder that is killed for it
_log = structlog.get_logger(__name__)

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
    ("grpc.max_connection_idle_ms", 600_000),
)


class Server:
    """Everything that listens."""

    def __init__(
        self,
        engine: Engine,
        *,
        admin_uids: frozenset[int],
        kills_to_fence: bool = False,
        ids_need_reserved: bool = False,
        keep_system_units: Callable[[], None] = lambda: None,
    ) -> None:
        """``kills_to_fence``: a process that must be fenced, and cannot be by other means, is killed.

        ``ids_need_reserved``: a claim by id must name reserved units. ``keep_system_units`` is called once the leases
        of before are taken up.
        """
        self._engine = engine
        self._keep_system_units = keep_system_units
        self._sessions = Sessions(self._on_death, admin_uids=admin_uids, ids_need_reserved=ids_need_reserved)
        methods = Methods.of(engine, self._sessions)
        self._session_socket = SessionSocket(engine, self._sessions, Calls(methods))
        self._servicer = Servicer(methods, self._sessions)
        self._kills_to_fence = kills_to_fence
        engine.news.out_of_reach = self._on_out_of_reach
        self._health = health.aio.HealthServicer()
        self._timer = Timer(engine)
        self._grpc: grpc.aio.Server | None = None

    async def start(self, run_directory: Path, *, socket_mode: int = 0o666, group_id: int = -1) -> None:
        """Takes up the leases of before, then listens in ``run_directory``, which is locked: what lies there is stale.

        Raises:
            OSError: a socket cannot be made there.
            CardsDiffer: the state is of other cards.
            Refusal: what the system is to keep is not known, or held by somebody.
            ShuttingDown: the store failed.
        """
        grpc_path, session_path = run_directory / GRPC_SOCKET, run_directory / SESSION_SOCKET
        for path in (grpc_path, session_path):
            if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
                raise OSError(f"the path of a socket has at most {UNIX_PATH_BYTES_MAX} bytes: {path}")
            path.unlink(missing_ok=True)
        resumed = resume(self._engine, boot_id=boot_id(), is_alive=self._sessions.resume)
        self._keep_system_units()
        await self._engine.synced()
        _log.info("resumed", **asdict(resumed))
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((self._servicer.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        server.add_insecure_port(f"unix:{grpc_path}")
        self._session_socket.listen(session_path)
        for path in (grpc_path, session_path):
            os.chown(path, -1, group_id)
            path.chmod(socket_mode)
        await server.start()
        self._grpc = server
        if self._kills_to_fence:
            self._loop = asyncio.get_running_loop()
            self._engine.backend.on_in_use = self._on_in_use
        for name in ("", SERVICE):
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
        self._engine.backend.close()
        await asyncio.sleep(0)  # what it has taken back by now is written down
        await self._engine.store.close()

    def _on_death(self, session: Session) -> None:
        if not self._engine.commits.failed_because:
            self._engine.end_session(session.id, "process died", is_violent=True)

    def _on_out_of_reach(self, lease: Lease) -> None:
        _log.warning("a lease cannot be fenced", lease=lease.id, pid=lease.holder.pid, kills=self._kills_to_fence)

    def _on_in_use(self, lease_id: LeaseId, seen_s: float) -> None:
        self._loop.call_soon_threadsafe(self._kill_holder, lease_id, seen_s)

    def _kill_holder(self, lease_id: LeaseId, seen_s: float) -> None:
        """Kills the holder of windows that cannot be fenced and were just seen to be in use."""
        if time.monotonic() - seen_s > FRESH_S:  # the daemon stood still since: the next look will tell
            return
        lease = self._engine.ledger.quarantine.get(lease_id)
        session = self._sessions.get(lease.session) if lease is not None else None
        if session is not None:
            session.kill()
