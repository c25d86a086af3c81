"""What tests of the objects may ask for: an array of each generation, and a device of it."""

import gc

import pytest

from leasehold.local import Manager
from support.aie import KeepingDevice


@pytest.fixture
def manager():
    """An array of the first generation in this process. Its books agree at the end, and no object was dropped."""
    made = Manager("aie")
    yield made
    gc.collect()
    assert made.check() == []


@pytest.fixture
def device(manager):
    with KeepingDevice(manager) as made:
        yield made
    assert manager.leases() == []


@pytest.fixture
def ml_manager():
    """An array with memory tiles in rows 1 and 2."""
    made = Manager("aie-ml")
    yield made
    assert made.check() == []


@pytest.fixture
def ml_device(ml_manager):
    with KeepingDevice(ml_manager) as made:
        yield made
    assert ml_manager.leases() == []
