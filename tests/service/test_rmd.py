"""The command ``rmd`` as a real process: how it starts, what it refuses, how it stops."""

import signal
import socket
import sqlite3
from contextlib import closing

import grpc
import pytest

from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import resource_manager_pb2_grpc as pb_grpc
from support.rmd import Rmd, run_rmd
from support.served import refusal_of

EXIT_WRONG_USE = 2
EXIT_CANNOT_CREATE = 73
EXIT_TAKEN = 75


def cards_of(daemon: Rmd) -> list:
    with grpc.insecure_channel(f"unix:{daemon.run_directory / 'rm.sock'}") as channel:
        stub = pb_grpc.ResourceManagerServiceStub(channel)
        return list(stub.ListCards(pb.ListCardsRequest(), timeout=60, wait_for_ready=True).cards)


def memory_bytes_of(card) -> int:
    return next(pool.total_count * pool.unit_bytes for pool in card.pools if pool.name == "memory")


# Starting.


def test_the_first_line_says_ready_with_both_addresses_and_then_it_serves(tmp_path) -> None:
    with Rmd(tmp_path) as daemon:
        grpc_path, session_path = tmp_path / "run" / "rm.sock", tmp_path / "run" / "session.sock"
        assert daemon.first_line == f"ready grpc=unix:{grpc_path} session=unix:{session_path}\n"
        assert daemon.is_serving()
        assert len(cards_of(daemon)) == 1


def test_it_makes_its_directories_for_itself_alone_and_its_sockets_for_everybody(tmp_path) -> None:
    with Rmd(tmp_path) as daemon:
        assert daemon.run_directory.stat().st_mode & 0o777 == 0o755
        assert daemon.state_directory.stat().st_mode & 0o777 == 0o700
        assert (daemon.run_directory / "rm.sock").stat().st_mode & 0o777 == 0o666


def test_sockets_for_a_group_are_for_nobody_else(tmp_path) -> None:
    with Rmd(tmp_path, "--group", "root") as daemon:
        for name in ("rm.sock", "session.sock"):
            status = (daemon.run_directory / name).stat()
            assert (status.st_mode & 0o777, status.st_gid) == (0o660, 0)


def test_without_options_it_takes_the_users_own_directories(tmp_path) -> None:
    with Rmd(tmp_path, run="run/leasehold", state="state/leasehold") as first:
        assert first.is_serving()
        second = run_rmd(tmp_path)
        assert second.returncode == EXIT_TAKEN


