"""Everything in one thread: the clients, the network, the disk, the card and the daemon between them."""

import asyncio
from collections import Counter
from random import Random

from rm.core.errors import LeaseGone, Refusal, SessionUnknown, ShuttingDown
from rm.core.lease import Lease
from rm.core.session import SessionRecord
from rm.core.types import NS_PER_S, LeaseId
from rm.service.timer import TICK_NS
from sim.card import Hardware
from sim.client import KEEPALIVE_NS, Attempt, Call, Client
from sim.daemon import Daemon
from sim.disk import Disk
from sim.oracle import Oracle
from support.clock import ManualClock

TURNS = 5  # of the loop, until everything that can go on has gone on


class Violation(Exception):
    """Something happened that must never happen."""


class World:
    """The state of one simulation, and what can happen in it. ``trace`` has a line for everything that did."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = ManualClock()
        self.disk = Disk()
        self.hardware = Hardware(card_count=self.random.choice((1, 1, 2)))
        self.clients: dict[int, Client] = {}
        self.oracle = Oracle(self.hardware, self.clients, lambda: self.clock.now_ns)
        self.seen: Counter[str] = self.oracle.seen
        self.trace: list[str] = []
        self.daemon: Daemon | None = None
        self.requests: list[Attempt] = []  # on their way to the daemon
        self.answers: list[Attempt] = []  # on their way back
        self.deaths: list[Client] = []  # which the daemon has not noticed yet
        self.session_count = 0
        self.reservation_count = 0
        self.loss = self.random.choice((0.0, 0.05, 0.2))
        self.delay = self.random.choice((0.0, 0.1, 0.3))
        self.sync_chance = self.random.choice((1.0, 0.8, 0.3, 0.1))
        self.events_between_snapshots = self.random.choice((5, 15, 60))

    def note(self, text: str) -> None:
        """Adds a line to the trace."""
        self.trace.append(f"{self.clock.now_ns / NS_PER_S - 1_000:8.2f} {text}")

    # The daemon.

    @property
    def serving(self) -> Daemon | None:
        """The daemon, where it answers."""
        daemon = self.daemon
        return daemon if daemon is not None and daemon.is_serving and not daemon.store.has_failed else None

    def start(self) -> None:
        """A daemon starts on what the disk has."""
        torn_before = self.disk.torn_count
        self.daemon = daemon = Daemon(
            self.disk,
            self.hardware,
            self.clock,
            self.oracle,
            self.random,
            events_between_snapshots=self.events_between_snapshots,
        )
        self.seen["torn record"] += self.disk.torn_count - torn_before
        self.seen["quarantine taken over"] += bool(daemon.engine.ledger.quarantine)
        daemon.engine.news.revoking = self._tell_revoking
        daemon.engine.news.lost = self._tell_lost
        self.note(f"start: revision {daemon.engine.ledger.revision}, {sorted(daemon.engine.ledger.leases)}")
        self.deaths.clear()
        daemon.resume(self._client_of)

    def crash(self) -> None:
        """The daemon is gone, with whatever the disk had not made safe."""
        assert self.daemon is not None
        daemon, self.daemon = self.daemon, None
        lost_count = daemon.store.queued_count
        self.note(f"crash, with {lost_count} records on their way to the disk")
        self.seen["crash"] += 1
        self.seen["snapshot"] += daemon.store.compaction_count
        self.disk.crash(daemon.store.on_their_way(self.random), self.random)
        for attempt in daemon.kill():
            self._doubt(attempt)
        for attempt in [one for one in self.requests if self.random.random() < 0.7]:
            self.requests.remove(attempt)
            self._doubt(attempt)
        for client in self.clients.values():
            client.stream.clear()

    def _client_of(self, record: SessionRecord) -> Client | None:
        client = self.clients[record.process.pid]
        self.seen["death while the daemon was down"] += client.is_dead
        return None if client.is_dead else client

    def _tell_revoking(self, lease: Lease, cause: str, *, notice_ns: int) -> None:
        self.oracle.tell(f"that {lease.id} is to end", ("revoking", lease.id))
        self.note(f"p{lease.holder.pid} is told that {lease.id} is to end in {notice_ns / NS_PER_S} s: {cause}")
        self.seen[cause] += 1
        self.clients[lease.holder.pid].revoked.add(lease.id)

    def _tell_lost(self, lease: Lease, cause: str) -> None:
        self.oracle.tell(f"the loss of {lease.id}", ("end", lease.id))
        self.note(f"p{lease.holder.pid} is told that it lost {lease.id}: {cause}")
        self.seen[f"lost: {cause}"] += 1
        self.clients[lease.holder.pid].lost.append(lease.id)

    # The network.

    def send(self, call: Call) -> None:
        """Sends a call: at once, later, or never."""
        if call.client is not None and call not in call.client.calls:
            call.client.calls.append(call)
        call.is_in_doubt = False
        attempt = Attempt(call)
        if self.random.random() < self.loss:
            self.note(f"{call.text} - the request is lost")
            self._doubt(attempt)
        elif self.serving is None or self.random.random() < self.delay:
            self.note(f"{call.text} - the request is delayed")
            self.requests.append(attempt)
        else:
            self.note(call.text)
            self.deliver(attempt)

    def deliver(self, attempt: Attempt) -> None:
        """A request reaches the daemon, behind the word of its client's new connection."""
        assert self.serving is not None
        self.attach(attempt.call.client)
        self.serving.deliver(attempt)

    def _doubt(self, attempt: Attempt) -> None:
        call = attempt.call
        call.is_in_doubt = not call.is_settled
        if call.client is None or call.kind == "open":  # it will simply be another one
            call.is_settled = True
            if call.client is not None:
                call.client.settle(call)

    async def settle(self) -> None:
        """Lets everything go on that can, and hands the answers over."""
        for _ in range(TURNS if self.daemon is not None and self.daemon.is_busy else 1):
            await asyncio.sleep(0)
        if self.daemon is None:
            return
        answered, self.daemon.answered = self.daemon.answered, []
        for attempt in answered:
            self.oracle.answered(attempt)
            chance = self.random.random()
            if chance < self.loss:
                self.note(f"{attempt.call.text} -> {_shown(attempt.outcome)}, which is lost")
                self.seen["lost answer"] += 1
                self._doubt(attempt)
            elif chance < self.loss + self.delay:
                self.note(f"{attempt.call.text} -> {_shown(attempt.outcome)}, which is delayed")
                self.answers.append(attempt)
            else:
                self.receive(attempt)

    def receive(self, attempt: Attempt) -> None:
        """A client reads an answer."""
        call, outcome, client = attempt.call, attempt.outcome, attempt.call.client
        if client is None:
            self.note(f"{call.text} -> {_shown(outcome)}")
            return
        if client.is_stopped:
            self.answers.append(attempt)
            return
        if client.is_dead or call.is_settled:
            return
        self.note(f"{call.text} -> {_shown(outcome)}")
        self.seen[f"{call.kind}: {type(outcome).__name__}"] += 1
        if isinstance(outcome, Refusal):
            if isinstance(outcome, ShuttingDown):
                self._doubt(attempt)
            elif len(call.twins) == 0 or isinstance(outcome, LeaseGone):
                client.settle(call)
            else:
                call.is_in_doubt = True  # what its twin got is not known
            if isinstance(outcome, SessionUnknown) and call.kind != "bye":
                self.oracle.fault(f"{client.name} lives, and its session {call.session} is unknown")
            return
        client.settle(call)
        match call.kind:
            case "open":
                client.session = call.session
            case "acquire" | "extend":
                assert isinstance(outcome, Lease)
                self.seen["retry that found its lease"] += attempt.known == outcome.id and call.kind == "acquire"
                if call.kind == "acquire" or call.lease_id in client.held:
                    self._learn(client, outcome)

    def _learn(self, client: Client, lease: Lease) -> None:
        for key, mask in client.learn(lease):
            if lease.id not in self.hardware.fenced:
                self.oracle.check_nobody_uses(lease.id, {key: mask}, "was told to be granted")
                self.hardware.use(lease.id, key, mask)

    # Keepalives.

    def write_keepalive(self, client: Client) -> None:
        """A client says which leases it has."""
        client.next_keepalive_ns = self.clock.now_ns + KEEPALIVE_NS
        client.stream.append(tuple(client.held))

    def read_stream(self, client: Client) -> None:
        """The daemon reads all that a client has written."""
        self.attach(client)
        daemon = self.serving
        while client.stream and daemon is not None and client.session in daemon.sessions:
            named = client.stream.popleft()
            try:
                lost = daemon.keep_alive(client.session, named)
            except Refusal as refusal:
                self.oracle.fault(f"the keepalive of {client.name} was refused: {refusal}")
                return
            if lost:
                self.note(f"{client.name} keepalive -> lost {lost}")
                client.lost += lost
        self.read_news(client)

    def read_news(self, client: Client) -> None:
        """A client learns what it has lost."""
        if client.is_running:
            for lease_id in client.lost:
                client.forget(lease_id)
                self.hardware.leave_all(lease_id)
            client.lost.clear()

    def attach(self, client: Client | None) -> None:
        """A client's new connection to a new daemon, to which it hands its windows back."""
        daemon = self.serving
        if daemon is None or client is None or client.is_dead or not client.session:
            return
        epoch = daemon.engine.ledger.epoch
        if client.attached_epoch == epoch:
            return
        client.attached_epoch = epoch
        if client.session not in daemon.sessions:
            self.oracle.fault(f"{client.name} lives, and its session {client.session} did not survive the restart")
            return
        for lease_id, parts in client.held.items():
            lease = daemon.engine.ledger.leases.get(lease_id)
            if lease is not None and self.random.random() < 0.8:
                for index in sorted(daemon.backend.missing.get(lease_id, ())):
                    if index in parts:
                        daemon.backend.hand_back(lease, index, fd=-1)
                        self.seen["window handed back"] += 1

    # Time, life and death.

    def tick(self) -> None:
        """A period of the timer passes: clients write, the daemon reads and ticks, the disk writes."""
        self.clock.advance(ns=TICK_NS)
        self._clients_write()
        daemon = self.serving
        if daemon is None:
            return
        for client in self.clients.values():
            if client.stream and self.random.random() >= self.delay:
                self.read_stream(client)
        daemon.tick()
        if self.random.random() < self.sync_chance:
            daemon.store.sync()

    def pause(self, tick_count: int) -> None:
        """The daemon stands still while time passes, and its clients go on writing."""
        daemon = self.serving
        assert daemon is not None
        for _ in range(tick_count):
            self.clock.advance(ns=TICK_NS)
            self._clients_write()
        if self.random.random() < 0.5:
            daemon.tick()
        for client in self.clients.values():
            if client.stream:
                self.read_stream(client)
        daemon.tick()

    def _clients_write(self) -> None:
        for client in self.clients.values():
            if client.session and client.is_running and self.clock.now_ns >= client.next_keepalive_ns:
                self.write_keepalive(client)

    def kill(self, client: Client) -> None:
        """A process dies; the daemon has yet to notice."""
        self.note(f"{client.name} dies, with {sorted(client.held)}")
        client.is_dead = True
        for lease_id in [*client.held, *client.lost]:
            self.hardware.leave_all(lease_id)
        client.end_session()
        if self.daemon is not None:
            self.deaths.append(client)

    def notice_deaths(self) -> None:
        """The daemon is told by the kernel who is dead."""
        if self.daemon is not None and not self.daemon.store.has_failed:
            for client in self.deaths:
                self.note(f"the daemon notices that {client.name} is dead")
                self.daemon.notice_death(client)
            self.deaths.clear()

    def forget_lease(self, client: Client, lease_id: LeaseId) -> None:
        """A client lets go of a lease by itself."""
        client.forget(lease_id)
        self.hardware.leave_all(lease_id)

    def check(self) -> None:
        """Stops at the first fault."""
        daemon, faults = self.daemon, self.oracle.faults
        if daemon is not None:
            faults += daemon.faults()
            if not daemon.engine.commits.failed_because:
                self.oracle.check(daemon.engine, set(daemon.sessions))
        if faults:
            raise Violation("; ".join(faults[:3]))


def _shown(outcome: object) -> str:
    if isinstance(outcome, Lease):
        runs = [(one.pool, " ".join(str(run) for of in one.units.runs for run in of)) for one in outcome.allotments]
        return f"{outcome.id}: " + ", ".join(f"{pool} {text}" for pool, text in runs)
    return f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, Exception) else str(outcome)
