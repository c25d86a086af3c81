"""Reserved at compile time, claimed at run time: real processes on one array, real kills, real users."""

import pytest

import leasehold
from support.artifacts import packed_model, packed_xclbin
from support.puppet import Told
from support.waiting import until

CORES = "[(3, 1, 'core'), (3, 2, 'core')]"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return {
        "xclbin": packed_xclbin(tmp_path_factory.mktemp("xclbin"), "aie"),
        "onnx": packed_model(tmp_path_factory.mktemp("onnx"), "aie"),
    }


def held_of(client, key: str) -> dict[str, tuple[float, float, float]]:
    """Units, held and quarantined, pool by pool."""
    (found,) = client.reservations(key)
    return {one.pool: (one.units, one.held, one.quarantined) for one in found.pools}


IDLE = {"perfcnt": (4, 0, 0), "bcast_channel": (850, 0, 0), "trace_ctrl": (1, 0, 0)}
CLAIMED = {pool: (units, units, 0) for pool, (units, _, _) in IDLE.items()}


@pytest.mark.parametrize("kind", ["xclbin", "onnx"])
def test_a_claims_what_was_compiled_b_is_served_around_it_and_it_stands_when_a_is_killed(
    array, puppets, artifacts, kind
):
    a, b = puppets(array), puppets(array)
    a(f"made = client.reserve({str(artifacts[kind])!r}); key = made.content_hash")
    key = a("key")
    a("lease = hold(reservation=key, label='A')")
    assert a("sorted(set(lease.units('perfcnt')))") == [0, 1]
    with array.connect() as client:
        assert held_of(client, "fir") == CLAIMED
        b_meets_a_and_goes_around(b)

        a.kill()
        until(lambda: held_of(client, "fir") == IDLE)
        b_is_served_around(b)  # it stands, though nobody claims it
        again = puppets(array)
        assert again(f"client.reserve({str(artifacts[kind])!r}).content_hash") == key
        again("lease = hold(reservation='fir', label='A')")
        assert held_of(client, key) == CLAIMED
        b_meets_a_and_goes_around(b)

        array.restart()  # by SIGKILL
        assert held_of(client, "fir") == CLAIMED
        assert again("lease.check(), lost") == [None, []]
        b_meets_a_and_goes_around(b)
        again.kill()
        until(lambda: held_of(client, "fir") == IDLE)

        array.kill()
        array.start()
        third = puppets(array)
        third("lease = hold(reservation=" + repr(key) + ", label='A')")
        assert held_of(client, "fir") == CLAIMED
        array.kill()
        third.kill()  # while no daemon runs
        array.start()
        until(lambda: held_of(client, "fir") == IDLE)
        b_is_served_around(b)
        assert client.check().differences == []


def b_meets_a_and_goes_around(b) -> None:
    """B is refused the units of A by id and as a whole, told who has them, and gets others."""
    for claim in (
        f"leasehold.Ids('perfcnt', [0], at={CORES})",
        "leasehold.Ids('bcast_channel', [0], at=[(9, 3, 'mem')])",
        "reservation='fir'",
    ):
        with pytest.raises(Told, match=r"^Held: .* is held; held by L\d+ 'A' \(pid"):
            b(f"client.acquire({claim})")
    b_is_served_around(b)


def b_is_served_around(b) -> None:
    assert b(f"(around := client.acquire(leasehold.Units('perfcnt', 2, at={CORES}))).units('perfcnt')") == [2, 3, 2, 3]
    b("around.release()")
    assert b("len(set((common := client.acquire(leasehold.Common('bcast_channel'))).units('bcast_channel')))") == 1
    assert b("common.units('bcast_channel')[0], common.release()") == [1, None]


def test_plain_claims_never_get_what_is_reserved_also_where_nothing_else_is_left(array, puppets):
    with array.connect() as client:
        client.reserve_claims("all", leasehold.Units("perfcnt", 4, at=[(7, 1, "core")]))
        b = puppets(array)
        for claim in ("Units('perfcnt', 1, at=[(7, 1, 'core')])", "Run('perfcnt', 1, at=[(7, 1, 'core')])",
                      "Common('perfcnt', at=[(7, 1, 'core'), (8, 1, 'core')])"):  # fmt: skip
            assert b.fault(f"client.acquire(leasehold.{claim})") == "Exhausted"
        b("lease = client.acquire(leasehold.Units('perfcnt', 3, at=[(7, 1, 'core')], reservation='all'))")
        assert b("lease.units('perfcnt')") == [0, 1, 2]
        b("lease.give_back('perfcnt', [1], at=[(7, 1, 'core')], to_pool=True)")
        with client.acquire(leasehold.Units("perfcnt", 1, at=[(7, 1, "core")])) as lease:
            assert lease.units("perfcnt") == (1,)
        b("lease.release()")
        assert held_of(client, "all") == {"perfcnt": (3, 0, 0)}


