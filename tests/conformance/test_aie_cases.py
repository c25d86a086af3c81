"""The numbered cases of the resource manager's behaviour, each with the intended result, on a small array.

D2 is an array of two columns: a shim row and two rows of compute tiles, as ``aie:2x3``. Where releases of the original
differ from each other, or have a fault, the intended result is what stands here. Numbers 35 to 45 are not in use; those
from 46 on are about partitions, in ``test_aie_partitions``.
"""

from collections.abc import Callable

import pytest

from leasehold import Common, Exhausted, Held, Ids, Invalid, Refused, Run, Units
from leasehold.local import Manager

C, M, L = (0, 1, "core"), (0, 1, "mem"), (0, 0, "pl")
C2, M2 = (0, 2, "core"), (0, 2, "mem")
FAR_C = (1, 1, "core")
PERF, PC, COMBO, BCAST, GROUP = "perfcnt", "pc_event", "combo_event", "bcast_channel", "group_event"
NOSPC, BUSY, INVAL = Exhausted, Held, Invalid

D2 = "aie:2x3"


def d2(**static: list[tuple[tuple[int, int, str], int]]) -> Manager:
    """A fresh array on which the compiler reserved ``static``: (tile, id) by type."""
    manager = Manager(D2)
    if static:
        load(manager, **static)
    return manager


def load(manager: Manager, *, replace: bool = False, **static: list[tuple[tuple[int, int, str], int]]) -> None:
    """Loads what a compiler would have written after asking for exactly these units."""
    compiler = Manager(D2)
    for kind, units in static.items():
        for tile, unit in units:
            compiler.request_specific(kind, tile, unit)
    manager.load(compiler.dump(), replace=replace)


def outcome(call: Callable[[], object]) -> object:
    """What a call answers, or the kind of its refusal."""
    try:
        return call()
    except Refused as refusal:
        return type(refusal)


def pool_requests(manager: Manager, count: int, kind: str = PERF, tile: tuple[int, int, str] = C) -> list[object]:
    return [outcome(lambda: manager.request(kind, [tile])[0]) for _ in range(count)]


def counts(manager: Manager, kind: str = PERF, tile: tuple[int, int, str] = C) -> tuple[int, int]:
    """Static and available."""
    return manager.static(kind, tile), manager.available(kind, tile)


def free(manager: Manager, unit: int, kind: str = PERF) -> object:
    return outcome(lambda: manager.free(kind, C, unit))


def specific(manager: Manager, unit: int, kind: str = PERF, tile: tuple[int, int, str] = C) -> object:
    return outcome(lambda: manager.request_specific(kind, tile, unit))


def run_of(manager: Manager, count: int, kind: str = COMBO, tile: tuple[int, int, str] = FAR_C) -> object:
    return outcome(lambda: manager.request_range(kind, tile, count))


def common(manager: Manager, *tiles: tuple[int, int, str], unit: int | None = None) -> object:
    return outcome(lambda: manager.request_common(BCAST, list(tiles), unit))


def full() -> Manager:
    manager = d2()
    assert pool_requests(manager, 5) == [0, 1, 2, 3, NOSPC]
    return manager


def reserved_0_and_2() -> Manager:
    return d2(perfcnt=[(C, 0), (C, 2)])


def case_1() -> None:
    full()


def case_2() -> None:
    manager = full()
    assert free(manager, 1) is None
    assert pool_requests(manager, 1) == [1]


def case_3() -> None:
    manager = full()
    assert free(manager, 1) is None
    assert free(manager, 1) is INVAL


def case_4() -> Manager:
    manager = reserved_0_and_2()
    assert counts(manager) == (2, 2)
    assert pool_requests(manager, 3) == [1, 3, NOSPC]
    assert counts(manager) == (2, 0)
    return manager


def case_5() -> Manager:
    manager = case_4()
    assert specific(manager, 0) == 0
    assert [specific(manager, 0), specific(manager, 1)] == [BUSY, BUSY]
    assert counts(manager)[0] == 2
    return manager


def case_6() -> Manager:
    manager = case_5()
    assert free(manager, 0) is None
    assert counts(manager) == (2, 0)
    assert pool_requests(manager, 1) == [NOSPC]
    assert specific(manager, 0) == 0
    manager.release_unit(PERF, C, 0)
    assert counts(manager) == (1, 1)
    assert pool_requests(manager, 1) == [0]
    return manager


