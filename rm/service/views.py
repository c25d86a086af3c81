"""The books as messages for people and clients: leases with their use, cards with their pools, what needs attention."""

from collections.abc import Set
from itertools import islice

from rm.core import limits
from rm.core.card import Card
from rm.core.errors import InvalidRequest
from rm.core.lease import Lease
from rm.core.types import PoolName, SessionId
from rm.service import convert
from rm.service.engine import Engine
from rm.service.sessions import command_of
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2


class Views:
    """What is told of the books. ``connected`` are the sessions whose process can be reached now."""

    def __init__(self, engine: Engine, connected: Set[SessionId]) -> None:
        self._engine = engine
        self._ledger = engine.ledger
        self._connected = connected

    def lease(self, lease: Lease, *, with_use: bool = False) -> types_pb2.Lease:
        """A lease; ``with_use`` also what costs a look at the world: memory touched, the holder's command and state."""
        used_bytes = self._engine.backend.used_bytes(lease.id) if with_use else 0
        message = convert.lease_to(lease, self._ledger.cards[lease.card], used_bytes=used_bytes)
        if with_use:  # a process may have become another program since
            message.holder.command = command_of(lease.holder.pid) or lease.holder.command
            message.state, message.revoked_because = self._state(lease)
        return message

    def card(self, card: Card, only: Set[PoolName] | None = None) -> types_pb2.Card:
        """A card with its pools, or ``only`` some of them."""
        pools = [
            convert.pool_to(pool, waiter_count=self._waiter_count(card, name), used_bytes=self._used_bytes(card, name))
            for name, pool in card.pools.items()
            if only is None or name in only
        ]
        return convert.card_to(card, pools)

    def bitmap(self, card: Card, name: PoolName) -> types_pb2.PoolBitmap:
        """The bits of one pool.

        Raises:
            InvalidRequest: the card has no such pool.
        """
        pool = self._ledger.pool_of(card, name)
        status = convert.pool_to(pool, waiter_count=self._waiter_count(card, name), used_bytes=0)
        return convert.bitmap_to(card, pool, status)

    def reservations(self, request: pb.ListReservationsRequest) -> list[types_pb2.Reservation]:
        """The reservations of a name or content hash, or all.

        Raises:
            InvalidRequest: the units of all are asked for.
        """
        if request.with_units and not request.key:
            raise InvalidRequest("units are told of one reservation: name it")
        return [
            convert.reservation_to(one, self._ledger.cards[one.spec.card], with_units=request.with_units)
            for one in self._ledger.reservations_of(request.key)
        ]

    def warnings(self) -> list[str]:
        """What an operator should know, one sentence each."""
        warnings = list(self._engine.backend.warnings)
        if full_because := self._engine.store.full_because:
            warnings.append(full_because)
        for lease in islice(self._ledger.quarantine.values(), limits.HOLDERS_PER_REFUSAL_MAX):
            who = f" (pid {lease.holder.pid} or a child of it)" if lease.holder.pid else ""
            warnings.append(f"units of {lease.id} are in quarantine until nobody uses them{who}")
        return warnings

    def _state(self, lease: Lease) -> tuple[types_pb2.Lease.State, str]:
        if revocation := self._ledger.revoking.get(lease.id):
            return types_pb2.Lease.STATE_REVOKING, revocation.cause
        is_quiet = lease.ttl_ns is not None and lease.session not in self._connected  # without a ttl it need not speak
        return types_pb2.Lease.STATE_SUSPECT if is_quiet else types_pb2.Lease.STATE_HELD, ""

    def _waiter_count(self, card: Card, pool: PoolName) -> int:
        return self._engine.waitlist.count((card.id, pool))

    def _used_bytes(self, card: Card, pool: PoolName) -> int:
        if not card.pools[pool].spec.unit_bytes:
            return 0
        holding = self._ledger.leases_by_pool.get((card.id, pool), ())
        return sum(self._engine.backend.used_bytes(lease_id) for lease_id in holding)
