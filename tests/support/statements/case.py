"""What a statement about AXCL is tried with: two cards, threads, a model, another process, and an eye on the daemon."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from leasehold import axcl
from support import tiny_model
from support.daemon import Daemon, is_all_free
from support.waiting import in_thread, until

PROCESSES = 26  # as the real card serves
PROFILE = f"""
name = "statements"
[pools.memory]
memory_mib = "card-memory"
[pools.cores]
unit_count = "cpus"
[pools.streams]
unit_count = 256
[pools.contexts]
unit_count = 256
[pools.processes]
unit_count = {PROCESSES}
[pools.vnpu]
unit_count = {PROCESSES}
sites = ["disable", "std", "big-little", "little-big"]
"""
_OTHER_PROCESS = """
import sys
import leasehold.axcl as axcl
axcl.init()
device = axcl.rt.get_device_list()[0][0]
for line in sys.stdin:
    print(eval(line), flush=True)
axcl.finalize()
"""


@dataclass
class Case:
    """One try. ``first`` and ``second`` are the ids of two devices; both are inactive when it begins."""

    daemon: Daemon
    directory: Path
    first: int = 0
    second: int = 1
    _others: list[subprocess.Popen] = field(default_factory=list)

    def model(self, **options) -> str:
        """The path of a small model."""
        path = self.directory / f"{abs(hash(tuple(sorted(map(str, options.items())))))}.onnx"
        if not path.exists():
            path.write_bytes(tiny_model.model(**options))
        return str(path)

    def other_process(self) -> Callable[[str], str]:
        """Another process that uses AXCL; answers a function that has it evaluate a line, with ``device`` in it."""
        environment = os.environ | {"LEASEHOLD_ADDRESS": str(self.daemon.run_directory)}
        command = [sys.executable, "-c", _OTHER_PROCESS]
        other = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        self._others.append(other)

        def ask(line: str) -> str:
            other.stdin.write(line + "\n")
            return other.stdout.readline().strip()

        return ask

    def python(self, source: str) -> subprocess.CompletedProcess[str]:
        """Runs a program that has ``axcl`` and the first device as ``device``."""
        head = "import leasehold.axcl as axcl, os, sys\naxcl.init()\ndevice = axcl.rt.get_device_list()[0][0]\n"
        environment = os.environ | {"LEASEHOLD_ADDRESS": str(self.daemon.run_directory)}
        command = [sys.executable, "-c", head + source]
        return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)

    def lose_lease(self) -> None:
        """Has the daemon take back what this process holds of its devices, and waits until it is known here."""
        from leasehold.runtime import default_runtime

        with self.daemon.connect() as admin:
            for lease in admin.leases():
                if lease.pid == os.getpid():
                    admin.revoke(lease.id, notice=0)
        active = [device.activation for device in default_runtime().devices() if device.activation is not None]
        until(lambda: all(activation.lost_because for activation in active))

    def end(self) -> None:
        """Ends its other processes, and finds nothing left behind."""
        for other in self._others:
            other.communicate(timeout=20)
        while axcl.lifecycle._count:
            axcl.finalize()
        axcl.finalize()
        with self.daemon.connect() as client:
            until(lambda: is_all_free(client))


@contextmanager
def cases():
    """A function that tries something in a thread of its own, and answers what that answered."""
    logging.getLogger("leasehold.axcl").setLevel(logging.DEBUG)  # a try that fails has more to say than its code
    with tempfile.TemporaryDirectory(prefix="lh-axcl-") as directory:
        profile = Path(directory) / "profile.toml"
        profile.write_text(PROFILE)
        daemon = Daemon("--profile", str(profile), "--cards", "2", "--durability", "none")
        before = os.environ.get("LEASEHOLD_ADDRESS")
        os.environ["LEASEHOLD_ADDRESS"] = str(daemon.run_directory)

        def run(work: Callable[[Case], str]) -> str:
            case = Case(daemon, Path(directory))

            def tried() -> str:
                assert axcl.init() == 0, axcl.last_error()
                (case.first, case.second), _ = axcl.rt.get_device_list()
                return work(case)

            try:
                return in_thread(tried)()
            finally:
                case.end()

        try:
            yield run
        finally:
            if before is None:
                del os.environ["LEASEHOLD_ADDRESS"]
            else:
                os.environ["LEASEHOLD_ADDRESS"] = before
            daemon.remove()
