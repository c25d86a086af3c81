"""What every test may ask for: a daemon of the module's own, and a client of it; what all its processes inherit."""

import gc
import os
import signal

import pytest
from hypothesis.internal.conjecture import providers

from support.daemon import Daemon, is_all_free


def pytest_configure() -> None:
    """Sets what the processes inherit that tests start: they hear Ctrl-C, and do not each compile the package anew."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it starts in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    providers._get_local_constants = providers.Constants  # none: what is drawn depends on no module that is loaded


@pytest.fixture(scope="module")
def daemon():
    """A real daemon with one card of 64 MiB, for all tests of a module."""
    started = Daemon()
    yield started
    started.remove()


@pytest.fixture
def client(daemon):
    """A client of it. What a test leaves behind is a fault of the test, or a leak."""
    with daemon.connect() as connected:
        yield connected
    with daemon.connect() as after:
        assert is_all_free(after)


@pytest.fixture
def own_daemon():
    """A daemon for one test alone, which may kill it."""
    started = Daemon()
    yield started
    started.remove()


@pytest.fixture(autouse=True, scope="module")
def _no_garbage_of_others():
    """What the tests of other modules left to the garbage collector is closed now, not while these count theirs."""
    gc.collect()
