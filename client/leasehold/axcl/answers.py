"""How the vendor's functions answer: with codes, never with exceptions.

A function is written as if it could raise; one of the decorators here makes its answer out of what it returns or
raises. A code is an int32, so an error is negative, as in C. The words of the last error of a thread are kept beside,
and those of every one go to the log ``leasehold.axcl``, for whoever debugs.
"""

import logging
import operator
import threading
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from leasehold.errors import LeaseholdError
from leasehold.runtime import Code, Fault
from leasehold.runtime.codes import signed

P = ParamSpec("P")
T = TypeVar("T")
_SUCCESS = 0
_log = logging.getLogger("leasehold.axcl")


class _Last(threading.local):
    text = ""


_last = _Last()


def last_error() -> str:
    """What the last call of this thread that failed had to say; no function of the vendor's does that."""
    return _last.text


def ret(fn: Callable[P, None]) -> Callable[P, int]:
    """Answers a code."""

    @wraps(fn)
    def answered(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            fn(*args, **kwargs)
        except Exception as fault:
            return _code_of(fault)
        return _SUCCESS

    return answered


def value_ret(null: Any) -> Callable[[Callable[P, T]], Callable[P, tuple[T, int]]]:  # noqa: ANN401
    """Answers a value and a code; a copy of ``null`` where there is no value."""

    def decorate(fn: Callable[P, T]) -> Callable[P, tuple[T, int]]:
        @wraps(fn)
        def answered(*args: P.args, **kwargs: P.kwargs) -> tuple[T, int]:
            try:
                return fn(*args, **kwargs), _SUCCESS
            except Exception as fault:
                return copy(null), _code_of(fault)

        return answered

    return decorate


def values_ret(*nulls: Any) -> Callable[[Callable[P, tuple[Any, ...]]], Callable[P, tuple[Any, ...]]]:  # noqa: ANN401
    """Answers several values and a code, side by side."""

    def decorate(fn: Callable[P, tuple[Any, ...]]) -> Callable[P, tuple[Any, ...]]:
        @wraps(fn)
        def answered(*args: P.args, **kwargs: P.kwargs) -> tuple[Any, ...]:
            try:
                return (*fn(*args, **kwargs), _SUCCESS)
            except Exception as fault:
                return (*nulls, _code_of(fault))

        return answered

    return decorate


def value(null: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:  # noqa: ANN401
    """Answers a value alone; ``null`` is all that is said of an error."""

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        @wraps(fn)
        def answered(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return fn(*args, **kwargs)
            except Exception as fault:
                _code_of(fault)
                return null  # type: ignore[no-any-return]

        return answered

    return decorate


class Name(str):
    """A name out of a model: a text, for programs that take the vendor's bytes too (``name.decode()``)."""

    __slots__ = ()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The text, as it is."""
        return str(self)


def number(argument: Any) -> int:  # noqa: ANN401 - whatever a program holds a number in
    """A handle, address or id as a program has it: a number, or ctypes' way to hold one. None is 0.

    Raises:
        TypeError: it is none of these.
    """
    if argument is None or isinstance(argument, bool):
        return int(argument or 0)
    held = getattr(argument, "value", argument)  # c_void_p and its kind; a null pointer there is None
    return 0 if held is None else operator.index(held)


def text(argument: object) -> str:
    """A name or path as a program has it: text or bytes.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(argument, bytes):
        return argument.decode()
    if isinstance(argument, str):
        return str(argument)
    raise TypeError(f"{argument!r} is no name")


def _code_of(fault: Exception) -> int:
    """The code of an error. What is none of the model's is -1, as the vendor's Python package has it."""
    _last.text = str(fault) or type(fault).__name__
    code = Code.FAIL
    if isinstance(fault, Fault):
        code = fault.code
    elif isinstance(fault, TimeoutError):
        code = Code.SYNC_TIMEOUT
    elif not isinstance(fault, LeaseholdError):
        _last.text = f"{type(fault).__name__}: {_last.text}"
    _log.debug("%s", _last.text)
    return signed(code)
