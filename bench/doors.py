"""The session door against the gRPC door, and against bare frames on the same kind of socket.

Clients are the blocking library as users have it, one process each with one call in flight; a pair is an acquire and a
release. Bare frames are the same protobuf frames over a Unix socket, echoed by an asyncio loop that does nothing else,
and asked for by a loop of send and recv: what the carrier itself costs.
"""

import asyncio
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import leasehold
from bench.harness import Round, Rounds, Row, run_rounds
from bench.processes import Worker, answer, ask_all, daemon, orders
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb

ROUND_COUNT = 5
ROUND_S = 0.7
CLIENT_COUNTS = (1, 4)
BATCH_COUNT = 100
_LENGTH = struct.Struct(">I")


def run() -> list[Row]:
    """The rows of this benchmark."""
    most = max(CLIENT_COUNTS)
    with (
        tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root,
        daemon("--durability", "none") as forgetful,
        daemon() as durable,
    ):
        path = Path(root) / "frames.sock"
        with Worker("bench.doors:serve_frames", path) as server:
            server.hear()
            started = {
                "session": [Worker("bench.doors:acquire_and_release", forgetful, "session") for _ in range(most)],
                "grpc": [Worker("bench.doors:acquire_and_release", forgetful, "grpc") for _ in range(most)],
                "durable": [Worker("bench.doors:acquire_and_release", durable, "session") for _ in range(most)],
                "bare": [Worker("bench.doors:exchange_frames", path) for _ in range(most)],
                "batch": [Worker("bench.doors:acquire_and_release_many", forgetful)],
            }
            try:
                for of_one in started.values():
                    ask_all(of_one, "0.2")
                rounds = run_rounds(ROUND_COUNT, lambda number: _measure(started, number), what="doors")
            finally:
                for worker in (worker for of_one in started.values() for worker in of_one):
                    worker.close()
    return [row for count in CLIENT_COUNTS for row in _rows(rounds, count)] + _rows_of_one(rounds)


def _measure(workers: dict[str, list[Worker]], number: int) -> Round:
    measured: Round = {}
    for count in CLIENT_COUNTS:
        for kind in sorted(workers, reverse=bool(number % 2)):
            told = [one.split() for one in ask_all(workers[kind][:count], str(ROUND_S))]
            measured[f"{kind} {count}"] = sum(float(rate) for rate, _ in told)
            measured[f"{kind} {count} us"] = statistics.median(float(us) for _, us in told)
    return measured


def _rows(rounds: Rounds, count: int) -> list[Row]:
    return [
        rounds.row(
            f"doors: acquire + release, not durable, session door against gRPC door, clients: {count}",
            f"session {count}",
            f"grpc {count}",
            "pairs/s",
        ),
        rounds.row(
            f"doors: acquire + release, session door, durable against not durable, clients: {count}",
            f"durable {count}",
            f"session {count}",
            "pairs/s",
        ),
    ]


def _rows_of_one(rounds: Rounds) -> list[Row]:
    return [
        rounds.row(
            "doors: median time of one acquire, session door, not durable, against one exchange of bare frames",
            "session 1 us",
            "bare 1 us",
            "us",
        ),
        rounds.row(
            f"doors: pairs in batches of {BATCH_COUNT} against pairs one by one, session door, not durable",
            "batch 1",
            "session 1",
            "pairs/s",
        ),
    ]


def acquire_and_release(run_directory: str, door: str) -> None:
    """A worker: for each order of seconds, how many pairs a second it made, and the median time of an acquire."""
    with leasehold.connect(run_directory, door=door) as client:

        def pair() -> float:
            began = time.perf_counter()
            lease = client.acquire(streams=1)
            took_s = time.perf_counter() - began
            lease.release()
            return took_s

        _answer(pair)


def acquire_and_release_many(run_directory: str) -> None:
    """A worker: the same with as many pairs in two messages; the time is that of a pair."""
    with leasehold.connect(run_directory, door="session") as client:

        def pairs() -> float:
            began = time.perf_counter()
            got = client.acquire_many([{"streams": 1}] * BATCH_COUNT)
            client.release_many(one for one in got if isinstance(one, leasehold.Lease))
            return (time.perf_counter() - began) / BATCH_COUNT

        _answer(pairs, pair_count=BATCH_COUNT)


def exchange_frames(path: str) -> None:
    """A worker: exchanges of frames instead of calls."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = rm_pb.AcquireRequest(request_id=1, label="a label of some length")

        def exchange() -> float:
            began = time.perf_counter()
            body = pb.ClientFrame(correlation_id=1, acquire=request).SerializeToString()
            connection.sendall(_LENGTH.pack(len(body)) + body)
            data = connection.recv(65_536)
            pb.ClientFrame.FromString(data[_LENGTH.size :])
            return time.perf_counter() - began

        _answer(exchange)


def serve_frames(path: str) -> None:
    """A worker: echoes frames. Says when it serves, and ends with its starter."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(path)
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            connection.setblocking(False)
            loop.add_reader(connection, echo, connection)

        def echo(connection: socket.socket) -> None:
            if data := connection.recv(65_536):
                body = pb.ClientFrame.FromString(data[_LENGTH.size :]).SerializeToString()
                connection.send(_LENGTH.pack(len(body)) + body)
            else:
                loop.remove_reader(connection)
                connection.close()

        loop.add_reader(listener, accept)
        answer("ready")
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(serve())


def _answer(pair: Callable[[], float], pair_count: int = 1) -> None:
    """Answers each order of seconds with pairs a second, and the median of what ``pair`` says it took, in us."""
    for seconds in orders():
        took_s, began = [], time.monotonic()
        while (spent_s := time.monotonic() - began) < float(seconds):
            took_s.append(pair())
        answer(f"{len(took_s) * pair_count / spent_s} {statistics.median(took_s) * 1e6}")
