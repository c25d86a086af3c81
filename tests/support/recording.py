"""Replays a recording of AXERA's own library: each step on the thread it was recorded on, and every answer compared.

A file is ``{"devices", "steps"}``. A step has a thread, an operation with its device, context or stream, the code that
the library answered, and what that thread saw right after. The recorded devices stand for the first ones there are, and
any other number for one that there is not.
"""

import json
import queue
import threading
from pathlib import Path

from leasehold import axcl

NOWHERE = 9
NO_SUCH_DEVICE = 999
DEADLINE_S = 60


class Thread:
    """A thread that does one thing after the other, and lives until it is told to end."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def do(self, fn, *args):
        """Calls ``fn`` there, and answers what it returned."""
        self._work.put((fn, args))
        value, fault = self._answers.get(timeout=DEADLINE_S)
        if fault is not None:
            raise fault
        return value

    def end(self) -> None:
        """Ends it."""
        self._work.put(None)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                self._answers.put((work[0](*work[1]), None))
            except BaseException as fault:
                self._answers.put((None, fault))


class Replay:
    """One recording, step by step. ``differences`` says what was answered otherwise."""

    def __init__(self, path: Path) -> None:
        told = json.loads(path.read_text())
        self.steps = told["steps"]
        devices, code = axcl.rt.get_device_list()
        assert (code, len(devices) >= len(told["devices"])) == (0, True), f"{code}, devices {devices}"
        self._device_of = dict(zip(told["devices"], devices, strict=False)) | {NOWHERE: NO_SUCH_DEVICE}
        self._recorded = {here: there for there, here in self._device_of.items()}
        self._threads = {step["thread"]: Thread() for step in self.steps}
        self._contexts: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self.differences: list[str] = []

    def run(self) -> None:
        """Runs all steps."""
        for number, step in enumerate(self.steps):
            thread = self._threads[step["thread"]]
            code = thread.do(self._carry_out, step)
            seen = thread.do(self._look)
            wanted = {key: step["then"][key] for key in seen}
            if (_hex(code), seen) != (step["code"], wanted):
                self.differences.append(f"step {number}, {step}: {_hex(code)}, {seen}")
        for thread in self._threads.values():
            thread.end()

    def _carry_out(self, step) -> int:
        device = self._device_of.get(step.get("device"))
        match step["op"]:
            case "set_device":
                return axcl.rt.set_device(device)
            case "reset_device":
                return axcl.rt.reset_device(device)
            case "create_context":
                handle, code = axcl.rt.create_context(device)
                self._contexts[step.get("context", "")] = handle
                return code
            case "destroy_context":
                return axcl.rt.destroy_context(self._context(step["context"]))
            case "set_current_context":
                return axcl.rt.set_current_context(self._context(step["context"]))
            case "create_stream":
                handle, code = axcl.rt.create_stream()
                self._streams[step.get("stream", "")] = handle
                return code
            case "destroy_stream":
                return axcl.rt.destroy_stream(self._streams[step["stream"]])
            case "synchronize_stream":
                return axcl.rt.synchronize_stream(self._streams[step["stream"]])
            case "synchronize_device":
                return axcl.rt.synchronize_device()
        raise AssertionError(f"an unknown step: {step}")

    def _look(self) -> dict[str, list]:
        device, device_code = axcl.rt.get_device()
        context, context_code = axcl.rt.get_current_context()
        return {
            "get_device": [_hex(device_code), None if device_code else self._recorded[device]],
            "current_context": [_hex(context_code), None if context_code else self._name(context)],
        }

    def _context(self, name: str) -> int:
        if name.startswith("default:"):
            return axcl.rt.get_default_context(self._device_of[int(name.removeprefix("default:"))])[0]
        return self._contexts[name]

    def _name(self, handle: int) -> str:
        for there, here in self._device_of.items():
            if axcl.rt.get_default_context(here) == (handle, 0):
                return f"default:{there}"
        return next(name for name, known in self._contexts.items() if known == handle)


def _hex(code: int) -> str:
    return f"0x{code & 0xFFFFFFFF:08x}"
