"""The way to the daemon that the library takes, both of them where a test is about what they carry; and a fake card."""

import pytest

from leasehold.testing import FakeClient

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


@pytest.fixture
def fake_client():
    """A client of a fake card. What a test leaves behind is a fault of the test, or a leak."""
    with FakeClient(memory="16MiB", cores=2) as made:
        yield made
        made.close()
        assert made.check() == []
        assert all(pool.free == pool.total for pool in made.cards()[0].pools)
