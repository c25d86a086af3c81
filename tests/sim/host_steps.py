"""What the host, the network, the disk and an administrator who revokes do next: each method is a step."""

from collections.abc import Callable
from random import Random

from rm.core.types import NS_PER_S, CardId
from sim.client import ADMIN, Call
from sim.world import World
from support.clock import ManualClock


class HostSteps:
    """Everything that is no client's doing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random: Random = world.random

    def weights(self) -> dict[Callable[[], bool], float]:
        """Every step, and how often it is tried."""
        return {
            self.deliver_request: 8,
            self.deliver_answer: 8,
            self.revoke: 3,
            self.sync: 10,
            self.sync_some: 4,
            self.fill_disk: 1,
            self.make_room: 3,
            self.fail_write: 0.2,
            self.crash: 1.2,
            self.start: 30,
            self.boot: 0.15,
            self.reset_card: 2,
            self.pause: 2,
            self.end_fence: 6,
            self.notice: 8,
            self.pass_time: 14,
        }

    # The network.

    def deliver_request(self) -> bool:
        if not self.world.requests or self.world.serving is None:
            return False
        attempt = self.world.requests.pop(self.random.randrange(len(self.world.requests)))
        self.world.note(f"{attempt.call.text} - arrives")
        self.world.deliver(attempt)
        return True

    def deliver_answer(self) -> bool:
        answers = [one for one in self.world.answers if one.call.client is None or not one.call.client.is_stopped]
        if not answers:
            return False
        attempt = self.random.choice(answers)
        self.world.answers.remove(attempt)
        self.world.receive(attempt)
        return True

    # The administrator.

    def revoke(self) -> bool:
        oracle = self.world.oracle
        leases = [lease_id for lease_id in oracle.model.leases if oracle.is_safe("grant", lease_id)]
        if not leases or self.world.serving is None:
            return False
        lease_id = self.random.choice(leases)
        notice_ns = self.random.choice((0, 1, 3)) * NS_PER_S
        ask = lambda engine: engine.revoke(lease_id, ADMIN, "an admin's wish", notice_ns=notice_ns)  # noqa: E731
        text = f"admin revoke {lease_id}"
        self.world.send(Call("revoke", text, None, ADMIN.session, ask, lease_id=lease_id, notice_ns=notice_ns))
        return True

    # The disk.

    def sync(self) -> bool:
        daemon = self.world.daemon
        if daemon is None or not daemon.store.queued_count:
            return False
        self.world.note("sync")
        daemon.store.sync()
        return True

    def sync_some(self) -> bool:
        daemon = self.world.daemon
        if daemon is None or daemon.store.queued_count < 2:
            return False
        count = self.random.randrange(1, daemon.store.queued_count)
        self.world.note(f"sync {count}")
        daemon.store.sync(count)
        return True

    def fill_disk(self) -> bool:
        if self.world.disk.is_full:
            return False
        self.world.note("the disk is full")
        self.world.disk.is_full = True
        return True

    def make_room(self) -> bool:
        if not self.world.disk.is_full or self.world.daemon is None:
            return False
        self.world.note("the disk has room")
        self.world.daemon.store.make_room()
        return True

    def fail_write(self) -> bool:
        daemon = self.world.serving
        if daemon is None:
            return False
        self.world.note("a write fails")
        self.world.seen["failed write"] += 1
        daemon.store.fail("EIO")
        return True

    # The daemon and its host.

    def crash(self) -> bool:
        if self.world.daemon is None:
            return False
        self.world.crash()
        return True

    def start(self) -> bool:
        daemon = self.world.daemon
        if daemon is not None and daemon.store.has_failed:
            self.world.crash()
        if self.world.daemon is not None:
            return False
        self.world.start()
        return True

    def boot(self) -> bool:
        """The host goes down with everything on it, and its clock begins anew."""
        world = self.world
        if world.daemon is not None:
            world.crash()
        for client in world.clients.values():
            if not client.is_dead:
                world.kill(client)
        world.hardware.boot_count += 1
        for card in world.hardware.cards:
            world.hardware.reset(card.id)
        world.clock = ManualClock(now_ns=NS_PER_S)
        world.requests.clear()
        world.answers.clear()
        world.note("the host boots")
        world.seen["boot"] += 1
        return True

    def reset_card(self) -> bool:
        if self.world.daemon is not None:
            return False
        card = self.random.choice(self.world.hardware.cards).id
        self.world.note(f"card {card} is reset")
        self.world.hardware.reset(CardId(card))
        self.world.seen["reset of a card"] += 1
        return True

    def pause(self) -> bool:
        daemon = self.world.serving
        if daemon is None:
            return False
        tick_count = self.random.choice((3, 8, 16, 60))
        self.world.note(f"the daemon stands still for {tick_count} ticks")
        self.world.seen["pause over leases"] += bool(daemon.engine.ledger.leases)
        self.world.pause(tick_count)
        return True

    def end_fence(self) -> bool:
        daemon = self.world.daemon
        ready = daemon.backend.ready() if daemon is not None and not daemon.store.has_failed else []
        if daemon is None or not ready:
            return False
        lease_id = self.random.choice(ready)
        self.world.note(f"the fence of {lease_id} is done")
        self.world.seen["fence that took time"] += 1
        daemon.backend.quiet(lease_id)
        return True

    def notice(self) -> bool:
        if not self.world.deaths or self.world.serving is None:
            return False
        self.world.notice_deaths()
        return True

    def pass_time(self) -> bool:
        tick_count = self.random.choice((1, 2, 4, 8, 16))
        self.world.note(f"{tick_count} ticks pass")
        for _ in range(tick_count):
            self.world.tick()
        return True
