"""Feeds any bytes to the session socket, before and behind a greeting: nothing raises, leaks, or stops the daemon.

Run by hand, with Python 3.11 or later: ``pip install atheris`` and
``PYTHONPATH=.:tests python tests/fuzz/fuzz_frames.py -max_total_time=600``.
"""

import asyncio
import sys

import atheris

with atheris.instrument_imports(include=["rm"]):
    import rm.service.connection
    import rm.service.session_socket  # noqa: F401 - instrumented here, used by what follows
from support.fed import OPENING, answers_to


def try_bytes(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    is_greeted, descriptor_count = provider.ConsumeBool(), provider.ConsumeIntInRange(0, 2)
    chunks = [provider.ConsumeBytes(provider.ConsumeIntInRange(1, 200)) for _ in range(3)]
    asyncio.run(answers_to([OPENING, *chunks] if is_greeted else chunks, descriptor_count))


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()
