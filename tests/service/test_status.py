"""How a refusal travels: each class has a code and a reason of its own, and its detail always fits."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm.core import errors, limits
from rm.service.status import code_of, detail_of, text_of
from support.strategies import SAME_EVERY_RUN

ABSTRACT = {errors.Refusal, errors.NotNow}  # never raised themselves
CLASSES = sorted(
    (
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.Refusal) and one not in ABSTRACT
    ),
    key=lambda one: one.__name__,
)


def test_there_are_refusals_to_look_at() -> None:
    assert len(CLASSES) >= 11


@pytest.mark.parametrize("kind", CLASSES)
def test_every_refusal_has_a_code_that_is_not_ok(kind) -> None:
    assert code_of(kind("no")) not in {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}


def test_every_refusal_has_a_reason_of_its_own() -> None:
    reasons = [kind.reason for kind in CLASSES]
    assert len(set(reasons)) == len(reasons)
    assert all(reason == reason.upper() and reason.replace("_", "").isalpha() for reason in reasons)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_small_detail_arrives_whole(kind) -> None:
    holders = [{"lease": "L1", "pid": 7}]
    detail = detail_of(kind("the pool is full", pool="u", free_count=0, is_big=True, holders=holders))
    assert (detail.reason, detail.message) == (kind.reason, "the pool is full")
    assert dict(detail.facts)["pool"] == "u"
    assert (detail.facts["free_count"], detail.facts["is_big"]) == (0, True)
    assert detail.facts["holders"][0]["pid"] == 7


@pytest.mark.parametrize("char", ["x", "\N{SNOWMAN}", "\U0001f600", "\n", "\ud800"])
@pytest.mark.parametrize("length", [100, 1_499, 1_500, 1_501, 1_000_000])
def test_a_long_text_is_cut_and_still_fits(char, length) -> None:
    refusal = errors.InvalidRequest(char * length, pool="u")
    assert detail_of(refusal).ByteSize() <= limits.TRAILER_BYTES_MAX
    assert detail_of(refusal).facts["pool"] == "u"
    assert 3 * len(text_of(refusal).encode()) + limits.TRAILER_BYTES_MAX <= 8_192 - 512, "gRPC drops more than 8 KiB"


def test_huge_facts_are_dropped_and_the_numbers_and_the_reason_survive() -> None:
    holders = [{"command": "x" * 256, "label": "y" * 128} for _ in range(1_000)]
    refusal = errors.PoolExhausted("full", free_count=3, pool="z" * 100_000, holders=holders)
    detail = detail_of(refusal)
    assert detail.ByteSize() <= limits.TRAILER_BYTES_MAX
    assert (detail.reason, detail.message, detail.facts["free_count"]) == ("POOL_EXHAUSTED", "full", 3)


FACTS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda key: key not in {"text", "self"}),
    st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.text(st.characters(codec="utf-8"))
    | st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(-9, 9) | st.text(st.characters(codec="utf-8")))),
    max_size=8,
)


@SAME_EVERY_RUN
@given(st.text(), FACTS)
def test_any_detail_fits(text, facts) -> None:
    detail = detail_of(errors.UnitHeld(text, **facts))
    assert detail.reason == "UNIT_HELD"
    assert detail.ByteSize() <= limits.TRAILER_BYTES_MAX
