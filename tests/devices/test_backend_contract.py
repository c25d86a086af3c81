"""What the engine relies on, for every back end there is. A new one is added to BACKENDS and to nothing else."""

import os
from collections.abc import Callable

import pytest

from rm.core.card import Allotment
from rm.core.errors import InvalidRequest
from rm.core.types import UnitRange, UnitSet
from rm.devices.backend import Backend, Fence
from rm.devices.embedded import EmbeddedBackend
from rm.devices.profiles import load_profile
from support.daemon_parts import FakeBackend
from support.descriptors import descriptor_count
from support.windows import UNIT, lease_of, never


def embedded() -> EmbeddedBackend:
    return EmbeddedBackend(load_profile("embedded"), card_count=2, memory_bytes=64 * UNIT, cpus=(0, 1, 2))


def fake() -> FakeBackend:
    return FakeBackend(embedded().cards)


BACKENDS: list[Callable[[], Backend]] = [embedded, fake]


@pytest.fixture(params=BACKENDS, ids=lambda make: make.__name__)
def backend(request):
    made = request.param()
    yield made
    made.close()


def allotment(pool: str, *runs: tuple[int, int]) -> Allotment:
    return Allotment(pool, UnitSet((0,), (tuple(UnitRange(*run) for run in runs),)))


def test_cards_are_numbered_from_zero_and_each_has_pools(backend) -> None:
    assert [card.id for card in backend.cards] == ["0", "1"]
    assert all(card.pools for card in backend.cards)


def test_cards_stay_the_same_for_life(backend) -> None:
    assert backend.cards == backend.cards


def test_a_lease_that_was_never_prepared_has_nothing(backend) -> None:
    assert backend.windows("L1") == []
    assert backend.used_bytes("L1") == 0


def test_windows_name_the_allotments_of_their_lease_in_order(backend) -> None:
    backend.prepare("L1", "0", [allotment("memory", (0, 1)), allotment("memory", (2, 5))], first_index=0)
    indices = [window.mark.allotment_index for window in backend.windows("L1")]
    assert indices == sorted(indices)
    assert all(index in {0, 1} for index in indices)


def test_what_is_prepared_later_comes_behind(backend) -> None:
    backend.prepare("L1", "0", [allotment("memory", (0, 1))], first_index=0)
    backend.prepare("L1", "0", [allotment("memory", (1, 2))], first_index=1)
    indices = [window.mark.allotment_index for window in backend.windows("L1")]
    assert indices == sorted(indices)


def test_an_end_takes_everything_back_and_a_second_end_is_harmless(backend) -> None:
    backend.prepare("L1", "1", [allotment("memory", (0, 4)), allotment("streams", (0, 2))], first_index=0)
    for _ in range(2):
        backend.end("L1")
        assert backend.windows("L1") == []
        assert backend.used_bytes("L1") == 0


def test_the_end_of_a_lease_that_was_never_prepared_is_harmless(backend) -> None:
    backend.end("L77")
    assert backend.windows("L77") == []


def test_the_end_of_one_lease_leaves_the_others(backend) -> None:
    for lease_id in ("L1", "L2"):
        backend.prepare(lease_id, "0", [allotment("memory", (0, 1))], first_index=0)
    before = backend.windows("L2")
    backend.end("L1")
    assert backend.windows("L2") == before


def test_giving_back_one_allotment_leaves_the_others(backend) -> None:
    backend.prepare("L1", "0", [allotment("memory", (0, 1)), allotment("memory", (1, 2))], first_index=0)
    kept = [window for window in backend.windows("L1") if window.mark.allotment_index == 1]
    backend.give_back("L1", 0)
    assert backend.windows("L1") == kept


def test_giving_back_what_has_no_window_is_harmless(backend) -> None:
    backend.prepare("L1", "0", [allotment("streams", (0, 2))], first_index=0)
    backend.give_back("L1", 0)
    assert backend.windows("L1") == []
    backend.end("L1")


@pytest.mark.parametrize("is_holder_dead", [True, False])
def test_a_fence_says_how_far_it_is_and_takes_everything_back(backend, is_holder_dead) -> None:
    marks = backend.prepare("L1", "0", [allotment("memory", (0, 4)), allotment("streams", (0, 2))], first_index=0)
    for _ in range(2):
        answer = backend.fence(lease_of("L1", *marks), never, is_holder_dead=is_holder_dead)
        assert answer is Fence.QUIET
        assert backend.windows("L1") == []


def test_an_adopted_lease_without_windows_is_one_like_any_other(backend) -> None:
    lease = lease_of("L1")
    backend.adopt(lease)
    assert (backend.windows("L1"), backend.remake(lease)) == ([], ())
    assert backend.fence(lease, never, is_holder_dead=False) is Fence.QUIET


def test_what_is_no_window_is_not_taken_back_and_not_kept(backend) -> None:
    before = descriptor_count()
    with pytest.raises(InvalidRequest):
        backend.hand_back(lease_of("L1"), 0, os.open("/dev/null", os.O_RDWR))
    assert descriptor_count() == before


def test_every_card_has_a_word_that_stays_while_it_is_not_reset(backend) -> None:
    assert [card for card, word in backend.incarnations if word] == [card.id for card in backend.cards]
    assert backend.incarnations == backend.incarnations


def test_warnings_are_sentences(backend) -> None:
    assert all(isinstance(warning, str) and warning for warning in backend.warnings)
