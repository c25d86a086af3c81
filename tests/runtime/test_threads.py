"""Many threads at once, and one that takes the ground from under them: every answer is one of the rules, none hangs."""

import random
import threading
import time
from unittest.mock import Mock

import pytest

import leasehold
from leasehold import runtime
from leasehold.runtime import Code, Fault
from support.waiting import in_thread

SEED = 4711
THREADS, RUN_S = 8, 1.5

# What a call may answer where another thread resets the device in the middle of it.
ANSWERS = {
    Code.NO_CONTEXT,
    Code.NO_ACTIVE_DEVICE,
    Code.NOT_ACTIVE,
    Code.CONTEXT_NOT_EXIST,
    Code.CONTEXT_CREATE,
    Code.STREAM_CREATE,
    Code.STREAM_DESTROY,
    Code.STREAM_NOT_EXIST,
    Code.TASK_CANCELLED,
    Code.EVENT_NOT_EXIST,
    Code.EVENT_WAIT,
    Code.STREAM_GONE,
    Code.NOT_DEVICE_MEMORY,
    Code.MEMORY_LOST,
}


class Churn:
    """One thread that binds, creates, uses and destroys whatever it can."""

    def __init__(self, rt: runtime.Runtime, number: int, stop: threading.Event) -> None:
        self.rt, self.stop = rt, stop
        self.random = random.Random(SEED + number)
        self.shared: list = []
        self.answers: set[Code] = set()
        self.calls = self.done = 0

    def run(self) -> None:
        """Calls until it is told to stop."""
        steps = [self.bind, self.make, self.use, self.order, self.end]
        while not self.stop.is_set():
            self.calls += 1
            try:
                self.random.choice(steps)()
                self.done += 1
            except Fault as fault:
                self.answers.add(fault.code)

    def bind(self) -> None:
        if self.random.random() < 0.5:
            self.rt.set_device(self.random.randrange(2))
        elif self.shared:
            self.rt.set_current_context(self.random.choice(self.shared))

    def make(self) -> None:
        self.shared.append(self.rt.create_context(self.random.randrange(2)))
        del self.shared[:-8]

    def use(self) -> None:
        context = self.rt.current_context()
        block, back = context.device.malloc(4096), bytearray(4096)
        stream = context.create_stream()
        stream.memset(block, 7, 4096)
        stream.memcpy(back, block, 4096)
        block.free()
        stream.synchronize(20)
        assert set(back) == {7}
        stream.destroy()

    def order(self) -> None:
        context = self.rt.current_context()
        first, second, event = context.create_stream(), context.create_stream(), self.rt.create_event()
        second.wait(event)
        first.record(event)
        second.synchronize(20)
        event.destroy()

    def end(self) -> None:
        if self.shared:
            self.shared.pop(self.random.randrange(len(self.shared))).destroy()


@pytest.mark.timeout(60)
def test_threads_bind_and_unbind_while_another_resets_the_device(cards, rt) -> None:
    stop, threads = threading.Event(), []
    churns = [Churn(rt, number, stop) for number in range(THREADS)]
    for churn in churns:
        churn.shared = churns[0].shared
        threads.append(in_thread(churn.run))
    dice, resets, others, begun_at = random.Random(SEED), 0, set(), time.monotonic()
    try:
        while time.monotonic() - begun_at < RUN_S or (resets <= 5 or sum(churn.done for churn in churns) <= 50):
            assert time.monotonic() - begun_at < 40, "hardly anything happens"
            try:
                rt.reset_device(dice.randrange(2))
                resets += 1
            except Fault as fault:
                others.add(fault.code)
    finally:
        stop.set()
    for joined in threads:
        joined()  # raises what the thread raised: no answer but a Fault is one
    answers = set().union(*(churn.answers for churn in churns))
    assert answers <= ANSWERS, f"seed {SEED}: {answers - ANSWERS}"
    assert others <= {Code.NOT_ACTIVE}
    rt.close()
    assert cards.leases() == []


def test_one_context_may_be_used_by_many_threads_at_once(cards, rt, device) -> None:
    context = rt.create_context(0)
    block = device.malloc(THREADS * 4096)

    def work(number: int) -> bool:
        context.bind()
        mine, back = block.address + 4096 * number, bytearray(4096)
        for value in range(50):
            context.memset(mine, value, 4096)
            context.memcpy(back, mine, 4096)
            if set(back) != {value}:
                return False
        return True

    joined = [in_thread(lambda number=number: work(number)) for number in range(THREADS)]
    assert all(one() for one in joined)
    context.destroy()


class SlowCards:
    """A client of which the cards come only when a second thread has begun to ask for a device."""

    def __init__(self, cards) -> None:
        self._cards = cards
        self.other = None
        self.runtime = None

    def __getattr__(self, name):
        return getattr(self._cards, name)

    def cards(self):
        if self.other is None:
            began, answered = threading.Event(), threading.Event()

            def ask():
                began.set()
                try:
                    return self.runtime.device(0).id
                finally:
                    answered.set()

            self.other = in_thread(ask)
            assert began.wait(20)
            assert not answered.wait(0.1), "it is answered before anybody knows which devices there are"
        return self._cards.cards()


def test_a_second_thread_at_the_first_use_waits_until_the_devices_are_known(cards) -> None:
    slow = SlowCards(cards)
    slow.runtime = runtime.Runtime(slow)
    assert slow.runtime.device(0).id == 0
    assert slow.other() == 0
    slow.runtime.close()


def test_a_first_use_that_fails_is_gone_on_with_at_the_next(cards, monkeypatch) -> None:
    made = []

    def connect():
        made.append(cards)
        return cards

    monkeypatch.setattr(leasehold, "connect", connect)
    own, known = runtime.Runtime(), cards.cards
    monkeypatch.setattr(cards, "cards", lambda: 1 // 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            own.devices()
    monkeypatch.setattr(cards, "cards", known)
    assert [device.id for device in own.devices()] == [0, 1]
    assert len(made) == 1


def test_the_end_of_a_runtime_whose_first_use_failed_ends_its_session(cards, monkeypatch) -> None:
    ended = []
    monkeypatch.setattr(leasehold, "connect", lambda: cards)
    monkeypatch.setattr(cards, "close", lambda: ended.append("closed"))
    for fault, kind in ((ZeroDivisionError(), ZeroDivisionError), (leasehold.DaemonUnavailable("away"), Fault)):
        own = runtime.Runtime()
        monkeypatch.setattr(cards, "cards", Mock(side_effect=fault))
        with pytest.raises(kind):
            own.devices()
        own.close()
    assert ended == ["closed"] * 2
