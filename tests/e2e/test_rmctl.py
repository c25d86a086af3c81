"""``rmctl`` as a process against a real daemon: what it says, and its exit status."""

import json
import os
import pty
import re
import subprocess
import termios
from contextlib import suppress

import pytest

from demo import models
from leasehold.cli.app import app
from support.daemon import END_S, RMCTL
from support.waiting import until


def on_terminal(daemon, *arguments: str, columns: int = 80) -> list[str]:
    """What ``rmctl`` prints on a terminal of so many columns, less its colours."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    environment = os.environ | {"LEASEHOLD_ADDRESS": str(daemon.run_directory), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    told = b""
    with subprocess.Popen([*RMCTL, *arguments], stdin=its, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        with suppress(OSError):  # EIO: the other side is closed
            while chunk := os.read(ours, 65_536):
                told += chunk
        process.wait(END_S)
    os.close(ours)
    assert process.returncode == 0, told
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", told.decode()).splitlines()]


def test_status_reads_well_and_as_json(daemon, client):
    with client.acquire(memory="32MiB", cores=1, label="ocr"):
        told = daemon.rmctl("status")
        assert told.returncode == 0
        assert "durability full" in told.stdout
        (memory,) = [line for line in told.stdout.splitlines() if line.startswith("memory")]
        assert memory.split()[1:3] == ["32", "MiB"]
        assert "50%" in memory
        assert "\x1b[" not in told.stdout  # colours on a terminal only

        status = json.loads(daemon.rmctl("status", "--json").stdout)
        assert status["daemon"]["leases"] == 1
        assert {pool["name"]: pool["used"] for pool in status["cards"][0]["pools"]}["memory"] == 512


def test_who_names_process_command_user_and_time(daemon, client):
    assert daemon.rmctl("who").stdout == "nobody holds anything\n"
    with client.acquire(memory="1MiB", streams=2, label="ocr") as lease:
        lines = daemon.rmctl("who", "streams").stdout.splitlines()
        assert lines[0].split() == ["POOL", "UNITS", "LEASE", "LABEL", "PID", "USER", "SINCE", "COMMAND"]
        assert lines[1].split()[:5] == ["streams", "0-1", lease.id, "ocr", str(os.getpid())]
        (held,) = json.loads(daemon.rmctl("who", "streams", "--json").stdout)
        assert (held["pid"], held["uid"], held["pool"]) == (os.getpid(), os.getuid(), "streams")
    assert daemon.rmctl("who", "nonsense").returncode == 1


def test_map_draws_a_letter_a_lease(daemon, client):
    with client.acquire(memory="32MiB", label="a"), client.acquire(memory="16MiB", label="b"):
        drawn = daemon.rmctl("map", "memory").stdout
        cells = "".join(line.strip() for line in drawn.splitlines() if line.startswith("  ") and "cell" not in line)
        assert (cells.count("A"), cells.count("B"), cells.count(".")) == (256, 128, 128)
        assert "A L" in drawn.splitlines()[-1]
        (bits,) = json.loads(daemon.rmctl("map", "memory", "--json").stdout)
        assert bits["held"] == "1" * 768 + "0" * 256


def test_cards_leases_and_check(daemon, client):
    with client.acquire(cores=1, label="x") as lease:
        assert "cores 1/2" in daemon.rmctl("cards").stdout or "cores" in daemon.rmctl("cards").stdout
        assert lease.id in daemon.rmctl("leases").stdout
        (told,) = json.loads(daemon.rmctl("leases", "--json").stdout)
        assert told["label"] == "x"
        checked = daemon.rmctl("check")
        assert checked.returncode == 0
        assert "everything agrees" in checked.stdout
        assert json.loads(daemon.rmctl("check", "--json").stdout)["differences"] == []


@pytest.mark.parametrize("label", ["[/nope]", "[bold]x", ":smile:", "[link=http://x]y[/]"])
def test_a_label_is_shown_as_it_is_whatever_it_looks_like(daemon, client, label):
    with client.acquire(memory="1MiB", cores=1, label=label):
        for command in ("leases", "who", "map"):
            told = daemon.rmctl(command)
            assert told.returncode == 0, told
            assert label in told.stdout


def test_in_80_columns_no_id_and_no_number_is_cut(daemon, client):
    with client.acquire(memory="1MiB", cores=1, streams=2, label="a rather long label " * 5) as lease:
        told = on_terminal(daemon, "leases")
        assert told[0].split() == ["LEASE", "CARD", "PID", "USER", "SINCE", "TTL", "LABEL", "UNITS"]
        assert told[1].split()[:3] == [lease.id, "0", str(os.getpid())]
        units = "".join(line[told[0].index("UNITS") :] for line in told)
        assert "streams0-1" in "".join(units.split()), "however it is folded"
        who = on_terminal(daemon, "who")
        assert [line.split()[:3:2] for line in who if line.startswith("streams")] == [["streams", lease.id]]
        assert sum(str(os.getpid()) in line for line in who) == 3
        for lines in (told, who, on_terminal(daemon, "status"), on_terminal(daemon, "cards")):
            assert max(len(line) for line in lines) <= 80, lines
        assert not any("…" in line for line in [*told, *on_terminal(daemon, "status"), *on_terminal(daemon, "cards")])


def test_cards_have_a_line_a_pool(daemon, client):
    lines = daemon.rmctl("cards").stdout.splitlines()
    assert lines[0].split() == ["CARD", "PROFILE", "POOL", "FREE", "TOTAL"]
    assert ["0", "embedded", "memory", "64", "MiB", "64", "MiB"] in [line.split() for line in lines]
    assert len(lines) == 1 + len(client.cards()[0].pools)


def test_no_lease_is_said_in_words(daemon, client):
    assert daemon.rmctl("leases").stdout == "there are no leases\n"
    assert json.loads(daemon.rmctl("leases", "--json").stdout) == []


def test_events_tell_what_happened(daemon, client):
    client.acquire(streams=1, label="seen").release()
    lines = daemon.rmctl("events", "--past", "2").stdout.splitlines()

    assert [line.endswith("released") for line in lines] == [False, True]
    told = [json.loads(line) for line in daemon.rmctl("events", "--past", "2", "--json").stdout.splitlines()]
    assert [event["kind"] for event in told] == ["KIND_GRANTED", "KIND_ENDED"]


def test_explain_says_who_is_in_the_way(daemon, client):
    assert daemon.rmctl("explain", "--memory", "1MiB").returncode == 0
    with client.acquire(memory="60MiB", label="greedy"):
        told = daemon.rmctl("explain", "--memory", "30MiB")
        assert told.returncode == 1
        assert "greedy" in told.stdout
        assert json.loads(daemon.rmctl("explain", "--memory", "30MiB", "--json").stdout)["grantable"] is False


def test_run_becomes_the_command_with_its_lease(daemon, client):
    source = (
        "import json, os; print(json.dumps([os.getpid(), os.getppid(), sorted(os.sched_getaffinity(0)),"
        " os.fstat(int(os.environ['LEASEHOLD_WINDOWS'].split(':')[0])).st_size,"
        " {k: v for k, v in os.environ.items() if k.startswith('LEASEHOLD')}])); raise SystemExit(7)"
    )
    told = daemon.rmctl("run", "--memory", "1MiB", "--cores", "1", "--streams", "2", "--", "python3", "-c", source)

    assert told.returncode == 7, told.stderr
    pid, parent, cpus, size, environment = json.loads(told.stdout)
    assert parent == os.getpid()  # nothing between us and the command
    assert size == 1 << 20
    assert environment["LEASEHOLD_MEMORY"] == str(1 << 20)
    assert environment["LEASEHOLD_CORES"] == str(cpus[0])
    assert environment["LEASEHOLD_STREAMS"] == "0,1"
    assert len(cpus) == 1

    def causes():
        return [event.cause for event in client.events(past=5, follow=False) if event.holder.pid == pid]

    until(lambda: len(causes()) > 1)  # the daemon hears of the death a moment after us
    assert causes()[:2] == ["", "process died"]  # and then its units are quiet


def test_a_command_under_a_lease_may_take_further_ones(daemon) -> None:
    """Its session has seen requests of ``rmctl``'s: its own must not have their numbers."""
    code = (
        "import leasehold\nwith leasehold.connect() as client:\n"
        "    with client.acquire(streams=1) as one:\n        one.extend(streams=1)\n"
        "        print(len(one.units('streams')))"
    )
    done = daemon.rmctl("run", "--memory", "1MiB", "--", os.sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_a_command_that_speaks_finds_its_lease(daemon, client):
    source = (
        "import leasehold\nwith leasehold.connect() as client:\n    lease = client.inherited()\n"
        "    print(lease.memory.size, lease.ttl_s, lease is client.inherited())"
    )
    told = daemon.rmctl("run", "--memory", "1MiB", "--", os.sys.executable, "-c", source)

    assert told.stdout == f"{1 << 20} 0.0 True\n", told.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("run", "--cores", "99", "--", "true"), 1, "never 99 units"),
        (("run", "--", "true"), 2, "nothing is asked for"),
        (("run", "--memory", "lots", "--", "true"), 2, "no size"),
        (("run", "--memory", "9XB", "--", "true"), 2, "no size"),
        (("explain", "--memory", "9XB"), 2, "no size"),
        (("run", "--cores", "0", "--", "true"), 2, "no count above 0"),
        (("run", "--cores", "nan", "--", "true"), 2, "no count above 0"),
        (("run", "--cores", "-1", "--", "true"), 2, "no count above 0"),
        (("run", "--cores", "many", "--", "true"), 2, "no count above 0"),
        (("run", "--streams", "0", "--", "true"), 2, "not in the range"),
        (("run", "--units", "vdec=0", "--", "true"), 2, "POOL=N"),
        (("run", "--units", "vdec=\N{SUPERSCRIPT TWO}", "--", "true"), 2, "POOL=N"),
        (("run", "--units", "vdec", "--", "true"), 2, "POOL=N"),
        (("run", "--streams", "1", "--wait", "soon", "--", "true"), 2, "no duration"),
        (("run", "--streams", "1", "--", "/no/such/command"), 127, "cannot run"),
        (("run", "--streams", "1", "--", "/etc/passwd"), 126, "cannot run"),
        (("map", "nonsense"), 1, "no pool"),
        (("map", "--card", "9"), 1, "no card"),
        (("nonsense",), 2, "No such command"),
        (("plan", "/no/such/model.onnx"), 1, "no file"),
        (("plan", "/etc/passwd"), 1, "no ONNX model"),
    ],
)
def test_what_cannot_be_is_one_line_and_a_status(daemon, client, arguments, status, says):
    told = daemon.rmctl(*arguments)

    assert told.returncode == status, told
    assert says in told.stderr
    assert "Traceback" not in told.stderr


