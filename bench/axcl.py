"""AXCL's model on leases: copies and runs that overlap on two streams, and what the model costs by itself.

Overlap: batches of Magika, each copied to the card, run, and copied back. One after the other with calls that wait, on
one stream; and in turn on two streams, each with an engine context of its own on a leased core, awaited at the end.
Cost: ``set_device`` and ``reset_device`` against a bare acquire and release of the same units; a task that does nothing
against a bare queue with a thread.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import leasehold
from bench.harness import Round, Row, run_rounds
from bench.models import magika, sample_input
from bench.processes import daemon
from leasehold import runtime
from leasehold.runtime.model_file import ModelFile

ROUND_COUNT = 7
BATCHES = 120
PAIRS = 60
TASKS = 5_000
OVERLAP_LEAST = 1.2


def run() -> list[Row]:
    """The rows of this benchmark."""
    with (
        daemon("--card-memory", "128MiB", "--durability", "none") as run_directory,
        leasehold.connect(run_directory) as client,
    ):
        rt = runtime.Runtime(client)
        try:
            rows = [_set_and_reset(rt, client), _submit(rt)]
            return [_overlap(rt), *rows] if len(os.sched_getaffinity(0)) > 1 else rows
        finally:
            rt.close()


class Lane:
    """A stream with what a run of Magika needs."""

    def __init__(self, device: runtime.Device, context: runtime.Context, model: runtime.LoadedModel) -> None:
        self.context, self.stream = context, context.create_stream()
        self.execution, self.io = model.create_execution(), model.create_io()
        self.source = next(iter(sample_input().values()))
        (output,) = model.info.outputs
        self.result: np.ndarray[Any, Any] = np.zeros(output.shapes[0], output.dtype)
        self.input, self.output = device.malloc(self.source.nbytes), device.malloc(self.result.nbytes)
        self.io.set_input(0, self.input.address, self.input.size)
        self.io.set_output(0, self.output.address, self.output.size)

    def run_and_wait(self) -> None:
        """One batch, each call of which waits."""
        self.context.memcpy(self.input, self.source, self.input.size)
        self.execution.run(self.io)
        self.context.memcpy(self.result, self.output, self.output.size)

    def submit(self) -> None:
        """One batch in order on the stream."""
        self.stream.memcpy(self.input, self.source, self.input.size)
        self.stream.execute(self.execution, self.io)
        self.stream.memcpy(self.result, self.output, self.output.size)


def _overlap(rt: runtime.Runtime) -> Row:
    with rt.device(0) as device:
        context = device.default_context
        engine = context.activation.engine
        engine.init(runtime.VNpuKind.DISABLE)
        with engine.load(ModelFile(magika())) as model:
            lanes = [Lane(device, context, model) for _ in range(2)]
            assert len(context.activation.cpus) == 2, f"two cores are leased, not {context.activation.cpus}"

            def one_by_one() -> None:
                for _ in range(BATCHES):
                    lanes[0].run_and_wait()

            def in_turn() -> None:
                for number in range(BATCHES):
                    lanes[number % 2].submit()
                for lane in lanes:
                    lane.stream.synchronize()

            one_by_one(), in_turn()
            assert np.allclose(lanes[0].result, lanes[1].result, atol=1e-4), "the lanes say different things"

            def measure(number: int) -> Round:
                works = {"waiting": one_by_one, "overlapping": in_turn}
                order = sorted(works, reverse=bool(number % 2))
                return {name: _seconds(works[name]) / BATCHES for name in order}

            rounds = run_rounds(ROUND_COUNT, measure, what="axcl overlap")
        engine.finalize()
    ratio = rounds.ratio("waiting", "overlapping")
    return Row(
        "axcl: copy, execute, copy on 2 streams and 2 leased cores; baseline with calls that wait",
        rounds.figure("overlapping", "ms a batch", scale=1e3),
        rounds.figure("waiting", "ms a batch", scale=1e3),
        ratio,
        is_checked=ratio.median >= OVERLAP_LEAST,
        note=f"ratio is baseline over figure: how many times as fast; wanted: {OVERLAP_LEAST:g} at least",
    )


def _set_and_reset(rt: runtime.Runtime, client: leasehold.Client) -> Row:
    def set_and_reset() -> None:
        for _ in range(PAIRS):
            rt.set_device(0)
            rt.reset_device(0)

    def acquire_and_release() -> None:
        for _ in range(PAIRS):
            client.acquire(leasehold.Units("contexts"), leasehold.Units("streams"), card="0").release()

    return _compared(
        "axcl: set_device and reset_device; baseline acquire and release of the same units",
        {"model": set_and_reset, "bare": acquire_and_release},
        count=PAIRS,
    )


def _submit(rt: runtime.Runtime) -> Row:
    def nothing() -> None:
        pass

    rt.set_device(0)
    stream = rt.create_stream()
    work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def serve() -> None:
        while (task := work.get()) is not None:
            task()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def on_stream() -> None:
        for _ in range(TASKS):
            stream.submit(nothing)
        stream.synchronize()

    def on_queue() -> None:
        done = threading.Event()
        for _ in range(TASKS):
            work.put(nothing)
        work.put(done.set)
        done.wait()

    row = _compared(
        "axcl: a task on a stream, submitted and done; baseline a bare queue and its thread",
        {"model": on_stream, "bare": on_queue},
        count=TASKS,
    )
    work.put(None)
    thread.join()
    rt.reset_device(0)
    return row


def _compared(what: str, works: dict[str, Callable[[], None]], *, count: int) -> Row:
    """Times both, by turns; in microseconds each."""
    for work in works.values():
        work()

    def measure(number: int) -> Round:
        return {name: _seconds(works[name]) / count for name in sorted(works, reverse=bool(number % 2))}

    rounds = run_rounds(ROUND_COUNT, measure, what=what)
    figure, baseline = (rounds.figure(name, "us", scale=1e6) for name in ("model", "bare"))
    return Row(what, figure, baseline, rounds.ratio("model", "bare"))


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
