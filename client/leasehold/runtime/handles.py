"""Handles: numbers that stand for objects. A number is given once, so one that is stale stands for nothing for ever."""

import itertools
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_numbers = itertools.count(1)
_STEP = 0x10  # as addresses would be: never odd, never next to one another


class Handles(Generic[T]):
    """The live objects of one kind, by handle. Handles of all kinds differ. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[int, T] = {}

    def add(self, value: T) -> int:
        """Gives ``value`` a handle that nothing ever had."""
        with self._lock:
            handle = next(_numbers) * _STEP
            self._live[handle] = value
            return handle

    def get(self, handle: object) -> T | None:
        """What ``handle`` stands for; None where that is nothing, or nothing any more."""
        with self._lock:
            return self._live.get(handle) if type(handle) is int else None

    def pop(self, handle: object) -> T | None:
        """Takes a handle away; None for whoever comes second."""
        with self._lock:
            return self._live.pop(handle, None) if type(handle) is int else None

    def __iter__(self) -> Iterator[T]:
        with self._lock:
            return iter(list(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)
