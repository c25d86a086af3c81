"""The calls about reservations and clocks at the gRPC door: well, wrongly, and with whatever bytes."""

import os
import random

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rm.core import limits
from rm.core.report import differences
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import session_pb2, types_pb2
from support.daemon_parts import GatedStore
from support.served import DEADLINE_S, UNIT, memory, refusal_of, serving, streams
from support.strategies import SAME_EVERY_RUN

CODE = grpc.StatusCode
METHODS = ("Reserve", "Unreserve", "ListReservations", "GateSites")


@pytest.fixture(scope="module", params=["grpc", "session"])
def array(tmp_path_factory, request):
    """A daemon of an array of 2 columns and 3 rows, of which this process is an admin."""
    directory = tmp_path_factory.mktemp("array")
    with serving(directory, profile="aie:2x3", admin_uids=frozenset({os.geteuid()}), door=request.param) as running:
        yield running
        assert running.failures == [], "the daemon found a fault of its own"


@pytest.fixture
def admin(array):
    yield array.open_session()
    assert array.call(differences, array.engine.ledger) == []


def reserve_request(name: str, *claims: types_pb2.Claim, **more) -> pb.ReserveRequest:
    return pb.ReserveRequest(name=name, claims=claims, **more)


def whole(pool: str, key: str) -> types_pb2.Claim:
    return types_pb2.Claim(pool=pool, reservation=key, whole=types_pb2.WholeClaim())


def listed(client, key: str = "", **more) -> list[types_pb2.Reservation]:
    request = pb.ListReservationsRequest(key=key, **more)
    return list(client.stub.ListReservations(request, timeout=DEADLINE_S).reservations)


# Well.


def test_reserve_list_claim_and_unreserve(served) -> None:
    client = served.open_session()
    made = client.call("Reserve", reserve_request("r", memory(2), streams(3), content_hash="sha256:x"))
    assert (made.existed, made.revision) == (False, served.engine.ledger.revision)
    told = made.reservation
    assert (told.name, told.content_hash, told.card, told.shared) == ("r", "sha256:x", "0", False)
    assert told.owner_uid == os.geteuid()
    assert [(one.pool, one.unit_count, one.held_count, one.unit_bytes) for one in told.pools] == [
        ("memory", 2, 0, UNIT),
        ("streams", 3, 0, 0),
    ]
    assert listed(client) == [told]
    again = client.call("Reserve", reserve_request("x", memory(2), content_hash="sha256:x"))
    assert (again.existed, again.reservation) == (True, told)
    lease = client.acquire(whole("memory", "r"), whole("streams", "sha256:x"), request_id=1)
    assert [one.pool for one in lease.allotments] == ["memory", "streams"]
    (held,) = listed(client, "sha256:x", with_units=True)
    assert [one.held_count for one in held.pools] == [2, 3]
    assert [list(one.units[0].ranges) for one in held.units] == [
        [types_pb2.UnitRange(start=0, stop=2)],
        [types_pb2.UnitRange(start=0, stop=3)],
    ]
    code, detail = refusal_of(client.call, "Unreserve", pb.UnreserveRequest(name="r"))
    assert (code, detail.reason) == (CODE.FAILED_PRECONDITION, "UNIT_HELD")
    client.call("Release", pb.ReleaseRequest(lease_id=lease.id))
    assert client.call("Unreserve", pb.UnreserveRequest(name="r")).revision == served.engine.ledger.revision
    assert listed(client) == []


def test_without_a_content_hash_a_name_and_its_claims_stand_for_themselves(served) -> None:
    client = served.open_session()
    first = client.call("Reserve", reserve_request("a", streams(1)))
    assert client.call("Reserve", reserve_request("a", streams(1))).existed is True
    assert client.call("Reserve", reserve_request("b", streams(1))).existed is False
    assert first.reservation.content_hash.startswith("claims:")
    code, detail = refusal_of(client.call, "Reserve", reserve_request("a", streams(2)))
    assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert client.call("Reserve", reserve_request("a", streams(2), replace=True)).reservation.pools[0].unit_count == 2
    assert [one.name for one in listed(client)] == ["a", "b"]