def case_7() -> None:
    manager = case_6()
    assert outcome(lambda: manager.release_unit(PERF, C, 2)) is INVAL
    assert counts(manager)[0] == 1


def case_8() -> None:
    manager = d2()
    assert specific(manager, 3) == 3
    assert counts(manager) == (0, 3)
    strict = Manager(D2, strict=True)
    assert specific(strict, 3) is INVAL
    load(strict, perfcnt=[(C, 3)])
    assert specific(strict, 3) == 3


def case_9() -> None:
    manager = d2()
    assert [specific(manager, 4), specific(manager, 5)] == [INVAL, INVAL]
    assert manager.available(PERF, C2) == 4


def case_10() -> None:
    manager = d2()
    assert pool_requests(manager, 2, tile=M) == [0, 1]
    assert outcome(lambda: manager.request(PERF, [C, M])) is NOSPC
    assert manager.available(PERF, C) == 4


def case_11() -> None:
    manager = d2()
    assert specific(manager, 2) == 2
    assert outcome(lambda: manager.acquire(Ids(PERF, [0, 1, 2], at=[C]))) is BUSY
    assert counts(manager) == (0, 3)


def case_12() -> None:
    manager = reserved_0_and_2()
    assert specific(manager, 1) == 1
    assert outcome(lambda: manager.acquire(Ids(PERF, [0, 1], at=[C]))) is BUSY
    assert counts(manager) == (2, 1)
    assert specific(manager, 0) == 0


def case_13() -> None:
    manager = d2()
    assert outcome(lambda: manager.acquire(Ids(PERF, [0, 0], at=[C]))) is INVAL
    assert counts(manager) == (0, 4)


def case_14() -> None:
    manager = d2()
    assert manager.request(PERF, [C, C2]) == [0, 0]


def case_15() -> None:
    manager = d2()
    assert manager.acquire(Units(PERF, 2, at=[C])).units(PERF) == (0, 1)
    assert outcome(lambda: manager.acquire(Units(PERF, 5, at=[C]))) is INVAL
    assert counts(manager) == (0, 2)


def case_16() -> None:
    manager = d2()
    assert [run_of(manager, 2), run_of(manager, 3)] == [[0, 1], NOSPC]
    assert [run_of(manager, 2), run_of(manager, 2)] == [[2, 3], NOSPC]
    assert manager.available(COMBO, FAR_C) == 0


def case_17() -> None:
    manager = d2(combo_event=[(FAR_C, 1)])
    assert [run_of(manager, 4), run_of(manager, 3), run_of(manager, 2)] == [NOSPC, NOSPC, [2, 3]]


def case_18() -> None:
    manager = d2()
    assert [run_of(manager, 3), run_of(manager, 2)] == [[0, 1, 2], NOSPC]
    assert run_of(manager, 1) == [3]
    assert run_of(manager, 5) is INVAL


def case_19() -> None:
    manager = d2()
    assert specific(manager, 1, COMBO, FAR_C) == 1
    assert [run_of(manager, 2), run_of(manager, 2), run_of(manager, 1)] == [[2, 3], NOSPC, [0]]


def case_20() -> None:
    manager = d2()
    assert run_of(manager, 2, tile=C) == [0, 1]
    assert run_of(manager, 3, tile=C) is NOSPC
    assert manager.available(COMBO, C2) == 4


def case_21() -> None:
    manager = d2()
    assert pool_requests(manager, 1, PC) == [0]
    assert [run_of(manager, 2, PC, C), run_of(manager, 2, PC, C)] == [[2, 3], NOSPC]
    assert pool_requests(manager, 1, PC) == [1]
    assert manager.available(PC, C) == 0


def case_22() -> None:
    manager = d2()
    ranges = Run(PC, 2, align=2, at=[C, C2])
    assert manager.acquire(ranges).units(PC) == (0, 1, 0, 1)
    assert manager.acquire(ranges).units(PC) == (2, 3, 2, 3)
    assert outcome(lambda: manager.acquire(ranges)) is NOSPC


def case_23() -> None:
    manager = d2()
    assert [common(manager, M, C, L), common(manager, C)] == [0, 1]
    assert common(manager, L, unit=1) == 1
    assert common(manager, M, L) == 2
    assert common(manager, M, L, unit=1) is BUSY
    assert (manager.available(BCAST, M), manager.available(BCAST, L)) == (14, 13)