@pytest.mark.parametrize("how", ["unreserve", "to pool"])
def test_a_process_that_waits_gets_what_leaves_a_reservation(array, puppets, how):
    with array.connect() as client:
        client.reserve_claims("all", leasehold.Units("perfcnt", 4, at=[(7, 1, "core")]))
        lease = client.acquire(reservation="all") if how == "to pool" else None
        b = puppets(array)
        b.begin("client.acquire(leasehold.Units('perfcnt', 4, at=[(7, 1, 'core')]), wait=20).units('perfcnt')")
        until(lambda: client.status().waiter_count == 1)
        with pytest.raises(leasehold.Exhausted, match="1 waiting in front for perfcnt"):
            client.reserve_claims("more", leasehold.Units("perfcnt", 1, at=[(8, 1, "core")]))
        client.unreserve("all") if lease is None else lease.release(to_pool=True)
        assert b.answer() == [0, 1, 2, 3]
        b.kill()


# The system's own.


def test_what_the_system_keeps_is_there_after_every_start_and_said_to_who_wants_it(hurt):
    daemon = hurt("--profile", "aie:4x6", "--system", "ecc")
    with daemon.connect() as client:
        (lease,) = client.leases()
        assert (lease.label, lease.pid, lease.ttl) == ("system:ecc", 0, None)
        with pytest.raises(leasehold.Held, match="'system:ecc'"):
            client.acquire(leasehold.Ids("perfcnt", [0], at=[(1, 1, "core")]))
        mine = client.acquire(leasehold.Units("perfcnt", 1, at=[(1, 1, "core")]))
        assert mine.units("perfcnt") == (1,)
        assert "system:ecc" in daemon.rmctl("leases").stdout
        assert daemon.rmctl("check").returncode == 0
        daemon.restart()
        assert [one.id for one in client.leases()] == [lease.id, mine.id]
        assert daemon.rmctl("revoke", lease.id, "--notice", "0").returncode == 0
        until(lambda: [one.id for one in client.leases()] == [mine.id])
        daemon.restart()
        assert sorted(one.label for one in client.leases()) == ["", "system:ecc"]
        taken = client.acquire(leasehold.Ids("bcast_channel", [0], at=[(0, 0, "pl")]), label="in the way")
        daemon.stop()

        told = daemon.refuse("--system", "error-broadcast")
        assert (told.returncode, told.stderr.count("\n")) == (2, 1)
        assert "in the way" in told.stderr
        told = daemon.refuse("--system", "ec")
        assert (told.returncode, told.stderr) == (
            2,
            "rmd: this profile has no system units 'ec'; it has error-broadcast, ecc\n",
        )
        daemon.start()
        assert sorted(one.label for one in client.leases()) == ["", "in the way", "system:ecc"]
        taken.release()
        mine.release()


def test_options_of_a_file_say_the_same(hurt, tmp_path):
    config = tmp_path / "rmd.toml"
    config.write_text('profile = "aie:4x6"\nsystem = ["ecc", "error-broadcast", "ecc"]\nstrict-ids = true\n')
    daemon = hurt("--config", str(config))
    with daemon.connect() as client:
        assert [one.label for one in client.leases()] == ["system:ecc", "system:error-broadcast"]
        with pytest.raises(leasehold.Invalid, match="is not reserved, as a claim by id needs here"):
            client.acquire(leasehold.Ids("perfcnt", [2], at=[(1, 1, "core")]))
        client.reserve_claims("r", leasehold.Ids("perfcnt", [2], at=[(1, 1, "core")]))
        client.acquire(leasehold.Ids("perfcnt", [2], at=[(1, 1, "core")])).release()
        client.unreserve("r")


@pytest.mark.parametrize("value", ['"ecc"', "7", "[7]", "true"])
def test_system_units_that_are_written_wrongly_are_one_line(hurt, tmp_path, value):
    config = tmp_path / "rmd.toml"
    config.write_text(f'profile = "aie:4x6"\nsystem = {value}\n')
    daemon = hurt()
    daemon.stop()
    told = daemon.refuse("--config", str(config), "--state-dir", str(tmp_path / "state"))
    assert told.returncode == 2, told
    assert "Traceback" not in told.stderr
