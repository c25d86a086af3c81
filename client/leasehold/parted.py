"""The partitions of one lease: which there are, and that none hands out what another does."""

from typing import TYPE_CHECKING

from leasehold.errors import Invalid

if TYPE_CHECKING:
    from leasehold.held_lease import HeldLease
    from leasehold.partition import Partition


class Parted:
    """What a lease knows of its partitions. Its own lock is the lease's."""

    def __init__(self, lease: "HeldLease") -> None:
        self._lease = lease
        self._partitions: list[Partition] = []

    def make(self, pools: tuple[str, ...], window: int) -> "Partition":
        """A partition of the lease's units of ``pools`` (none means all that no other has), with one of its windows.

        Raises:
            Invalid, Exhausted, LeaseLost, ModuleNotFoundError: as ``HeldLease.partition``.
        """
        try:
            from leasehold.partition import Partition
        except ModuleNotFoundError as fault:
            text = f"lease.partition() needs {fault.name}, which comes with: pip install 'leasehold[daemon]'"
            raise ModuleNotFoundError(text, name=fault.name) from fault
        indexes = list(self._lease._windows)
        there = dict.fromkeys(one.pool for one in self._lease._message.allotments if one.units)
        if "memory" in (pools or there) and indexes and not 0 <= window < len(indexes):
            raise Invalid(f"lease {self._lease.id} has {len(indexes)} windows, not a number {window}")
        taken = {name for one in self._partitions for name in one.pools if name != "memory"}
        if indexes and indexes[window] in self.window_indexes:
            taken.add("memory")
        wanted = pools or tuple(name for name in there if name not in taken)
        for name in wanted:
            if name not in there:
                text = f"lease {self._lease.id} has no units of pool {name!r}; it has {', '.join(there)}"
                raise Invalid(text, facts={"lease": self._lease.id, "pool": name})
            if name in taken:
                text = f"another partition of lease {self._lease.id} hands out its units of pool {name}"
                raise Invalid(text, facts={"lease": self._lease.id, "pool": name})
        if not wanted:
            raise Invalid(f"other partitions of lease {self._lease.id} hand out all that it has")
        made = Partition(self._lease, wanted, indexes[window] if "memory" in wanted else None)
        self._partitions.append(made)
        return made

    @property
    def window_indexes(self) -> set[int]:
        """The allotments of memory that partitions hand out."""
        return {one.window_index for one in self._partitions if one.window_index is not None}

    def has(self, pool: str) -> bool:
        """Whether a partition hands out units of ``pool``."""
        return any(pool in one.pools for one in self._partitions)

    def check_none_out(self) -> None:
        """Does nothing where no part is out.

        Raises:
            WindowInUse: one is.
        """
        for partition in self._partitions:
            partition._check_none_out()

    def look_again(self) -> None:
        """Has the next call of each partition look whether the lease stands."""
        for partition in self._partitions:
            partition._look_again()

    def forget(self, partition: "Partition") -> None:
        """Strikes out a partition that was closed."""
        if partition in self._partitions:
            self._partitions.remove(partition)

    def end(self, *, is_forced: bool) -> None:
        """Ends all partitions.

        Raises:
            WindowInUse: a part is out, and they are not forced.
        """
        for partition in list(self._partitions):
            partition._end(is_forced=is_forced)
            self.forget(partition)
