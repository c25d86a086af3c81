"""Leases behind a device: they grow, are left to shrink, and none of it shows to those who hold something."""

import pytest

from leasehold import Exhausted, Run, Units
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.holding import ALLOTMENTS_PER_LEASE, Holding
from leasehold.testing import FakeClient
from support.waiting import until


@pytest.fixture
def client():
    return FakeClient(memory="256MiB", cores=2)


def holding_of(client) -> Holding:
    return Holding(client, "0", lambda: None)


def used(client, pool: str) -> float:
    return client.cards()[0].pool(pool).used


def test_what_is_held_extends_one_lease(client) -> None:
    holding = holding_of(client)
    holding.hold(Units("contexts"), Units("streams"))
    (more,) = holding.hold(Units("streams", 2))
    (lease,) = client.leases()
    assert (lease.units("contexts"), lease.units("streams"), more.ids) == ((0,), (0, 1, 2), (1, 2))
    holding.close()
    assert client.leases() == []


def test_a_lease_that_has_had_many_allotments_is_followed_by_another_and_ends_with_its_last_unit(client) -> None:
    holding = holding_of(client)
    (kept,) = holding.hold(Units("contexts"))
    for _ in range(3 * ALLOTMENTS_PER_LEASE):  # far more than any one lease may have
        holding.drop(*holding.hold(Units("streams")))
    assert len(client.leases()) <= 2
    holding.drop(kept)
    assert used(client, "contexts") == used(client, "streams") == 0
    holding.close()
    assert client.leases() == []


def test_large_memory_has_a_lease_of_its_own_which_ends_with_it(client) -> None:
    holding = holding_of(client)
    holding.hold(Units("streams"))
    (large,) = holding.hold(Run("memory", size="64MiB"), is_alone=True)
    assert len(client.leases()) == 2
    holding.hold(Units("streams"))
    assert len(client.leases()) == 2  # the one before still grows
    holding.drop(large)
    assert len(client.leases()) == 1
    holding.close()


def test_a_refusal_changes_nothing(client) -> None:
    holding = holding_of(client)
    holding.hold(Units("streams"))
    with pytest.raises(Exhausted):
        holding.hold(Units("streams", 1), Run("memory", size="256MiB"), Units("cores", 2), Units("streams", 255))
    assert (used(client, "streams"), used(client, "memory")) == (1, 0)
    holding.close()


def test_after_the_end_nothing_is_held_any_more(client) -> None:
    holding = holding_of(client)
    (unit,) = holding.hold(Units("streams"))
    holding.close()
    holding.drop(unit)
    with pytest.raises(Fault) as refused:
        holding.hold(Units("streams"))
    assert refused.value.code is Code.NO_CONTEXT
    assert client.leases() == []


def test_one_lost_lease_is_told_once_and_nothing_more_is_held(client) -> None:
    told = []
    holding = Holding(client, "0", lambda: told.append(holding.lost_because))
    (unit,) = holding.hold(Units("streams"))
    client.lose(unit.lease, "keepalive missed")
    until(lambda: told)
    assert told == ["keepalive missed"]
    with pytest.raises(Fault, match="keepalive missed"):
        holding.hold(Units("streams"))
    holding.drop(unit)
    holding.close()
    assert client.leases() == []
