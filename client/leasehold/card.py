"""What the daemon tells about cards, pools and leases, as plain values."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Protocol, TypeVar

from leasehold.claims import Site, site_from
from leasehold.errors import Invalid
from rmapi.v1 import types_pb2 as pb


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The state of one pool. Counts are whole units; where the pool has slices they may be fractions.

    ``used`` is held by leases; ``reserved`` is set aside, held or not; ``quarantined`` is held by nobody and not yet
    proven idle. ``used_bytes`` is memory really touched, 0 where the card cannot tell.
    """

    name: str
    unit_count: int
    site_count: int
    unit_bytes: int
    slices: int
    total: float
    free: float
    used: float
    reserved: float
    quarantined: float
    largest_run: float
    waiters: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Card:
    """One device. ``core_cpus`` is the CPU number behind each core, where cores are CPUs.

    ``gated_sites`` are those whose clock is off: no claim gets units there.
    """

    id: str
    profile: str
    backend: str
    pools: list[PoolStatus]
    core_cpus: tuple[int, ...]
    gated_sites: tuple[Site, ...] = ()

    def pool(self, name: str) -> PoolStatus:
        """The pool called ``name``.

        Raises:
            KeyError: the card has none.
        """
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Allotment:
    """What one claim got: ``at`` are its sites (empty where the pool has one), ``ranges`` the unit ids at each of them.

    A range is half-open. Every site has the same number of ids, so ``ids[i * n : (i + 1) * n]`` are those at ``at[i]``.
    """

    pool: str
    at: tuple[Site, ...]
    ranges: tuple[tuple[range, ...], ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All unit ids, in the order of the sites; a unit of which it has slices stands once."""
        return tuple(unit for at_site in self.ranges for one in at_site for unit in one)


@dataclass(frozen=True, slots=True)
class LeaseInfo:
    """A live lease, whoever holds it. ``pid``, ``uid`` and ``command`` are its holder's.

    ``state`` is ``held``, ``suspect`` (its holder lives, as far as is known, and is not connected) or ``revoking`` (it
    is to end, and ``revoked_because`` says why).
    """

    id: str
    token: int
    card: str
    allotments: tuple[Allotment, ...]
    pid: int
    uid: int
    command: str
    label: str
    ttl: float | None
    granted: datetime
    memory_bytes: int
    used_bytes: int
    state: str = "held"
    revoked_because: str = ""

    def units(self, pool: str) -> tuple[int, ...]:
        """Ids of all units that it has of a pool; empty where it has none."""
        return tuple(unit for allotment in self.allotments if allotment.pool == pool for unit in allotment.ids)


@dataclass(frozen=True, slots=True)
class ReservedPool:
    """What a reservation has of one pool: whole units, or fractions where the pool has slices. ``held`` of them are."""

    pool: str
    units: float
    held: float
    quarantined: float
    unit_bytes: int


@dataclass(frozen=True, slots=True)
class ReservationInfo:
    """Units that were set aside. ``owner_uid`` is -1 where they are nobody's; ``shared``: anybody may claim them."""

    name: str
    content_hash: str
    card: str
    owner_uid: int
    shared: bool
    pools: tuple[ReservedPool, ...]


def card_from(message: pb.Card) -> Card:
    """A card out of its message."""
    return Card(
        id=message.id,
        profile=message.profile,
        backend=message.backend,
        pools=[pool_from(pool) for pool in message.pools],
        core_cpus=tuple(message.core_cpus),
        gated_sites=tuple(site_from(site) for site in message.gated_sites),
    )


def pool_from(message: pb.PoolStatus) -> PoolStatus:
    """The state of a pool out of its message."""

    def units(bit_count: int) -> float:
        return _units(bit_count, message.slices_per_unit)

    return PoolStatus(
        name=message.name,
        unit_count=message.unit_count,
        site_count=message.site_count,
        unit_bytes=message.unit_bytes,
        slices=message.slices_per_unit,
        total=units(message.total_count),
        free=units(message.free_count),
        used=units(message.held_count),
        reserved=units(message.reserved_count),
        quarantined=units(message.quarantined_count),
        largest_run=units(message.largest_run_count),
        waiters=message.waiter_count,
        used_bytes=message.used_bytes,
    )


def reservation_info_from(message: pb.Reservation) -> ReservationInfo:
    """A reservation out of its message."""
    return ReservationInfo(
        name=message.name,
        content_hash=message.content_hash,
        card=message.card,
        owner_uid=message.owner_uid,
        shared=message.shared,
        pools=tuple(
            ReservedPool(
                pool=one.pool,
                units=_units(one.unit_count, one.slices_per_unit),
                held=_units(one.held_count, one.slices_per_unit),
                quarantined=_units(one.quarantined_count, one.slices_per_unit),
                unit_bytes=one.unit_bytes,
            )
            for one in message.pools
        ),
    )


def allotment_from(message: pb.Allotment) -> Allotment:
    """An allotment out of its message. In a pool with slices an id is that of the unit."""
    slices = message.slices_per_unit or 1
    at = tuple(site_from(site) for site in message.sites)
    runs = tuple(
        tuple(range(one.start // slices, -(-one.stop // slices)) for one in ranges.ranges) for ranges in message.units
    )
    return Allotment(message.pool, at, runs * len(at) if len(runs) == 1 and at else runs)


def unit_count_of(message: pb.Allotment) -> Fraction:
    """Units of an allotment, over all sites; a fraction where it has slices of one."""
    bits = sum(one.stop - one.start for ranges in message.units for one in ranges.ranges)
    sites = len(message.sites) if len(message.units) == 1 and message.sites else 1
    return Fraction(bits * sites, message.slices_per_unit or 1)


def memory_bytes_of(message: pb.Allotment) -> int:
    """Bytes of an allotment of memory; 0 for other pools."""
    return int(unit_count_of(message) * message.unit_bytes)


def lease_info_from(message: pb.Lease) -> LeaseInfo:
    """A lease out of its message."""
    return LeaseInfo(
        id=message.id,
        token=message.token,
        card=message.card,
        allotments=tuple(allotment_from(allotment) for allotment in message.allotments),
        pid=message.holder.pid,
        uid=message.holder.uid,
        command=message.holder.command,
        label=message.label,
        ttl=message.ttl_duration.ToNanoseconds() / 1e9 if message.HasField("ttl_duration") else None,
        granted=datetime.fromtimestamp(message.grant_time.ToNanoseconds() / 1e9, UTC),
        memory_bytes=sum(memory_bytes_of(allotment) for allotment in message.allotments),
        used_bytes=message.used_bytes,
        state=message.State.Name(message.state).removeprefix("STATE_").lower() if message.state else "held",
        revoked_because=message.revoked_because,
    )


def _units(bit_count: int, slices_per_unit: int) -> float:
    whole, rest = divmod(bit_count, slices_per_unit or 1)
    return whole if not rest else bit_count / slices_per_unit


class _Named(Protocol):
    """A card, or its message."""

    @property
    def id(self) -> str:
        """Its id."""


C = TypeVar("C", bound=_Named)


def card_named(cards: Iterable[C], card_id: str | None) -> C:
    """The card of this id; the first where none is named.

    Raises:
        Invalid: there is none.
    """
    for card in cards:
        if card_id in {None, card.id}:
            return card
    raise Invalid(f"there is no card {card_id!r}", facts={"card": card_id or ""})
