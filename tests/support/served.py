"""The daemon's server in a thread of the test's own process, and raw connections to its two sockets."""

import array
import asyncio
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from rm.core.ledger import Ledger
from rm.core.types import NS_PER_S
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import load_profile
from rm.service.engine import Engine
from rm.service.server import GRPC_SOCKET, SESSION_SOCKET, Server
from rm.service.session_socket import PROTOCOL_VERSION
from rm.store.store import MemoryStore, Store
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc
from rmapi.v1 import session_pb2, types_pb2
from support.clock import ManualClock
from support.session_stub import SessionDoorError, SessionStub
from support.waiting import until

T = TypeVar("T")
DEADLINE_S = 30.0
UNIT = 65_536
MEMORY_UNITS = 256
LENGTH = struct.Struct(">I")
CREDENTIALS = struct.Struct("3i")


class RawConnection:
    """A connection to the session socket, as any program could make one. Every wait has a deadline."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(str(path))
        self.others: deque[session_pb2.ServerFrame] = deque()  # came while a stub waited for its answers
        self.answers: dict[int, deque[session_pb2.ServerFrame]] = {}  # to a stub's calls

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, **body: Any) -> session_pb2.ServerFrame:
        """Sends a frame and returns the answer."""
        self.send(framed(correlation_id=7, **body))
        return self.receive()

    def receive(self) -> session_pb2.ServerFrame:
        return self.receive_with_descriptors()[0]

    def send_frame(self, frame: session_pb2.ClientFrame) -> None:
        body = frame.SerializeToString()
        self.send(LENGTH.pack(len(body)) + body)

    def receive_within(self, seconds: float) -> session_pb2.ServerFrame | None:
        """The next frame; None where it does not begin to come in time. It ends what has begun."""
        ready, _, _ = select.select([self.socket], [], [], seconds)
        if not ready:
            return None
        try:
            return self._receive()[0]
        except (EOFError, ConnectionError) as fault:
            raise SessionDoorError(grpc.StatusCode.UNAVAILABLE) from fault

    def receive_with_descriptors(self) -> tuple[session_pb2.ServerFrame, list[int]]:
        """The next frame and what came with it; the caller closes those."""
        while not self.others:
            frame, descriptors = self._receive()
            if frame.correlation_id not in self.answers:
                return frame, descriptors
            self.answers[frame.correlation_id].append(frame)
        return self.others.popleft(), []

    def _receive(self) -> tuple[session_pb2.ServerFrame, list[int]]:
        head, descriptors = self._read(LENGTH.size)
        body, more = self._read(LENGTH.unpack(head)[0])
        return session_pb2.ServerFrame.FromString(body), descriptors + more

    def is_closed_by_peer(self) -> bool:
        """Reads away what is left; answers whether the end comes within the deadline."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def _read(self, size: int) -> tuple[bytes, list[int]]:
        data, descriptors = b"", array.array("i")
        while len(data) < size:
            chunk, ancillary, flags, _ = self.socket.recvmsg(size - len(data), socket.CMSG_SPACE(253 * 4))
            assert not flags & socket.MSG_CTRUNC, "descriptors were cut off"
            for _, _, payload in ancillary:
                descriptors.frombytes(payload)
            if not chunk:
                raise EOFError("the daemon closed the connection")
            data += chunk
        return data, list(descriptors)


@dataclass
class Client:
    """An open session: its connection, and a stub that carries its metadata."""

    connection: RawConnection
    id: str
    secret: str
    stub: Any

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("rmapi-session-id", self.id), ("rmapi-session-secret", self.secret))

    def call(self, method: str, request: Any, **more: Any) -> Any:
        return getattr(self.stub, method)(request, metadata=self.metadata, timeout=DEADLINE_S, **more)

    def acquire(self, *claims: types_pb2.Claim, request_id: int, **more: Any) -> types_pb2.Lease:
        request = rm_pb.AcquireRequest(request_id=request_id, claims=claims, **more)
        return self.call("Acquire", request).lease

    def is_served(self) -> bool:
        """Whether this session still gets answers through both doors."""
        frame = self.connection.ask(keep_alive=rm_pb.KeepAliveRequest())
        answer = self.call("KeepAlive", rm_pb.KeepAliveRequest(lease_ids=["L999"]))
        return frame.WhichOneof("body") == "keep_alive" and list(answer.lost_lease_ids) == ["L999"]


