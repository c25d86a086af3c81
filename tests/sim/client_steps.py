"""What clients do next: each method is a step, and says whether it was possible."""

from collections.abc import Callable
from random import Random

from rm.core.claims import Claim
from rm.core.errors import Refusal
from rm.core.types import LeaseId, SessionId
from sim import calls
from sim.claims import some_claims, some_part
from sim.client import Call, Client
from sim.world import World

CLIENTS_MAX = 4


class ClientSteps:
    """Processes that come, ask, hold, stop, attack and die."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random: Random = world.random

    def weights(self) -> dict[Callable[[], bool], float]:
        """Every step, and how often it is tried."""
        return {
            self.spawn: 5,
            self.acquire: 26,
            self.extend: 6,
            self.give_back: 6,
            self.release: 7,
            self.let_go: 4,
            self.say_goodbye: 1,
            self.ask_again: 15,
            self.cancel_wait: 3,
            self.send_twice: 3,
            self.attack: 4,
            self.kill: 2.5,
            self.stop: 2,
            self.go_on: 4,
        }

    def _client(self, *, must_hold: bool = False) -> Client | None:
        running = [c for c in self.world.clients.values() if c.is_running and c.session and (c.held or not must_hold)]
        return self.random.choice(running) if running else None

    def spawn(self) -> bool:
        world = self.world
        idle = [one for one in world.clients.values() if one.is_running and not one.session and not one.calls]
        if idle:
            client = self.random.choice(idle)
        elif sum(not one.is_dead for one in world.clients.values()) < CLIENTS_MAX:
            pid = 100 + len(world.clients)
            client = world.clients[pid] = Client(pid, uid=self.random.choice((1000, 1001)))
        else:
            return False
        world.session_count += 1
        session = SessionId(f"S{world.session_count}")
        world.send(Call("open", f"{client.name} opens {session}", client, session, lambda engine: engine.synced()))
        return True

    def acquire(self) -> bool:
        client = self._client()
        if client is None:
            return False
        self.world.send(self._acquire(client, client.next_request_id(), self._claims()))
        return True

    def _acquire(self, client: Client, request_id: int, claims: tuple[Claim, ...]) -> Call:
        card_count = len(self.world.hardware.cards)
        return calls.acquire(self.random, client, request_id, claims, card_count=card_count)

    def _claims(self) -> tuple[Claim, ...]:
        return some_claims(self.random, sorted(self.world.oracle.model.reserved))

    def extend(self) -> bool:
        client = self._client(must_hold=True)
        if client is None:
            return False
        lease_id = self.random.choice(list(client.held))
        self.world.send(calls.extend(client, lease_id, self._claims()))
        return True

    def give_back(self) -> bool:
        client = self._client(must_hold=True)
        if client is None:
            return False
        lease_id, held = self.random.choice(list(client.held.items()))
        if not any(mask for _, mask in held.values()):
            return False
        index, key, mask = some_part(self.random, held)
        held[index] = key, held[index][1] & ~mask
        self.world.hardware.leave(lease_id, key, mask)
        to_pool = self.random.random() < 0.15
        self.world.send(calls.give_back(client, lease_id, key[1], mask, to_pool=to_pool))
        return True

    def release(self) -> bool:
        client = self._client(must_hold=True)
        if client is None:
            return False
        self._release(client, self.random.choice(list(client.held)))
        return True

    def let_go(self) -> bool:
        """A client heeds the word that a lease is to end."""
        for client in self.world.clients.values():
            told = sorted(client.revoked & client.held.keys())
            if told and client.is_running:
                self._release(client, told[0])
                return True
        return False

    def _release(self, client: Client, lease_id: LeaseId) -> None:
        self.world.forget_lease(client, lease_id)
        self.world.send(calls.release(client, lease_id, to_pool=self.random.random() < 0.15))

    def say_goodbye(self) -> bool:
        client = self._client()
        if client is None:
            return False
        call = calls.say_goodbye(client)
        for lease_id in list(client.held):
            self.world.forget_lease(client, lease_id)
        client.end_session()
        self.world.send(call)
        return True

    def ask_again(self) -> bool:
        """A client that had no answer asks again, with other parameters, or gives the request up."""
        doubtful = [
            call
            for client in self.world.clients.values()
            if client.is_running
            for call in client.calls
            if call.is_in_doubt
        ]
        if not doubtful:
            return False
        call = self.random.choice(doubtful)
        client = call.client
        assert client is not None
        chance = self.random.random()
        if call.kind != "acquire" or chance < 0.6:
            self.world.send(call)
        elif chance < 0.75:
            twin = self._acquire(client, call.request_id, self._claims())
            for one in (call, *call.twins):
                one.twins.append(twin)
                twin.twins.append(one)
            self.world.seen["other parameters"] += 1
            self.world.send(twin)
        else:
            self._forgo(client, call)
        return True

    def _forgo(self, client: Client, call: Call) -> None:
        client.settle(call)
        self.world.send(calls.forgo(client, call))

    def cancel_wait(self) -> bool:
        """A client's deadline ends a call that waits in the queue."""
        daemon = self.world.serving
        waiting = daemon.waiting_attempts() if daemon is not None else []
        if daemon is None or not waiting:
            return False
        attempt = self.random.choice(waiting)
        self.world.note(f"{attempt.call.text} - is cancelled")
        daemon.cancel(attempt)
        client = attempt.call.client
        if client is not None and client.is_running and not attempt.call.is_settled:
            self._forgo(client, attempt.call)
        return True

    def send_twice(self) -> bool:
        """A request goes over the network twice."""
        calls = [call for client in self.world.clients.values() if client.is_running for call in client.calls]
        if not calls:
            return False
        call = self.random.choice(calls)
        if call.kind == "open":
            return False
        self.world.send(call)
        return True

    def attack(self) -> bool:
        """Somebody tries to change another's lease."""
        client = self._client()
        leases, oracle = self.world.oracle.model.leases, self.world.oracle
        shown = [one for one in leases if oracle.is_safe("grant", one)]  # nobody can know of another
        others = [one for one in shown if client is not None and leases[one].lease.session != client.session]
        if client is None or not others:
            return False
        lease_id = self.random.choice(others)
        self.world.seen["attack"] += 1
        match self.random.randrange(4):
            case 0:
                call = calls.release(client, lease_id)
            case 1:
                call = calls.extend(client, lease_id, self._claims())
            case 2:
                (key, mask), *_ = leases[lease_id].parts
                if not mask:
                    return False
                call = calls.give_back(client, lease_id, key[1], 1 << mask.bit_length() - 1)
            case _:
                self._attack_alive(client, lease_id)
                return True
        self.world.send(call)
        return True

    def _attack_alive(self, client: Client, lease_id: LeaseId) -> None:
        """Names another's lease in a keepalive, and revokes it without being an admin."""
        daemon = self.world.serving
        if daemon is None or client.session not in daemon.sessions:
            return
        for attack in (
            lambda: daemon.engine.keep_alive(client.session, (lease_id,)),
            lambda: daemon.engine.ledger.decide_revoke(lease_id, client.asker, "spite", notice_ns=0, now_ns=0),
        ):
            try:
                answer = attack()
            except Refusal:
                continue
            if lease_id in daemon.engine.ledger.leases and answer != (lease_id,):
                self.world.oracle.fault(f"{client.name} kept {lease_id} alive or revoked it, which is another's")

    def kill(self) -> bool:
        living = [client for client in self.world.clients.values() if not client.is_dead]
        if not living:
            return False
        client = self.random.choice(living)
        key = "death with a claimed reservation" if self._has_reserved(client) else "death"
        self.world.seen[key] += 1
        self.world.kill(client)
        return True

    def _has_reserved(self, client: Client) -> bool:
        reserved = [masks for _, masks in self.world.oracle.model.reserved.values()]
        mine = [part for parts in client.held.values() for part in parts.values()]
        return any(mask & masks.get(key, 0) for key, mask in mine for masks in reserved)

    def stop(self) -> bool:
        client = self._client()
        if client is None:
            return False
        self.world.note(f"{client.name} is stopped")
        client.is_stopped = True
        return True

    def go_on(self) -> bool:
        stopped = [one for one in self.world.clients.values() if one.is_stopped and not one.is_dead]
        if not stopped:
            return False
        client = self.random.choice(stopped)
        self.world.note(f"{client.name} goes on")
        client.is_stopped = False
        self.world.seen["came back to lost leases"] += bool(client.lost)
        self.world.read_news(client)
        return True
