"""How a client asks for each thing: the call, with all that the judge needs to know of it."""

from random import Random

from rm.core.claims import Claim, Wish
from rm.core.events import Request
from rm.core.types import NS_PER_S, CardId, LeaseId, PoolName
from rm.service.engine import Engine
from sim.card import SITE_COUNTS
from sim.claims import A, B, text_of
from sim.client import Call, Client


def acquire(random: Random, client: Client, request_id: int, claims: tuple[Claim, ...], *, card_count: int) -> Call:
    """Asks for units, waiting for them or not."""
    ttl_ns = random.choice((3 * NS_PER_S, 3 * NS_PER_S, 10 * NS_PER_S, None))
    card = CardId(str(random.randrange(card_count))) if random.random() < 0.3 else None
    fingerprint = repr((claims, ttl_ns, card)).encode()
    wish = Wish(client.asker, claims, request_id, fingerprint, card, ttl_ns)
    wait_ns = random.choice((0, 0, 1, 4, 8)) * NS_PER_S
    times = f"ttl {(ttl_ns or 0) // NS_PER_S}, wait {wait_ns // NS_PER_S}"
    return Call(
        "acquire",
        f"{client.name} acquire {request_id}: {text_of(claims)}, {times}",
        client,
        client.session,
        lambda engine: engine.acquire(wish, wait_ns=wait_ns),
        request_id,
        fingerprint,
        claims=claims,
    )


def extend(client: Client, lease_id: LeaseId, claims: tuple[Claim, ...]) -> Call:
    """Asks for more units in a lease."""
    request = Request(client.session, client.next_request_id(), repr(claims).encode())
    asker = client.asker
    return Call(
        "extend",
        f"{client.name} extend {lease_id} ({request.id}): {text_of(claims)}",
        client,
        client.session,
        lambda engine: engine.extend(lease_id, claims, asker, request),
        request.id,
        request.fingerprint,
        claims=claims,
        lease_id=lease_id,
    )


def give_back(client: Client, lease_id: LeaseId, pool: PoolName, mask: int, *, to_pool: bool = False) -> Call:
    """Gives back units of one allotment; at one site, where the pool has several."""
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    site_count = SITE_COUNTS[pool]
    ids = sorted({bit // site_count for bit in bits})
    at = ((A, B)[bits[0] % 2],) if site_count > 1 else ()
    request = Request(client.session, client.next_request_id(), repr((pool, mask, to_pool)).encode())
    asker = client.asker
    return Call(
        "give back",
        f"{client.name} give back {pool} {ids} {at} of {lease_id} ({request.id}){' to the pool' if to_pool else ''}",
        client,
        client.session,
        lambda engine: engine.give_back(lease_id, asker, request, pool=pool, ids=ids, at=at, to_pool=to_pool),
        request.id,
        request.fingerprint,
        lease_id=lease_id,
        to_pool=to_pool,
    )


def release(client: Client, lease_id: LeaseId, *, to_pool: bool = False) -> Call:
    """Ends a lease."""
    asker = client.asker
    return Call(
        "release",
        f"{client.name} release {lease_id}{' to the pool' if to_pool else ''}",
        client,
        client.session,
        lambda engine: engine.release(lease_id, asker, to_pool=to_pool),
        lease_id=lease_id,
        to_pool=to_pool,
    )


def forgo(client: Client, call: Call) -> Call:
    """Gives up a request that had no answer."""
    session, request_id = call.session, call.request_id
    return Call(
        "forgo",
        f"{client.name} forgo {request_id}",
        client,
        session,
        lambda engine: engine.forgo(session, request_id),
        request_id,
    )


def say_goodbye(client: Client) -> Call:
    """Ends the session with all that it has."""
    session = client.session

    async def ask(engine: Engine) -> int:
        engine.end_session(session, "session closed", is_violent=False)
        return await engine.synced()

    return Call("bye", f"{client.name} closes {session}", client, session, ask)
