"""Units that the system itself keeps, where an operator asks for it: leases that everybody sees and nobody claims.

They belong to no process, outlive the daemon, and are taken anew at a start that does not find them: after the card was
reset, say. An AI Engine array has two such sets: the channels of error broadcast, and what ECC scrubbing needs.
"""

from collections.abc import Mapping, Sequence

from rm.core.card import Card
from rm.core.claims import Asker, Ids, Wish
from rm.core.errors import InvalidRequest
from rm.core.events import Granted, LeaseEnded
from rm.core.profile import SystemUnits
from rm.core.types import CardId, Holder, LeaseId, SessionId
from rm.service.engine import Engine

SESSION = SessionId("system")
_LABEL = "system:"


def claims_of(system: Mapping[str, Sequence[SystemUnits]], name: str, card: Card) -> tuple[Ids, ...]:
    """The claims for what the system keeps under ``name``, at sites whose clock runs.

    Raises:
        InvalidRequest: the profile knows no such name.
    """
    if name not in system:
        known = ", ".join(system) or "none"
        raise InvalidRequest(f"this profile has no system units {name!r}; it has {known}", name=name)
    claims = []
    for one in system[name]:
        pool = card.pools[one.pool]
        sites = [site for site in one.sites_in(pool.spec) if pool.site_index[site] not in pool.gated]
        if sites or not pool.spec.sites:
            claims.append(Ids(one.pool, one.ids, tuple(sites)))
    return tuple(claims)


def keep(engine: Engine, system: Mapping[str, Sequence[SystemUnits]], names: Sequence[str], *, uid: int) -> None:
    """Sees to it that the system has what ``names`` say, on every card, and nothing else. Nobody is served before.

    What it has already stays as it is; what is new is taken where the clocks run.

    Raises:
        InvalidRequest: the profile knows no such name; nothing is changed.
        UnitHeld: somebody has one of the units; nothing more is changed.
    """
    ledger = engine.ledger
    for card in ledger.cards.values():
        for name in names:
            claims_of(system, name, card)
    mine = [ledger.leases[lease_id] for lease_id in ledger.leases_by_session.get(SESSION, ())]
    there: dict[tuple[CardId, str], LeaseId] = {(lease.card, lease.label): lease.id for lease in mine}
    with engine.commits:
        gone = [lease_id for (_, label), lease_id in there.items() if label.removeprefix(_LABEL) not in names]
        engine.endings.end(
            [LeaseEnded(lease_id, "the system no longer keeps it", is_violent=False) for lease_id in gone]
        )
        asker = Asker(SESSION, Holder(0, uid, "rmd --system " + ",".join(names)), is_admin=True)
        for card in ledger.cards.values():
            for name in names:
                label, claims = _LABEL + name, claims_of(system, name, card)
                if claims and (card.id, label) not in there:
                    wish = Wish(asker, claims, card=card.id, label=label)
                    now_ns, now_wall_ns = engine.clock.monotonic_ns(), engine.clock.wall_ns()
                    event = ledger.decide_acquire(wish, now_ns=now_ns, now_wall_ns=now_wall_ns)
                    assert isinstance(event, Granted), "a wish without a request id is always new"
                    engine.commits.commit(event)
