"""Any history, written in any batches with snapshots anywhere between, makes the same books again."""

from dataclasses import replace
from random import Random

import msgspec
import pytest

from rm.core.report import differences
from rm.core.snapshot import take
from rm.store import codec
from rm.store.opening import open_database
from rm.store.recovery import recover
from support.books import CARD
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


@pytest.mark.parametrize("is_in_snapshot", [False, True])
def test_a_reservation_of_an_older_rmd_stands_and_is_not_shared(tmp_path, is_in_snapshot) -> None:
    """Before reservations could be shared, their records were of version 1 and did not say whether they are."""
    units = {"name": "g", "content_hash": "", "card": CARD, "units": [], "owner_uid": 1000}
    database = open_database(tmp_path)
    head = states(history(1))[-1].head
    if is_in_snapshot:
        old = bytes((1, 66)) + msgspec.msgpack.encode({"spec": units, "given": []})
        database.compact([codec.encode_part(replace(head, part_count=1)), old], head.revision)
    else:
        started, old = codec.encode_event(history(1)[0]), bytes((1, 12)) + msgspec.msgpack.encode({"spec": units})
        database.write([(1, started), (2, old)])
    (reservation,) = recover(database).reservations.values()
    database.close()
    assert (reservation.spec.name, reservation.spec.owner_uid, reservation.spec.is_shared) == ("g", 1000, False)


def test_what_is_shared_and_which_clocks_are_off_outlives_a_snapshot_in_the_store(tmp_path) -> None:
    made = history(12)
    now = states(made)[-1]
    database = open_database(tmp_path)
    database.write([(index + 1, codec.encode_event(event)) for index, event in enumerate(made)])
    database.compact([codec.encode_part(part) for part in (now.head, *now.parts)], len(made))
    database.close()
    database = open_database(tmp_path)
    books = recover(database)
    database.close()
    assert {name: one.spec.is_shared for name, one in books.reservations.items()} == {"kept": False, "passing": True}
    assert books.cards[CARD].gated_sites == ("b",)
    assert books.cards[CARD].pools["ch"].open_sites == (0,)
