"""Where the time of a pair of acquire and release goes: the CPU of each process, and the stages of the daemon's part.

One client with one call in flight. Of each process its own clock is read before and after many pairs, so what it waits
for does not count. Bare frames and the bare echo carry the same messages and decide nothing: what is above them is the
library and the daemon. The stages are timed in this process, in a row and with warm caches, without a socket; in the
daemon, which sleeps between two calls, the same code takes about twice as long.
"""

import asyncio
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.contestants import OURS, Contestant, contestants
from bench.harness import Round, Rounds, Row, run_rounds
from bench.peers.base import client_of
from bench.peers.rmd import GRPC, PROFILE, SESSION
from bench.processes import Worker, answer, cpu_s, orders
from rm.core.claims import Asker
from rm.core.ledger import Ledger
from rm.core.types import Holder, SessionId
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import load_profile
from rm.service.clock import SystemClock
from rm.service.engine import Engine
from rm.service.methods import Methods
from rm.service.sessions import Sessions
from rm.store.database import FILE, Database
from rm.store.store import MemoryStore
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import session_pb2, types_pb2

ROUND_COUNT = 5
PAIR_COUNT = 1_000  # a round, of each
COMMIT_COUNT = 200
EVENT_BYTES = 330  # of a grant of one unit
BARE = {SESSION: "bare frames", GRPC: "bare gRPC echo"}
_ASKER = Asker(SessionId("S0123456789"), Holder(1, 0, "bench"))


def run() -> list[Row]:
    """The rows of this benchmark."""
    with ExitStack() as stack:
        found = stack.enter_context(contestants("frames", "echo"))
        workers = {
            label: stack.enter_context(Worker("bench.anatomy:make_pairs", one.server.module, one.server.address))
            for label, one in found.items()
        }
        stages = stack.enter_context(_stages())
        database = stack.enter_context(_database())
        rounds = run_rounds(ROUND_COUNT, lambda _: _measure(found, workers, stages, database), what="anatomy")
    return [*_rows_of_processes(rounds), *_rows_of_stages(rounds)]


