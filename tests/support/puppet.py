"""A client process that does what a test tells it to, line by line, and can be stopped, killed and left to itself."""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from support.daemon import END_S, python

STRANGER_UID = 65534
_SOURCE = """
import json, os, signal, sys, threading
sys.path.insert(0, {tests!r})
import leasehold.client
{imports}
if {uid}:
    os.setgid({uid}); os.setuid({uid})  # only now: the interpreter itself may lie where root alone can read
run_directory = {run_directory!r}
client = leasehold.connect(run_directory)
lost = []

def hold(**wanted):
    lease = client.acquire(**wanted)
    lease.on_lost(lambda lease: lost.append(lease._lost_cause))
    return lease

def fork_child():
    pid = os.fork()
    if not pid:
        signal.pause()
    return pid

def carry_out(source):
    try:
        return "", eval(compile(source, "<test>", "eval"), globals())
    except SyntaxError:
        return "", exec(compile(source, "<test>", "exec"), globals())

print(json.dumps(["", client._session().session_id]), flush=True)
for line in sys.stdin:
    try:
        outcome = carry_out(json.loads(line))
    except Exception as fault:
        outcome = type(fault).__name__, str(fault)
    print(json.dumps(outcome, default=repr), flush=True)
"""


class Told(Exception):
    """What the puppet raised; ``kind`` is the name of the class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Puppet:
    """Has ``client``, ``hold`` (acquires, and notes in ``lost`` why a lease is lost) and ``fork_child`` at hand.

    ``imports`` are carried out before it becomes another user, who may not be able to.
    """

    def __init__(self, daemon, *, uid: int = 0, imports: str = "") -> None:
        tests = str(Path(__file__).parents[1])
        source = _SOURCE.format(tests=tests, uid=uid, imports=imports, run_directory=str(daemon.run_directory))
        self.process = python(source, stderr=sys.stderr)
        self.pid = self.process.pid
        self.session_id = self.answer()

    def __call__(self, source: str):
        """Has it evaluate an expression, or execute statements; answers with the value."""
        self.begin(source)
        return self.answer()

    def begin(self, source: str) -> None:
        """Tells it what to do, and does not wait."""
        self.process.stdin.write(json.dumps(source) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """What came of the last thing it was told to do."""
        line = self.process.stdout.readline()
        assert line, f"the puppet is dead: {self.process.wait(END_S)}"
        kind, value = json.loads(line)
        if kind:
            raise Told(kind, value)
        return value

    def fault(self, source: str = "") -> str:
        """The name of what it raises."""
        try:
            value = self(source) if source else self.answer()
        except Told as told:
            return told.kind
        raise AssertionError(f"it answered {value!r}")

    def stop(self) -> None:
        """SIGSTOP; it stands still when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Its exit status, once it has ended by itself or by somebody else; that of a signal is negative."""
        return self.process.wait(END_S)

    def kill(self) -> None:
        """SIGKILL. Its children live on."""
        self.process.kill()
        self.process.wait(END_S)


def window_bytes_of(pid: int) -> list[int]:
    """The sizes of the windows that a process has open, as the kernel has them."""
    names = [entry.path for entry in os.scandir(f"/proc/{pid}/fd")]
    return [os.stat(name).st_size for name in names if os.readlink(name).startswith("/memfd:leasehold-")]


class Puppets:
    """Makes puppets, and ends all that are left with ``close``."""

    def __init__(self) -> None:
        self._made: list[Puppet] = []

    def __call__(self, daemon, **more) -> Puppet:
        self._made.append(Puppet(daemon, **more))
        return self._made[-1]

    def close(self) -> None:
        """SIGKILL for whoever lives."""
        for puppet in self._made:
            if puppet.process.poll() is None:
                puppet.kill()
            puppet.process.stdout.close()
            with suppress(BrokenPipeError):
                puppet.process.stdin.close()
