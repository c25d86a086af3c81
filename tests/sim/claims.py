"""What clients ask for, by chance: claims of every kind on the pools of the simulated card."""

from random import Random

from rm.core.claims import Claim, Common, FirstOf, Ids, PlainClaim, Run, Units, Whole
from rm.core.types import PoolName, SiteName
from sim.card import PoolKey

U, MEM, CH = PoolName("u"), PoolName("mem"), PoolName("ch")
A, B = SiteName("a"), SiteName("b")


def some_claims(random: Random, reservations: list[str]) -> tuple[Claim, ...]:
    """One or two claims of any kind."""
    return tuple(_some_claim(random, reservations) for _ in range(random.choice((1, 1, 2))))


def _some_claim(random: Random, reservations: list[str]) -> Claim:
    if reservations and random.random() < 0.3:
        name = random.choice(reservations)
        whole = Whole(random.choice((U, U, CH, MEM)), name)
        return random.choice((Units(U, 1, reservation=name), Units(U, 2, reservation=name), Ids(U, (4,)), whole))
    match random.randrange(8):
        case 0 | 1:
            return Units(U, random.randint(1, 3))
        case 2:
            return Run(MEM, unit_count=random.randint(1, 3))
        case 3:
            return Run(MEM, unit_count=2, align_count=2)
        case 4:
            return Ids(U, tuple(random.sample(range(6), random.randint(1, 2))))
        case 5:
            return Units(CH, 1, at=random.choice(((A,), (B,), (A, B))))
        case 6:
            return Common(CH)
        case _:
            return FirstOf((Run(MEM, unit_count=4), Units(U, 4), Run(MEM, unit_count=1)))


def some_part(random: Random, held: dict[int, tuple[PoolKey, int]]) -> tuple[int, PoolKey, int]:
    """Some units of a lease that can go back together: (index of the allotment, pool, units as bits)."""
    index = random.choice([index for index, (_, mask) in held.items() if mask])
    key, mask = held[index]
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    match key[1]:
        case "mem":
            return index, key, mask
        case "ch":
            bits = [random.choice(bits)]
        case _:
            bits = random.sample(bits, random.randint(1, len(bits)))
    return index, key, sum(1 << bit for bit in bits)


def text_of(claims: tuple[Claim, ...]) -> str:
    """Claims in few words."""
    plain = [one.alternatives if isinstance(one, FirstOf) else (one,) for one in claims]
    return " + ".join(" or ".join(_plain_text(way) for way in ways) for ways in plain)


def _plain_text(claim: PlainClaim) -> str:
    if isinstance(claim, Whole):
        return f"all {claim.pool} of {claim.reservation}"
    source = f" of {claim.reservation}" if claim.reservation else ""
    at = f" at {claim.at}" if claim.at else ""
    match claim:
        case Units(pool, count):
            return f"{count} {pool}{at}{source}"
        case Run(pool, count, align_count=align):
            return f"run of {count} {pool} aligned to {align}{source}"
        case Ids(pool, ids):
            return f"{pool} {ids}{source}"
        case Common(pool):
            return f"a common {pool}{source}"
