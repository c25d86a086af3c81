"""The answers of AXCL as numbers, and the error of the model that carries one.

A code is ``1 | module (7 bits) | 0x30 | sub (8 bits) | id (8 bits)`` (axcl_base header). Those with 0x80300xxx are what
the shipped library answers; those with 0x803052xx and up are words of its next generation, which are used where the
shipped one crashes, or has no answer.
"""

from enum import IntEnum

from leasehold.errors import LeaseholdError


class Code(IntEnum):
    """An error, as the unsigned 32 bits that are printed. Success is 0 and no error."""

    FAIL = 0xFFFFFFFF  # the library's own -1

    OPEN = 0x8030010B
    DEVICE_UNSUPPORTED = 0x80300104
    QUERY_DEVICE = 0x80300180
    NO_CONNECT = 0x80300181
    NOT_ACTIVE = 0x80300183
    INVALID_DEVICE = 0x80300184
    NO_ACTIVE_DEVICE = 0x80300185
    PORT_ALLOCATE = 0x80300186

    CONTEXT_NULL = 0x80300202
    CONTEXT_CREATE = 0x80300281
    CONTEXT_DESTROY = 0x80300282
    NO_CONTEXT = 0x80300284

    STREAM_NULL = 0x80300302
    STREAM_ILLEGAL = 0x80300303
    STREAM_CREATE = 0x80300381
    STREAM_DESTROY = 0x80300382
    SYNC_TIMEOUT = 0x80300383
    EVENT_WAIT = 0x80300384

    MEMORY_NULL = 0x80300502
    MEMORY_ILLEGAL = 0x80300503
    MEMORY_UNSUPPORTED = 0x80300504
    MEMORY_LOST = 0x80300509
    MEMORY_FAILED = 0x8030050C  # out of memory as well, on the real card
    NOT_DEVICE_MEMORY = 0x80300581

    ENGINE_NULL = 0x80300702
    ENGINE_ILLEGAL = 0x80300703
    ENGINE_UNSUPPORTED = 0x80300704
    ENGINE_LOST = 0x80300709
    ENGINE_FAILED = 0x8030070C
    ENGINE_INDEX = 0x80300781

    STREAM_NOT_EXIST = 0x80305223
    CONTEXT_NOT_EXIST = 0x80305224
    EVENT_NOT_EXIST = 0x8030522E
    STREAM_GONE = 0x80305646
    TASK_CANCELLED = 0x80305671

    def __str__(self) -> str:
        return f"0x{self.value:08X} {self.name}"


class Fault(LeaseholdError):
    """A call of the model that was refused or failed. ``code`` is AXCL's word for it."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


def signed(code: int) -> int:
    """A code as the int32 that C and Python programs compare."""
    return code - (1 << 32) if code & 0x80000000 else code