@dataclass
class Served:
    """A running server. ``faults`` are exceptions that nobody caught; the fixture holds them to be none."""

    engine: Engine
    server: Server
    clock: ManualClock
    run_directory: Path
    loop: asyncio.AbstractEventLoop
    door: str = "grpc"
    faults: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _open: list[Any] = field(default_factory=list)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in the server's loop."""

        async def called() -> T:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(DEADLINE_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Looks in the server's loop, turn by turn, until ``condition`` holds."""
        until(lambda: self.call(condition))

    def pass_time(self, **time: float) -> None:
        """Lets time pass for the engine, and ends what is due by then; to its own timer no pause shows."""

        def passed() -> None:
            self.clock.advance(**time)
            self.server._timer._last_ns = self.clock.now_ns
            self.engine.tick()

        self.call(passed)

    @contextmanager
    def loop_time(self) -> Iterator[Callable[[float], None]]:
        """Stops the time of the loop, by which the server waits for clients; what it yields moves it on by seconds."""
        now_s = self.loop.time()

        def pass_seconds(seconds: float) -> None:
            nonlocal now_s
            now_s += seconds
            self.loop.call_soon_threadsafe(lambda: None)  # it may sleep

        self.call(setattr, self.loop, "time", lambda: now_s)
        try:
            yield pass_seconds
        finally:
            self.call(delattr, self.loop, "time")

    @property
    def session_path(self) -> Path:
        return self.run_directory / SESSION_SOCKET

    @property
    def grpc_path(self) -> Path:
        return self.run_directory / GRPC_SOCKET

    def connect(self) -> RawConnection:
        connection = RawConnection(self.session_path)
        self._open.append(connection.socket)
        return connection

    def channel(self) -> grpc.Channel:
        options = (("grpc.use_local_subchannel_pool", 1),)
        channel = grpc.insecure_channel(f"unix:{self.grpc_path}", options=options)
        self._open.append(channel)
        return channel

    def stub(self, connection: RawConnection | None = None) -> Any:
        """A stub of the door that is tested: over the connection of a session, else of one that has none."""
        if self.door == "grpc":
            return pb_grpc.ResourceManagerServiceStub(self.channel())
        if connection is None:
            connection = self.connect()
            asked = session_pb2.Visit(protocol_version=PROTOCOL_VERSION)
            assert connection.ask(visit=asked).WhichOneof("body") == "visited"
        return SessionStub(connection)

    def open_session(self, stub: Any = None) -> Client:
        connection = self.connect()
        opened = greeting(connection).session_opened
        mine = stub if stub is not None and self.door == "grpc" else self.stub(connection)
        return Client(connection, opened.session_id, opened.session_secret, mine)

    def close_clients(self) -> None:
        for one in self._open:
            one.close()


def framed(**fields: Any) -> bytes:
    """The bytes of a client's frame."""
    body = session_pb2.ClientFrame(**fields).SerializeToString()
    return LENGTH.pack(len(body)) + body


def greeting(connection: RawConnection) -> session_pb2.ServerFrame:
    """Opens a session."""
    frame = connection.ask(open_session=session_pb2.OpenSession(protocol_version=PROTOCOL_VERSION))
    assert frame.WhichOneof("body") == "session_opened", frame
    return frame


def attaching(client: Client, connection: RawConnection, *, secret: str | None = None) -> session_pb2.ServerFrame:
    """Attaches ``connection`` to a client's session."""
    asked = session_pb2.AttachSession(
        protocol_version=PROTOCOL_VERSION,
        session_id=client.id,
        session_secret=client.secret if secret is None else secret,
    )
    return connection.ask(attach_session=asked)


def memory(unit_count: int, **more: Any) -> types_pb2.Claim:
    return types_pb2.Claim(pool="memory", run=types_pb2.RunClaim(unit_count=unit_count, **more))


def streams(unit_count: int = 1) -> types_pb2.Claim:
    return types_pb2.Claim(pool="streams", units=types_pb2.UnitsClaim(unit_count=unit_count))


def seconds(count: float) -> Duration:
    return Duration(seconds=int(count), nanos=int(count % 1 * NS_PER_S))


def refusal_of(call: Callable[..., Any], *args: Any, **more: Any) -> tuple[grpc.StatusCode, types_pb2.ErrorDetail]:
    """What a call that must be refused was refused with."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*args, **more)
    trailers = dict(raised.value.trailing_metadata() or ())
    detail = types_pb2.ErrorDetail.FromString(trailers.get("rmapi-error-bin", b""))
    return raised.value.code(), detail


@contextmanager
def serving(
    run_directory: Path,
    *,
    card_count: int = 1,
    cpus: tuple[int, ...] = (0, 1),
    admin_uids: frozenset[int] = frozenset(),
    store: Store | None = None,
    ledger: Ledger | None = None,
    door: str = "grpc",
    profile: str = "embedded",
    ids_need_reserved: bool = False,
) -> Iterator[Served]:
    """Runs a server with cards of 16 MiB, or of a profile, until the block ends, on empty books or on ``ledger``."""
    started: Future[Served] = Future()
    stopping = asyncio.Event()

    async def main() -> None:
        backend = EmbeddedBackend(
            load_profile(profile), card_count=card_count, memory_bytes=MEMORY_UNITS * UNIT, cpus=cpus
        )
        clock = ManualClock()
        failures: list[str] = []
        engine = Engine(
            ledger or Ledger(backend.cards),
            store or MemoryStore(),
            backend,
            clock,
            on_failure=lambda: failures.append("failed"),
        )
        server = Server(engine, admin_uids=admin_uids, ids_need_reserved=ids_need_reserved)
        loop = asyncio.get_running_loop()
        served = Served(engine, server, clock, run_directory, loop, door=door, failures=failures)
        loop.set_exception_handler(lambda _, context: served.faults.append(str(context)))
        await server.start(run_directory)
        started.set_result(served)
        await stopping.wait()
        await server.stop()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as fault:
            if started.done():
                raise
            started.set_exception(fault)

    thread = threading.Thread(target=body, name="server")
    thread.start()
    served = started.result(DEADLINE_S)
    try:
        yield served
    finally:
        served.close_clients()
        with suppress(RuntimeError):
            served.loop.call_soon_threadsafe(stopping.set)
        thread.join(2 * DEADLINE_S)
    assert not thread.is_alive(), "the server does not stop"
    assert served.faults == []
