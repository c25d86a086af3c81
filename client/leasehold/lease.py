"""The lease of a blocking client: a held lease that can give back, extend and end itself."""

from collections.abc import Callable, Sequence
from typing import Protocol

from leasehold.claims import Claim, Site
from leasehold.entered import Section
from leasehold.held_lease import HeldLease
from rmapi.v1 import types_pb2 as pb


class LeaseKeeper(Protocol):
    """What a blocking lease asks of its client."""

    def _check_may_call(self) -> None: ...

    def _release(self, lease: "Lease", *, to_pool: bool) -> None: ...

    def _drop(self, lease: HeldLease) -> None: ...

    def _say_let_go(self, lease: HeldLease) -> None: ...

    def _extend(
        self, lease: "Lease", claims: tuple[Claim, ...], memory: str | int | None, counts: dict[str, float | None]
    ) -> None: ...

    def _give_back(
        self, lease: "Lease", pool: str, ids: Sequence[int], at: Sequence[Site], *, to_pool: bool
    ) -> pb.Lease: ...


class Lease(HeldLease):
    """A lease of a blocking client. A context manager: everything is back when its block is left."""

    def __init__(
        self,
        keeper: LeaseKeeper,
        message: pb.Lease,
        *,
        core_cpus: Sequence[int],
        windows: dict[int, int],
        confirm: Callable[[float], None] = lambda ttl_s: None,
    ) -> None:
        super().__init__(message, core_cpus=core_cpus, windows=windows, confirm=confirm)
        self._keeper = keeper
        self._changing = Section()  # one change at a time: each answer tells of the whole lease

    def release(self, *, to_pool: bool = False) -> None:
        """Gives everything back: reserved units to their reservation, or to the pool. Does nothing a second time.

        Raises:
            WindowInUse: arrays of its memory live; the lease holds on until they are dropped.
            Reentered: not in the middle of another call of this thread.
        """
        self._keeper._check_may_call()
        if not self._begin_ending():
            return
        is_released = False
        try:
            self._let_go()
            if self._lost_cause:
                self._keeper._say_let_go(self)
            else:
                self._keeper._release(self, to_pool=to_pool)
            is_released = True
        finally:
            self._end_ending(is_released=is_released)
        self._keeper._drop(self)

    def extend(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        **counts: float | None,
    ) -> None:
        """Adds claims, from the same card, at once or not at all.

        Raises:
            Refused: as ``Client.acquire``; nothing was added.
            Reentered: not in the middle of another call of this thread.
        """
        self.check()
        self._changing.check()
        with self._changing.lock:
            self._keeper._extend(self, claims, memory, {"cores": cores, "streams": streams, **counts})

    def give_back(self, pool: str, ids: Sequence[int], *, at: Sequence[Site] = (), to_pool: bool = False) -> None:
        """Gives back some units; memory by whole allotments only. The lease ends with its last unit.

        Raises:
            Refused: the lease does not hold one of them.
            WindowInUse: arrays live in that memory.
            Reentered: not in the middle of another call of this thread.
        """
        self.check()
        self._changing.check()
        indexes = self._memory_indexes_of(ids) if pool == "memory" else []
        self._check_can_spare(pool, indexes)
        with self._changing.lock:
            self._shrink(self._keeper._give_back(self, pool, ids, at, to_pool=to_pool), indexes)
        if self._is_released:
            self._keeper._drop(self)

    def __enter__(self) -> "Lease":
        self.check()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            self._abandon_windows()
        self.release()
