"""What tests with real processes may ask for."""

import pytest

from support.daemon import is_all_free
from support.hurt_daemon import HurtDaemon
from support.puppet import Puppets
from support.waiting import until


@pytest.fixture
def puppets():
    """Makes client processes; whatever of them is left at the end is killed."""
    made = Puppets()
    yield made
    made.close()


@pytest.fixture
def hurt():
    """Makes daemons, each with directories of its own; whatever of them is left at the end is killed."""
    made = []

    def make(*options, **more):
        made.append(HurtDaemon(*options, **more))
        return made[-1]

    yield make
    for daemon in made:
        daemon.remove()


@pytest.fixture(scope="module")
def daemon_of_the_module():
    made = HurtDaemon()
    yield made
    made.remove()


@pytest.fixture
def restarted(daemon_of_the_module):
    """A daemon for all tests of a module, which may restart it. Every unit is free, before and after."""
    yield daemon_of_the_module
    with daemon_of_the_module.connect() as client:
        until(lambda: is_all_free(client))


@pytest.fixture(scope="module")
def array_of_the_module():
    made = HurtDaemon("--profile", "aie")
    yield made
    made.remove()


@pytest.fixture
def array(array_of_the_module):
    """An array of 50 columns, for all tests of the module. Every unit is free before and after, and none reserved."""
    yield array_of_the_module
    with array_of_the_module.connect() as client:
        for one in client.reservations():
            client.unreserve(one.name)
        until(lambda: is_all_free(client))
