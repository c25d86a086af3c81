"""What compilers and the administrator do to reservations and clocks: each method is a step."""

from collections.abc import Callable
from random import Random

from rm.core.claims import Asker, Claim, Common, Ids, Run, Units
from rm.core.reservation import Reservation, ReservationSpec
from rm.core.reserving import ReserveWish
from rm.core.types import Holder, PoolName, SessionId, UnitRange, UnitSet
from rm.service.engine import Engine
from sim.claims import CH, MEM, A, B, U
from sim.client import ADMIN, Call
from sim.world import World

NOBODY = SessionId("")
_RESERVATIONS_MAX = 2


class AdminSteps:
    """Sets units aside, takes that back, and turns the clocks of sites off."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random: Random = world.random

    def weights(self) -> dict[Callable[[], bool], float]:
        """Every step, and how often it is tried."""
        return {self.reserve: 2, self.reserve_claims: 3, self.unreserve: 1.5, self.gate: 1}

    def reserve(self) -> bool:
        """Exactly these units, anybody's or a user's."""
        if len(self.world.oracle.model.reserved) >= _RESERVATIONS_MAX or self.world.serving is None:
            return False
        name, card = self._new_name(), self.random.choice(self.world.hardware.cards).id
        spec = ReservationSpec(name, "", card, self._some_units(), self.random.choice((None, None, 1000)))

        async def ask(engine: Engine) -> int:
            with engine.commits:
                engine.commits.commit(engine.ledger.decide_reserve(spec))
            return await engine.synced()

        self.world.send(Call("reserve", text_of(name, ""), None, NOBODY, ask))
        return True

    def reserve_claims(self) -> bool:
        """What claims get: new, in the place of something else, or the same once more."""
        if self.world.serving is None:
            return False
        standing = self.world.oracle.model.reserved
        old = self.random.choice([spec for spec, _ in standing.values()]) if standing else None
        if len(standing) >= _RESERVATIONS_MAX and old is None:
            return False
        is_again = old is not None and (len(standing) >= _RESERVATIONS_MAX or self.random.random() < 0.4)
        uid = self.random.choice((1000, 1000, 1001))
        if is_again and old is not None and old.content_hash and self.random.random() < 0.4:
            self.world.seen["reserved once more"] += 1
            name, content_hash = old.name, old.content_hash
        else:
            self.world.reservation_count += 1
            name = old.name if is_again and old is not None else f"r{self.world.reservation_count}"
            content_hash = f"h{self.world.reservation_count}"
        who = Asker(NOBODY, Holder(1, uid, "compiler"))
        claims, is_shared = self._some_claims(), self.random.random() < 0.4
        wish = ReserveWish(name, claims, who, content_hash, is_shared=is_shared, replaces=is_again)

        async def ask(engine: Engine) -> int:
            with engine.commits:
                event = engine.ledger.decide_reserve_claims(wish)
                if not isinstance(event, Reservation):
                    engine.commits.commit(event)
                    engine.store.on_room()  # serves everybody who waits
            return await engine.synced()

        self.world.send(Call("reserve", text_of(name, content_hash), None, NOBODY, ask, claims=claims))
        return True

    def unreserve(self) -> bool:
        names = sorted(self.world.oracle.model.reserved)
        if not names or self.world.serving is None:
            return False
        name = self.random.choice(names)

        async def ask(engine: Engine) -> int:
            with engine.commits:
                engine.commits.commit(engine.ledger.decide_unreserve(name, ADMIN))
                engine.store.on_room()
            return await engine.synced()

        self.world.send(Call("unreserve", f"unreserve {name}", None, NOBODY, ask))
        return True

    def gate(self) -> bool:
        """Turns the clocks of some sites off, and those of all others on."""
        if self.world.serving is None:
            return False
        card = self.random.choice(self.world.hardware.cards).id
        sites = self.random.choice(((), (), (), (A,), (B,), (A, B)))

        async def ask(engine: Engine) -> int:
            with engine.commits:
                engine.commits.commit(engine.ledger.decide_gate(card, sites))
                engine.store.on_room()
            return await engine.synced()

        self.world.send(Call("gate", f"gate {card} {' '.join(sites)}", None, NOBODY, ask))
        return True

    def _new_name(self) -> str:
        self.world.reservation_count += 1
        return f"r{self.world.reservation_count}"

    def _some_units(self) -> tuple[tuple[PoolName, UnitSet], ...]:
        start = self.random.choice((0, 3, 4))
        units = [(U, UnitSet((0,), ((UnitRange(start, start + 2),),)))]
        if self.random.random() < 0.3:
            units.append((CH, UnitSet((0, 1), ((UnitRange(1, 2),),))))
        if self.random.random() < 0.3:
            units.append((MEM, UnitSet((0,), ((UnitRange(4, 5),),))))
        return tuple(units)

    def _some_claims(self) -> tuple[Claim, ...]:
        some: list[Claim] = [
            Units(U, self.random.randint(1, 2)),
            Ids(U, tuple(self.random.sample(range(6), 2))),
            Units(CH, 1, at=(self.random.choice((A, B)),)),
            Common(CH),
            Run(MEM, unit_count=self.random.randint(1, 2)),
        ]
        return tuple(self.random.sample(some, self.random.choice((1, 1, 2))))


def text_of(name: str, content_hash: str) -> str:
    """Under which name a reservation is asked for, and told."""
    return f"reserve {name} {content_hash}"