def case_24() -> None:
    manager = d2()
    manager.acquire(Ids(BCAST, range(8), at=[C]))
    manager.acquire(Ids(BCAST, range(8, 16), at=[FAR_C]))
    before = manager.dump()
    assert common(manager, C, FAR_C) is NOSPC
    assert manager.dump() == before
    assert [manager.available(BCAST, tile) for tile in (C, FAR_C)] == [8, 8]


def case_25() -> None:
    manager = d2()
    assert manager.request_common(BCAST) == 0
    assert len(manager.leases()[0].allotments[0].at) == 10
    assert manager.request_common(BCAST) == 1


def case_26() -> None:
    manager = d2()
    manager.gate()
    manager.ungate([(0, 1)])
    assert manager.request_common(BCAST) == 0
    assert manager.leases()[0].allotments[0].at == (L, M, C, (1, 0, "pl"))
    assert manager.available(BCAST, FAR_C) == 16
    assert common(manager, FAR_C) is INVAL


def case_27() -> None:
    manager = d2()
    manager.gate()
    assert manager.request_common(BCAST) == 0
    assert manager.leases()[0].allotments[0].at == (L, (1, 0, "pl"))


def case_28() -> None:
    manager = d2(bcast_channel=[(C, 0)])
    assert common(manager, C) == 1
    assert common(manager, C, unit=0) == 0
    manager.release_unit(BCAST, C, 0)
    assert counts(manager, BCAST) == (0, 15)


def case_29() -> None:
    manager = d2()
    assert common(manager, C, unit=16) is INVAL
    assert manager.available(BCAST, C2) == 16


def case_30() -> None:
    manager = d2()
    assert common(manager, C, C) == 0
    assert manager.available(BCAST, C) == 15


def case_31() -> None:
    manager = d2()
    core_stall = 2  # the index of GROUP_CORE_STALL in its module
    assert specific(manager, core_stall, GROUP) == core_stall
    assert specific(manager, core_stall, GROUP) is BUSY
    assert manager.available(GROUP, C) == 8
    assert free(manager, core_stall, GROUP) is None
    assert manager.available(GROUP, C) == 9


def case_32() -> None:
    manager = d2()
    wrong = [
        (999, 999, "core"),
        (0, 1, "pl"),
        (0, 0, "core"),
        (0, 3, "mem"),
        (-1, 1, "mem"),
        (0, 1),
        ("a", "b", "core"),
    ]
    for tile in wrong:
        assert outcome(lambda tile=tile: manager.request(PERF, [tile])) is INVAL, tile
    for call in (
        lambda: manager.request("no_such_type", [C]),
        lambda: manager.request(PERF, []),
        lambda: manager.available(PC, M),
        lambda: manager.request_common(BCAST, []),
        lambda: manager.acquire(Common(BCAST, at=[(5, 5, "core")])),
    ):
        assert outcome(call) is INVAL
    assert all(pool.free == pool.total for pool in manager.cards()[0].pools)


def case_33() -> None:
    head, element = (2).to_bytes(8, "little") + (16).to_bytes(8, "little"), 0x1_0010
    good = head[8:]
    one, word = (1).to_bytes(8, "little"), bytes(8)

    def file(header: int, *, count: bytes = one, offset: int = 16, words: int = 1) -> bytes:
        return count + offset.to_bytes(8, "little") + header.to_bytes(8, "little") + word * words

    manager = d2()
    assert manager.load(file(element)).pools == ()
    for data in (
        file(element, count=bytes(8)),  # no element
        file(element, offset=8),
        file(0x10, words=0),  # no length
        file(0x2_0010, words=2),  # one word too many
        file(0x1_0011),  # tile type 1
        file(0x1_0017),  # tile type 7
        file(0x1_0910),  # resource type 9
        b"",
        good,
    ):
        assert outcome(lambda data=data: manager.load(data)) is INVAL
    assert manager.static(PERF, C) == 0


def case_34() -> None:
    manager = d2()
    load(manager, perfcnt=[(C, 0)])
    load(manager, perfcnt=[(C, 3)])
    assert counts(manager) == (2, 2)
    load(manager, perfcnt=[(C, 3)], replace=True)
    assert counts(manager) == (1, 3)


CASES = {int(name.removeprefix("case_")): case for name, case in list(globals().items()) if name.startswith("case_")}


@pytest.mark.parametrize("number", CASES)
def test_case(number) -> None:
    CASES[number]()


def test_every_number_has_its_case() -> None:
    assert sorted(CASES) == [*range(1, 35)]