def test_reservations_are_listed_in_the_order_of_their_names_and_by_hash(served) -> None:
    client = served.open_session()
    for name, content in (("c", "1"), ("a", "2"), ("b", "1")):
        client.call("Reserve", reserve_request(name, streams(), content_hash=content + name))
    assert [one.name for one in listed(client)] == ["a", "b", "c"]
    assert [one.name for one in listed(client, "1b")] == ["b"]
    assert listed(client, "nobody") == []


def test_every_site_of_an_array_is_told_with_its_units(array, admin) -> None:
    sites = ["0,1,core", "1,2,mem"]
    claim = types_pb2.Claim(pool="perfcnt", sites=sites, ids=types_pb2.IdsClaim(ids=[1]))
    common = types_pb2.Claim(pool="bcast_channel", common=types_pb2.CommonClaim())
    admin.call("Reserve", reserve_request("fir", claim, common))
    (told,) = listed(admin, "fir", with_units=True)
    assert [(one.pool, one.unit_count) for one in told.pools] == [("perfcnt", 2), ("bcast_channel", 10)]
    assert sorted(told.units[0].sites) == sites
    assert [(one.ranges[0].start, one.ranges[0].stop) for one in told.units[0].units] in ([(1, 2)], [(1, 2)] * 2)
    assert len(told.units[1].sites) == 10
    admin.call("Unreserve", pb.UnreserveRequest(name="fir"))


def test_gated_sites_are_told_with_their_card(array, admin) -> None:
    admin.call("GateSites", pb.GateSitesRequest(sites=["1,2,mem", "1,2,core"]))
    (card,) = admin.stub.ListCards(pb.ListCardsRequest(), timeout=DEADLINE_S).cards
    assert sorted(card.gated_sites) == ["1,2,core", "1,2,mem"]
    common = types_pb2.Claim(pool="bcast_channel", common=types_pb2.CommonClaim())
    assert len(admin.acquire(common, request_id=1).allotments[0].sites) == 8
    code, detail = refusal_of(admin.call, "GateSites", pb.GateSitesRequest(sites=["0,0,pl"]))
    assert (code, detail.reason, detail.facts["site"]) == (CODE.FAILED_PRECONDITION, "UNIT_HELD", "0,0,pl")
    admin.call("GateSites", pb.GateSitesRequest())
    admin.call("Release", pb.ReleaseRequest(request_id=1))
    (card,) = admin.stub.ListCards(pb.ListCardsRequest(), timeout=DEADLINE_S).cards
    assert card.gated_sites == []


# Wrongly.


@pytest.mark.parametrize(
    ("method", "request_", "says"),
    [
        ("Reserve", reserve_request("", streams()), "name: 1 to 64"),
        ("Reserve", reserve_request("x" * (limits.NAME_CHARS_MAX + 1), streams()), "name: 1 to 64"),
        ("Reserve", reserve_request("a\nb", streams()), "printable"),
        ("Reserve", reserve_request("r", streams(), content_hash="\x1b[2J"), "printable"),
        ("Reserve", reserve_request("r", streams(), content_hash="x" * (limits.LABEL_CHARS_MAX + 1)), "0 to 128"),
        ("Reserve", reserve_request("r", streams(), profile="ax-m1"), "made for profile ax-m1"),
        ("Reserve", reserve_request("r", streams(), card="7"), "there is no card"),
        ("Reserve", reserve_request("r"), "claims in a request: 1 to 64"),
        ("Reserve", reserve_request("r", *[streams()] * (limits.CLAIMS_PER_REQUEST_MAX + 1)), "1 to 64"),
        ("Reserve", reserve_request("r", whole("streams", "r")), "comes from the pool"),
        ("Reserve", reserve_request("r", types_pb2.Claim(pool="streams")), "does not say what it wishes"),
        ("Reserve", reserve_request("r", streams(10_000)), "never 10000 units"),
        ("Reserve", pb.ReserveRequest(), "1 to 64"),
        ("Unreserve", pb.UnreserveRequest(name="nobody"), "there is no reservation 'nobody'"),
        ("Unreserve", pb.UnreserveRequest(), "there is no reservation ''"),
        ("GateSites", pb.GateSitesRequest(sites=["a"]), "has no site 'a'"),
        ("GateSites", pb.GateSitesRequest(card="7"), "there is no card"),
        ("GateSites", pb.GateSitesRequest(sites=["a"] * (limits.SITES_PER_POOL_MAX + 1)), "0 to 4096 are possible"),
    ],
)
def test_what_can_never_be_is_invalid_and_changes_nothing(tmp_path_factory, door, method, request_, says) -> None:
    with serving(tmp_path_factory.mktemp("x"), door=door, admin_uids=frozenset({os.geteuid()})) as served:
        client = served.open_session()
        revision = served.engine.ledger.revision
        code, detail = refusal_of(client.call, method, request_)
        assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert says in detail.message
        assert served.engine.ledger.revision == revision
        assert client.is_served()


