"""Tells the story with real processes and real models, and checks each step: exits 0 only where all of it was true."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

import leasehold
from demo import models
from leasehold.cli.map import draw_map

CARD_MEMORY = "256MiB"
STEP_S = 60.0  # longest that any one step may take
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class StoryBroken(Exception):
    """Something did not happen as it was told."""


class Worker:
    """One process of the story."""

    def __init__(self, role: str, run_directory: Path) -> None:
        command = [sys.executable, "-m", "demo.worker", role, str(run_directory)]
        self.role = role
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> dict[str, Any]:
        """What it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise StoryBroken(f"{self.role} ended with status {self.process.wait()} and said nothing")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def tell(self, word: str) -> None:
        """Tells it to go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Lets it end; answers its exit status, below 0 where a signal ended it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(STEP_S)

    def kill(self) -> None:
        """Ends it where the story ends early."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def main() -> int:
    """Tells the story; answers the exit status."""
    if len(os.sched_getaffinity(0)) < 2:
        console.print("the demo runs two models at the same time and needs two CPUs; this host gives it one")
        return 1
    signal.signal(signal.SIGALRM, _took_too_long)
    try:
        for name in ("magika", "ocr"):
            models.model_path(name)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory(prefix="leasehold-demo-") as directory, ExitStack() as stack:
            _tell(Path(directory), stack)
    except (StoryBroken, leasehold.LeaseholdError, ModuleNotFoundError) as fault:
        console.print(f"\nthe story broke: {escape(str(fault))}", style="bold red")
        return 1
    except KeyboardInterrupt:
        return 130
    console.print("\nevery step was true", style="bold green")
    return 0


def _tell(directory: Path, stack: ExitStack) -> None:
    run_directory = directory / "run"
    begun = time.monotonic()
    stack.enter_context(_daemon(directory, run_directory))
    client = stack.enter_context(leasehold.connect(run_directory))
    _step(1, f"the daemon serves the embedded card, {(time.monotonic() - begun) * 1e3:.0f} ms after its start")
    _draw(client, "the card, before anybody came")

    workers: dict[str, Worker] = {}
    _two_at_once(client, workers, stack, run_directory)
    _a_third_is_refused(client)
    _a_fourth_waits(client, workers, stack, run_directory)
    _one_trespasses(client, stack, run_directory, others=[workers["magika"]])

    _step(7, "everybody ends")
    workers["magika"].tell("end")
    _expect(workers["magika"].end() == 0, "the last holder did not end well")
    _draw(client, "the card, at the end")
    found = client.check()
    _expect(not found.differences, f"the books do not agree: {list(found.differences)}")
    pools = client.cards()[0].pools
    _expect(all(pool.free == pool.total for pool in pools), "something is not free at the end")
    console.print(f"every bitmap is free again: {found.unit_count} units compared, 0 differences")


def _two_at_once(client: leasehold.Client, workers: dict[str, Worker], stack: ExitStack, run_directory: Path) -> None:
    _step(2, "two processes take leases and run their models at the same time, on different cores")
    granted = {}
    for role in ("magika", "ocr"):  # one after the other, so that the card is filled in this order
        workers[role] = stack.enter_context(_worker(role, run_directory))
        granted[role] = workers[role].hear()["granted"]
    for worker in workers.values():
        worker.tell("go")
    for worker in workers.values():
        _expect(worker.hear()["running"], f"{worker.role} does not run")
    for worker in workers.values():
        worker.tell("enough")
    results = {role: worker.hear() for role, worker in workers.items()}
    for role, result in results.items():
        about = granted[role]
        cores = ", ".join(str(core) for core in about["cores"])
        for answer in result["answers"]:
            console.print(f"  {role:<7} {escape(answer)}")
        what = f"{result['ms_each']:.1f} ms an inference on core {cores}"
        console.print(f"  {role:<7} {what}, lease {about['lease']}, pid {about['pid']}")
        _expect(result["right"], f"{role} gave a wrong answer")
    both_ns = min(one["ended_ns"] for one in results.values()) - max(one["begun_ns"] for one in results.values())
    console.print(f"  both ran together for {both_ns / 1e6:.0f} ms; every answer is right")
    _expect(both_ns > 0, "the two did not run at the same time")
    _expect(granted["magika"]["cores"] != granted["ocr"]["cores"], "both ran on one core")
    _draw(client, "the card, with two holders")


