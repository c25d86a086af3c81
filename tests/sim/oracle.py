"""Judges what the daemon decides and says by what the clients did and were told. It shares no rule with the code.

Every event is judged when it is decided, every answer when it leaves, and after a restart all of them together. What is
wrong is noted in ``faults``, one sentence each; the world stops at the first.
"""

from collections import Counter
from collections.abc import Callable

from rm.core import events, limits
from rm.core.card import Allotment
from rm.core.errors import InvalidRequest, LeaseGone, Refusal, SessionUnknown, ShuttingDown
from rm.core.lease import Lease
from rm.core.ledger import Ledger
from rm.core.report import differences, explain
from rm.core.types import NS_PER_S, LeaseId, SessionId
from rm.core.unclaimed import patience_ns
from rm.service.engine import Engine
from rm.service.timer import TICK_NS
from sim.card import Hardware, Masks, mask_of
from sim.client import Attempt, Call, Client
from sim.fitting import fault_of_allotments
from sim.model import Model, names_of
from sim.setting_aside import faults_of_setting_aside

LATE_NS = NS_PER_S  # how long after its time an end may be decided
_TRANSIENT = (ShuttingDown, SessionUnknown)


class Oracle:
    """Everything that was decided, asked and told."""

    def __init__(self, hardware: Hardware, clients: dict[int, Client], now_ns: Callable[[], int]) -> None:
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()
        self.model = Model()
        self.history: list[events.Event] = []
        self.durable_revision = 0
        self.told_revision = 0
        self.run_ns = 0  # time in which the daemon ran
        self._hardware = hardware
        self._clients = clients
        self._now_ns = now_ns
        self._revision_of: dict[tuple[object, ...], int] = {}
        self._wishes: dict[tuple[SessionId, int, bytes], Call] = {}
        self._asked: set[tuple[object, ...]] = set()
        self._calls: dict[str, Call] = {}  # what was to be set aside or gated, by its text
        self._notices: dict[LeaseId, set[int]] = {}
        self._clock: dict[LeaseId, tuple[int, int, int]] = {}  # since when, how long, when it is over at the latest
        self._unnamed_since: dict[LeaseId, int] = {}
        self._resets: dict[LeaseId, int] = {}
        self._deadlines: dict[LeaseId, int | None] = {}
        self._compared: tuple[Ledger | None, int] = (None, 0)

    def fault(self, text: str) -> None:
        """Notes that something must not be."""
        self.faults.append(text)

    def is_dead(self, pid: int) -> bool:
        """Whether a process is dead in truth."""
        return self._clients[pid].is_dead

    def is_safe(self, *key: object) -> bool:
        """Whether the event of this name was decided, and is on the disk."""
        return key in self._revision_of and self._revision_of[key] <= self.durable_revision

    def was_reset(self, lease: Lease) -> bool:
        """Whether the card of a lease was reset since its grant."""
        return self._resets[lease.id] != self._hardware.resets[lease.card]

    # What is asked.

    def delivered(self, attempt: Attempt) -> None:
        """A call reached the daemon, from the session that it says."""
        call = attempt.call
        key = (call.session, call.request_id)
        attempt.known = self.model.answers.get(key, "")
        held = self.model.leases.get(call.lease_id)
        attempt.is_hostile = held is not None and call.client is not None and held.lease.session != call.session
        match call.kind:
            case "acquire":
                self._wishes[call.session, call.request_id, call.fingerprint] = call
            case "extend" | "give back":
                self._asked.add((call.kind, call.lease_id, *key))
                self._wishes[call.session, call.request_id, call.fingerprint] = call
            case "reserve" | "gate":
                self._calls[call.text] = call
            case "revoke":
                self._notices.setdefault(call.lease_id, set()).add(call.notice_ns)
        self._asked.add((call.kind, call.lease_id, call.session))
        self._asked.add((call.kind, *key))
        if call.to_pool:
            self._asked.add(("to pool", call.lease_id, call.session))

    # What is decided.

    def decided(self, revision: int, event: events.Event) -> None:
        """Judges an event, and makes it so in the model."""
        if revision != len(self.history) + 1:
            self.fault(f"event {revision} comes after {len(self.history)}")
        self._judge(event)
        for key in names_of(event):
            self._revision_of.setdefault(key, revision)
        self.model.apply(event)
        self.history.append(event)

    def _judge(self, event: events.Event) -> None:
        model = self.model
        match event:
            case events.Granted():
                self._judge_grant(event)
            case events.Extended(lease_id, allotments, request):
                lease = model.leases[lease_id].lease
                call = self._wishes.get((request.session, request.id, request.fingerprint))
                if call is None or ("extend", lease_id, lease.session, request.id) not in self._asked:
                    self.fault(f"{lease_id} was extended, and its owner did not ask")
                elif lease_id in model.revoking:
                    self.fault(f"{lease_id} was extended though it is to end")
                else:
                    self._judge_allotments(call, lease, allotments)
            case events.UnitsReturned(lease_id, _, to_pool, request):
                lease = model.leases[lease_id].lease
                if ("give back", lease_id, lease.session, request.id) not in self._asked:
                    self.fault(f"units of {lease_id} were given back, and its owner did not ask")
                if to_pool:
                    self._judge_to_pool(lease)
            case events.RevocationBegan(lease_id, cause, deadline_ns):
                self._judge_revocation(lease_id, cause, (deadline_ns or 0) - self._now_ns())
            case events.LeaseEnded():
                self._judge_end(event, model.leases[event.lease_id].lease)
            case events.UnitsQuiet(lease_id):
                if lease_id not in self._hardware.fenced:
                    self.fault(f"the units of {lease_id} are given on before it is fenced")
            case events.RequestForgone(request):
                if ("forgo", request.session, request.id) not in self._asked:
                    self.fault(f"request {request.id} of {request.session} was given up by nobody")
            case events.Reserved() | events.ReservationReplaced() | events.SitesGated():
                self.seen[type(event).__name__] += 1
                self.faults += faults_of_setting_aside(model, event, self._calls)
            case events.Started(epoch):
                if epoch <= model.epoch:
                    self.fault(f"epoch {epoch} after {model.epoch}")

    def _judge_grant(self, event: events.Granted) -> None:
        lease, request, model = event.lease, event.request, self.model
        call = self._wishes.get((request.session, request.id, request.fingerprint))
        if call is None or call.session != lease.session:
            self.fault(f"{lease.id} was granted, and nobody asked")
            return
        if (request.session, request.id) in model.answers:
            was = model.answers[request.session, request.id] or "given up"
            self.fault(f"request {request.id} of {request.session}, which was {was}, was granted as {lease.id}")
        if lease.token <= model.last_token or lease.id in model.leases or lease.id in model.ended:
            self.fault(f"{lease.id} has token {lease.token} after {model.last_token}, or had been granted before")
        self._resets[lease.id] = self._hardware.resets[lease.card]
        self._judge_allotments(call, lease, lease.allotments)

    def _judge_allotments(self, call: Call, lease: Lease, allotments: tuple[Allotment, ...]) -> None:
        for fault in fault_of_allotments(self.model, call.claims, lease, allotments):
            self.fault(f"{lease.id}: {fault}")
        for one in allotments:
            units = {(lease.card, one.pool): mask_of(one.pool, one.units)}
            self.check_nobody_uses(lease.id, units, "was granted")

    def check_nobody_uses(self, lease_id: LeaseId, masks: Masks, what: str) -> None:
        """No other client may be at work on any of these units."""
        for key, mask in masks.items():
            others = [other for other in self._hardware.users_of(key, mask) if other != lease_id]
            if others:
                self.fault(f"{lease_id} {what} units of pool {key[1]} with which {others[0]} is still at work")

    def _judge_revocation(self, lease_id: LeaseId, cause: str, notice_ns: int) -> None:
        if cause == "keepalive missed":
            self._check_time_is_over(lease_id, "its keepalive was called missed")
        elif notice_ns not in self._notices.get(lease_id, ()):
            self.fault(f"{lease_id} was revoked by nobody: {cause}")
        self._clock[lease_id] = self._clock_of(notice_ns)

    def _check_time_is_over(self, lease_id: LeaseId, what: str) -> None:
        since = self._clock.get(lease_id)
        if since is None:
            self.fault(f"{lease_id}: {what} before its grant was safe, and so before anybody could know of it")
        elif self.run_ns - since[0] < since[1]:
            waited, due = (self.run_ns - since[0]) / NS_PER_S, since[1] / NS_PER_S
            self.fault(f"{lease_id}: {what} after {waited} s in which the daemon ran, and it had {due} s")

    def _clock_of(self, span_ns: int) -> tuple[int, int, int]:
        return self.run_ns, span_ns, self.run_ns + span_ns

    def _judge_end(self, event: events.LeaseEnded, lease: Lease) -> None:
        asked, lease_id = self._asked, lease.id
        if event.to_pool:
            self._judge_to_pool(lease)
        if not event.is_violent or event.cause in {"released", "session closed"}:  # violent: without its windows
            began = [key for key, answer in self.model.answers.items() if answer == lease_id]
            if not (
                ("release", lease_id, lease.session) in asked
                or ("give back", lease_id, lease.session) in asked
                or any(("forgo", *key) in asked for key in began)
                or ("bye", LeaseId(""), lease.session) in asked
            ):
                self.fault(f"{lease_id} ended as released, and its owner did not ask")
            return
        match event.cause:
            case "process died" | "the host was booted":
                if not self._clients[lease.holder.pid].is_dead:
                    self.fault(f"{lease_id} ended as its process was called dead, and it lives")
            case "the card was reset":
                if not self.was_reset(lease):
                    self.fault(f"{lease_id} ended for a reset of its card, and there was none")
            case "nobody claimed it":
                since = self._unnamed_since.get(lease_id)
                if since is None or self.run_ns - since < patience_ns(lease) - 2 * TICK_NS:
                    self.fault(f"{lease_id} ended as nobody's, and its client had no time to claim it")
            case _:
                if lease_id not in self.model.revoking:
                    self.fault(f"{lease_id} ended without a word before: {event.cause}")
                self._check_time_is_over(lease_id, "it ended")

    def _judge_to_pool(self, lease: Lease) -> None:
        if ("to pool", lease.id, lease.session) not in self._asked:
            self.fault(f"reserved units of {lease.id} went to the pool, and its owner did not ask")
        mine = self.model.leases[lease.id].masks
        for spec, masks in self.model.reserved.values():
            is_another_s = not spec.is_shared and spec.owner_uid not in {None, lease.holder.uid}
            if is_another_s and any(mine.get(k, 0) & m for k, m in masks.items()):
                self.fault(f"{lease.id} gave units of reservation {spec.name} to the pool, which is another's")

    # What is told.

    def durable(self, revision: int) -> None:
        """The disk has everything up to ``revision``: from now on it may be told."""
        for event in self.history[self.durable_revision : revision]:
            if isinstance(event, events.Granted) and event.lease.ttl_ns is not None:
                self._clock.setdefault(event.lease.id, self._clock_of(event.lease.ttl_ns))
        self.durable_revision = revision

    def tell(self, what: str, *keys: tuple[object, ...]) -> None:
        """Somebody learns of one of the events that ``keys`` name: it must be safe."""
        revision = min((self._revision_of[key] for key in keys if key in self._revision_of), default=None)
        if revision is None:
            self.fault(f"{what} was told, and never decided")
        elif revision > self.durable_revision:
            self.fault(f"{what} was told before it was safe: event {revision} of {self.durable_revision}")
        else:
            self.told_revision = max(self.told_revision, revision)

    def answered(self, attempt: Attempt) -> None:
        """Judges an answer as it leaves the daemon."""
        call, outcome = attempt.call, attempt.outcome
        if isinstance(outcome, Refusal):
            self._judge_refusal(attempt, outcome)
            return
        if isinstance(outcome, Exception):
            self.fault(f"{call.text} met {type(outcome).__name__}: {outcome}")
            return
        if attempt.is_hostile and outcome:
            self.fault(f"{call.text}: somebody else's lease was changed")
        request, lease_id = ("request", call.session, call.request_id), call.lease_id
        match call.kind:
            case "acquire":
                self._judge_lease_told(attempt, outcome)
            case "extend":
                self._judge_lease_told(attempt, outcome)
                self.tell(f"the extension of {lease_id}", request)
            case "give back":
                self.tell(f"the return of units of {lease_id}", request, ("end", lease_id))
            case "release":
                self.tell(f"the end of {lease_id}", ("end", lease_id))
            case "forgo":
                answer = self.model.answers.get((call.session, call.request_id))
                if answer in self.model.leases:
                    self.fault(f"request {call.request_id} was given up, and {answer} still lives")
                self.tell(f"that request {call.request_id} is given up", ("end", answer) if answer else request)
            case "revoke":
                self.tell(f"the revocation of {lease_id}", ("revoking", lease_id), ("end", lease_id))
            case _:
                self.tell(call.text, (call.kind, call.session or call.text))

    def _judge_lease_told(self, attempt: Attempt, lease: object) -> None:
        call = attempt.call
        assert isinstance(lease, Lease)
        self.tell(f"the grant of {lease.id}", ("grant", lease.id))
        if lease.session != call.session:
            self.fault(f"{call.text} was answered with another's lease, {lease.id}")
        if lease.id not in self.model.leases:
            self.fault(f"{call.text} was answered with {lease.id}, which has ended already")
        if call.kind == "acquire":
            granted = next(e for e in self.history if isinstance(e, events.Granted) and e.lease.id == lease.id)
            if (granted.request.id, granted.request.fingerprint) != (call.request_id, call.fingerprint):
                self.fault(f"{call.text} was answered with {lease.id}, which another request got")

    def _judge_refusal(self, attempt: Attempt, refusal: Refusal) -> None:
        call, known = attempt.call, attempt.known
        if call.kind != "acquire" or known == "" or isinstance(refusal, _TRANSIENT):
            return
        if known is None or known not in self.model.leases or self.model.is_forgotten(call.session, call.request_id):
            expected: type[Refusal] | None = LeaseGone
        else:
            expected = None
        if isinstance(refusal, InvalidRequest) and known is not None:
            granted = next(e for e in self.history if isinstance(e, events.Granted) and e.lease.id == known)
            if granted.request.fingerprint != call.fingerprint:
                return
        if expected is None or not isinstance(refusal, expected):
            text = f"{call.text}, which {known or 'was given up'} had answered"
            self.fault(f"{text}, was refused: {type(refusal).__name__}: {refusal}")

    def heard(self, session: SessionId, named: tuple[LeaseId, ...], lost: tuple[LeaseId, ...]) -> None:
        """A keepalive was handled: judges what it was told, and notes whom it keeps alive."""
        for lease_id in lost:
            self.tell(f"the loss of {lease_id}", ("end", lease_id), ("revoking", lease_id))
        for held in self.model.leases.values():
            lease = held.lease
            if lease.session == session and lease.id not in self.model.revoking:
                if lease.id in named:
                    self._unnamed_since.pop(lease.id, None)
                    if lease.ttl_ns is not None and lease.id not in lost:
                        renewed, before = self._clock_of(lease.ttl_ns), self._clock[lease.id]
                        since, span, _ = max(before, renewed, key=lambda clock: clock[0] + clock[1])
                        self._clock[lease.id] = (since, span, max(before[2], renewed[2]))
                elif self._revision_of["grant", lease.id] <= self.durable_revision:
                    self._unnamed_since.setdefault(lease.id, self.run_ns)

    # What must always be so.

    def ticks(self, since_last_ns: int) -> None:
        """Time passed in the daemon, which is about to tick; a tick that comes late tells of a pause."""
        if since_last_ns <= 2 * TICK_NS:
            self.run_ns += since_last_ns
            return
        self.run_ns += TICK_NS  # and nobody is to lose by the rest
        for lease_id, (since, span, latest) in self._clock.items():
            self._clock[lease_id] = (since, span, latest + since_last_ns)

    def check(self, engine: Engine, open_sessions: set[SessionId]) -> None:
        """What holds after every step of a daemon that runs."""
        ledger, model = engine.ledger, self.model
        if (ledger, ledger.revision) != self._compared:
            self._compared = (ledger, ledger.revision)
            self.faults += differences(ledger) + model.differences(ledger)
        for lease_id, (since, _, latest) in self._clock.items():
            if lease_id in model.leases and self.run_ns > latest + LATE_NS:
                self.fault(
                    f"{lease_id} goes on, {(self.run_ns - since) / NS_PER_S} s after the last word of its client"
                )
        for waiting in engine.waiting:
            wish = waiting.waiter.wish
            if wish.asker.session not in open_sessions:
                self.fault(f"{wish.asker.session} is gone, and still waits")
            led = engine.waitlist.cards_led_by(waiting.waiter)
            if led and not engine.store.full_because and explain(ledger, wish, cards=led).refusal is None:
                self.fault(f"request {wish.request_id} of {wish.asker.session} waits though it could be granted")
        for past in engine.log.past(1):
            if past.revision > self.durable_revision:
                self.fault(f"a watcher was told of event {past.revision} of {self.durable_revision}")
        deadlines = {lease_id: ledger.deadlines.get(lease_id) for lease_id in ledger.leases}
        for lease_id, deadline_ns in deadlines.items():
            before_ns = self._deadlines.get(lease_id)
            if before_ns is not None and lease_id not in ledger.revoking and (deadline_ns or 0) < before_ns:
                self.fault(f"the deadline of {lease_id} moved from {before_ns} to {deadline_ns}")
        self._deadlines = deadlines

    # After a crash.

    def recovered(self, ledger: Ledger) -> None:
        """What came back must be the beginning of what was decided, and have all of what was told."""
        count = ledger.revision
        if not max(self.told_revision, self.durable_revision) <= count <= len(self.history):
            text = f"{self.durable_revision} were safe, {self.told_revision} told, {len(self.history)} decided"
            self.fault(f"{count} events came back: {text}")
        self.seen["crash that lost events"] += count < len(self.history)
        del self.history[count:]
        self._revision_of = {key: revision for key, revision in self._revision_of.items() if revision <= count}
        self.model = Model(self.history)
        self.durable_revision = count
        self.faults += differences(ledger) + [f"what came back: {one}" for one in self.model.differences(ledger)]
        for client in self._clients.values():
            for lease_id in () if client.is_dead else client.held:
                if lease_id not in ledger.leases and ("end", lease_id) not in self._revision_of:
                    self.fault(f"{lease_id}, of which {client.name} was told, did not come back")
        self._deadlines.clear()
        self._unnamed_since.clear()
        self._clock.clear()
        known = {*self.model.leases, *self.model.ended}  # the ids of those that were lost are given again
        self._hardware.fenced &= known

    def resumed(self) -> None:
        """Every lease has time anew, for its client has to come back."""
        for lease_id, held in self.model.leases.items():
            if lease_id in self.model.revoking:
                self._clock[lease_id] = self._clock_of(self.model.revoking[lease_id])
            elif held.lease.ttl_ns is not None:
                self._clock[lease_id] = self._clock_of(held.lease.ttl_ns + limits.RESTART_GRACE_NS)
