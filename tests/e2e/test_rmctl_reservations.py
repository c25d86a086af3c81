"""``rmctl`` about reservations and arrays: what it prints, as JSON too, its exit status, and errors in one line."""

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import leasehold
from demo import models
from leasehold import Common, Ids, Units
from leasehold.artifacts.manifest import Manifest
from leasehold.artifacts.packing import content_hash_of
from leasehold.cli.app import run_app
from leasehold.cli.map import _LETTERS
from leasehold.cli.output import units_text
from leasehold.local import Manager
from support.artifacts import DESIGN, compiled
from support.artifacts import rmctl as rmctl_alone
from support.waiting import until

CORES = [(3, 1, "core"), (3, 2, "core")]


@dataclass
class Said:
    status: int
    out: str
    err: str
    data: bytes


@pytest.fixture
def said(capsysbinary, monkeypatch):
    """Runs ``rmctl`` in this process, which costs less than a process of its own, against a daemon."""

    def run(daemon, *arguments: object) -> Said:
        address = daemon if isinstance(daemon, Path) else daemon.run_directory
        monkeypatch.setattr(sys, "argv", ["rmctl", "--address", str(address), *map(str, arguments)])
        status = 0
        try:
            run_app()
        except SystemExit as ended:
            status = ended.code
        told = capsysbinary.readouterr()
        return Said(status, told.out.decode(errors="replace"), told.err.decode(), told.out)

    return run


@pytest.fixture
def connected(array):
    with array.connect() as client:
        yield client


@pytest.fixture
def fir(array, tmp_path, said):
    """The manifest of a design, compiled in this directory."""
    design = tmp_path / "design.toml"
    design.write_text(DESIGN.format(profile="aie"))
    assert said(array, "compile", design, "-o", tmp_path / "fir.bin").status == 0
    return tmp_path / "fir.toml"


def rows(told: Said) -> list[list[str]]:
    return [line.split() for line in told.out.splitlines()]


def test_from_a_design_to_a_reservation_and_away_again(array, connected, tmp_path, said, fir):
    told = said(array, "compile", tmp_path / "design.toml", "-o", tmp_path / "fir.bin")
    assert rows(told)[1] == ["perfcnt", "3,1,core", "3,2,core", "0,1"]
    assert told.err == f"fir: written to {tmp_path}/fir.bin and {tmp_path}/fir.toml\n"
    design = json.loads(said(array, "compile", tmp_path / "design.toml", "-o", tmp_path / "fir.bin", "--json").out)
    assert [(use["resource"], len(use["at"])) for use in design["uses"]] == [
        ("perfcnt", 2),
        ("bcast_channel", 850),
        ("trace_ctrl", 1),
    ]

    program = tmp_path / "program.xclbin"
    program.write_bytes(leasehold_xclbin())
    told = said(array, "pack", program, fir, "-o", tmp_path / "packed.xclbin")
    assert (told.status, told.out, told.err) == (0, "", f"{tmp_path}/packed.xclbin carries reservation fir\n")
    packed = json.loads(said(array, "pack", program, fir, "--json").out)
    assert (packed["name"], packed["artifact"], packed["content_hash"]) == (
        "fir",
        str(program),
        content_hash_of(program),
    )

    told = said(array, "reserve", program)
    assert (told.status, told.err) == (0, "")
    assert told.out == "reserved as fir on card 0: 4 of perfcnt, 1 of trace_ctrl, 850 of bcast_channel\n"
    again = said(array, "reserve", tmp_path / "packed.xclbin", "--name", "other", "--json")
    assert json.loads(again.out)["name"] == "fir"
    table = rows(said(array, "reservations"))
    assert table[0] == ["RESERVATION", "CARD", "OWNER", "FOR", "POOL", "RESERVED", "HELD", "QUARANTINED"]
    assert table[1][:1] + table[1][3:] == ["fir", "owner", "perfcnt", "4", "0", "0"]
    (one,) = json.loads(said(array, "reservations", "--json").out)
    assert (one["content_hash"], one["owner_uid"], one["shared"]) == (packed["content_hash"], os.geteuid(), False)

    with connected.acquire(reservation="fir", label="A"):
        told = said(array, "unreserve", "fir")
        assert (told.status, told.out) == (1, "")
        assert "units of reservation fir in pool perfcnt are in use; held by" in told.err
        assert [row[6] for row in rows(said(array, "reservations"))[1:]] == ["4", "1", "850"]
    told = said(array, "unreserve", "fir")
    assert (told.status, told.out, told.err) == (0, "fir is no longer reserved\n", "")
    assert said(array, "reservations").out == "nothing is reserved\n"
    assert json.loads(said(array, "reservations", "--json").out) == []


