"""Feeds any bytes to the reader of the AI Engine resource file: they are a file that is written again, or refused.

Run by hand, with Python 3.11 or later: ``pip install atheris`` and
``PYTHONPATH=.:client:proto:tests python tests/fuzz/fuzz_resources.py -max_total_time=600``.
"""

import sys

import atheris

with atheris.instrument_imports(include=["leasehold.aie"]):
    from leasehold.aie.array import ArrayShape, PoolShape
    from leasehold.aie.resource_file import read_resources, write_resources
from leasehold.errors import Invalid
from rm.devices.profiles import load_profile

SHAPE = ArrayShape.of(
    PoolShape(pool.name, pool.unit_count, pool.sites, pool.site_unit_counts) for pool in load_profile("aie:2x3").pools
)
GOOD = write_resources(SHAPE, {"perfcnt": {"0,1,core": [0, 3]}, "bcast_channel": {"1,0,pl": [15]}})


def try_file(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():  # any bytes in the place of some of a good file, as few get past its first bytes
        start = provider.ConsumeIntInRange(0, len(GOOD))
        stop = provider.ConsumeIntInRange(start, min(len(GOOD), start + 16))
        data = GOOD[:start] + provider.ConsumeBytes(16) + GOOD[stop:]
    try:
        found = read_resources(data, SHAPE)
    except Invalid:
        return
    assert read_resources(write_resources(SHAPE, found), SHAPE) == found


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_file)
    atheris.Fuzz()
