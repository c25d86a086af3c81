"""The import arrows of the design, as one table, and that every file keeps to its row."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

_GRPC = "rmapi grpc google.protobuf"


class Row(NamedTuple):
    """A file obeys the row that names it most closely. The standard library may be imported everywhere."""

    under: str
    may_import: str
    only_inside_functions: str = ""


TABLE = (
    # where                          may import                                         only inside functions
    Row("rm/__init__.py", ""),
    Row("rm/core", "rm.core bitarray"),
    Row("rm/store", "rm.core rm.store msgspec structlog"),
    Row("rm/devices", "rm.core rm.devices"),
    Row("rm/service", f"rm.core rm.store rm.devices rm.service structlog grpc_health grpc_reflection {_GRPC}"),
    Row("rm/daemon", f"rm leasehold.quantity leasehold.address leasehold.cli.parameters click structlog {_GRPC}"),
    Row("client/leasehold", f"leasehold {_GRPC}", "numpy onnxruntime click rich"),
    Row("client/leasehold/model.py", f"leasehold numpy onnxruntime {_GRPC}", "click rich"),
    Row("client/leasehold/cli", f"leasehold click rich {_GRPC}", "numpy onnxruntime"),
    Row(
        "client/leasehold/aie",
        "leasehold.aie leasehold.card leasehold.claims leasehold.errors rmapi google.protobuf",
        "leasehold.client leasehold.lease leasehold.local",
    ),
    Row("client/leasehold/local", f"leasehold rm {_GRPC}", "numpy onnxruntime"),
    Row("client/leasehold/parted.py", "leasehold rmapi", "leasehold.partition"),
    Row("client/leasehold/partition", "leasehold rm rmapi"),
    Row("client/leasehold/testing.py", f"leasehold rm {_GRPC}", "numpy onnxruntime"),
)

FILES = sorted(path for root in ("rm", "client") for path in (ROOT / root).rglob("*.py"))


class Import(NamedTuple):
    line: int
    module: str
    is_inside: bool


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_row_allows(path) -> None:
    assert wrong_imports(path.relative_to(ROOT).as_posix(), path.read_text()) == []


def test_no_place_has_two_rows() -> None:
    assert len({row.under for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("rm/core/x.py", "import grpc", "line 1: grpc"),
        ("rm/core/x.py", "from rm.store import log", "line 1: rm.store"),
        ("rm/core/x.py", "from rm import store", "line 1: rm"),
        ("rm/core/x.py", "def f():\n    import numpy", "line 2: numpy"),
        ("rm/core/x.py", "from . import bitmap", "line 1: a relative import"),
        ("rm/store/x.py", "import rm.devices.embedded", "line 1: rm.devices.embedded"),
        ("rm/devices/x.py", "import rm.store", "line 1: rm.store"),
        ("rm/service/x.py", "import leasehold", "line 1: leasehold"),
        ("rm/service/x.py", "import rm.daemon.main", "line 1: rm.daemon.main"),
        ("rm/daemon/x.py", "import leasehold.client", "line 1: leasehold.client"),
        ("client/leasehold/x.py", "def f():\n    import rm.core", "line 2: rm.core"),
        ("client/leasehold/x.py", "import numpy", "line 1: numpy at the top"),
        ("client/leasehold/x.py", "class A:\n    import rich", "line 2: rich at the top"),
        ("client/leasehold/x.py", "try:\n    import click\nexcept ImportError:\n    pass", "line 2: click at the top"),
        ("client/leasehold/cli/x.py", "import numpy", "line 1: numpy at the top"),
        ("client/leasehold/aie/x.py", "import rm.core", "line 1: rm.core"),
        ("client/leasehold/aie/x.py", "from leasehold.local import Manager", "line 1: leasehold.local at the top"),
        ("rm/new/x.py", "import os", "no row covers it"),
    ],
)
def test_a_wrong_arrow_is_found(name, text, fault) -> None:
    (found,) = wrong_imports(name, text)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rm/core/x.py", "import os.path\nfrom bitarray.util import zeros\nfrom rm.core import limits"),
        ("rm/service/x.py", "from google.protobuf import duration_pb2\nimport rmapi.v1.types_pb2"),
        ("rm/daemon/x.py", "from leasehold import quantity\nimport rm.service.engine"),
        ("client/leasehold/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
        ("client/leasehold/x.py", "async def f():\n    import onnxruntime"),
        ("client/leasehold/local/x.py", "import rm.core.ledger"),
        ("client/leasehold/cli/x.py", "import click, rich.table"),
    ],
)
def test_a_right_arrow_passes(name, text) -> None:
    assert wrong_imports(name, text) == []


def wrong_imports(name: str, text: str) -> list[str]:
    """What a file of this name and text imports against its row, one phrase each."""
    row = _row_of(name)
    if row is None:
        return [f"no row covers it: {name}"]
    allowed, inside = row.may_import.split(), row.only_inside_functions.split()
    faults = []
    for found in _imports(ast.parse(text)):
        if not found.module:
            faults.append(f"line {found.line}: a relative import")
        elif _is_under(found.module, inside):
            if not found.is_inside:
                faults.append(f"line {found.line}: {found.module} at the top of the module")
        elif not _is_under(found.module, allowed) and found.module.split(".")[0] not in sys.stdlib_module_names:
            faults.append(f"line {found.line}: {found.module} is not for {row.under}")
    return faults


def _row_of(name: str) -> Row | None:
    rows = [row for row in TABLE if name == row.under or name.startswith(row.under + "/")]
    return max(rows, key=lambda row: len(row.under), default=None)


def _is_under(module: str, allowed: list[str]) -> bool:
    return any(module == one or module.startswith(one + ".") for one in allowed)


def _imports(tree: ast.AST, *, is_inside: bool = False) -> Iterator[Import]:
    """Every import; one under ``if TYPE_CHECKING`` counts as inside a function, as it is not run on import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, is_inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "" if node.level else str(node.module)
            # `from leasehold import quantity` is an arrow to leasehold.quantity, `from enum import Enum` one to enum.
            is_package = module in {"rm", "leasehold", "google"}
            names = [f"{module}.{alias.name}" for alias in node.names] if is_package else [module]
            yield from (Import(node.lineno, name, is_inside) for name in names)
        else:
            is_body = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(node, is_inside=is_inside or is_body or _is_for_types(node))


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