def _measure(found: dict[str, Contestant], workers: dict[str, Worker], stages: "Stages", database: "_Commits") -> Round:
    measured: Round = {}
    for label, worker in workers.items():
        worker.tell(str(PAIR_COUNT // 10))
        worker.hear()
        before = cpu_s(found[label].server.pid)
        worker.tell(str(PAIR_COUNT))
        wall_us, client_us = map(float, worker.hear().split())
        server_us = (cpu_s(found[label].server.pid) - before) / PAIR_COUNT * 1e6
        measured |= {f"{label} wall": wall_us, f"{label} client": client_us, f"{label} server": server_us}
    return measured | stages.measure() | database.measure()


def _rows_of_processes(rounds: Rounds) -> list[Row]:
    rows = []
    for door, bare in BARE.items():
        pair, ours, durable = f"anatomy: a pair over the {door} door", OURS[door, False], OURS[door, True]
        rows += [
            rounds.row(f"{pair}, against {bare}", f"{ours} wall", f"{bare} wall", "us"),
            rounds.row(f"{pair}: CPU of the client, against {bare}", f"{ours} client", f"{bare} client", "us"),
            rounds.row(f"{pair}: CPU of the daemon, against {bare}", f"{ours} server", f"{bare} server", "us"),
            rounds.row(f"{pair}, durable against not durable", f"{durable} wall", f"{ours} wall", "us"),
            rounds.row(f"{pair}: CPU of the daemon, durable against not", f"{durable} server", f"{ours} server", "us"),
        ]
    return rows


def _rows_of_stages(rounds: Rounds) -> list[Row]:
    parts = ", ".join(f"{name} {rounds.figure(name, 'us')}" for name in Stages.NAMES)
    return [
        rounds.row(
            "anatomy: a pair in the daemon's code alone, warm, against its CPU over the session door",
            "all stages",
            f"{OURS[SESSION, False]} server",
            "us",
            note=parts,
        ),
        rounds.row("anatomy: a commit of one event, its fsync included, against its CPU", "commit", "commit CPU", "us"),
    ]


def make_pairs(module_name: str, address: str) -> None:
    """A worker: for each order of a number, so many pairs; answers what one took, and its CPU, in microseconds."""
    import importlib

    client = client_of(importlib.import_module(module_name), address, 0)
    for order in orders():
        count, began, cpu_began = int(order), time.perf_counter(), time.process_time()
        for _ in range(count):
            client.release(client.acquire())
        took_s, cpu_took_s = time.perf_counter() - began, time.process_time() - cpu_began
        answer(f"{took_s / count * 1e6} {cpu_took_s / count * 1e6}")
    client.close()


class Stages:
    """What the daemon does with the messages of a pair, by hand: no socket, no loop, no store."""

    NAMES = ("read", "acquire", "answer", "release")

    def __init__(self, methods: Methods) -> None:
        """``methods`` are those of a daemon whose store is safe at once."""
        self._methods = methods
        self._request_id = 0

    def measure(self) -> Round:
        """Means of many pairs: reading the request, carrying it out, writing the answer down, and the release."""
        spent_ns = [0, 0, 0, 0]
        for _ in range(PAIR_COUNT):
            self._request_id += 1
            data = _acquire_frame(self._request_id)
            moments = [time.perf_counter_ns()]
            frame = session_pb2.ClientFrame.FromString(data)
            request = frame.acquire
            moments.append(time.perf_counter_ns())
            response = _carried_out(self._methods.carry_out("Acquire", request, _ASKER))
            moments.append(time.perf_counter_ns())
            answered = session_pb2.ServerFrame(correlation_id=frame.correlation_id)
            answered.acquire.MergeFrom(response)
            answered.SerializeToString()
            moments.append(time.perf_counter_ns())
            release = pb.ReleaseRequest(lease_id=response.lease.id)
            assert _carried_out(self._methods.carry_out("Release", release, _ASKER)).released
            moments.append(time.perf_counter_ns())
            for index in range(4):
                spent_ns[index] += moments[index + 1] - moments[index]
        spent_us = [ns / PAIR_COUNT / 1e3 for ns in spent_ns]
        return {**dict(zip(self.NAMES, spent_us, strict=True)), "all stages": sum(spent_us)}


def _acquire_frame(request_id: int) -> bytes:
    claim = types_pb2.Claim(pool="streams", units=types_pb2.UnitsClaim(unit_count=1))
    request = pb.AcquireRequest(request_id=request_id, claims=[claim])
    return session_pb2.ClientFrame(correlation_id=request_id, acquire=request).SerializeToString()


def _carried_out(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - one of many messages
    """What a coroutine answers that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("it waits, and the store is safe at once")


@contextmanager
def _stages() -> Iterator[Stages]:
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root:
        path = Path(root) / "profile.toml"
        path.write_text(PROFILE, encoding="utf-8")
        backend = EmbeddedBackend(load_profile(str(path)), card_count=1, memory_bytes=64 << 20, cpus=(0,))

    async def methods() -> Methods:  # locks of it want a loop
        engine = Engine(Ledger(backend.cards), MemoryStore(), backend, SystemClock(), on_failure=lambda: None)
        return Methods.of(engine, Sessions(lambda _: None))

    try:
        yield Stages(asyncio.run(methods()))
    finally:
        backend.close()


class _Commits:
    """A store's file, and commits of one event each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revision = 0

    def measure(self) -> Round:
        """Means of a commit, and of the CPU that it takes."""
        began, cpu_began = time.perf_counter(), time.thread_time()
        for _ in range(COMMIT_COUNT):
            self._revision += 1
            self._database.write([(self._revision, bytes(EVENT_BYTES))])
        took_s, cpu_took_s = time.perf_counter() - began, time.thread_time() - cpu_began
        return {"commit": took_s / COMMIT_COUNT * 1e6, "commit CPU": cpu_took_s / COMMIT_COUNT * 1e6}


@contextmanager
def _database() -> Iterator[_Commits]:
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root:
        path = Path(root) / FILE
        Database.create(path)
        database = Database.open(path)
        try:
            yield _Commits(database)
        finally:
            database.close()