def test_units_of_all_reservations_at_once_are_refused(served, witness) -> None:
    code, detail = refusal_of(listed, witness, with_units=True)
    assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")


@pytest.mark.parametrize("method", ["Reserve", "Unreserve", "GateSites"])
def test_nobody_changes_reservations_without_a_session(served, witness, method) -> None:
    request = getattr(pb, f"{method}Request")()
    code, detail = refusal_of(getattr(served.stub(), method), request, timeout=DEADLINE_S)
    assert (code, detail.reason) == (CODE.UNAUTHENTICATED, "SESSION_UNKNOWN")


def test_gating_is_for_admins(served, witness) -> None:
    code, detail = refusal_of(witness.call, "GateSites", pb.GateSitesRequest())
    assert (code, detail.reason) == (CODE.PERMISSION_DENIED, "NOT_OWNER")


def test_there_are_no_more_reservations_than_the_limit(served, witness, monkeypatch) -> None:
    monkeypatch.setattr(limits, "RESERVATIONS_MAX", 2)
    for name in ("a", "b"):
        witness.call("Reserve", reserve_request(name, streams()))
    code, detail = refusal_of(witness.call, "Reserve", reserve_request("c", streams()))
    assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert witness.call("Reserve", reserve_request("b", streams(2), replace=True)).existed is False


