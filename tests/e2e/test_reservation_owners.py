"""Reservations and the users of a host: whose they are to claim, to give up, to replace and to take away."""

import os

import pytest

from support.puppet import STRANGER_UID
from support.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a second user")]

OTHER_UID = STRANGER_UID - 1
CORES = "[(3, 1, 'core'), (3, 2, 'core')]"


def held_of(client, key: str) -> dict[str, tuple[float, float, float]]:
    """Units, held and quarantined, pool by pool."""
    (found,) = client.reservations(key)
    return {one.pool: (one.units, one.held, one.quarantined) for one in found.pools}


def test_a_reservation_that_is_not_shared_is_out_of_reach_of_another_user(array, puppets):
    owner, stranger = puppets(array, uid=OTHER_UID), puppets(array, uid=STRANGER_UID)
    claim = f"leasehold.Ids('perfcnt', [0], at={CORES})"
    owner(f"made = client.reserve_claims('mine', {claim}, content_hash='sha256:x'); made.owner_uid")
    owner("lease = hold(reservation='mine')")
    for attempt in (
        "client.acquire(reservation='mine')",
        "client.acquire(reservation='sha256:x')",
        f"client.acquire({claim})",
        f"client.acquire(leasehold.Units('perfcnt', 1, at={CORES}, reservation='mine'))",
        "client.unreserve('mine')",
        f"client.reserve_claims('mine', {claim}, replace=True)",
        f"client._call('Release', pb.ReleaseRequest(lease_id={owner('lease.id')!r}, to_pool=True))",
        f"client._call('GiveBack', pb.GiveBackRequest(request_id=50, lease_id={owner('lease.id')!r},"
        " pool='perfcnt', ranges=[dict(start=0, stop=1)], sites=['3,1,core'], to_pool=True))",
    ):
        stranger("from rmapi.v1 import resource_manager_pb2 as pb")
        assert stranger.fault(attempt) == "NotOwner", attempt
    assert stranger.fault(f"client.reserve_claims('mine', {claim})") == "Invalid"
    assert stranger.fault(f"client.reserve_claims('theirs', {claim}, content_hash='sha256:x')") == "Held"
    owner("lease.release()")
    assert stranger.fault(f"client.acquire({claim})") == "NotOwner"
    with array.connect() as admin:
        assert held_of(admin, "mine") == {"perfcnt": (2, 0, 0)}
        assert admin.reservations("mine")[0].owner_uid == OTHER_UID
        (counts,) = [one for one in admin.statistics("perfcnt") if one.site == (3, 1, "core")]
        assert dict(counts.reserved_for) == {OTHER_UID: 1}
        admin.acquire(reservation="mine").release()  # an admin may
        admin.unreserve("mine")
    stranger(f"client.acquire({claim}).release()")


def test_a_shared_reservation_is_everybody_s_to_claim_and_its_owner_s_to_take_away(array, puppets):
    owner, stranger = puppets(array, uid=OTHER_UID), puppets(array, uid=STRANGER_UID)
    claim = f"leasehold.Ids('perfcnt', [0, 1], at={CORES})"
    owner(f"made = client.reserve_claims('ours', {claim}, shared=True)")
    for attempt in ("client.unreserve('ours')", f"client.reserve_claims('ours', {claim}, replace=True)"):
        assert stranger.fault(attempt) == "NotOwner"
    stranger("lease = hold(reservation='ours')")
    assert owner.fault("client.unreserve('ours')") == "Held"
    assert stranger.fault("client.unreserve('ours')") == "NotOwner"
    stranger(f"lease.give_back('perfcnt', [1], at={CORES}, to_pool=True)")
    stranger.kill()
    with array.connect() as admin:
        until(lambda: held_of(admin, "ours") == {"perfcnt": (2, 0, 0)})
    array.restart()
    owner("client.unreserve('ours')")
    assert owner("client.reservations()") == []


def test_two_users_may_reserve_the_same_content_and_each_claims_its_own_by_hash(array, puppets):
    users = {uid: puppets(array, uid=uid) for uid in (STRANGER_UID, OTHER_UID)}
    claims = [f"leasehold.Units('perfcnt', 1, at={CORES})", "leasehold.Units('trace_ctrl', 1, at=[(4, 4, 'mem')])"]
    for number, (uid, user) in enumerate(users.items()):
        mine = ", ".join(claims[: number + 1])
        user(f"client.reserve_claims('of {uid}', {mine}, content_hash='sha256:x')")
    for number, user in enumerate(users.values()):
        user("lease = client.acquire(reservation='sha256:x')")
        assert user("lease.units('perfcnt'), lease.units('trace_ctrl')") == [[number] * 2, [0] * number]
        user("lease.release()")


def test_only_an_admin_gates_clocks(array, puppets):
    stranger = puppets(array, uid=STRANGER_UID)
    assert stranger.fault("client.gate([(3, 5)])") == "NotOwner"
    assert stranger.fault("client.ungate()") == "NotOwner"
    with array.connect() as client:
        client.gate([(3, 5)])
        (card,) = client.cards()
        assert set(card.gated_sites) == {(3, row, name) for row in (5, 6, 7, 8) for name in ("core", "mem")}
        assert stranger.fault("client.acquire(leasehold.Units('perfcnt', 1, at=[(3, 6, 'core')]))") == "Invalid"
        array.restart()
        assert client.cards() == [card]
        client.ungate()
        assert client.cards()[0].gated_sites == ()
