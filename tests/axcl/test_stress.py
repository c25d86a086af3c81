"""Random calls of 8 threads on two cards, in one order, each answer compared with the rules; nothing leaks.

``make axcl-stress`` makes 10,000 calls; the suite fewer.
"""

import os
import sys

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from leasehold import axcl
from support import axcl_rules as rules
from support.daemon import Daemon, is_all_free
from support.recording import Thread

CALLS = int(os.environ.get("AXCL_STRESS_CALLS", "1200"))
SEED = int(os.environ.get("AXCL_STRESS_SEED", "20261126"))
CALLS_A_RUN = 100
THREADS = 8
SIZES = (1, 64, 4096, 5000, 70_000)
GARBAGE = 0xDEADBEEF0

rt = axcl.rt
threads, devices = st.integers(0, THREADS - 1), st.sampled_from([0, 0, 0, 1, 1, 1, 9])
which = st.integers(0, 1 << 16)
values, sizes = st.integers(0, 255), st.sampled_from(SIZES)


class Tally:
    """What all runs of the machine share."""

    calls = done = 0  # made, and those of them that were not refused
    observer = None  # a client that sees what is held


class Machine(RuleBasedStateMachine):
    """One process. A handle is kept with what the rules know of it, also when it is stale."""

    @initialize()
    def begin(self) -> None:
        assert axcl.init() == 0, axcl.last_error()
        self.ids, _ = rt.get_device_list()
        self.rules = rules.Rules((0, 1))
        self.threads = [Thread() for _ in range(THREADS)]
        self.contexts: list = [(GARBAGE, None)]
        self.streams: list = [(GARBAGE, None)]
        self.events: list = [(GARBAGE, None)]
        self.blocks: list = [(GARBAGE, None)]
        for thread in range(THREADS - 1):  # all but one are bound: what an unbound one may do is little
            self.set_device(thread, thread % 2)

    def call(self, thread, fn, *args):
        """Calls on a thread; codes as the rules have them."""
        answer = self.threads[thread].do(fn, *args)
        Tally.calls += 1
        Tally.done += not (answer if isinstance(answer, int) else answer[-1])
        return answer & 0xFFFFFFFF if isinstance(answer, int) else (*answer[:-1], answer[-1] & 0xFFFFFFFF)

    def device(self, number):
        return self.ids[number] if number < len(self.ids) else 999

    def pick(self, known, number, thread=None):
        """One of the handles there are: mostly one that is alive and of the thread's device, else any."""
        current = None if thread is None else self.rules.current(thread)
        if number % 5:
            liked = [one for one in known if one[1] is not None and self.is_alive(one[1], current)]
            known = liked or known
        return known[number // 5 % len(known)]

    @staticmethod
    def is_alive(known, current):
        if isinstance(known, rules.Stream):
            return known.works and (current is None or known.context.device == current.device)
        return known.is_live and (current is None or known.device == current.device)

    # Devices.

    @rule(thread=threads, device=devices)
    def set_device(self, thread, device):
        answer = self.call(thread, rt.set_device, self.device(device))
        assert answer == self.rules.set_device(thread, device)
        self.know_default(device)

    @rule(thread=threads, device=devices, really=st.integers(0, 2))
    def reset_device(self, thread, device, really):
        if really:  # seldom: it ends everything
            self.set_device(thread, device)
            return
        answer = self.call(thread, rt.reset_device, self.device(device))
        assert answer == self.rules.reset_device(device)

    @rule(thread=threads)
    def look(self, thread):
        device, code = self.call(thread, rt.get_device)
        wanted, number = self.rules.get_device(thread)
        assert (code, device) == (wanted, -1 if number is None else self.ids[number])
        context, code = self.call(thread, rt.get_current_context)
        current = self.rules.current(thread)
        if current is None:
            assert (code, context) == (rules.NO_CONTEXT, 0)
        else:
            assert code == 0
            assert [known for handle, known in self.contexts if handle == context] == [current]

    @rule(thread=threads)
    def synchronize_device(self, thread):
        assert self.call(thread, rt.synchronize_device) == self.rules.synchronize_device(thread)

    def know_default(self, device):
        default = self.rules.defaults.get(device)
        if default is not None and default.is_live and default not in [known for _, known in self.contexts]:
            handle, code = rt.get_default_context(self.device(device))
            assert code == 0
            self.contexts.append((handle, default))

    # Contexts.

    @rule(thread=threads, device=devices)
    def create_context(self, thread, device):
        handle, code = self.call(thread, rt.create_context, self.device(device))
        wanted, made = self.rules.create_context(thread, device)
        assert code == wanted
        self.know_default(device)
        if made is not None:
            self.contexts.append((handle, made))

    @rule(thread=threads, number=which)
    def destroy_context(self, thread, number):
        handle, known = self.pick(self.contexts, number)
        assert self.call(thread, rt.destroy_context, handle) == self.rules.destroy_context(known)

    @rule(thread=threads, number=which)
    def set_current_context(self, thread, number):
        handle, known = self.pick(self.contexts, number)
        assert self.call(thread, rt.set_current_context, handle) == self.rules.set_current_context(thread, known)

    # Streams and events.

    @rule(thread=threads)
    def create_stream(self, thread):
        handle, code = self.call(thread, rt.create_stream)
        wanted, made = self.rules.create_stream(thread)
        assert code == wanted
        if made is not None:
            self.streams.append((handle, made))

    @rule(thread=threads, number=which, is_forced=st.booleans())
    def destroy_stream(self, thread, number, is_forced):
        handle, known = self.pick(self.streams, number, thread)
        is_busy = known is not None and any(known in block.unsettled for _, block in self.blocks if block is not None)
        fn = rt.destroy_stream_force if is_forced and not is_busy else rt.destroy_stream
        assert self.call(thread, fn, handle) == self.rules.destroy_stream(known)

    @rule(thread=threads, number=which, timeout=st.sampled_from([None, -1, 10_000]))
    def synchronize_stream(self, thread, number, timeout):
        handle, known = self.pick(self.streams, number, thread)
        fn, more = (rt.synchronize_stream, ()) if timeout is None else (rt.synchronize_stream_with_timeout, (timeout,))
        assert self.call(thread, fn, handle, *more) == self.rules.synchronize_stream(known)

    @rule(thread=threads)
    def create_event(self, thread):
        handle, code = self.call(thread, rt.create_event)
        wanted, made = self.rules.create_event(thread)
        assert code == wanted
        if made is not None:
            self.events.append((handle, made))

    @rule(thread=threads, number=which)
    def destroy_event(self, thread, number):
        handle, known = self.pick(self.events, number, thread)
        assert self.call(thread, rt.destroy_event, handle) == self.rules.destroy_event(known)

    @rule(thread=threads, event=which, stream=which, records=st.booleans())
    def order(self, thread, event, stream, records):
        (event_handle, known), (stream_handle, known_stream) = (
            self.pick(self.events, event, thread),
            self.pick(self.streams, stream, thread),
        )
        if not records and known is not None and not known.is_recorded:
            return  # in one order, nobody would record it meanwhile
        if records:
            answer = self.call(thread, rt.record_event, event_handle, stream_handle)
        else:
            answer = self.call(thread, rt.stream_wait_event, stream_handle, event_handle)
        assert answer == self.rules.order(known, known_stream, records=records)

    # Memory.

    @rule(thread=threads, size=st.sampled_from([*SIZES, 0]), policy=st.sampled_from([0, 1, 2, 3, 7]))
    def malloc(self, thread, size, policy):
        address, code = self.call(thread, rt.malloc, size, policy)
        wanted, made = self.rules.malloc(thread, size, policy)
        assert code == wanted, axcl.last_error()
        if made is not None:
            assert address not in [old for old, _ in self.blocks]
            self.blocks.append((address, made))

    @rule(thread=threads, number=which)
    def free(self, thread, number):
        address, known = self.pick(self.blocks, number, thread)
        assert self.call(thread, rt.free, address) == self.rules.free(thread, known)

    @rule(thread=threads, number=which, value=values, size=sizes, stream=st.none() | which)
    def memset(self, thread, number, value, size, stream):
        address, known = self.pick(self.blocks, number, thread)
        if stream is None:
            answer = self.call(thread, rt.memset, address, value, size)
            assert answer == self.rules.memset(thread, known, value, size)
            return
        handle, known_stream = self.pick(self.streams, stream, thread)
        if known_stream is not None:
            answer = self.call(thread, rt.memset_async, address, value, size, handle)
            assert answer == self.rules.memset(thread, known, value, size, known_stream)

    @rule(thread=threads, number=which, value=values, size=sizes)
    def copy_in(self, thread, number, value, size):
        address, known = self.pick(self.blocks, number, thread)
        data = bytes([value]) * size
        answer = self.call(thread, rt.memcpy, address, data, size, axcl.AXCL_MEMCPY_HOST_TO_DEVICE)
        assert answer == self.rules.copy_in(thread, known, data)

    @rule(thread=threads, number=which, size=sizes)
    def copy_out(self, thread, number, size):
        address, known = self.pick(self.blocks, number, thread)
        back = bytearray(size)
        answer = self.call(thread, rt.memcpy, back, address, size, axcl.AXCL_MEMCPY_DEVICE_TO_HOST)
        wanted, data = self.rules.copy_out(thread, known, size)
        assert answer == wanted
        assert data is None or bytes(back) == data

    @rule(thread=threads, number=which, other=which, size=sizes)
    def copy_within(self, thread, number, other, size):
        (target, known), (source, known_source) = (
            self.pick(self.blocks, number, thread),
            self.pick(self.blocks, other, thread),
        )
        answer = self.call(thread, rt.memcpy, target, source, size, axcl.AXCL_MEMCPY_DEVICE_TO_DEVICE)
        assert answer == self.rules.copy_within(thread, known, known_source, size)

    # The engine.

    @rule(thread=threads, mode=st.sampled_from([0, 0, 1, 2, 3, 4]))
    def engine_init(self, thread, mode):
        assert self.call(thread, rt.engine_init, mode) == self.rules.engine_init(thread, mode)

    @rule(thread=threads)
    def engine_finalize(self, thread):
        assert self.call(thread, rt.engine_finalize) == self.rules.engine_finalize(thread)

    @rule(thread=threads)
    def engine_kind(self, thread):
        mode, code = self.call(thread, rt.engine_get_vnpu_kind)
        assert (code, mode) == self.rules.engine_kind(thread)

    def teardown(self) -> None:
        for thread in self.threads:
            thread.end()
        for number, count in self.rules.counts.items():
            for _ in range(count):
                assert rt.reset_device(self.ids[number]) == 0
            assert rt.reset_device(self.ids[number]) & 0xFFFFFFFF == rules.NOT_ACTIVE
        assert is_all_free(Tally.observer)
        assert axcl.finalize() == 0


@pytest.mark.timeout(3000)
def test_random_calls_of_8_threads_answer_as_the_rules_say_and_leak_nothing(monkeypatch) -> None:
    daemon = Daemon("--cards", "2", "--durability", "none")
    monkeypatch.setenv("LEASEHOLD_ADDRESS", str(daemon.run_directory))
    Tally.calls = Tally.done = 0
    try:
        with daemon.connect() as Tally.observer:
            while Tally.calls < CALLS:
                run = settings(
                    max_examples=-(-(CALLS - Tally.calls) // CALLS_A_RUN),
                    stateful_step_count=CALLS_A_RUN,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
                run_state_machine_as_test(seed(SEED + Tally.calls)(Machine), settings=run)
    finally:
        daemon.remove()
    told = f"{Tally.calls} calls of {THREADS} threads, {Tally.done} of them carried out"
    sys.stdout.write(f"{told}, seed {SEED}: no difference, nothing left behind\n")
    assert Tally.done > 0.4 * Tally.calls
