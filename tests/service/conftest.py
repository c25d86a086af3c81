"""A running server, and a session beside the one that misbehaves."""

import pytest

from support.served import serving


@pytest.fixture(params=["grpc", "session"])
def door(request):
    """The door through which a test calls methods."""
    return request.param


@pytest.fixture
def served(tmp_path, door):
    with serving(tmp_path, door=door) as running:
        yield running
        assert running.failures == [], "the daemon found a fault of its own"


@pytest.fixture
def witness(served):
    """A session that must be served whatever others do."""
    client = served.open_session()
    yield client
    assert client.is_served()
