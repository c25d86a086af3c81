"""``make sim``: many seeds on all cores, or one seed with everything that happens in it."""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter

from sim.runner import run, run_some

_SEEDS_PER_TASK = 20


def main() -> int:
    """Runs what the command line asks for; the exit status is 1 where something was wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its whole trace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _run_one(asked.seed)
    try:
        return _run_many(range(asked.first, asked.first + asked.seeds), asked.jobs)
    except KeyboardInterrupt:
        _say("\n")
        return 130


def _run_one(seed: int) -> int:
    done = run(seed)
    _say("\n".join([*done.trace, f"seed {seed}: {done.fault or 'nothing wrong'}", ""]))
    return 1 if done.fault else 0


def _run_many(seeds: range, jobs: int) -> int:
    started_s = time.monotonic()
    done_count, seen = 0, Counter[str]()
    with multiprocessing.get_context("spawn").Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        tasks = [seeds[start : start + _SEEDS_PER_TASK] for start in range(0, len(seeds), _SEEDS_PER_TASK)]
        for count, fault, more in pool.imap(run_some, tasks):
            if fault is not None:
                _say(f"\n{fault.report()}\n")
                return 1
            done_count += count
            seen += more
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{done_count} of {len(seeds)} seeds")
                sys.stderr.flush()
    elapsed_s = time.monotonic() - started_s
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    for what, count in sorted(seen.items()):
        _say(f"{count:9,} {what}\n")
    _say(f"{done_count:,} seeds, 0 violations, {done_count / elapsed_s:.0f} seeds/s\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
