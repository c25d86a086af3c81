"""What the guide says of sizes and leftovers, held for every file of the repository."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Spelled in halves, so that this file does not find itself.
MARKERS = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")
MAY_PRINT = ("bench/", "demo/", "client/leasehold/cli/")
NEED_DOCSTRING = ("rm/", "client/", "bench/", "demo/", "tests/")

FOLDERS = ("rm", "client", "proto", "tests", "bench", "demo")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
)
NAMED = pytest.mark.parametrize("name", [path.relative_to(ROOT).as_posix() for path in FILES])


@NAMED
def test_a_file_is_tidy(name) -> None:
    assert faults_of(name, (ROOT / name).read_text()) == []


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("rm/core/x.py", '"""X."""\n' * 401, "401 lines"),
        ("rm/core/x.py", '"""X."""\ndef f():\n' + "    x = 1\n" * 70, "line 2: f has 71 lines"),
        ("rm/core/x.py", '"""X."""\nprint("hello")\n', "line 2: print"),
        ("client/leasehold/lease.py", '"""X."""\ndef f():\n    print(1)\n', "line 3: print"),
        ("rm/core/x.py", f'"""X."""\n# {MARKERS[0]}: later\n', f"{MARKERS[0]} is left over"),
        ("rm/core/x.py", f'"""X."""\nraise {MARKERS[2]}\n', f"{MARKERS[2]} is left over"),
        ("rm/core/x.py", "import os\n", "no docstring"),
        ("rm/core/x.py", "", "no docstring"),
    ],
)
def test_what_is_untidy_is_found(name, text, fault) -> None:
    assert faults_of(name, text) == [fault]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rm/core/x.py", '"""X."""\n' * 400),
        ("rm/core/x.py", '"""X."""\ndef f():\n' + "    x = 1\n" * 69),
        ("bench/x.py", '"""X."""\nprint("a figure")\n'),
        ("client/leasehold/cli/x.py", '"""X."""\nprint("a table")\n'),
        ("rm/core/x.py", '"""X, which does not print(anything)."""\nself.print(1)\n'),
    ],
)
def test_what_is_tidy_passes(name, text) -> None:
    assert faults_of(name, text) == []


def faults_of(name: str, text: str) -> list[str]:
    """What the guide has against a file of this name and text, one phrase each."""
    tree = ast.parse(text)
    faults = []
    line_count = len(text.splitlines())
    if line_count > FILE_LINES_MAX:
        faults.append(f"{line_count} lines")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                faults.append(f"line {node.lineno}: {node.name} has {length} lines")
        is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if is_print and not name.startswith(MAY_PRINT):
            faults.append(f"line {node.lineno}: print")
    faults += [f"{marker} is left over" for marker in MARKERS if marker in text]
    if name.startswith(NEED_DOCSTRING) and not ast.get_docstring(tree):
        faults.append("no docstring")
    return faults
