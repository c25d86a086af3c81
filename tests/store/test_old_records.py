"""Records that earlier versions wrote, as they lie on disks: read as what they are today, and never written."""

import pytest

from rm.core.events import Reserved
from rm.core.reservation import ReservationSpec
from rm.core.snapshot import StandingReservation
from rm.core.types import CardId, PoolName, UnitRange, UnitSet
from rm.store import codec
from rm.store.damage import StoreDamaged

SPEC = ReservationSpec(
    "graph", "sha256:1", CardId("0"), ((PoolName("u"), UnitSet((0, 1), ((UnitRange(2, 4),),))),), 1000
)
GIVEN = ((PoolName("u"), UnitSet((0,), ((UnitRange(3, 4),),))),)

RESERVED_1 = bytes.fromhex(
    "010c81a47370656385a46e616d65a56772617068ac636f6e74656e745f68617368a87368613235363a31a463617264a130a5756e69747391"
    "92a17582a57369746573920001a472756e73919182a5737461727402a473746f7004a96f776e65725f756964cd03e8"
)
STANDING_1 = bytes.fromhex(
    "014282a47370656385a46e616d65a56772617068ac636f6e74656e745f68617368a87368613235363a31a463617264a130a5756e69747391"
    "92a17582a57369746573920001a472756e73919182a5737461727402a473746f7004a96f776e65725f756964cd03e8a5676976656e9192a1"
    "7582a573697465739100a472756e73919182a5737461727403a473746f7004"
)


def test_a_reservation_of_before_sharing_is_one_that_is_not_shared() -> None:
    assert codec.decode_event(RESERVED_1) == Reserved(SPEC)
    assert codec.decode_part(STANDING_1) == StandingReservation(SPEC, GIVEN)
    assert not SPEC.is_shared


def test_it_is_written_in_the_version_of_today() -> None:
    assert codec.encode_event(Reserved(SPEC))[0] == codec.encode_part(StandingReservation(SPEC, GIVEN))[0] == 2


@pytest.mark.parametrize("record", [RESERVED_1[:-1], RESERVED_1 + b"\0", RESERVED_1[:60] + b"\xff" + RESERVED_1[61:]])
def test_damage_in_an_old_record_is_damage(record) -> None:
    with pytest.raises(StoreDamaged):
        codec.decode_event(record)


def test_a_version_that_never_was_is_refused_in_words() -> None:
    with pytest.raises(StoreDamaged, match="version 3, this rmd reads version 2"):
        codec.decode_event(b"\x03" + RESERVED_1[1:])
