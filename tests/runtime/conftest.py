"""What tests of the runtime may ask for: two cards in this process, and a runtime on them."""

import pytest

from leasehold import runtime
from leasehold.testing import FakeClient
from support import tiny_model


@pytest.fixture
def cards():
    """A client of two cards of 64 MiB and two cores. What a test leaves behind is a leak."""
    client = FakeClient(memory="64MiB", cores=2, cards=2)
    yield client
    assert client.leases() == []
    assert client.check() == []


@pytest.fixture
def rt(cards):
    """A runtime on them, closed at the end."""
    made = runtime.Runtime(cards)
    yield made
    made.close()


@pytest.fixture
def device(rt):
    """A device that is set, with this thread bound to its default context."""
    rt.set_device(0)
    return rt.device(0)


@pytest.fixture
def context(device):
    """Its default context."""
    return device.default_context


@pytest.fixture
def add_model(tmp_path):
    """The path of a model: ``y = x + x``, 1 by 4."""
    path = tmp_path / "add.onnx"
    path.write_bytes(tiny_model.model())
    return path
