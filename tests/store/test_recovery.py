"""Any history, written in any batches with snapshots anywhere between, makes the same books again."""

from random import Random

import pytest

from rm.core.report import differences
from rm.core.snapshot import take
from rm.store import codec
from rm.store.opening import open_database
from rm.store.recovery import recover
from support.history import history, states


@pytest.mark.parametrize("seed", range(12))
def test_what_recovers_equals_what_was_written(tmp_path, seed) -> None:
    random, made = Random(seed), history(150, seed)
    expected = states(made)
    revision = 0
    while revision < len(made):
        database = open_database(tmp_path)
        recovered = recover(database)
        assert take(recovered) == expected[revision]
        assert differences(recovered) == []
        for _ in range(random.randint(1, 4)):
            batch = made[revision : revision + random.randint(1, 30)]
            if batch:
                database.write([(revision + 1 + index, codec.encode_event(event)) for index, event in enumerate(batch)])
                revision += len(batch)
        if random.random() < 0.5:
            now = expected[revision]
            database.compact([codec.encode_part(part) for part in (now.head, *now.parts)], revision)
        database.close()
    database = open_database(tmp_path)
    assert take(recover(database)) == expected[-1]
    database.close()
