"""The ledger in this process, without a daemon: for compilers that reserve, for bare metal, for tests.

The same rules and the same claims as through the daemon. It knows one user, who may do everything. It needs the extra
``daemon`` (bitarray), and is the one part of this library that imports the daemon's rules.
"""

import os
import threading
from collections.abc import Sequence

from leasehold.card import Card, LeaseInfo, card_from, lease_info_from
from leasehold.claims import Claim, Site, claims_to, site_text
from leasehold.errors import refused
from leasehold.quantity import parse_size
from rm.core.claims import Asker, Wish
from rm.core.errors import InvalidRequest, Refusal
from rm.core.events import Extended, Granted, LeaseEnded, Request, UnitsReturned
from rm.core.ledger import Ledger
from rm.core.profile import Profile
from rm.core.report import differences
from rm.core.types import CardId, Holder, LeaseId, PoolName, SessionId, SiteName
from rm.devices.profiles import load_profile
from rm.service import convert
from rmapi.v1 import types_pb2

_SESSION = SessionId("local")
MEMORY_DEFAULT = "1GiB"


class Manager:
    """One card and its ledger. Thread-safe.

    ``profile`` is a name (``embedded``, ``ax-m1``, ...) or a TOML file; ``memory`` and ``cpus`` are for profiles that
    take them from the host.
    """

    def __init__(
        self, profile: str = "embedded", *, memory: str | int = MEMORY_DEFAULT, cpus: Sequence[int] | None = None
    ) -> None:
        """Makes a card on which everything is free.

        Raises:
            Invalid: no such profile, or a broken one.
        """
        numbers = tuple(sorted(os.sched_getaffinity(0)) if cpus is None else cpus)
        with _Told():
            kind: Profile = load_profile(profile)
            spec = kind.card(CardId("0"), backend="local", memory_bytes=parse_size(memory), cpus=numbers)
        self._ledger = Ledger((spec,))
        self._asker = Asker(_SESSION, Holder(os.getpid(), os.getuid(), "local"), is_admin=True)
        self._lock = threading.Lock()

    def acquire(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        label: str = "",
        **counts: float | None,
    ) -> LeaseInfo:
        """Takes everything that is claimed, or nothing.

        Raises:
            Refused: one of its kinds says why; nothing was taken.
        """
        messages = claims_to(claims, memory, {"cores": cores, "streams": streams, **counts})
        with self._lock, _Told():
            wish = Wish(self._asker, convert.claims_from(messages), label=label)
            event = self._ledger.decide_acquire(wish, now_ns=0, now_wall_ns=0)
            assert isinstance(event, Granted), "a wish without a request id is always new"
            self._ledger.apply(event)
            return self._info(event.lease.id)

    def release(self, lease: LeaseInfo | str, *, to_pool: bool = False) -> None:
        """Ends a lease; does nothing where it has ended.

        Raises:
            NotFound: there never was such a lease.
        """
        with self._lock, _Told():
            event = self._ledger.decide_release(_id(lease), self._asker, to_pool=to_pool)
            if event is not None:
                self._ledger.apply(event)

    def extend(
        self,
        lease: LeaseInfo | str,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        **counts: float | None,
    ) -> LeaseInfo:
        """Adds claims to a lease, all or none; answers it as it is then."""
        messages = claims_to(claims, memory, {"cores": cores, "streams": streams, **counts})
        with self._lock, _Told():
            nothing_asked_again = Request(_SESSION, 0, b"")
            found = convert.claims_from(messages)
            event = self._ledger.decide_extend(_id(lease), found, self._asker, nothing_asked_again)
            assert isinstance(event, Extended), "a request without an id is always new"
            self._ledger.apply(event)
            return self._info(_id(lease))

    def give_back(
        self,
        lease: LeaseInfo | str,
        pool: str,
        ids: Sequence[int],
        *,
        at: Sequence[Site] = (),
        to_pool: bool = False,
    ) -> LeaseInfo | None:
        """Gives back some units of a lease; answers what is left, or None where they were its last."""
        with self._lock, _Told():
            event = self._ledger.decide_give_back(
                _id(lease),
                self._asker,
                Request(_SESSION, 0, b""),
                pool=PoolName(pool),
                ids=ids,
                at=tuple(SiteName(site_text(site)) for site in at),
                to_pool=to_pool,
            )
            if isinstance(event, UnitsReturned | LeaseEnded):
                self._ledger.apply(event)
            return None if event is None or isinstance(event, LeaseEnded) else self._info(_id(lease))

    def leases(self) -> list[LeaseInfo]:
        """All live leases, oldest first."""
        with self._lock:
            return [self._info(lease_id) for lease_id in self._ledger.leases]

    def cards(self) -> list[Card]:
        """The card, with the state of its pools."""
        with self._lock:
            card = self._ledger.cards[CardId("0")]
            pools = [convert.pool_to(pool, waiter_count=0, used_bytes=0) for pool in card.pools.values()]
            return [card_from(convert.card_to(card, pools))]

    def bitmap(self, pool: str, card: str | None = None) -> types_pb2.PoolBitmap:
        """The bits of a pool, as their message; as ``Client.bitmap`` tells it.

        Raises:
            Invalid: no such card or pool.
        """
        with self._lock, _Told():
            here = self._ledger.card_of(CardId(card or "0"))
            found = here.pools.get(PoolName(pool))
            if found is None:
                text = f"card {here.id} has no pool {pool!r}; it has {', '.join(here.pools)}"
                raise InvalidRequest(text, pool=pool)
            return convert.bitmap_to(here, found, convert.pool_to(found, waiter_count=0, used_bytes=0))

    def check(self) -> list[str]:
        """Compares the bitmaps with the leases; one sentence a difference."""
        with self._lock:
            return differences(self._ledger)

    def _info(self, lease_id: LeaseId) -> LeaseInfo:
        lease = self._ledger.leases[lease_id]
        return lease_info_from(convert.lease_to(lease, self._ledger.cards[lease.card]))


class _Told:
    """Turns the core's refusals into this library's errors."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, Refusal):
            raise refused(fault.reason, str(fault), fault.facts) from fault


def _id(lease: LeaseInfo | str) -> LeaseId:
    return LeaseId(lease if isinstance(lease, str) else lease.id)
