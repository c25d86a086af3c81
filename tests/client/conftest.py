"""The way to the daemon that the library takes: both of them, where a test is about what they carry."""

import pytest

_OVER_BOTH_DOORS = {"test_aio", "test_batch", "test_client", "test_fork", "test_restart"}


def pytest_generate_tests(metafunc) -> None:
    """Runs the tests of these modules over each door."""
    if metafunc.module.__name__.rpartition(".")[2] in _OVER_BOTH_DOORS:
        metafunc.parametrize("door", ["session", "grpc"], indirect=True)


@pytest.fixture(autouse=True)
def door(request, monkeypatch):
    """The name of the door that clients take, here and in processes that are started."""
    name = getattr(request, "param", "session")
    monkeypatch.setenv("LEASEHOLD_DOOR", name)
    return name
