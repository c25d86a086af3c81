"""What is imported when: a start costs what it needs, and nothing else."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import leasehold
from leasehold.cli.app import COMMANDS, app

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["asyncio", "bitarray", "click", "ctypes", "google.protobuf", "grpc", "numpy", "onnxruntime", "rich", "rm"]


def imported_by(program: str, *names: str) -> list[str]:
    """Which of ``names`` a fresh interpreter has imported after ``program``."""
    ask = f"import sys\n{program}\nprint(*[name for name in {list(names)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_import_leasehold_imports_nothing_heavy():
    assert imported_by("import leasehold", *HEAVY, "leasehold.client", "dataclasses", "logging") == []


def test_a_claim_needs_no_grpc_and_a_client_no_numpy():
    assert imported_by("import leasehold\nleasehold.Run", "grpc", "numpy") == []
    assert imported_by("import leasehold\nleasehold.connect", "numpy", "onnxruntime", "click", "rich", "rm") == []


def test_every_name_of_the_package_is_there_and_comes_from_where_type_checkers_find_it():
    tree = ast.parse((ROOT / "client/leasehold/__init__.py").read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {alias.name: node.module for node in checked.body for alias in node.names}

    assert sorted(told) == sorted(leasehold.__all__)
    assert {name: f"leasehold.{home}" for name, home in leasehold._HOMES.items()} == told
    for name, home in told.items():
        assert getattr(leasehold, name) is getattr(sys.modules[home], name)
    assert set(leasehold.__all__) <= set(dir(leasehold))
    assert leasehold.errors is sys.modules["leasehold.errors"]


def test_a_name_that_the_package_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Leese'"):
        _ = leasehold.Leese
    with pytest.raises(ImportError):
        from leasehold import Leese  # noqa: F401


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"]])
def test_rmctl_says_what_it_is_without_grpc(arguments):
    program = f"from leasehold.cli.app import app\napp({arguments}, standalone_mode=False)"
    if arguments == ["nonsense"]:
        program = program.replace("app([", "try: app([") + "\nexcept Exception as fault: print(fault)"
    assert imported_by(program, "grpc", "google.protobuf", "numpy", "rich.table") == []


def test_rmctl_status_imports_what_it_shows_and_no_other_command():
    found = imported_by(
        "from leasehold.cli.app import app\napp.get_command(None, 'status')",
        *("leasehold.cli.looking", "leasehold.cli.map", "leasehold.design", "leasehold.plan", "numpy", "json.tool"),
    )
    assert found == ["leasehold.cli.looking"]


def test_the_list_of_commands_says_of_each_what_its_own_help_begins_with():
    for name, (_, text) in COMMANDS.items():
        command = app.get_command(None, name)
        assert command.name == name
        assert " ".join(inspect.cleandoc(command.help).split()).startswith(text.removesuffix(".")), name
    assert app.list_commands(None) == sorted(COMMANDS)
    assert app.get_command(None, "nonsense") is None


def test_the_daemon_starts_without_rich_and_leaves_it_to_whoever_wants_it():
    program = "from rm.daemon import _import_structlog\n_import_structlog()\nimport rm.daemon.main"
    assert imported_by(program, "rich", "structlog", "leasehold.client", "numpy") == ["structlog"]
    assert imported_by(f"{program}\nimport rich", "rich") == ["rich"]
    assert imported_by(f"import rich\n{program}", "rich") == ["rich"]