def _a_third_is_refused(client: leasehold.Client) -> None:
    _step(3, "a third process asks for more than is left, and is told who has it")
    try:
        client.acquire(memory="200MiB", label="third")
    except leasehold.Exhausted as refusal:
        console.print(f"  refused: {escape(str(refusal))}")
        console.print(
            f"  reason {refusal.reason}; the holders' pids: {[one['pid'] for one in refusal.facts['holders']]}"
        )
        return
    raise StoryBroken("the third process was not refused")


def _a_fourth_waits(
    client: leasehold.Client, workers: dict[str, Worker], stack: ExitStack, run_directory: Path
) -> None:
    _step(4, "a fourth waits for the same")
    workers["ocr"].tell("mark")
    console.print(
        f"  meanwhile ocr has written a pattern into {workers['ocr'].hear()['marked'] >> 20} MiB of its memory"
    )
    waiter = stack.enter_context(_worker("waiter", run_directory))
    waiter.hear()
    while not client.status().waiter_count:
        time.sleep(0.005)
    console.print(f"  {client.status().waiter_count} request waits for memory and a core")

    _step(5, "the reader of text is killed with SIGKILL, and the waiter has its units")
    killed_ns = time.monotonic_ns()
    workers["ocr"].process.kill()
    heard = waiter.hear()
    console.print(
        f"  granted {(heard['at_ns'] - killed_ns) / 1e6:.1f} ms after the kill, "
        f"as {heard['granted']['lease']} with token {heard['granted']['token']}"
    )
    console.print(f"  bytes of the dead in the new memory: {heard['dirty_bytes']}")
    _expect(heard["dirty_bytes"] == 0, "the new holder sees what the dead one wrote")
    _expect(workers["ocr"].process.wait() == -signal.SIGKILL, "the reader of text was not killed")
    _draw(client, "the card, after the kill")
    waiter.tell("end")
    _expect(waiter.end() == 0, "the waiter did not end well")


def _one_trespasses(client: leasehold.Client, stack: ExitStack, run_directory: Path, others: list[Worker]) -> None:
    _step(6, "a process writes one byte past its window")
    trespasser = stack.enter_context(_worker("trespasser", run_directory))
    trespasser.hear()
    trespasser.tell("go")
    status = trespasser.end()
    _expect(status == -signal.SIGSEGV, f"the trespasser ended with status {status}, not by SIGSEGV")
    console.print(f"  it died by {signal.Signals(-status).name}, alone")
    for other in others:
        _expect(other.process.poll() is None, f"{other.role} died with it")
    while any(lease.label == "trespasser" for lease in client.leases()):
        time.sleep(0.005)
    console.print(f"  {', '.join(other.role for other in others)} lives on, and its lease is back")


@contextmanager
def _daemon(directory: Path, run_directory: Path) -> Iterator[None]:
    """The daemon, for the length of the story."""
    command = [sys.executable, "-c", "from rm.daemon.main import main; main()", "--card-memory", CARD_MEMORY]
    command += ["--run-dir", str(run_directory), "--state-dir", str(directory / "state"), "--log-level", "warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise StoryBroken("the daemon did not start")
        try:
            yield
        finally:
            process.terminate()
            process.wait(STEP_S)


@contextmanager
def _worker(role: str, run_directory: Path) -> Iterator[Worker]:
    worker = Worker(role, run_directory)
    try:
        yield worker
    finally:
        worker.kill()


def _draw(client: leasehold.Client, title: str) -> None:
    console.print(f"\n  [bold]{title}[/]")
    draw_map(client, console, "", None)


def _step(number: int, text: str) -> None:
    signal.alarm(int(STEP_S))
    console.print(f"\n[bold]{number}. {text}[/]")


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise StoryBroken(otherwise)


def _took_too_long(number: int, frame: object) -> None:
    raise StoryBroken(f"a step took longer than {STEP_S:g} s")


if __name__ == "__main__":
    sys.exit(main())
