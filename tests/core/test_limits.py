"""The edge of each maximum that the core keeps: the most is granted, one more is refused."""

import pytest

from rm.core import limits
from rm.core.claims import Common, FirstOf, Ids, Run, Units
from rm.core.errors import InvalidRequest, QuotaExceeded, Refusal
from rm.core.profile import parse_profile
from rm.core.types import NS_PER_S, CardId
from support.books import NO_REQUEST, acquire, asker, ledger_of, pool, release, reserve, wish_for

ONE = Units("streams", 1)


def decide(ledger, *claims, **more):
    return ledger.decide_acquire(wish_for(*claims, **more), now_ns=0, now_wall_ns=0)


def at_the_edge(ask, most: int, refusal: type[Refusal] = InvalidRequest) -> None:
    """``ask(most)`` is granted, ``ask(most + 1)`` is not."""
    ask(most)
    with pytest.raises(refusal):
        ask(most + 1)


@pytest.fixture
def streams():
    return ledger_of(pool("streams", 8_192))


def test_claims_in_a_request(streams) -> None:
    at_the_edge(lambda count: decide(streams, *[ONE] * count), limits.CLAIMS_PER_REQUEST_MAX)


def test_alternatives_in_a_claim(streams) -> None:
    at_the_edge(lambda count: decide(streams, FirstOf((ONE,) * count)), limits.ALTERNATIVES_PER_CLAIM_MAX)


def test_combinations_of_alternatives_in_a_request(streams) -> None:
    eight = FirstOf((ONE,) * 8)
    assert limits.COMBINATIONS_PER_REQUEST_MAX == 8 * 8
    decide(streams, eight, eight)
    with pytest.raises(InvalidRequest, match="combinations"):
        decide(streams, eight, FirstOf((ONE,) * 3), FirstOf((ONE,) * 3))


@pytest.mark.parametrize("kind", [lambda at: Common("bcast", at), lambda at: Units("bcast", 1, at)])
def test_sites_in_a_claim(kind) -> None:
    most = limits.SITES_PER_CLAIM_MAX
    names = tuple(f"t{number}" for number in range(most + 1))
    ledger = ledger_of(pool("bcast", 1, sites=names))
    at_the_edge(lambda count: decide(ledger, kind(names[:count])), most)


def test_ids_in_a_claim() -> None:
    ledger = ledger_of(pool("p", limits.IDS_PER_CLAIM_MAX + 1))
    at_the_edge(lambda count: decide(ledger, Ids("p", tuple(range(count)))), limits.IDS_PER_CLAIM_MAX)


def test_alignment(streams) -> None:
    at_the_edge(lambda align: decide(streams, Run("streams", 1, align_count=align)), limits.ALIGN_MAX)


def test_extents(streams) -> None:
    at_the_edge(lambda count: decide(streams, Run("streams", 1, extent_count_max=count)), limits.EXTENTS_PER_CLAIM_MAX)


def test_characters_in_a_label(streams) -> None:
    decide(streams, ONE, label="")
    at_the_edge(lambda count: decide(streams, ONE, label="x" * count), limits.LABEL_CHARS_MAX)


@pytest.mark.parametrize("label", ["\x1b[31m", "two\nlines", "\0", "\x7f", "\u202e", "\ud800"])
def test_a_label_that_cannot_be_printed_is_refused(streams, label) -> None:
    with pytest.raises(InvalidRequest, match="label"):
        decide(streams, ONE, label=label)
    decide(streams, ONE, label="[/nope] größer 文字")


def test_windows_of_a_lease() -> None:
    ledger = ledger_of(pool("memory", 1_000, unit_bytes=65_536), pool("streams", 100))
    one = Run("memory", unit_count=1)
    lease = acquire(ledger, *[one] * (limits.WINDOWS_PER_LEASE_MAX - 2))
    assert limits.WINDOWS_PER_LEASE_MAX == limits.DESCRIPTORS_PER_FRAME_MAX
    at_the_edge(lambda n: ledger.decide_extend(lease.id, (one,) * n, asker(), NO_REQUEST), 2, QuotaExceeded)
    ledger.decide_extend(lease.id, (ONE,) * 3, asker(), NO_REQUEST)


def test_windows_that_were_given_back_make_room_for_others() -> None:
    ledger = ledger_of(pool("memory", 1_000, unit_bytes=65_536))
    one = Run("memory", unit_count=1)
    lease = acquire(ledger, *[one] * limits.WINDOWS_PER_LEASE_MAX)
    given = ledger.decide_give_back(lease.id, asker(), NO_REQUEST, pool="memory", ids=[0, 1])
    ledger.apply(given)
    at_the_edge(lambda n: ledger.decide_extend(lease.id, (one,) * n, asker(), NO_REQUEST), 2, QuotaExceeded)


