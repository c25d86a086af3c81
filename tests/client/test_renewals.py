"""When the next keepalive is due."""

import time

import pytest

from leasehold import session


@pytest.mark.parametrize("ttl_s", [0.05, 0.3, 1.0, 10.0, 3600.0])
def test_the_next_keepalive_is_due_in_time_and_never_at_once(ttl_s):
    for _ in range(200):
        now = time.monotonic()
        due = session._next_renewal(ttl_s)
        assert now + ttl_s / 6 < due <= time.monotonic() + ttl_s / 3


def test_keepalives_of_many_sessions_come_at_the_same_moments():
    moments = {round(session._next_renewal(10.0) / session._TOGETHER_S, 3) for _ in range(200)}
    assert all(moment.is_integer() for moment in moments)
    assert len(moments) > 3, "not all of them at one"
