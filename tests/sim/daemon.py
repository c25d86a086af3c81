"""One life of the daemon: the real engine, timer, recovery and resumption over a simulated disk, card and clock."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from rm.core.errors import Refusal, SessionUnknown, ShuttingDown
from rm.core.lease import Lease
from rm.core.session import SessionRecord
from rm.core.types import LeaseId, SessionId
from rm.service.engine import Engine
from rm.service.restart import resume
from rm.service.timer import Timer
from rm.store.recovery import recover
from sim.card import Hardware, SimBackend
from sim.client import Attempt, Client
from sim.disk import Disk
from sim.oracle import Oracle
from sim.store import SimStore
from support.clock import ManualClock


class Daemon:
    """From its start to its crash. Sessions stand for the processes behind them."""

    def __init__(
        self,
        disk: Disk,
        hardware: Hardware,
        clock: ManualClock,
        oracle: Oracle,
        random: Random,
        *,
        events_between_snapshots: int,
    ) -> None:
        """Recovers what ``disk`` has."""
        ledger = recover(disk.read())  # type: ignore[arg-type] - an image has what recovery asks for
        oracle.recovered(ledger)
        self.oracle = oracle
        self.store = SimStore(
            disk,
            revision=ledger.revision,
            events_between_snapshots=events_between_snapshots,
            on_event=oracle.decided,
            on_durable=oracle.durable,
        )
        self.backend = SimBackend(hardware, random, on_fence=self._check_fence)
        self.failures: list[str] = []
        self.engine = Engine(ledger, self.store, self.backend, clock, on_failure=lambda: self.failures.append("failed"))
        self.timer = Timer(self.engine)
        self.last_tick_ns = clock.now_ns
        self.sessions: dict[SessionId, Client] = {}
        self.is_serving = False
        self.answered: list[Attempt] = []
        self._boot_id = f"boot-{hardware.boot_count}"
        self._clock = clock
        self._tasks: dict[asyncio.Task[None], Attempt] = {}

    def resume(self, client_of: Callable[[SessionRecord], Client | None]) -> None:
        """Takes up where the daemon before ended. It serves when that is safe."""

        def is_alive(record: SessionRecord) -> bool:
            client = client_of(record)
            if client is not None:
                self.sessions[record.id] = client
            return client is not None

        resume(self.engine, boot_id=self._boot_id, is_alive=is_alive)
        self.oracle.resumed()
        task = asyncio.get_running_loop().create_task(self._begin_to_serve())
        self._tasks[task] = Attempt(None)  # type: ignore[arg-type] - it is nobody's
        task.add_done_callback(self._tasks.pop)

    async def _begin_to_serve(self) -> None:
        with suppress(ShuttingDown):
            await self.engine.synced()
            self.is_serving = True

    # What comes in.

    def deliver(self, attempt: Attempt) -> None:
        """Begins to answer a call; the answer will stand in ``answered``."""
        task = asyncio.get_running_loop().create_task(self._answer(attempt))
        self._tasks[task] = attempt
        task.add_done_callback(self._tasks.pop)

    async def _answer(self, attempt: Attempt) -> None:
        call, engine = attempt.call, self.engine
        try:
            if call.kind == "open":
                assert call.client is not None
                if call.client.is_dead:
                    raise SessionUnknown("a process that is dead opens no session")
                engine.open_session(call.client.record(call.session))
                self.sessions[call.session] = call.client
            elif call.client is not None and call.session not in self.sessions:
                raise SessionUnknown(f"there is no session {call.session}")
            self.oracle.delivered(attempt)
            if call.kind == "bye":
                del self.sessions[call.session]
            attempt.outcome = await call.ask(engine)
        except Refusal as refusal:
            attempt.outcome = await engine.commits.told(refusal)
        except Exception as fault:
            attempt.outcome = fault
        self.answered.append(attempt)

    @property
    def is_busy(self) -> bool:
        """Whether it is at some call, or about to begin."""
        return bool(self._tasks)

    def waiting_attempts(self) -> list[Attempt]:
        """Acquires that are still without an answer."""
        return [attempt for attempt in self._tasks.values() if attempt.call and attempt.call.kind == "acquire"]

    def cancel(self, attempt: Attempt) -> None:
        """The client no longer waits for this call."""
        for task, other in list(self._tasks.items()):
            if other is attempt:
                task.cancel()

    def keep_alive(self, session: SessionId, lease_ids: tuple[LeaseId, ...]) -> tuple[LeaseId, ...]:
        """A keepalive arrives; answers those that are lost."""
        lost = self.engine.keep_alive(session, lease_ids)
        self.oracle.heard(session, lease_ids, lost)
        return lost

    def notice_death(self, client: Client) -> None:
        """The pidfd of a process says that it is dead."""
        for session in [session for session, other in self.sessions.items() if other is client]:
            del self.sessions[session]
            if not self.engine.commits.failed_because:
                self.engine.end_session(session, "process died", is_violent=True)

    def tick(self) -> None:
        """The timer comes round, once the daemon serves."""
        if self.is_serving and not self.engine.commits.failed_because:
            self.oracle.ticks(self._clock.now_ns - self.last_tick_ns)
            self.last_tick_ns = self._clock.now_ns
            self.timer.tick()

    # How it ends.

    def kill(self) -> list[Attempt]:
        """Nothing more happens in this daemon; answers the calls that it was at."""
        self.engine.commits.failed_because = "killed"
        self.store.synced.fail("killed")
        unanswered = [attempt for attempt in self._tasks.values() if attempt.call]
        for task in list(self._tasks):
            task.cancel()
        return unanswered

    def faults(self) -> list[str]:
        """Why it stopped, where that was no wish of the simulation."""
        because = self.engine.commits.failed_because
        return [f"the daemon stopped: {because}"] if because and not self.store.has_failed else []

    def _check_fence(self, lease: Lease, is_holder_dead: bool) -> None:
        client_is_dead = self.oracle.is_dead(lease.holder.pid)
        if is_holder_dead and not client_is_dead and not self.oracle.was_reset(lease):
            self.oracle.fault(f"{lease.id} is fenced as a dead process's, and it lives")
        if not client_is_dead and not self.oracle.was_reset(lease) and not self.oracle.is_safe("end", lease.id):
            self.oracle.fault(f"{lease.id} of a living process is fenced before its end is safe")
