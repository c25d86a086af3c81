"""Client processes: what each was told, what it believes to hold, and what it asks of the daemon."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rm.core.claims import Asker, Claim
from rm.core.lease import Lease
from rm.core.session import ProcessKey, SessionRecord
from rm.core.types import NS_PER_S, Holder, LeaseId, SessionId
from rm.service.engine import Engine
from sim.card import PoolKey, mask_of

KEEPALIVE_NS = NS_PER_S
NO_LEASE, NO_SESSION = LeaseId(""), SessionId("")

ADMIN = Asker(SessionId("admin"), Holder(1, 0, "rmctl"), is_admin=True)


@dataclass(eq=False)
class Call:
    """Something that a client wants of the daemon, however often it has to ask for it."""

    kind: str
    text: str
    client: "Client | None"  # None: the administrator
    session: SessionId
    ask: Callable[[Engine], Awaitable[object]]
    request_id: int = 0
    fingerprint: bytes = b""
    claims: tuple[Claim, ...] = ()
    lease_id: LeaseId = NO_LEASE
    to_pool: bool = False
    notice_ns: int = 0
    is_settled: bool = False  # the client has its answer, or no longer wants it
    is_in_doubt: bool = False  # no answer comes to what was sent: it must ask again
    twins: "list[Call]" = field(default_factory=list)  # calls under the same request id; an answer to one settles all


@dataclass(eq=False)
class Attempt:
    """One sending of a call. ``outcome`` is what the daemon answered."""

    call: Call
    outcome: object = None
    is_hostile: bool = False  # its lease was another's when it reached the daemon
    known: LeaseId | str | None = ""  # what its request had begun when it reached the daemon; None: it was given up


@dataclass(eq=False)
class Client:
    """A process. It may be stopped, and come back; when it is dead it does not."""

    pid: int
    uid: int
    is_dead: bool = False
    is_stopped: bool = False
    session: SessionId = NO_SESSION  # empty: none that it was told of
    last_request_id: int = 0
    held: dict[LeaseId, dict[int, tuple[PoolKey, int]]] = field(default_factory=dict)  # by index of the allotment
    ttl_ns: dict[LeaseId, int | None] = field(default_factory=dict)
    revoked: set[LeaseId] = field(default_factory=set)  # it was told to let go of these
    calls: list[Call] = field(default_factory=list)  # without an answer
    stream: deque[tuple[LeaseId, ...]] = field(default_factory=deque)  # keepalives on their way
    lost: list[LeaseId] = field(default_factory=list)  # it was told of these ends, and has not read it yet
    attached_epoch: int = 0
    next_keepalive_ns: int = 0

    @property
    def name(self) -> str:
        return f"p{self.pid}"

    @property
    def is_running(self) -> bool:
        return not (self.is_dead or self.is_stopped)

    @property
    def asker(self) -> Asker:
        return Asker(self.session, Holder(self.pid, self.uid, self.name))

    def record(self, session: SessionId) -> SessionRecord:
        """How the daemon finds the process again."""
        holder = Holder(self.pid, self.uid, self.name)
        return SessionRecord(session, session.encode(), holder, ProcessKey(self.pid, 1 << 32 | self.pid, 0))

    def next_request_id(self) -> int:
        self.last_request_id += 1
        return self.last_request_id

    def learn(self, lease: Lease) -> list[tuple[PoolKey, int]]:
        """Takes note of a lease as it was answered; the units that are new to the client."""
        known = self.held.setdefault(lease.id, {})
        self.ttl_ns[lease.id] = lease.ttl_ns
        new = []
        for index, one in enumerate(lease.allotments):
            if index not in known:
                known[index] = (lease.card, one.pool), mask_of(one.pool, one.units)
                new.append(known[index])
        return new

    def forget(self, lease_id: LeaseId) -> None:
        """No longer believes in a lease."""
        self.held.pop(lease_id, None)
        self.ttl_ns.pop(lease_id, None)
        self.revoked.discard(lease_id)

    def settle(self, call: Call) -> None:
        """Is done with a call, and with those under the same request id."""
        for one in (call, *call.twins):
            one.is_settled = True
            if one in self.calls:
                self.calls.remove(one)

    def end_session(self) -> None:
        """Begins anew: nothing that was asked in the session before matters any more."""
        for call in list(self.calls):
            self.settle(call)
        self.stream.clear()
        self.session = NO_SESSION
        self.last_request_id = 0
        for lease_id in list(self.held):
            self.forget(lease_id)