def test_cpus_that_may_not_be_used_are_one_line_and_the_lease_is_back(daemon, client, monkeypatch, capsys):
    def refused(pid, cpus):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    monkeypatch.setattr(os, "execvpe", lambda *arguments: pytest.fail("it runs all the same"))
    with pytest.raises(SystemExit) as ended:
        app(["--address", str(daemon.run_directory), "run", "--cores", "1", "--", "true"])

    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("rmctl: cannot run on the CPUs of the lease (")
    assert said.endswith("): Invalid argument\n")
    assert client.leases() == []


def test_no_daemon_is_status_69_and_says_how_to_start_one(tmp_path, daemon):
    for command in (("status",), ("who",), ("map",), ("events",), ("run", "--cores", "1", "--", "true")):
        told = daemon.rmctl("--address", str(tmp_path), *command)
        assert told.returncode == 69, told
        assert "start one with 'rmd" in told.stderr
        assert told.stderr.count("\n") == 1


def test_every_command_has_help(daemon):
    for command in (
        "status",
        "cards",
        "leases",
        "who",
        "run",
        "map",
        "events",
        "plan",
        "check",
        "explain",
        "compile",
        "pack",
    ):
        told = daemon.rmctl(command, "--help")
        assert told.returncode == 0
        assert "Usage: rmctl" in told.stdout
    assert "Examples:" in daemon.rmctl("--help").stdout
    told = daemon.rmctl("run", "--help").stdout
    assert "Examples:" in told
    assert told.startswith("Usage: rmctl run [OPTIONS] -- COMMAND [ARGS]...\n")


def test_a_plan_is_measured_and_what_it_says_is_enough(daemon, tmp_path):
    import tomllib

    from leasehold.testing import FakeClient

    file = tmp_path / "plan.toml"
    told = daemon.rmctl("plan", str(models.model_path("ocr")), "--shape", "x=1,3,48,320", "-o", str(file))
    assert told.returncode == 0, told.stderr
    manifest = tomllib.loads(file.read_text())
    assert manifest["content_hash"].startswith("sha256:")
    assert manifest["measured_with"] == {"x": [1, 3, 48, 320]}

    needed = manifest["claims"]["memory_bytes"]
    with FakeClient(memory="256MiB").acquire(memory=needed) as lease:
        model = lease.load(models.model_path("ocr"), memory=needed)
        characters = models.ocr_characters(model.metadata)
        assert models.ocr_answer(model.run(models.ocr_input("card memory")), characters) == "card memory"