def test_the_strict_rule_holds_for_every_claim_by_id(tmp_path, door) -> None:
    with serving(tmp_path, door=door, ids_need_reserved=True, admin_uids=frozenset({os.geteuid()})) as served:
        client = served.open_session()
        exactly = types_pb2.Claim(pool="streams", ids=types_pb2.IdsClaim(ids=[5]))
        request = pb.AcquireRequest(request_id=1, claims=[exactly])
        code, detail = refusal_of(client.call, "Acquire", request)
        assert (code, detail.reason) == (CODE.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "is not reserved" in detail.message
        client.call("Reserve", reserve_request("r", exactly))
        assert client.acquire(exactly, request_id=2).allotments[0].units[0].ranges[0].start == 5
        assert client.acquire(streams(), request_id=3).allotments[0].units[0].ranges[0].start == 0


# Garbage.


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_and_messages_that_are_too_long_are_refused(served, witness, method) -> None:
    call = served.channel().unary_unary(f"/rmapi.v1.ResourceManagerService/{method}")
    numbers = random.Random(method)
    junk = [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", *(numbers.randbytes(200) for _ in range(20))]
    for data in junk:
        with pytest.raises(grpc.RpcError) as raised:
            call(data, metadata=witness.metadata, timeout=DEADLINE_S)
        assert raised.value.code() in {CODE.INTERNAL, CODE.UNKNOWN, CODE.INVALID_ARGUMENT, CODE.PERMISSION_DENIED}
    with pytest.raises(grpc.RpcError) as raised:
        call(b"\x0a\xff\xff\x7f" + b"x" * ((1 << 21) - 1), metadata=witness.metadata, timeout=DEADLINE_S)
    assert raised.value.code() == CODE.RESOURCE_EXHAUSTED
    assert listed(witness) == []


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["r", "h", "0", "perfcnt", "memory"])
SITES = st.lists(st.sampled_from(["0,0,pl", "0,1,core", "1,2,mem"]) | TEXTS, max_size=3)
KIND = st.one_of(
    st.builds(lambda count: {"units": types_pb2.UnitsClaim(unit_count=count)}, st.integers(-2, 9)),
    st.builds(
        lambda count, align: {"run": types_pb2.RunClaim(unit_count=count, align_count=align)},
        st.integers(-(2**63), 2**63 - 1) | st.integers(1, 3),
        st.integers(-2, 4),
    ),
    st.builds(lambda ids: {"ids": types_pb2.IdsClaim(ids=ids)}, st.lists(st.integers(-1, 5), max_size=3)),
    st.just({"common": types_pb2.CommonClaim()}),
    st.just({"whole": types_pb2.WholeClaim()}),
    st.just({}),
)
CLAIM = st.builds(
    lambda pool, sites, reservation, kind: types_pb2.Claim(pool=pool, sites=sites, reservation=reservation, **kind),
    st.sampled_from(["perfcnt", "bcast_channel", "trace_ctrl"]) | TEXTS,
    SITES,
    st.sampled_from(["", "", "r"]),
    KIND,
)
REQUEST = st.one_of(
    st.builds(
        pb.ReserveRequest,
        name=TEXTS,
        claims=st.lists(CLAIM, max_size=3),
        content_hash=TEXTS,
        card=st.sampled_from(["", "0", "9"]),
        shared=st.booleans(),
        replace=st.booleans(),
    ),
    st.builds(pb.UnreserveRequest, name=TEXTS),
    st.builds(pb.GateSitesRequest, card=st.sampled_from(["", "0", "9"]), sites=SITES),
    st.builds(pb.ListReservationsRequest, key=TEXTS, with_units=st.booleans()),
)
FAULTS_OF_CALLERS = {
    CODE.INVALID_ARGUMENT,
    CODE.RESOURCE_EXHAUSTED,
    CODE.FAILED_PRECONDITION,
    CODE.PERMISSION_DENIED,
}


def outcome(client, method: str, request) -> grpc.StatusCode:
    try:
        client.call(method, request)
    except grpc.RpcError as fault:
        return fault.code()
    return CODE.OK


@given(st.lists(REQUEST, min_size=1, max_size=12))
@settings(SAME_EVERY_RUN, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_done_or_refused_and_the_books_agree(array, asked) -> None:
    client = array.open_session()
    for request in asked:
        method = type(request).__name__.removesuffix("Request")
        assert outcome(client, method, request) in {CODE.OK, *FAULTS_OF_CALLERS}, request
    assert array.call(differences, array.engine.ledger) == []
    assert array.failures == []
    for one in listed(client):
        client.call("Unreserve", pb.UnreserveRequest(name=one.name))
    client.call("GateSites", pb.GateSitesRequest())
    client.connection.ask(close_session=session_pb2.CloseSession())
    client.connection.socket.close()


# When it is told.


def test_what_a_reserve_tells_is_on_disk_also_where_others_changed_it_meanwhile(tmp_path, door) -> None:
    store = GatedStore(is_held=False)
    with serving(tmp_path, door=door, store=store) as served:
        client, other = served.open_session(), served.open_session()
        served.call(setattr, store, "is_held", True)

        def sent(who, method, request):
            before = len(store.events)
            future = getattr(who.stub, method).future(request, metadata=who.metadata, timeout=DEADLINE_S)
            served.until(lambda: len(store.events) > before)
            return future

        reserved = sent(client, "Reserve", reserve_request("r", streams(2)))
        revision = served.engine.ledger.revision
        granted = sent(other, "Acquire", pb.AcquireRequest(request_id=1, claims=[whole("streams", "r")]))
        gone = client.stub.Unreserve.future(
            pb.UnreserveRequest(name="nobody"), metadata=client.metadata, timeout=DEADLINE_S
        )
        assert not reserved.done()
        assert not gone.done()
        served.call(store.synced.reached, revision)
        told = reserved.result()
        assert (told.revision, [one.held_count for one in told.reservation.pools]) == (revision, [0])
        served.call(store.sync)
        assert granted.result().lease.id == "L1"
        assert gone.exception().code() == CODE.INVALID_ARGUMENT
        served.call(setattr, store, "is_held", False)
