"""Reservations as programs meet them: the blocking client, the one to be awaited and the fake one say the same."""

import asyncio
import inspect
import os
import threading

import pytest

import leasehold
import leasehold.aio
from leasehold import Common, FirstOf, Ids, Run, Units
from leasehold.artifacts.reservable import manifest_of
from leasehold.local import Manager
from leasehold.testing import FakeClient
from support.daemon import Daemon, is_all_free
from support.waiting import in_thread

SHAPE = "aie:4x6"
TILES = [(1, 1, "core"), (2, 1, "core")]
ME = os.geteuid()


class Awaited:
    """An object of ``leasehold.aio`` whose coroutines are carried out to their end in a loop of another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inner) -> None:
        self._loop, self._inner = loop, inner

    def __getattr__(self, name: str):
        found = getattr(self._inner, name)
        if not inspect.ismethod(found):
            return found

        def called(*arguments, **more):
            given = found(*arguments, **more)
            if inspect.isawaitable(given):
                given = asyncio.run_coroutine_threadsafe(given, self._loop).result(20)
            return Awaited(self._loop, given) if isinstance(given, leasehold.aio.Lease) else given

        return called


@pytest.fixture(scope="module")
def array():
    """A daemon of a small array, for all tests of the module."""
    started = Daemon("--profile", SHAPE)
    yield started
    started.remove()


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture(params=["blocking", "awaited", "fake"])
def any_client(request, array, loop):
    """A client of each kind; every unit is free before and after, and nothing is reserved."""
    if request.param == "fake":
        with FakeClient(SHAPE) as client:
            yield client
            assert client.check() == []
            assert client.reservations() == []
        return
    with array.connect() as blocking:
        if request.param == "blocking":
            yield blocking
        else:
            client = Awaited(loop, leasehold.aio.Client(array.run_directory))
            yield client
            client.close()
        assert is_all_free(blocking)
        assert blocking.reservations() == []


def counts(client, pool: str, site=None) -> dict:
    """What the statistics say of one site, or of all together."""
    found = client.statistics(pool)
    assert len({one.site for one in found}) == len(found)
    return {
        name: sum(getattr(one, name) for one in found if site in {None, one.site})
        for name in ("total", "available", "held", "static", "quarantined")
    }


@pytest.fixture
def design(tmp_path):
    """A resource file as a compiler writes it: counters on two tiles, and a channel over some."""
    manager = Manager(SHAPE)
    manager.request("perfcnt", TILES)
    manager.request_common("bcast_channel", [(0, 0, "pl"), *TILES])
    path = tmp_path / "fir.bin"
    path.write_bytes(manager.dump())
    return path


# The story.


def test_what_a_file_sets_aside_is_claimed_by_name_and_by_hash_as_a_whole(any_client, design):
    made = any_client.reserve(design)
    assert (made.name, made.card, made.owner_uid, made.shared) == ("fir", "0", ME, False)
    assert sorted((one.pool, one.units, one.held) for one in made.pools) == [
        ("bcast_channel", 3, 0),
        ("perfcnt", 2, 0),
    ]
    assert any_client.reserve(design, name="other") == made
    assert any_client.reservations(made.content_hash) == any_client.reservations("fir") == [made]

    plain = any_client.acquire(Units("perfcnt", 1, at=TILES))
    assert plain.units("perfcnt") == (1, 1)
    for key in ("fir", made.content_hash):
        lease = any_client.acquire(reservation=key, label="whole")
        assert lease.units("perfcnt") == (0, 0)
        assert lease.units("bcast_channel") == (0, 0, 0)
        assert {one.pool: one.held for one in any_client.reservations()[0].pools} == {"perfcnt": 2, "bcast_channel": 3}
        with pytest.raises(leasehold.Held, match="'whole'"):
            any_client.acquire(reservation=key)
        lease.release()
    assert any_client.reservations() == [made]
    plain.release()
    any_client.unreserve("fir")


def test_a_part_is_claimed_by_name_and_by_id(any_client, design):
    any_client.reserve(design)
    lease = any_client.acquire(Units("perfcnt", 1, at=TILES[:1], reservation="fir"), Ids("perfcnt", [0], at=TILES[1:]))
    assert [one.ids for one in lease.allotments] == [(0,), (0,)]
    with pytest.raises(leasehold.Invalid, match="does not name unit 3"):
        any_client.acquire(Ids("perfcnt", [3], at=TILES[:1], reservation="fir"))
    lease.give_back("perfcnt", [0], at=TILES[:1])
    lease.release(to_pool=True)
    assert [(one.pool, one.units) for one in any_client.reservations()[0].pools if one.pool == "perfcnt"] == [
        ("perfcnt", 1)
    ]
    whole = any_client.acquire(reservation="fir")
    assert sorted((one.pool, one.at) for one in whole.allotments) == [
        ("bcast_channel", ((0, 0, "pl"), *TILES)),
        ("perfcnt", tuple(TILES[:1])),
    ]
    whole.release()
    any_client.unreserve("fir")


def test_claims_in_words_are_set_aside_as_those_of_a_request(any_client):
    made = any_client.reserve_claims(
        "r",
        Run("pc_event", 2, align=2, at=TILES),
        Common("bcast_channel"),
        FirstOf(Units("trace_ctrl", 9, at=TILES), Units("trace_ctrl", 1, at=TILES)),
        content_hash="sha256:x",
        shared=True,
        profile=SHAPE,
    )
    assert made.shared
    site_count = len(any_client.statistics("bcast_channel"))
    assert {one.pool: one.units for one in made.pools} == {
        "pc_event": 4,
        "bcast_channel": site_count,
        "trace_ctrl": 2,
    }
    again = any_client.reserve_claims("x", Units("perfcnt", 1, at=TILES), content_hash="sha256:x")
    assert again == made
    replaced = any_client.reserve_claims("r", Units("perfcnt", 1, at=TILES), content_hash="sha256:x", replace=True)
    assert [(one.pool, one.units) for one in replaced.pools] == [("perfcnt", 2)]
    assert not replaced.shared
    any_client.unreserve("r")


REFUSED = [
    (leasehold.Invalid, "never", lambda client: client.reserve_claims("r", Units("perfcnt", 9, at=TILES))),
    (leasehold.Invalid, "no pool", lambda client: client.reserve_claims("r", Units("nonsense", 1))),
    (leasehold.Invalid, "no card '7'", lambda client: client.reserve_claims("r", Common("perfcnt"), card="7")),
    (leasehold.Invalid, "made for profile", lambda client: client.reserve_claims("r", Common("perfcnt"), profile="x")),
    (leasehold.Invalid, "nothing is claimed", lambda client: client.reserve_claims("r")),
    (leasehold.Invalid, "named by a text", lambda client: client.reserve_claims("", Common("perfcnt"))),
    (leasehold.Invalid, "named by a text", lambda client: client.reserve_claims(7, Common("perfcnt"))),
    (leasehold.Invalid, "1 to 64", lambda client: client.reserve_claims("x" * 65, Common("perfcnt"))),
    (leasehold.Invalid, "comes from the pool", lambda client: client.reserve_claims("r", Units(
        "perfcnt", 1, at=TILES, reservation="x"))),
    (leasehold.Invalid, "no reservation 'r'", lambda client: client.unreserve("r")),
    (leasehold.Invalid, "no reservation 'r'", lambda client: client.acquire(reservation="r")),
    (leasehold.Invalid, "no reservation 'r'", lambda client: client.acquire(Units(
        "perfcnt", 1, at=TILES, reservation="r"))),
    (leasehold.Invalid, "nothing comes from", lambda client: client.acquire(Common("perfcnt"), reservation="r")),
    (leasehold.Invalid, "named by a text", lambda client: client.acquire(reservation=7)),
    (leasehold.Invalid, "named by texts", lambda client: client.acquire(Common("perfcnt", reservation=7))),
    (leasehold.Invalid, "named by texts", lambda client: client.reserve_claims("r", Common(7))),
    (leasehold.Invalid, "cannot read", lambda client: client.reserve("/no/such/file.xclbin")),
    (leasehold.Invalid, "cannot read", lambda client: client.reserve("/")),
    (leasehold.Invalid, "no ONNX model", lambda client: client.reserve("/etc/passwd")),
    (leasehold.Invalid, "no pool 'nonsense'", lambda client: client.statistics("nonsense")),
    (leasehold.Invalid, "no card '7'", lambda client: client.statistics("perfcnt", "7")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "says", "call"), REFUSED, ids=[f"{at} {one[1]}" for at, one in enumerate(REFUSED)])
def test_what_cannot_be_is_the_same_error_everywhere(any_client, kind, says, call):
    with pytest.raises(kind, match=says):
        call(any_client)
    assert any_client.leases() == []


def test_a_card_that_is_not_there_is_said_for_a_file_too(any_client, design):
    with pytest.raises(leasehold.Invalid, match="there is no card '7'"):
        any_client.reserve(design, card="7")


def test_a_conflict_names_who_is_in_the_way(any_client, design):
    lease = any_client.acquire(Ids("perfcnt", [0], at=TILES[1:]), label="trace")
    with pytest.raises(leasehold.Held, match=r"unit 0 at 2,1,core.*'trace'") as held:
        any_client.reserve(design)
    assert held.value.facts["holders"][0]["lease"] == lease.id
    lease.release()
    any_client.reserve_claims("mine", Ids("perfcnt", [0], at=TILES[1:]))
    with pytest.raises(leasehold.Held, match=f"is reserved by mine of uid {ME}"):
        any_client.reserve(design)
    any_client.unreserve("mine")
    assert any_client.reservations() == []


def test_what_is_held_cannot_be_taken_away(any_client, design):
    any_client.reserve(design)
    lease = any_client.acquire(reservation="fir")
    with pytest.raises(leasehold.Held, match="in use"):
        any_client.unreserve("fir")
    lease.release(to_pool=True)
    assert [one.units for one in any_client.reservations()[0].pools] == [0, 0]
    with pytest.raises(leasehold.Invalid, match="with units left"):
        any_client.acquire(reservation="fir")
    any_client.unreserve("fir")


# Statistics.


def test_statistics_count_each_site_and_say_whose(any_client, design):
    any_client.reserve(design)
    any_client.reserve_claims("fir's", Units("perfcnt", 1, at=TILES[:1]), content_hash="fir")  # named as that hash
    lease = any_client.acquire(Units("perfcnt", 1, at=TILES[:1]), Units("perfcnt", 1, at=TILES[:1], reservation="fir"))
    (first,) = [one for one in any_client.statistics("perfcnt") if one.site == TILES[0]]
    assert (first.pool, first.total, first.available, first.held, first.static) == ("perfcnt", 4, 1, 2, 2)
    assert (dict(first.held_by), dict(first.reserved_for)) == ({ME: 2}, {ME: 2})
    (second,) = [one for one in any_client.statistics("perfcnt", "0") if one.site == TILES[1]]
    assert (second.total, second.available, second.held, second.static) == (4, 3, 0, 1)
    assert (dict(second.held_by), dict(second.reserved_for)) == ({}, {ME: 1})
    together = counts(any_client, "perfcnt")
    assert (together["held"], together["static"]) == (2, 3)
    assert together["total"] - together["available"] == 4
    lease.give_back("perfcnt", [2], at=TILES[:1])
    assert counts(any_client, "perfcnt", TILES[0])["held"] == 1
    assert {one.site: dict(one.held_by) for one in any_client.statistics("perfcnt")}[TILES[0]] == {ME: 1}
    lease.release()
    for name in ("fir", "fir's"):
        any_client.unreserve(name)
    assert counts(any_client, "perfcnt") == counts(any_client, "perfcnt") | {"held": 0, "static": 0}


# Over a restart.


@pytest.mark.parametrize("any_client", ["blocking", "fake"], indirect=True)
def test_clocks_and_dumps_are_those_of_an_array_here_or_of_a_daemon(any_client):
    any_client.gate([(1, 1)])
    with pytest.raises(leasehold.Refused, match="1,1,core"):
        any_client.acquire(Units("perfcnt", 1, at=TILES))
    any_client.ungate()
    manager = Manager(SHAPE)
    manager.request("perfcnt", TILES)
    with any_client.acquire(Units("perfcnt", 1, at=TILES)):
        with pytest.raises(leasehold.Held, match="held"):
            any_client.gate([(1, 1)])
        assert any_client.dump() == manager.dump()


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_reserve_that_outlives_the_daemon_is_one_reservation(design, loop, is_awaited):
    daemon = Daemon("--profile", SHAPE)
    try:
        with daemon.connect() as blocking:
            client = Awaited(loop, leasehold.aio.Client(daemon.run_directory)) if is_awaited else blocking
            made = client.reserve_claims("first", Units("trace_ctrl", 1, at=TILES))
            shape = blocking.array_shape()  # so that the next call is the one that meets no daemon
            daemon.kill()
            manifest = manifest_of(design)
            result = in_thread(
                lambda: client.reserve_claims("fir", *manifest.claims(shape), content_hash=manifest.content_hash)
            )
            daemon.start()
            fir = result()
            assert client.reserve(design) == fir
            assert client.reserve_claims("first", Units("trace_ctrl", 1, at=TILES)) == made
            assert [one.name for one in client.reservations()] == ["fir", "first"]
            lease = client.acquire(reservation=fir.content_hash)
            daemon.kill()
            daemon.start()
            assert [one.held for one in client.reservations("fir")[0].pools] == [one.units for one in fir.pools]
            lease.release()
            assert client.reservations("fir") == [fir]
            if is_awaited:
                client.close()
    finally:
        daemon.remove()
