"""Leases of either manager behind one face, and the part of a lease that one object has.

A grant keeps which of its allotments are still held: the lease ends in one step with the last of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leasehold.card import Allotment, LeaseInfo
from leasehold.claims import Claim
from leasehold.errors import Closed, LeaseLost, NotFound

if TYPE_CHECKING:
    from leasehold.lease import Lease
    from leasehold.local import Manager


class Grant(ABC):
    """A lease. Its device's lock is held by whoever calls it."""

    def __init__(self) -> None:
        self._held = set(range(len(self.allotments)))

    @property
    @abstractmethod
    def id(self) -> str:
        """Id of the lease."""

    @property
    @abstractmethod
    def allotments(self) -> Sequence[Allotment]:
        """What each claim got; one that was given back stays in its place, without units."""

    @property
    @abstractmethod
    def is_held(self) -> bool:
        """Whether the units are this process's, as far as is known here: no others may be touched."""

    @abstractmethod
    def check(self) -> None:
        """Does nothing while the lease holds.

        Raises:
            LeaseLost: it does not.
        """

    def extend(self, claims: Sequence[Claim]) -> "Part":
        """Adds claims, all or none; answers what they got.

        Raises:
            Refused: nothing was added.
        """
        first = len(self.allotments)
        self._extend(claims)
        added = range(first, len(self.allotments))
        self._held.update(added)
        return Part(self, tuple(added))

    def end(self, indexes: Collection[int], *, to_pool: bool) -> None:
        """Gives these allotments back, to their reservation or ``to_pool``; does nothing for those that are back.

        Raises:
            Refused: they are still held.
        """
        ending = self._held.intersection(indexes)
        if ending == self._held:
            self._release(to_pool=to_pool)
            self._held.clear()
            return
        for index in sorted(ending):
            self._give_back(self.allotments[index], to_pool=to_pool)
            self._held.discard(index)

    @abstractmethod
    def _extend(self, claims: Sequence[Claim]) -> None: ...

    @abstractmethod
    def _give_back(self, allotment: Allotment, *, to_pool: bool) -> None: ...

    @abstractmethod
    def _release(self, *, to_pool: bool) -> None: ...


class LocalGrant(Grant):
    """A lease of a manager in this process."""

    def __init__(self, manager: "Manager", info: LeaseInfo) -> None:
        self._manager = manager
        self._info = info
        super().__init__()

    @property
    def id(self) -> str:
        """Id of the lease."""
        return self._info.id

    @property
    def allotments(self) -> Sequence[Allotment]:
        """What each claim got."""
        return self._info.allotments

    @property
    def is_held(self) -> bool:
        """True: nobody takes such a lease away."""
        return True

    def check(self) -> None:
        """Does nothing: nobody takes such a lease away."""

    def _extend(self, claims: Sequence[Claim]) -> None:
        self._info = self._manager.extend(self._info, *claims)

    def _give_back(self, allotment: Allotment, *, to_pool: bool) -> None:
        ids = _ids_at_each(allotment)
        left = self._manager.give_back(self._info, allotment.pool, ids, at=allotment.at, to_pool=to_pool)
        if left is not None:
            self._info = left

    def _release(self, *, to_pool: bool) -> None:
        self._manager.release(self._info, to_pool=to_pool)


class DaemonGrant(Grant):
    """A lease of a daemon. One that is lost is back already."""

    def __init__(self, lease: "Lease") -> None:
        self._lease = lease
        super().__init__()

    @property
    def id(self) -> str:
        """Id of the lease."""
        return self._lease.id

    @property
    def allotments(self) -> Sequence[Allotment]:
        """What each claim got."""
        return self._lease.allotments

    @property
    def is_held(self) -> bool:
        """Whether the daemon has not taken them back, and this is no forked child."""
        return self._lease.valid

    def check(self) -> None:
        """Does nothing while the lease holds.

        Raises:
            LeaseLost: the daemon took it back, or this is a forked child.
            Closed: its client was closed.
        """
        self._lease.check()

    def _extend(self, claims: Sequence[Claim]) -> None:
        self._lease.extend(*claims)

    def _give_back(self, allotment: Allotment, *, to_pool: bool) -> None:
        try:
            self._lease.give_back(allotment.pool, _ids_at_each(allotment), at=allotment.at, to_pool=to_pool)
        except (LeaseLost, Closed):
            self._release(to_pool=to_pool)

    def _release(self, *, to_pool: bool) -> None:
        with suppress(NotFound):  # a daemon that never knew of it holds nothing for it
            self._lease.release(to_pool=to_pool)


@dataclass(frozen=True, slots=True)
class Part:
    """What one object has of a lease: the allotments of these indexes."""

    grant: Grant
    indexes: tuple[int, ...]

    @property
    def allotments(self) -> tuple[Allotment, ...]:
        """What each of its claims got, in the order of the claims."""
        return tuple(self.grant.allotments[index] for index in self.indexes)

    def end(self, *, to_pool: bool) -> None:
        """Gives it back, to its reservation or ``to_pool``; does nothing a second time.

        Raises:
            Refused: it is still held.
        """
        self.grant.end(self.indexes, to_pool=to_pool)


def _ids_at_each(allotment: Allotment) -> tuple[int, ...]:
    """The ids that an allotment has at every one of its sites: no claim made here has others at one than at another."""
    assert all(ranges == allotment.ranges[0] for ranges in allotment.ranges), "ids differ from site to site"
    return tuple(unit for run in allotment.ranges[0] for unit in run)