def test_windows_in_a_request(monkeypatch) -> None:
    monkeypatch.setattr(limits, "WINDOWS_PER_LEASE_MAX", 3)
    ledger = ledger_of(pool("memory", 1_000, unit_bytes=65_536), pool("streams", 100))
    one = Run("memory", unit_count=1)
    at_the_edge(lambda count: decide(ledger, *[one] * count, ONE), 3)
    event = decide(ledger, one, one, one, FirstOf((one, ONE)))
    assert event.lease.allotments[3].pool == "streams", "an alternative without a window fits"


def test_ttl(streams) -> None:
    at_the_edge(lambda ttl_ns: decide(streams, ONE, ttl_ns=ttl_ns), limits.TTL_NS_MAX)
    decide(streams, ONE, ttl_ns=limits.TTL_NS_MIN)
    for ttl_ns in (limits.TTL_NS_MIN - 1, 0, -1):
        with pytest.raises(InvalidRequest):
            decide(streams, ONE, ttl_ns=ttl_ns)
    assert limits.TTL_NS_MIN <= limits.TTL_NS_DEFAULT == 10 * NS_PER_S <= limits.TTL_NS_MAX


def test_leases_of_a_session(streams, monkeypatch) -> None:
    monkeypatch.setattr(limits, "LEASES_PER_SESSION_MAX", 3)
    leases = [acquire(streams, ONE) for _ in range(3)]
    with pytest.raises(QuotaExceeded):
        decide(streams, ONE)
    acquire(streams, ONE, who=asker("s2"))
    release(streams, leases[1])
    acquire(streams, ONE)


def test_allotments_of_a_lease(streams) -> None:
    lease = acquire(streams, ONE)
    batch = limits.CLAIMS_PER_REQUEST_MAX
    for _ in range(limits.ALLOTMENTS_PER_LEASE_MAX // batch - 1):
        streams.apply(streams.decide_extend(lease.id, (ONE,) * batch, asker(), NO_REQUEST))
    room = limits.ALLOTMENTS_PER_LEASE_MAX - len(streams.leases[lease.id].allotments)
    at_the_edge(lambda n: streams.decide_extend(lease.id, (ONE,) * n, asker(), NO_REQUEST), room, QuotaExceeded)


def test_leases_in_a_keepalive(streams) -> None:
    lease = acquire(streams, ONE)
    renew = streams.decide_renew
    at_the_edge(lambda n: renew([lease.id] * n, lease.session, now_ns=0), limits.LEASES_PER_SESSION_MAX)


def test_holders_named_in_a_refusal() -> None:
    ledger = ledger_of(pool("streams", 20))
    for _ in range(20):
        acquire(ledger, ONE)
    with pytest.raises(Refusal) as found:
        decide(ledger, ONE)
    assert len(found.value.facts["holders"]) == limits.HOLDERS_PER_REFUSAL_MAX


def test_reservations(streams) -> None:
    for number in range(limits.RESERVATIONS_MAX):
        reserve(streams, f"r{number}", "streams", (number,))
    with pytest.raises(InvalidRequest):
        reserve(streams, "one more", "streams", (limits.RESERVATIONS_MAX,))


# What a profile may say.


def read(text: str):
    card = parse_profile(text).card(CardId("0"), backend="fake", memory_bytes=1 << 30, cpus=(0,))
    return card.pools


def test_pools_of_a_card() -> None:
    def ask(count: int) -> None:
        read('name = "x"\n' + "".join(f"[pools.p{number}]\nunit_count = 1\n" for number in range(count)))

    at_the_edge(ask, limits.POOLS_PER_CARD_MAX)


def test_sites_of_a_pool() -> None:
    def ask(count: int) -> None:
        read(f'name = "x"\n[pools.p]\nunit_count = 1\nsites = {[f"t{number}" for number in range(count)]}')

    at_the_edge(ask, limits.SITES_PER_POOL_MAX)


def test_units_of_a_pool() -> None:
    at_the_edge(lambda n: read(f'name = "x"\n[pools.p]\nunit_count = {n}'), limits.UNITS_PER_POOL_MAX)


@pytest.mark.parametrize("more", ["slices = 2", 'sites = ["a", "b"]'])
def test_bits_of_a_pool_over_all_sites_and_slices(more) -> None:
    at_the_edge(lambda n: read(f'name = "x"\n[pools.p]\nunit_count = {n}\n{more}'), limits.UNITS_PER_POOL_MAX // 2)


def test_slices_of_a_unit() -> None:
    at_the_edge(lambda n: read(f'name = "x"\n[pools.p]\nunit_count = 1\nslices = {n}'), limits.SLICES_PER_UNIT_MAX)


@pytest.mark.parametrize("text", ['name = "{}"\n[pools.p]\nunit_count = 1', 'name = "x"\n[pools.{}]\nunit_count = 1'])
def test_characters_in_a_name(text) -> None:
    at_the_edge(lambda count: read(text.format("n" * count)), limits.NAME_CHARS_MAX)
