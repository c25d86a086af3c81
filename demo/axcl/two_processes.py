"""Two processes want one card in different vNPU modes: the second is refused with who holds it, waits, and gets it.

python -m demo.axcl.two_processes
"""

import subprocess
import sys

from leasehold import runtime

WAIT_S = 20


def first():
    """Holds the card in one mode until it is told to go."""
    with runtime.device(runtime.devices()[0].id):
        runtime.engine_init(runtime.VNpuKind.ENABLE)
        print("first: the card is in mode std", flush=True)
        sys.stdin.readline()
        runtime.engine_finalize()
        print("first: gave it back", flush=True)
    return 0


def second():
    """Wants another mode."""
    other = subprocess.Popen(
        [sys.executable, "-m", "demo.axcl.two_processes", "first"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(other.stdout.readline().strip())
    with runtime.device(runtime.devices()[0].id):
        try:
            runtime.engine_init(runtime.VNpuKind.BIG_LITTLE)
        except runtime.Fault as refusal:
            print(f"second: {refusal}")
            was_refused = f"pid {other.pid}" in str(refusal)
        other.stdin.write("go\n")
        other.stdin.flush()
        runtime.engine_init(runtime.VNpuKind.BIG_LITTLE, wait=WAIT_S)
        print(f"second: the card is in mode {runtime.engine_kind().name}")
        runtime.engine_finalize()
    print(other.communicate()[0].strip())
    return 0 if was_refused and other.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(first() if sys.argv[1:] == ["first"] else second())
