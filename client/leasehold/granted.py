"""What was granted, as its message says: ids, allotments, units, cores. It may grow and shrink; that is its owner's."""

from collections.abc import Sequence

from leasehold.card import Allotment, allotment_from, memory_bytes_of, unit_count_of
from leasehold.quantity import size_text
from rmapi.v1 import types_pb2 as pb


class GrantedLease:
    """A lease as far as its message tells. ``core_cpus`` are the CPU numbers of its card's cores, if they are CPUs."""

    def __init__(self, message: pb.Lease, core_cpus: Sequence[int]) -> None:
        self._message = message
        self._core_cpus = tuple(core_cpus)

    @property
    def id(self) -> str:
        """Its id, unique for this daemon."""
        return self._message.id

    @property
    def token(self) -> int:
        """Its fencing number: greater than that of every lease granted before."""
        return self._message.token

    @property
    def card(self) -> str:
        """Id of its card."""
        return self._message.card

    @property
    def label(self) -> str:
        """The label it was asked for with."""
        return self._message.label

    @property
    def allotments(self) -> tuple[Allotment, ...]:
        """What each claim got, in the order of the claims."""
        return tuple(allotment_from(allotment) for allotment in self._message.allotments)

    @property
    def allotment_count(self) -> int:
        """Allotments it ever had: one that was given back stays in its place, without units."""
        return len(self._message.allotments)

    def allotment(self, index: int) -> Allotment:
        """One of its allotments."""
        return allotment_from(self._message.allotments[index])

    def unit_bytes(self, index: int) -> int:
        """Size of a unit of one of its allotments; 0 where units have none."""
        return self._message.allotments[index].unit_bytes

    @property
    def ttl_s(self) -> float:
        """How long it outlives a process that hangs, in seconds; 0 where it has no such clock."""
        return self._message.ttl_duration.ToNanoseconds() / 1e9

    def units(self, pool: str) -> tuple[int, ...]:
        """Ids of all units that it has of a pool; empty where it has none."""
        return tuple(unit for allotment in self.allotments if allotment.pool == pool for unit in allotment.ids)

    @property
    def cores(self) -> tuple[int, ...]:
        """Its cores: on the embedded card the numbers of its CPUs, else unit ids."""
        units = self.units("cores")
        return tuple(self._core_cpus[unit] for unit in units) if self._core_cpus else units

    @property
    def has_cpus(self) -> bool:
        """Whether its cores are CPUs of this host."""
        return bool(self._cpus())

    def _cpus(self) -> tuple[int, ...]:
        return self.cores if self._core_cpus else ()

    def _units_text(self) -> str:
        return ", ".join(_allotment_text(allotment) for allotment in self._message.allotments)


def _allotment_text(allotment: pb.Allotment) -> str:
    if allotment.unit_bytes:
        return f"{allotment.pool} {size_text(memory_bytes_of(allotment))}"
    return f"{allotment.pool} {float(unit_count_of(allotment)):g}"
