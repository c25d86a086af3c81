"""Pairs of acquire and release a second, against half the calls a second of a bare gRPC echo.

The clients are the blocking library as users have it, one process each with one call in flight. The echo is a unary
call of a ``grpc.aio`` server with the daemon's own options, called by blocking stubs with the library's own options;
two of its calls are what a pair costs at the least.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc

import leasehold
from bench.harness import Round, Rounds, Row, run_rounds
from bench.processes import Worker, answer, ask_all, daemon, orders
from leasehold.channel import OPTIONS
from rmapi.v1 import resource_manager_pb2 as pb

ROUND_COUNT = 5
ROUND_S = 0.7
CLIENT_COUNTS = (1, 4)
_SERVICE, _METHOD = "bench.Echo", "Echo"


def run() -> list[Row]:
    """The rows of this benchmark."""
    most = max(CLIENT_COUNTS)
    with (
        tempfile.TemporaryDirectory(prefix="leasehold-bench-") as root,
        daemon("--durability", "none") as forgetful,
        daemon() as durable,
    ):
        path = Path(root) / "echo.sock"
        with Worker("bench.rpc:serve_echo", path) as server:
            server.hear()
            workers = {
                "pairs": [Worker("bench.rpc:acquire_and_release", forgetful) for _ in range(most)],
                "durable": [Worker("bench.rpc:acquire_and_release", durable) for _ in range(most)],
                "echo": [Worker("bench.rpc:call_echo", path) for _ in range(most)],
            }
            try:
                for of_one in workers.values():
                    ask_all(of_one, "0.2")

                def measure(number: int) -> Round:
                    order = sorted(workers, reverse=bool(number % 2))
                    return {
                        f"{kind} {count}": sum(map(float, ask_all(workers[kind][:count], str(ROUND_S))))
                        for count in CLIENT_COUNTS
                        for kind in order
                    }

                rounds = run_rounds(ROUND_COUNT, measure, what="rpc")
            finally:
                for worker in (worker for of_one in workers.values() for worker in of_one):
                    worker.close()
    return [row for count in CLIENT_COUNTS for row in _rows(rounds, count)]


def _rows(rounds: Rounds, count: int) -> list[Row]:
    return [
        Row(
            f"rpc: acquire + release, not durable, against half the rate of a bare echo, clients: {count}",
            rounds.figure(f"pairs {count}", "pairs/s"),
            rounds.figure(f"echo {count}", "pairs/s", scale=0.5),
            rounds.ratio(f"pairs {count}", f"echo {count}", scale=2.0),
        ),
        Row(
            f"rpc: acquire + release, durable against not durable, clients: {count}",
            rounds.figure(f"durable {count}", "pairs/s"),
            rounds.figure(f"pairs {count}", "pairs/s"),
            rounds.ratio(f"durable {count}", f"pairs {count}"),
        ),
    ]


def acquire_and_release(run_directory: str) -> None:
    """A worker: for each order of seconds, how many pairs a second it made."""
    with leasehold.connect(run_directory, door="grpc") as client:
        _answer_rates(lambda: client.acquire(streams=1).release())


def call_echo(path: str) -> None:
    """A worker: for each order of seconds, how many echoes a second it got."""
    with grpc.insecure_channel(f"unix:{path}", OPTIONS) as channel:
        echo = channel.unary_unary(
            f"/{_SERVICE}/{_METHOD}", pb.AcquireRequest.SerializeToString, pb.AcquireRequest.FromString
        )
        request = pb.AcquireRequest(request_id=1, label="a label of some length")
        _answer_rates(lambda: echo(request, wait_for_ready=True, timeout=10))


def serve_echo(path: str) -> None:
    """A worker: the echo server. Says when it serves, and ends with its starter."""
    from rm.service.server import SERVER_OPTIONS

    async def echo(request: pb.AcquireRequest, _: object) -> pb.AcquireRequest:
        return request

    async def serve() -> None:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        method = grpc.unary_unary_rpc_method_handler(
            echo, pb.AcquireRequest.FromString, pb.AcquireRequest.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method}),))
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        answer("ready")
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(None)

    asyncio.run(serve())


def _answer_rates(call: Callable[[], object]) -> None:
    for seconds in orders():
        count, began = 0, time.monotonic()
        while (spent_s := time.monotonic() - began) < float(seconds):
            call()
            count += 1
        answer(count / spent_s)
