"""Client processes that take and give back without end, tell of every lease, and what must be true of all they told."""

import json
import threading
from itertools import pairwise

from support.daemon import END_S, python

_SOURCE = """
import json, random, select, sys, time, leasehold
run_directory, seed = sys.argv[1:]
POOLS = ("memory", "streams", "vdec")
chance = random.Random(int(seed))
client = leasehold.connect(run_directory)
longest_s, longest_call = 0.0, ""

def timed(work, *args, **more):
    global longest_s, longest_call
    begun = time.monotonic()
    try:
        return work(*args, **more)
    finally:
        longest_s, longest_call = max((longest_s, longest_call), (time.monotonic() - begun, work.__name__))

def note(lease, now_ns):
    # Which units it has since when; those it no longer has were sent back at now_ns.
    mine = {(pool, unit) for pool in POOLS for unit in lease.units(pool)}
    for unit in [*lease.since_ns]:
        if unit not in mine:
            lease.told.append([*unit, lease.since_ns.pop(unit), now_ns])
    lease.since_ns |= {unit: now_ns for unit in mine - lease.since_ns.keys()}

def take(**wanted):
    lease = timed(client.acquire, wait=60, **wanted)
    lease.since_ns, lease.told = {}, []
    note(lease, time.monotonic_ns())
    assert bytes(lease.memory).count(0) == lease.memory.size, "somebody's bytes"
    lease.memory[:4] = lease.token.to_bytes(4, "big")
    return lease

def change(lease):
    if chance.random() < 0.3:
        timed(lease.extend, vdec=1)  # which nobody waits for: it would be refused
        note(lease, time.monotonic_ns())
    if chance.random() < 0.3:
        sent_ns = time.monotonic_ns()
        timed(lease.give_back, "streams", lease.units("streams")[:1])
        note(lease, sent_ns)

def give(lease):
    assert lease.memory[:4] == lease.token.to_bytes(4, "big"), "bytes were lost"
    lease.check()
    (known,) = [one for one in timed(client.leases) if one.id == lease.id]
    assert known.token == lease.token and known.state != "revoking", known
    assert [known.units(pool) for pool in POOLS] == [lease.units(pool) for pool in POOLS], known
    sent_ns = time.monotonic_ns()
    timed(lease.release)
    told = lease.told + [[*unit, since_ns, sent_ns] for unit, since_ns in lease.since_ns.items()]
    print(json.dumps({"token": lease.token, "answered_ns": min(one[2] for one in told), "held": told}), flush=True)

kept = take(memory="1MiB", streams=1)  # by everybody before anybody goes on: else they lie in each other's way
print(json.dumps({}), flush=True)
sys.stdin.readline()
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        lease = take(memory=f"{chance.randint(1, 4)}MiB", streams=chance.randint(1, 2))
        change(lease)
        give(lease)
    except Exception as fault:
        print(json.dumps({"fault": repr(fault)}), flush=True)
give(kept)
client.close()
print(json.dumps({"longest": [longest_s, longest_call]}), flush=True)
"""


class BusyClient:
    """One such process. It has its first lease when this returns, and keeps that; ``begin`` makes it busy."""

    def __init__(self, daemon, seed: int) -> None:
        self.leases, self.faults, self.longest = [], [], (0.0, "")
        self._process = python(_SOURCE, str(daemon.run_directory), str(seed), stderr=None)
        assert self._process.stdout.readline() == "{}\n"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def begin(self) -> None:
        """Makes it busy."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Has it give everything back and end well."""
        self._process.stdin.close()
        self._reader.join(2 * END_S)
        assert self._process.wait(END_S) == 0
        self._process.stdout.close()

    def kill(self) -> None:
        """Ends it whatever it does."""
        self._process.kill()
        self._process.wait(END_S)
        self._reader.join(END_S)
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            match json.loads(line):
                case {"fault": fault}:
                    self.faults.append(fault)
                case {"longest": longest}:
                    self.longest = tuple(longest)
                case told:
                    self.leases.append(told)


class BusyClients:
    """Several of them, for the length of a block."""

    def __init__(self, daemon, count: int, seed: int) -> None:
        self.all = [BusyClient(daemon, seed + number) for number in range(count)]
        for client in self.all:
            client.begin()

    def __enter__(self) -> "BusyClients":
        return self

    def __exit__(self, *exception: object) -> None:
        for client in self.all:
            client.kill()

    @property
    def lease_count(self) -> int:
        """How many leases came and went so far; nobody may have met a fault."""
        assert not any(client.faults for client in self.all), [client.faults for client in self.all]
        return sum(len(client.leases) for client in self.all)

    @property
    def longest(self) -> tuple[float, str]:
        """How long the longest call of a client took, in seconds, and which that was."""
        return max(client.longest for client in self.all)

    def finish(self) -> None:
        """Has all give everything back; then holds what they told to be true."""
        for client in self.all:
            client.finish()
        assert self.lease_count
        for client in self.all:
            in_order = sorted(client.leases, key=lambda lease: lease["answered_ns"])
            assert all(one["token"] < other["token"] for one, other in pairwise(in_order)), "a token went back"
        leases = [lease for client in self.all for lease in client.leases]
        assert len({lease["token"] for lease in leases}) == len(leases), "a token was given twice"
        check_no_unit_was_held_twice(leases)


def check_no_unit_was_held_twice(leases) -> None:
    """Per unit, the times from the answer of a grant to the sending of its end do not overlap."""
    held = {}
    for lease in leases:
        for pool, unit, answered_ns, sent_ns in lease["held"]:
            assert answered_ns <= sent_ns
            held.setdefault((pool, unit), []).append((answered_ns, sent_ns, lease["token"]))
    for unit, times in held.items():
        for (_, sent_ns, token), (answered_ns, _, other) in pairwise(sorted(times)):
            assert sent_ns < answered_ns, f"{unit} was given to {token} and {other} at once"
