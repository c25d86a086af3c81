"""What can be asked for, and what cannot."""

import pytest

import leasehold
from leasehold.claims import claims_to, site_from, site_text


def refused(*claims, memory=None, **counts):
    with pytest.raises(leasehold.Invalid) as caught:
        claims_to(claims, memory, counts)
    assert caught.value.reason == "INVALID_REQUEST"
    return str(caught.value)


def test_keywords_and_claims_come_in_their_order():
    messages = claims_to([leasehold.Ids("streams", [7])], "1MiB", {"cores": 1, "vdec": 2, "venc": None})

    assert [message.pool for message in messages] == ["streams", "memory", "cores", "vdec"]
    assert messages[1].run.size_bytes == 1 << 20


def test_a_tile_is_a_site():
    assert site_text((3, 1, "core")) == "3,1,core"
    assert site_from("3,1,core") == (3, 1, "core")
    (message,) = claims_to([leasehold.Common("bcast", at=[(0, 0, "pl"), "named"])], None, {})
    assert list(message.sites) == ["0,0,pl", "named"]


def test_a_fraction_is_exact():
    (message,) = claims_to([], None, {"cores": 1 / 3})

    assert (message.units.fraction.numerator, message.units.fraction.denominator) == (1, 3)


@pytest.mark.parametrize("count", [float("nan"), float("inf"), 1.5, -0.5, "2", True, 1 << 64])
def test_a_count_that_none_can_be_is_refused(count):
    assert "cores" in refused(cores=count)


@pytest.mark.parametrize("size", ["", "lots", -1, 1.5, "99999999999GiB", 1 << 63, True])
def test_a_size_that_none_can_be_is_refused(size):
    assert "memory" in refused(memory=size)


def test_nothing_is_no_request():
    assert "nothing is claimed" in refused()


def test_what_is_no_claim_is_refused():
    assert "no claim" in refused("cores")
    assert "whole number" in refused(leasehold.Ids("streams", ["a"]))
    assert "whole number" in refused(leasehold.Run("memory", 1.5))
    assert "alignment" in refused(leasehold.Run("memory", 1, align=0))
