"""The 61 statements about AXCL: what each says, what the shipped library answers, and what is answered here.

Each is a function that tries it and answers, in the words of the table, what came of it. Where the shipped library
crashes, leaks, or leaves the answer open, ``ours`` is another answer, and ``why`` says why.
"""

from collections.abc import Callable
from dataclasses import dataclass

from support.statements.case import Case


@dataclass(frozen=True)
class Statement:
    """One of them."""

    number: int
    says: str
    gen1: str
    ours: str
    why: str
    run: Callable[[Case], str]


STATEMENTS: dict[int, Statement] = {}


def statement(number: int, says: str, gen1: str, *, ours: str = "", why: str = ""):
    """Notes the function as the try of a statement."""
    assert bool(ours) == bool(why), "another answer has a reason"

    def note(run: Callable[[Case], str]) -> Callable[[Case], str]:
        assert number not in STATEMENTS, f"statement {number} stands twice"
        STATEMENTS[number] = Statement(number, says, gen1, ours or gen1, why, run)
        return run

    return note


def code(answer: int) -> str:
    """A code as it is printed."""
    return f"0x{answer & 0xFFFFFFFF:08X}" if answer else "0"


def codes(*answers: int) -> str:
    """Several of them."""
    return ", ".join(code(answer) for answer in answers)
