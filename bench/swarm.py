"""Clients of one peer, as many processes as are asked for, one call in flight each: pairs a second and latencies.

The worker of a peer imports what its clients need once, and forks them anew for each order. So they share their memory,
start in milliseconds, and nobody stands beside who is not measured. It imports only the standard library and the peer.
"""

import array
import gc
import importlib
import json
import os
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.peers.base import Server, client_of
from bench.processes import Worker, answer, orders

WARM_UP_COUNT = 10
_SPAN = struct.Struct("=QQ")  # from when until when to work, on the monotonic clock, which all processes share
_ENDED = struct.Struct("=Q")  # when the last one ended; the latencies follow, as 32-bit nanoseconds
_LATENCY_NS_MAX = (1 << 32) - 1


class Measured(NamedTuple):
    """What all clients together did."""

    per_s: float
    p50_us: float  # of the call that is timed
    p99_us: float


class Swarm:
    """The worker of one peer's clients."""

    def __init__(self, server: Server) -> None:
        """Starts it; it has imported everything when it is heard of."""
        self._worker = Worker("bench.swarm:work", server.module, server.address, python=server.python)
        assert self._worker.hear() == "ready"

    def pairs(self, client_count: int, seconds: float) -> Measured:
        """Acquires and releases for so long; the acquires are timed."""
        return self._ask("pairs", client_count, seconds)

    def keepalives(self, client_count: int, seconds: float) -> Measured:
        """Renews one lease a client for so long."""
        return self._ask("keepalives", client_count, seconds)

    def _ask(self, what: str, client_count: int, seconds: float) -> Measured:
        self._worker.tell(json.dumps([what, client_count, seconds]))
        return Measured(*json.loads(self._worker.hear()))

    def close(self) -> None:
        """Ends it."""
        self._worker.close()


def work(module_name: str, address: str) -> None:
    """A worker: forks clients for each order, and answers what they measured."""
    module = importlib.import_module(module_name)
    for needed in getattr(module, "NEEDS", ()):
        importlib.import_module(needed)
    gc.freeze()  # or the clients' collectors would copy what they share
    answer("ready")
    for order in orders():
        what, client_count, seconds = json.loads(order)
        operation = _pairs if what == "pairs" else _keepalives
        answer(json.dumps(_measure(module, address, operation, client_count, seconds)))


def _measure(
    module: Any,  # noqa: ANN401
    address: str,
    operation: "Operation",
    client_count: int,
    seconds: float,
) -> Measured:
    """Forks the clients, lets them all go once each is warm, and adds up what they did."""
    ready_reading, ready_writing = os.pipe()
    go_reading, go_writing = os.pipe()
    results: list[int] = []
    children: list[int] = []
    for number in range(client_count):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _be_client(module, address, number, operation, (ready_writing, go_reading, writing))
        os.close(writing)
        results.append(reading)
        children.append(child)
    os.close(ready_writing)
    heard = b""
    while len(heard) < client_count and (chunk := os.read(ready_reading, client_count)):
        heard += chunk
    began = time.monotonic_ns()
    os.write(go_writing, _SPAN.pack(began, began + int(seconds * 1e9)) * client_count)
    ended, latencies = began, array.array("I")
    for reading in results:
        with open(reading, "rb") as pipe:
            data = pipe.read()
        if len(data) >= _ENDED.size:
            ended = max(ended, *_ENDED.unpack_from(data))
            latencies.frombytes(data[_ENDED.size :])
    for fd in (ready_reading, go_reading, go_writing):
        os.close(fd)
    failed_count = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    if failed_count:
        raise RuntimeError(f"{failed_count} of {client_count} clients failed")
    ordered = sorted(latencies)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e3 for share in (0.5, 0.99))
    return Measured(len(latencies) / ((ended - began) / 1e9), p50, p99)


def _be_client(
    module: Any,  # noqa: ANN401
    address: str,
    number: int,
    operation: "Operation",
    pipes: tuple[int, int, int],
) -> None:
    """In a forked process: the client's whole life. It never returns."""
    ready_writing, go_reading, result_writing = pipes
    try:
        client = client_of(module, address, number)
        for _ in range(WARM_UP_COUNT):
            client.release(client.acquire())
        os.write(ready_writing, b"r")
        _, until = _SPAN.unpack(os.read(go_reading, _SPAN.size))
        ended, latencies = operation(client, until)
        client.close()
        with open(result_writing, "wb") as pipe:
            pipe.write(_ENDED.pack(ended) + latencies.tobytes())
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _pairs(client: Any, until: int) -> tuple[int, "array.array[int]"]:  # noqa: ANN401
    """Acquires and releases until then, once at least; answers when it ended and what each acquire took."""
    latencies = array.array("I")
    acquire, release, now, keep = client.acquire, client.release, time.monotonic_ns, latencies.append
    while (asked := now()) < until or not latencies:
        held = acquire()
        keep(min(now() - asked, _LATENCY_NS_MAX))
        release(held)
    return asked, latencies


def _keepalives(client: Any, until: int) -> tuple[int, "array.array[int]"]:  # noqa: ANN401
    """Renews until then, once at least; answers when it ended and what each renewal took."""
    latencies = array.array("I")
    held = client.acquire()
    client.keep_alive(held)  # the first may open a stream
    keep_alive, now, keep = client.keep_alive, time.monotonic_ns, latencies.append
    while (asked := now()) < until or not latencies:
        keep_alive(held)
        keep(min(now() - asked, _LATENCY_NS_MAX))
    client.release(held)
    return asked, latencies


Operation = Callable[[Any, int], tuple[int, "array.array[int]"]]
