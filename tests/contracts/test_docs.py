"""What the documents say: examples run, links lead somewhere, tests that are named exist, commands are mentioned."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_example_of_the_readme_runs():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(example, {})

    assert "46080.0" in out.getvalue()
    assert "16 MiB free" in out.getvalue()
    assert "held by L1 'ocr'" in out.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", ["bugs", "operations"])
def test_every_test_that_a_page_names_exists(page):
    named = re.findall(r"`([a-z_0-9]+/[a-z_/]+\.py)(?:::(test_\w+))?`", (ROOT / f"docs/{page}.md").read_text())
    assert len(named) > 20
    for file, test in named:
        path = ROOT / file if file.startswith(("rm/", "bench/")) else ROOT / "tests" / file
        assert f"def {test}" in path.read_text() or not test, f"{file} has no {test}"


def test_every_reason_and_exit_status_has_a_row_in_operations():
    from rm.core import errors
    from rm.daemon import main

    text = (ROOT / "docs/operations.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and "reason" in vars(kind)]
    assert [kind.reason for kind in kinds if f"| `{kind.reason}` |" not in text] == ["REFUSED"]
    statuses = [value for name, value in vars(main).items() if name.startswith("EXIT_")]
    assert [status for status in statuses if f"| {status} |" not in text] == []


def test_every_reason_of_a_refusal_is_known_to_the_client():
    from leasehold import errors as told
    from rm.core import errors as refused

    reasons = {kind.reason for kind in vars(refused).values() if isinstance(kind, type) and "reason" in vars(kind)}
    kinds = {kind.default_reason for kind in told.Refused.__subclasses__()}
    only_inside = {"REFUSED", "SESSION_UNKNOWN", "SHUTTING_DOWN", "CARD_FAILED"}
    assert reasons - only_inside == kinds - {"DRAINING"}


def test_the_targets_that_the_readme_names_are_in_the_makefile():
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z]+)`", page.read_text())) <= made
    assert {"demo", "test", "check", "proto", "bench"} <= made
