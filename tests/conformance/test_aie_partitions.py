"""The numbered cases about partitions by columns, each with the intended result, on an array of four columns."""

from collections.abc import Callable

import pytest

from leasehold import Exhausted, Invalid, NotFound, Refused
from leasehold.local import Manager
from leasehold.local.partitions import PRIORITY_LOW, Partitions, Quality

NOSPC, INVAL = Exhausted, Invalid


def outcome(call: Callable[[], object]) -> object:
    """What a call answers, or the kind of its refusal."""
    try:
        return call()
    except Refused as refusal:
        return type(refusal)


def four_columns(**more) -> Partitions:
    return Partitions(Manager("aie:4x3"), **more)


def case_46() -> None:
    solver, starts = four_columns(), [0, 1, 2, 3]
    assert [solver.request(number, starts, 1) for number in (1, 2, 3, 4, 5, 6)] == [0, 1, 2, 3, 0, 1]
    assert solver.users(0) == 2
    solver.release(2)
    assert solver.request(7, starts, 1) == 1
    solver.release(1)
    solver.release(5)
    assert solver.users(0) == 0
    assert solver.request(8, starts, 1) == 0
    assert outcome(lambda: solver.release(99)) is NotFound


def case_47() -> None:
    solver, starts = four_columns(), [0, 2]
    assert [solver.request(number, starts, 2) for number in (1, 2, 3)] == [0, 2, 0]
    assert outcome(lambda: solver.request(4, starts, 4)) is NOSPC
    assert outcome(lambda: solver.request(5, starts, 1)) is NOSPC
    solver.release(2)
    assert solver.request(5, starts, 1) == 2
    assert solver.request(6, starts, 2) == 0
    assert solver.users(0) == 3
    assert outcome(lambda: solver.request(6, starts, 2)) is INVAL


def case_48() -> None:
    solver, asked = four_columns(clocks_mhz=[1800], efficiency_factor=2), iter(range(1, 9))

    def ask(columns: int = 1, **quality: int) -> object:
        return outcome(lambda: solver.request(next(asked), [0, 1, 2, 3], columns, Quality(opc=1000, **quality)))

    assert ask(gops=900, fps=1) == 0
    assert ask(gops=901, fps=1) is INVAL
    assert ask(gops=5, latency_ms=5) is INVAL
    assert ask(gops=900, latency_ms=2000) == 1
    assert ask(columns=5) is INVAL


def case_49() -> None:
    levels: list[int] = []
    solver = four_columns(clocks_mhz=[400, 800, 1200, 1800], efficiency_factor=2, set_level=levels.append)
    for number, gops in enumerate((100, 300, 600, 900)):
        solver.request(number, [number], 1, Quality(opc=1000, gops=gops, fps=1))
        assert solver.level == number
    for number, level in ((3, 2), (2, 1)):
        solver.release(number)
        assert solver.level == level
    solver.request(7, [2], 1, Quality(opc=1000))
    assert solver.level == 3
    solver.release(7)
    solver.request(8, [2], 1, Quality(opc=1000, gops=900, fps=1, priority=PRIORITY_LOW))
    assert solver.level == 1
    for number in (0, 1, 8):
        solver.release(number)
    assert solver.level == 0
    assert levels == [1, 2, 3, 2, 1, 3, 1, 0]


def case_50() -> None:
    manager, done = Manager("aie:4x3"), []

    def fails(*_: int) -> None:
        raise OSError("the driver would not")

    unload = lambda *place: done.append(place)  # noqa: E731
    with pytest.raises(OSError, match="the driver would not"):
        Partitions(manager, load=fails, unload=unload).request(1, [0], 2)
    assert done == []
    solver = Partitions(manager, clocks_mhz=[400, 800], set_level=fails, unload=unload)
    with pytest.raises(OSError, match="the driver would not"):
        solver.request(1, [0], 2, Quality(opc=1))
    assert done == [(0, 2)]
    assert solver.users(0) == 0
    assert manager.leases() == []


CASES = {int(name.removeprefix("case_")): case for name, case in list(globals().items()) if name.startswith("case_")}


@pytest.mark.parametrize("number", CASES)
def test_case(number) -> None:
    CASES[number]()


def test_every_number_has_its_case() -> None:
    assert sorted(CASES) == [*range(46, 51)]