def leasehold_xclbin() -> bytes:
    from leasehold.artifacts.xclbin import write_xclbin

    return write_xclbin(())


def test_shared_replaced_and_named(array, connected, said, fir):
    assert said(array, "reserve", fir, "--name", "mine", "--shared", "--card", "0").out.startswith("reserved as mine ")
    assert rows(said(array, "reservations"))[1][:4:3] == ["mine", "everybody"]
    assert said(array, "reserve", fir, "--name", "mine", "--replace").status == 0
    assert not connected.reservations("mine")[0].shared
    connected.unreserve("mine")
    connected.reserve_claims("fir", Units("perfcnt", 1, at=CORES))
    told = said(array, "reserve", fir)
    assert (told.status, told.err.count("\n")) == (1, 1)
    assert "reservation fir is there, for something else; replace it, or choose another name" in told.err
    assert said(array, "reserve", fir, "--replace").status == 0
    connected.unreserve("fir")


def test_a_model_carries_what_it_needs_and_a_lease_of_it_loads_it(daemon, client, tmp_path, said):
    path = tmp_path / "model.onnx"
    shutil.copy(models.model_path("magika"), path)
    manifest = tmp_path / "model.toml"
    manifest.write_text(Manifest("magika", content_hash_of(path), memory_bytes=32 << 20, streams=1).to_toml())
    assert said(daemon, "pack", path, manifest).status == 0
    assert said(daemon, "reserve", path).out == "reserved as magika on card 0: 32 MiB of memory, 1 of streams\n"
    with pytest.raises(leasehold.Exhausted):
        client.acquire(memory="40MiB")
    with client.acquire(reservation=content_hash_of(path)) as lease:
        assert (lease.memory.size, len(lease.units("streams"))) == (32 << 20, 1)
        model = lease.load(path)
        assert lease.memory_left == 0  # as much as its reservation says
        out = model.run(models.magika_input(Path(__file__).read_bytes()), stream=lease.stream(0))
        assert models.magika_answer(out)[0] == "python"
    assert rows(said(daemon, "reservations"))[1][5:7] == ["32", "MiB"]

    path.write_bytes(path.read_bytes() + b"\x08\x09")  # another ir_version
    told = said(daemon, "reserve", path)
    assert (told.status, told.err.count("\n")) == (1, 1)
    assert "was made for another content than that of" in told.err
    assert "run 'rmctl plan' and 'rmctl pack' again" in told.err
    assert said(daemon, "unreserve", "magika").status == 0


