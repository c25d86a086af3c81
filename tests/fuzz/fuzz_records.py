"""Feeds any bytes to the codec of the store: they are a record that is written the same way again, or damage.

Run by hand, with Python 3.11 or later: ``pip install atheris`` and
``PYTHONPATH=.:tests python tests/fuzz/fuzz_records.py -max_total_time=600``.
"""

import sys

import atheris

with atheris.instrument_imports(include=["rm"]):
    from rm.store import codec
    from rm.store.damage import StoreDamaged
from support.history import history, states

GOOD = [codec.encode_event(event) for event in history(60)]
GOOD += [codec.encode_part(part) for part in states(history(60))[-1].parts]


def try_record(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():  # any bytes in the place of some of a good record, as few get past its first bytes
        good = provider.PickValueInList(GOOD)
        start = provider.ConsumeIntInRange(0, len(good))
        stop = provider.ConsumeIntInRange(start, min(len(good), start + 16))
        data = good[:start] + provider.ConsumeBytes(16) + good[stop:]
    for decode, encode in ((codec.decode_event, codec.encode_event), (codec.decode_part, codec.encode_part)):
        try:
            value = decode(data)
        except StoreDamaged:
            continue
        assert encode(value) == data


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_record)
    atheris.Fuzz()