def test_systemd_is_told_when_it_is_ready(tmp_path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.settimeout(10)
        notified.bind(str(tmp_path / "notify"))
        with Rmd(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")):
            assert notified.recv(100) == b"READY=1"


def test_socket_files_of_a_killed_daemon_are_replaced(tmp_path) -> None:
    with Rmd(tmp_path) as killed:
        killed.process.kill()
        killed.process.wait(10)
        assert (killed.run_directory / "session.sock").exists()
    with Rmd(tmp_path) as daemon:
        assert daemon.is_serving()
        assert len(cards_of(daemon)) == 1


# One daemon a directory.


@pytest.mark.parametrize(("run", "state"), [("run", "other"), ("other", "state"), ("run", "state")])
def test_a_second_daemon_ends_with_75_and_does_not_disturb_the_first(tmp_path, run, state) -> None:
    with Rmd(tmp_path) as first:
        inode = (first.run_directory / "session.sock").stat().st_ino
        second = run_rmd(tmp_path, "--run-dir", str(tmp_path / run), "--state-dir", str(tmp_path / state))
        assert second.returncode == EXIT_TAKEN
        assert second.stdout == ""
        assert "another daemon runs in" in second.stderr
        assert "Traceback" not in second.stderr
        assert (first.run_directory / "session.sock").stat().st_ino == inode
        assert first.is_serving()
        assert len(cards_of(first)) == 1


def test_two_daemons_with_directories_of_their_own_serve_side_by_side(tmp_path) -> None:
    with Rmd(tmp_path) as first, Rmd(tmp_path, run="run2", state="state2") as second:
        assert first.is_serving()
        assert second.is_serving()


# What it refuses.


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--profile", "nothing"), "there is no profile 'nothing'; there are"),
        (("--profile", "/nowhere/x.toml"), "cannot read the profile"),
        (("--card-memory", "much"), "is no size"),
        (("--card-memory", "0"), "is no whole number of bytes"),
        (("--card-memory", "1KiB"), "pool memory"),
        (("--cards", "0"), "--cards"),
        (("--cards", "65"), "--cards"),
        (("--group", "no-such-group"), "there is no group 'no-such-group'"),
        (("--durability", "some"), "--durability"),
        (("--config", "/nowhere.toml"), "cannot read /nowhere.toml"),
        (("--what",), "--what"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_is_wrong(tmp_path, args, said) -> None:
    places = ("--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    done = run_rmd(tmp_path, *places, *args)
    assert (done.returncode, done.stdout) == (EXIT_WRONG_USE, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "text"), [("the socket's path", "too long"), ("a part of the path", "File name too long")]
)
def test_a_run_directory_with_too_long_a_name_is_refused_in_words(tmp_path, name, text) -> None:
    parts = ["x" * 100] if name == "the socket's path" else ["x" * 300]
    done = run_rmd(tmp_path, "--run-dir", str(tmp_path.joinpath(*parts)), "--state-dir", str(tmp_path / "state"))
    assert done.returncode == EXIT_CANNOT_CREATE
    assert "Traceback" not in done.stderr
    assert text in done.stderr or "at most 107 bytes" in done.stderr


def test_a_run_directory_that_others_may_write_to_is_refused(tmp_path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = run_rmd(tmp_path, "--run-dir", str(tmp_path / "open"), "--state-dir", str(tmp_path / "state"))
    assert done.returncode == EXIT_CANNOT_CREATE
    assert "chmod go-w" in done.stderr


def test_a_refused_start_leaves_the_directories_free_for_the_next(tmp_path) -> None:
    places = ("--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    assert run_rmd(tmp_path, *places, "--profile", "nothing").returncode == EXIT_WRONG_USE
    with Rmd(tmp_path) as daemon:
        assert daemon.is_serving()


def test_a_daemon_that_keeps_nothing_does_not_start_over_the_state_of_one_that_does(tmp_path) -> None:
    places = ("--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    with Rmd(tmp_path) as durable:
        assert durable.end()[0] == 0
    done = run_rmd(tmp_path, *places, "--durability", "none")
    assert (done.returncode, done.stdout) == (EXIT_WRONG_USE, "")
    assert "has the state of a durable daemon; name another --state-dir" in done.stderr
    assert "Traceback" not in done.stderr
    with Rmd(tmp_path, "--durability", "none", state="other") as daemon:
        assert daemon.is_serving()


def test_a_state_that_another_program_has_locked_is_not_called_damaged(tmp_path) -> None:
    places = ("--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    with Rmd(tmp_path) as before:
        assert before.end()[0] == 0
    with closing(sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = run_rmd(tmp_path, *places)
    assert (done.returncode, done.stdout) == (EXIT_CANNOT_CREATE, "")
    assert "is it open in another program?" in done.stderr
    assert "damage" not in done.stderr
    assert "Traceback" not in done.stderr
    with Rmd(tmp_path) as daemon:
        assert daemon.is_serving()


# Configuration.


def test_a_config_file_gives_the_defaults_and_the_command_line_wins(tmp_path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('cards = 2\ncard-memory = "32MiB"\nprofile = "embedded"\n')
    with Rmd(tmp_path, "--config", str(config)) as daemon:
        assert [memory_bytes_of(card) for card in cards_of(daemon)] == [16 << 20] * 2, "16MiB is on the command line"


def test_a_config_file_may_name_the_directories_and_numbers_of_bytes(tmp_path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'run-dir = "{tmp_path / "run"}"\nstate_dir = "{tmp_path / "other"}"\ncard-memory = {48 << 20}\n')
    with Rmd(tmp_path, run="run", state="state") as first:
        done = run_rmd(tmp_path, "--config", str(config))
        assert done.returncode == EXIT_TAKEN, "the run directory of the file is taken"
        assert first.is_serving()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cardz = 2\n", "unknown keys: cardz"),
        ("cards = 'many'\n", "cards"),
        ("cards = \n", "cannot read"),
        ("card-memory = 'much'\n", "is no size"),
        ("config = 'x'\n", "unknown keys: config"),
        ("help = true\n", "unknown keys: help"),
        ("version = true\n", "unknown keys: version"),
        ('profile = "\\u0000/x"\n', "cannot read the profile"),
    ],
)
def test_a_config_file_that_is_wrong_is_refused_by_its_key(tmp_path, text, said) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    places = ("--run-dir", str(tmp_path / "run"), "--state-dir", str(tmp_path / "state"))
    done = run_rmd(tmp_path, *places, "--config", str(config))
    assert (done.returncode, done.stdout) == (EXIT_WRONG_USE, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_has_examples_and_every_option_says_what_it_is_for(tmp_path) -> None:
    done = run_rmd(tmp_path, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    for option in ("--profile", "--cards", "--card-memory", "--state-dir", "--run-dir", "--group", "--config"):
        assert option in done.stdout


# Stopping.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_is_told_to_with_status_0_and_no_fault_in_its_log(tmp_path, number) -> None:
    with Rmd(tmp_path) as daemon:
        assert daemon.is_serving()
        status, logged = daemon.end(number)
    assert status == 0
    assert "event=stopping" in logged
    assert "level=error" not in logged
    assert "Traceback" not in logged


def test_it_stops_also_while_somebody_watches_and_others_wait(tmp_path) -> None:
    with Rmd(tmp_path) as daemon, grpc.insecure_channel(f"unix:{daemon.run_directory / 'rm.sock'}") as channel:
        stub = pb_grpc.ResourceManagerServiceStub(channel)
        watching = stub.WatchEvents(pb.WatchEventsRequest(past_count=1, follow=True), wait_for_ready=True, timeout=60)
        assert next(watching).event, "it is watching, and not only on its way"
        assert stub.GetStatus(pb.GetStatusRequest(), timeout=60).pid == daemon.process.pid
        status, logged = daemon.end()
        assert (status, "Traceback" in logged) == (0, False)
        code, detail = refusal_of(next, watching)
        assert (code, detail.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