@pytest.mark.parametrize(
    "case",
    [
        (("reserve", "/no/such/file"), 1, "cannot read /no/such/file: No such file"),
        (("reserve", "/"), 1, "cannot read /: Is a directory"),
        (("reserve", "/etc/passwd"), 1, "no ONNX model"),
        (("reserve", "/dev/null"), 1, "no ONNX model"),
        (("reserve", "{dir}/bad.toml"), 1, "unknown keys: colour"),
        (("reserve", "{dir}/model.toml"), 1, "no pool 'memory'"),
        (("reserve", "{dir}/gone.toml"), 1, "No such file"),
        (("reserve", "{dir}/torn.bin"), 1, "this is no resource file for this array"),
        (("reserve", "{dir}/plain.xclbin"), 1, "carries no reservation"),
        (("reserve", "{dir}/torn.xclbin"), 1, "torn.xclbin"),
        (("reserve", "{dir}/fir.bin", "--card", "7"), 1, "there is no card '7'"),
        (("reserve", "{dir}/fir.bin", "--name", ""), 0, "reserved as fir"),
        (("reserve", "{dir}/fir.bin", "--name", "x" * 65), 1, "1 to 64 are possible"),
        (("reserve", "{dir}/other.toml"), 1, "was made for profile aie-ml"),
        (("reserve",), 2, "Missing argument"),
        (("unreserve", "nobody"), 1, "there is no reservation 'nobody'"),
        (("unreserve",), 2, "Missing argument"),
        (("stats", "nonsense"), 1, "no pool 'nonsense'"),
        (("stats", "--card", "7"), 1, "there is no card '7'"),
        (("stats", "--by", "colour"), 2, "Invalid value for '--by'"),
        (("dump", "--card", "7"), 1, "there is no card '7'"),
        (("dump", "-o", "/no/such/dir/x.bin"), 1, "No such file or directory"),
        (("gate", "3"), 2, "'3' is no tile: write COLUMN,ROW"),
        (("gate", "3,-1"), 2, "no tile"),
        (("gate", "3,1,core"), 2, "no tile"),
        (("gate", "50,1"), 1, "there is no tile (50, 1)"),
        (("ungate", "3,9"), 1, "there is no tile (3, 9)"),
        (("gate", "--card", "7"), 1, "there is no card '7'"),
        (("pack", "{dir}/plain.xclbin", "/no/such.toml"), 1, "No such file"),
        (("pack", "/no/such.xclbin", "{dir}/fir.toml"), 1, "No such file"),
        (("pack", "{dir}/plain.xclbin", "/etc/passwd"), 1, "/etc/passwd"),
        (("pack", "{dir}/plain.xclbin", "{dir}/model.toml"), 1, "takes an array's resources; x has counts for a model"),
        (("compile", "/no/such.toml", "-o", "{dir}/x.bin"), 1, "No such file"),
        (("compile", "{dir}/bad.toml", "-o", "{dir}/x.bin"), 1, "bad.toml"),
        (("compile", "{dir}/design.toml", "-o", "{dir}/design.toml"), 2, "would be written over"),
        (("compile", "{dir}/design.toml"), 2, "Missing option '-o'"),
        (("plan", "/no/such.onnx"), 1, "there is no file"),
        (("plan", "{dir}/plain.xclbin"), 1, "no ONNX model"),
        (("plan", "/etc/passwd", "--shape", "x"), 2, "write INPUT=N,N"),
    ],
    ids=lambda case: " ".join(case[0])[:40],
)
def test_what_cannot_be_is_one_line_and_a_status(connected, broken, said, case):
    arguments, status, says = case
    told = said(connected.run_directory, *(part.format(dir=broken) for part in arguments))

    assert told.status == status, told
    assert says in told.err + (told.out if not status else "")
    assert "Traceback" not in told.err
    if status == 1:
        assert (told.out, told.err.count("\n")) == ("", 1)
    names = [one.name for one in connected.reservations()]
    assert names == (["fir"] if status == 0 else [])


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A directory with files that are not what they should be."""
    tmp_path = tmp_path_factory.mktemp("broken")
    fir = compiled(tmp_path, "aie")
    hash_ = "sha256:" + "0" * 64
    (tmp_path / "bad.toml").write_text(f'name = "x"\ncontent_hash = "{hash_}"\ncolour = 1\n')
    (tmp_path / "model.toml").write_text(f'name = "x"\ncontent_hash = "{hash_}"\n[claims]\nmemory_bytes = 65536\n')
    (tmp_path / "other.toml").write_text(fir.read_text().replace('profile = "aie"', 'profile = "aie-ml"'))
    (tmp_path / "torn.bin").write_bytes((tmp_path / "fir.bin").read_bytes()[:-5])
    (tmp_path / "plain.xclbin").write_bytes(leasehold_xclbin())
    (tmp_path / "torn.xclbin").write_bytes(leasehold_xclbin()[:100])
    return tmp_path


def test_no_daemon_is_status_69(tmp_path, said, fir):
    for command in (("reserve", fir), ("unreserve", "x"), ("reservations",), ("stats",), ("dump",), ("gate",)):
        told = said(tmp_path, *command)
        assert (told.status, told.out, told.err.count("\n")) == (69, "", 1), told
        assert "start one with 'rmd" in told.err


def test_compile_and_pack_need_no_daemon(tmp_path):
    (tmp_path / "design.toml").write_text(DESIGN.format(profile="aie:4x6"))
    told = rmctl_alone("compile", tmp_path / "design.toml", "-o", tmp_path / "fir.bin")
    assert (told.returncode, Manifest.read(tmp_path / "fir.toml").profile) == (0, "aie:4x6"), told.stderr


# Looking.


def test_statistics_by_pool_site_and_owner(array, connected, said):
    connected.reserve_claims("r", Ids("perfcnt", [0], at=CORES))
    with connected.acquire(Ids("perfcnt", [0, 1], at=CORES[:1])):
        table = rows(said(array, "stats"))
        assert table[0] == ["POOL", "TOTAL", "FREE", "HELD", "RESERVED", "QUARANTINED"]
        assert table[1] == ["perfcnt", "2500", "2497", "2", "2", "0"]
        assert [row[0] for row in table[1:]] == [pool.name for pool in connected.cards()[0].pools]
        assert rows(said(array, "stats", "perfcnt", "--by", "site"))[1:] == [
            ["perfcnt", "3,1,core", "4", "2", "2", "1", "0"],
            ["perfcnt", "3,2,core", "4", "3", "0", "1", "0"],
        ]
        (header, owner) = rows(said(array, "stats", "perfcnt", "--by", "owner"))
        assert (header, owner[:1] + owner[2:]) == (["POOL", "OWNER", "HELD", "RESERVED"], ["perfcnt", "2", "2"])
        told = json.loads(said(array, "stats", "perfcnt", "--json").out)
        (site,) = [one for one in told if one["site"] == "3,1,core"]
        uid = str(os.geteuid())
        assert (site["available"], site["held_by"], site["reserved_for"]) == (2, {uid: 2}, {uid: 1})
        assert sum(one["total"] for one in told) == 2500
    connected.unreserve("r")
    for by in ("site", "owner"):
        assert said(array, "stats", "--by", by).out == "nothing is held or reserved\n"


def test_a_dump_is_what_the_driver_would_write(array, connected, tmp_path, said):
    manager = Manager("aie")
    connected.reserve_claims("r", Ids("trace_ctrl", [0], at=[(0, 1, "mem")]))
    with connected.acquire(Units("perfcnt", 2, at=CORES)):
        manager.acquire(Units("perfcnt", 2, at=CORES))
        told = said(array, "dump")
        assert (told.status, told.data, told.err) == (0, manager.dump(), "")
        told = said(array, "dump", "-o", tmp_path / "held.bin")
        assert (told.out, told.err) == ("", f"{len(manager.dump())} bytes written to {tmp_path}/held.bin\n")
        assert (tmp_path / "held.bin").read_bytes() == manager.dump()
        manager.acquire(Ids("trace_ctrl", [0], at=[(0, 1, "mem")]))
        assert said(array, "dump", "--with-reserved").data == manager.dump()
    connected.unreserve("r")


def test_a_card_that_is_no_array_has_no_dump_and_no_clocks(daemon, said):
    for command in ("dump", "gate", "ungate"):
        told = said(daemon, command)
        assert (told.status, told.out, told.err.count("\n")) == (1, "", 1)
        assert "this card is no AI Engine array" in told.err


def test_clocks_are_turned_off_from_a_tile_up_and_on_from_it_down(array, connected, said):
    with connected.acquire(Units("perfcnt", 1, at=[(3, 6, "core")]), label="fir"):
        told = said(array, "gate", "3,5")
        assert (told.status, told.err.count("\n")) == (1, 1)
        assert "at site 3,6,core are held: its clock must run; held by" in told.err
        assert "'fir'" in told.err
    assert said(array, "gate", "3,5", "4,8").status == 0
    assert "the clocks of 10 sites are off" in said(array, "status").out
    drawn = said(array, "map", "perfcnt").out.splitlines()
    assert next(line for line in drawn if line.startswith("  core 8")) == "  core 8  ...--" + "." * 45
    assert next(line for line in drawn if line.startswith("  mem 4 ")) == "  mem 4   " + "." * 50
    assert len(json.loads(said(array, "cards", "--json").out)[0]["gated_sites"]) == 10
    assert said(array, "ungate", "3,6").status == 0
    assert len(connected.cards()[0].gated_sites) == 6
    assert "the clocks of 6 sites of card 0 are off" in said(array, "events", "--past", "1").out
    assert said(array, "gate").status == 0
    assert len(connected.cards()[0].gated_sites) == 800
    assert said(array, "ungate").status == 0
    assert connected.cards()[0].gated_sites == ()
    assert "of 0 sites" not in said(array, "status").out


def test_an_array_of_850_sites_stays_readable(array, connected, said):
    connected.reserve_claims("r", Ids("perfcnt", [3], at=[(7, 7, "core")]))
    everywhere = [(column, row, "core") for column in range(50) for row in range(1, 9)]
    with (
        connected.acquire(Common("bcast_channel"), Units("perfcnt", 1, at=everywhere), label="wide"),
        connected.acquire(*(Ids("trace_ctrl", [0], at=[site]) for site in everywhere[:60]), label="many"),
        connected.acquire(Ids("perfcnt", [2], at=[(0, 8, "core")]), Ids("perfcnt", [1], at=[(0, 8, "core")])),
    ):
        drawn = said(array, "map", "perfcnt").out.splitlines()
        assert max(map(len, drawn[:-1])) <= 80
        assert drawn[1:4] == ["  core 8  C" + "A" * 49, *(f"  core {row}  " + "A" * 50 for row in (7, 6))]
        assert [line.split()[0] for line in drawn[1:18]] == ["core"] * 8 + ["mem"] * 8 + ["pl"]
        assert "a cell is a site" in drawn[18]
        assert max(map(len, said(array, "map").out.splitlines()[:-1])) <= 80
        lines = said(array, "leases").out.splitlines()
        assert max(map(len, lines)) <= 200
        assert "bcast_channel 0 at 850 sites; perfcnt 0 at 400 sites" in lines[1]
        assert "trace_ctrl 0 at 0,1,core, 0 at 0,2,core" in " ".join(" ".join(lines[2:]).split())
        assert len(lines) < 10
        who = said(array, "who", "perfcnt").out
        assert "0 at 400 sites" in who
        assert "2 at 0,8,core, 1 at 0,8,core" in who
        (one, *_) = json.loads(said(array, "leases", "--json").out)
        assert one["allotments"][0]["at"][:2] == ["0,0,pl", "0,1,mem"]
        (told,) = json.loads(said(array, "map", "perfcnt", "--json").out)
        first = told["sites"].index("0,1,core")
        assert [told["held"][unit * 850 + first] for unit in range(4)] == list("1000")
    connected.unreserve("r")


def test_letters_of_the_map_are_the_same_in_every_run():
    assert _LETTERS == "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopstuvwxyz"


def test_units_in_words_are_few_however_many_there_are():
    runs = tuple(range(start, start + 1) for start in range(0, 100, 2))
    one = leasehold.Allotment("streams", (), (runs,))
    assert units_text([one]) == "0,2,4,6,8,10,12,14,..."
    assert units_text([leasehold.Allotment("cores", (), ((range(2, 4),),))] * 9).endswith("2-3, 2-3, ...")
    assert units_text([leasehold.Allotment("cores", (), ())]) == ""


def test_a_look_at_an_array_costs_little(array, connected):
    """Nine pools of 850 sites took 0.9 ms together where this was written, statistics of one 15 ms."""
    with connected.acquire(Common("bcast_channel"), Units("perfcnt", 1, at=[(1, row, "core") for row in range(1, 9)])):
        until(lambda: seconds_of(connected.cards) < 0.010)
        until(lambda: seconds_of(lambda: connected.statistics("bcast_channel")) < 0.150)


def seconds_of(call) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before
