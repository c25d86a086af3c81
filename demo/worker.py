"""A process of the demo: takes a lease, runs its model, and does what it is told on standard input, a word a line.

What it has to say goes to standard output, a JSON object a line. Roles: ``magika``, ``ocr``, ``waiter`` and
``trespasser``.
"""

import ctypes
import json
import os
import resource
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import leasehold
from demo import models

ANSWER_COUNT = 40  # inferences that are timed, at least
TEXTS = ("lease 4711 ok", "two cores busy")
PATTERN = 0x5A


def say(**what: Any) -> None:  # noqa: ANN401 - JSON
    """Tells the demo something."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def told(word: str) -> None:
    """Waits until the demo says ``word``; ends the process where it has nothing more to say."""
    if sys.stdin.readline().strip() != word:
        sys.exit(0)


def magika(client: leasehold.Client) -> None:
    """Names the type of two files."""
    files = (Path(__file__), Path(sys.executable).resolve())
    expected = ("python", "elf")
    with client.acquire(memory="48MiB", cores=1, streams=1, label="magika") as lease:
        model = lease.load(models.model_path("magika"))
        say(granted=_about(lease))
        told("go")
        answers = []
        for file in files:
            label, score = models.magika_answer(model.run(models.magika_input(file.read_bytes())))
            answers.append(f"{file.name} is {label} ({score:.3f})")
        right = all(f"is {label} " in answer for label, answer in zip(expected, answers, strict=True))
        inputs = models.magika_input(files[0].read_bytes())
        say(answers=answers, right=right, **_timed(lambda: model.run(inputs, stream=lease.stream(0))))
        told("end")


def ocr(client: leasehold.Client) -> None:
    """Reads two lines of rendered text, and leaves a pattern in its memory for the next holder not to find."""
    with client.acquire(memory="96MiB", cores=1, streams=1, label="ocr") as lease:
        model = lease.load(models.model_path("ocr"))
        say(granted=_about(lease))
        told("go")
        characters = models.ocr_characters(model.metadata)
        answers = [models.ocr_answer(model.run(models.ocr_input(text)), characters) for text in TEXTS]
        inputs = models.ocr_input(TEXTS[0])
        timed = _timed(lambda: model.run(inputs, stream=lease.stream(0)))
        say(answers=[f"reads {answer!r}" for answer in answers], right=answers == list(TEXTS), **timed)
        told("mark")
        window = lease.memory
        assert window is not None
        window[:] = bytes([PATTERN]) * window.size
        say(marked=window.size)
        told("end")


def waiter(client: leasehold.Client) -> None:
    """Waits for what the reader of text holds, and looks whether its memory is clean."""
    say(waiting=True)
    with client.acquire(memory="200MiB", cores=1, wait="30s", label="waiter") as lease:
        at_ns = time.monotonic_ns()
        window = lease.memory
        assert window is not None
        say(granted=_about(lease), at_ns=at_ns, dirty_bytes=window.size - bytes(window).count(0))
        told("end")


def trespasser(client: leasehold.Client) -> None:
    """Writes one byte past its window, on purpose."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lease = client.acquire(memory="1MiB", label="trespasser")
    window = lease.memory
    assert window is not None
    say(granted=_about(lease))
    told("go")
    ctypes.memset(window.address + window.size, 1, 1)
    say(survived=True)


def _timed(run: Callable[[], object]) -> dict[str, Any]:
    """Runs inferences, some at least, until the demo knows that the others run theirs too; says when."""
    begun_ns, count = time.monotonic_ns(), 0
    while count < ANSWER_COUNT or not select.select([sys.stdin], [], [], 0)[0]:
        run()
        count += 1
        if count == 1:
            say(running=True)
    ended_ns = time.monotonic_ns()
    told("enough")
    return {
        "begun_ns": begun_ns,
        "ended_ns": ended_ns,
        "ms_each": (ended_ns - begun_ns) / count / 1e6,
    }


def _about(lease: leasehold.Lease) -> dict[str, Any]:
    return {"lease": lease.id, "token": lease.token, "cores": lease.cores, "pid": os.getpid()}


ROLES = {"magika": magika, "ocr": ocr, "waiter": waiter, "trespasser": trespasser}

if __name__ == "__main__":
    with leasehold.connect(sys.argv[2]) as the_client:
        ROLES[sys.argv[1]](the_client)
