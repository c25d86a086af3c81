"""The states of an object: what each step does in each of them, and what a fault leaves behind."""

import gc
import sys

import pytest

import leasehold
from leasehold.aie import (
    Broadcast,
    ComboEvent,
    Device,
    GroupEvent,
    PCEvent,
    PCRange,
    PerfCounter,
    State,
    StreamPortSelect,
    TraceControl,
    UserEvent,
    WrongState,
)
from support.aie import CORE, MEM, held, reserved, totals

ACTIVE = ("core", "ACTIVE_CORE")


def initialize_counter(counter):
    counter.initialize(ACTIVE, ACTIVE)


# Every kind of object, how it is made ready to be reserved, and to be started.
KINDS = {
    "PerfCounter": (lambda device, **more: PerfCounter(device, CORE, **more), initialize_counter, None),
    "UserEvent": (lambda device, **more: UserEvent(device, CORE, **more), None, None),
    "PCEvent": (lambda device, **more: PCEvent(device, CORE, **more), None, lambda one: one.configure(0x40)),
    "PCRange": (lambda device, **more: PCRange(device, CORE, **more), None, lambda one: one.configure(0x40, 0x80)),
    "StreamPortSelect": (
        lambda device, **more: StreamPortSelect(device, CORE, **more),
        None,
        lambda one: one.configure("slave", "DMA", 0),
    ),
    "TraceControl": (lambda device, **more: TraceControl(device, CORE, **more), initialize_counter, None),
    "Broadcast": (lambda device, **more: Broadcast(device, [CORE], **more), None, None),
    "ComboEvent": (
        lambda device, **more: ComboEvent(device, CORE, **more),
        None,
        lambda one: one.configure([ACTIVE, ACTIVE], ["and"]),
    ),
    "GroupEvent": (lambda device, **more: GroupEvent(device, CORE, 2, **more), lambda one: one.initialize(0x80), None),
}


def ready(device, kind: str, **more):
    """An object that may be reserved and started."""
    make, initialize, configure = KINDS[kind]
    made = make(device, **more)
    if initialize:
        initialize(made)
    if configure:
        configure(made)
    return made


def in_state(device, state: str, **more):
    counter = PerfCounter(device, CORE, **more)
    if state != "created":
        counter.initialize("core", "core") if state.endswith("unconfigured") else counter.initialize(ACTIVE, ACTIVE)
    if state in {"reserved", "running", "reserved unconfigured"}:
        counter.reserve()
    if state == "running":
        counter.start()
    return counter


STEPS = {
    "set_preferred_id": lambda one: one.set_preferred_id(2),
    "initialize": lambda one: one.initialize(ACTIVE, ACTIVE),
    "configure": lambda one: one.configure(start=ACTIVE, stop=ACTIVE),
    "reserve": PerfCounter.reserve,
    "start": PerfCounter.start,
    "stop": PerfCounter.stop,
    "free": PerfCounter.free,
    "release": PerfCounter.release,
    "close": PerfCounter.close,
    "id": lambda one: one.id,
}

C, Z, R, N, X = State.CREATED, State.INITIALIZED, State.RESERVED, State.RUNNING, WrongState
# For each state: what each step leads to, in the order of STEPS. Units came from the pool, so free is always refused.
RULES = {
    # state                   prefer init configure reserve start stop free release close id
    "created": (C, Z, X, X, X, C, X, C, C, X),
    "initialized": (Z, Z, Z, R, X, Z, X, Z, Z, X),
    "initialized unconfigured": (Z, Z, Z, R, X, Z, X, Z, Z, X),
    "reserved": (X, X, R, X, N, R, X, Z, Z, R),
    "reserved unconfigured": (X, X, R, X, X, R, X, Z, Z, R),
    "running": (X, X, X, X, N, R, X, X, Z, N),
}
CASES = [(state, step, after) for state, row in RULES.items() for step, after in zip(STEPS, row, strict=True)]


@pytest.mark.parametrize(("state", "step", "after"), CASES, ids=[f"{state}-{step}" for state, step, _ in CASES])
def test_a_step_does_what_the_table_says(manager, device, state, step, after):
    counter = in_state(device, state)
    before = counter.state, counter.is_configured, totals(manager)
    if after is WrongState:
        with pytest.raises(WrongState):
            STEPS[step](counter)
        assert (counter.state, counter.is_configured, totals(manager)) == before
        return
    STEPS[step](counter)
    assert counter.state is after
    assert totals(manager) == ({"perfcnt": (1, 0)} if after in {R, N} else {})


@pytest.mark.parametrize("state", ["created", "initialized", "reserved", "running"])
def test_what_was_set_aside_is_freed_where_it_does_not_run(manager, device, state):
    manager.reserve_claims("design", leasehold.Ids("perfcnt", [2], at=[CORE]))
    counter = in_state(device, state, reservation="design")
    assert counter.is_prereserved

    if state == "running":
        with pytest.raises(WrongState):
            counter.free()
        assert (counter.state, held(manager, "perfcnt", CORE)) == (State.RUNNING, {2})
        counter.stop()
    counter.free()

    assert counter.is_prereserved
    assert counter.state is (State.CREATED if state == "created" else State.INITIALIZED)
    assert (held(manager, "perfcnt", CORE), reserved(manager, "perfcnt", CORE)) == (set(), {2})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_through_all_states(manager, device, kind):
    told = []
    driven = Device(manager, on_program=lambda action, resource: told.append((action, resource)))
    with ready(driven, kind) as made:
        assert (made.state, made.is_initialized, made.is_reserved) == (State.INITIALIZED, True, False)
        made.reserve()
        assert (made.state, made.is_reserved, made.id) == (State.RESERVED, True, made.ids[0])
        made.start()
        made.start()
        assert (made.state, made.is_reserved, made.is_running) == (State.RUNNING, True, True)
        made.stop()
        made.stop()
        made.release()
        assert (made.state, totals(manager)) == (State.INITIALIZED, {})
        made.reserve()
        made.start()

    assert told == [("start", made), ("stop", made)] * 2
    assert totals(manager) == {}
    assert made.state is State.INITIALIZED


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Broadcast"])
def test_every_kind_takes_its_units_from_a_reservation_and_frees_them_there(manager, device, kind):
    model = ready(Device(manager), kind)
    model.reserve()
    units = model.units
    model.release()
    manager.reserve_claims("design", *(leasehold.Ids(pool, [unit], at=[tile]) for pool, tile, unit in units))
    set_aside_totals = totals(manager)

    from_pool, from_design = ready(device, kind), ready(device, kind, reservation="design")
    if kind not in {"TraceControl", "GroupEvent"}:  # of those there is one, and the compiler has it
        from_pool.reserve()
        assert not from_pool.units & units
        from_pool.release()
    elif kind == "TraceControl":
        with pytest.raises(leasehold.Exhausted):
            from_pool.reserve()
    from_design.reserve()
    assert from_design.units == units
    from_design.free()
    assert totals(manager) == set_aside_totals
    from_design.reserve()
    from_design.release()
    assert totals(manager) == {}
    assert not from_design.is_prereserved


def test_leaving_the_block_keeps_the_reservation(manager, device):
    manager.reserve_claims("design", leasehold.Ids("user_event", [3], at=[MEM]))
    with UserEvent(device, MEM, reservation="design") as event:
        event.reserve()
        event.start()
        assert held(manager, "user_event", MEM) == {3}

    assert (held(manager, "user_event", MEM), reserved(manager, "user_event", MEM)) == (set(), {3})


def test_an_id_that_was_set_aside_without_a_name_here_is_freed_too(manager, device):
    manager.reserve_claims("design", leasehold.Ids("user_event", [3], at=[MEM]))
    event = UserEvent(device, MEM)
    event.set_preferred_id(3, is_static=True)
    event.reserve()
    event.free()

    assert (held(manager, "user_event", MEM), reserved(manager, "user_event", MEM)) == (set(), {3})


@pytest.mark.parametrize(("unit", "is_static"), [(None, True), (-1, False), ("1", False), (True, False)])
def test_no_id_is_asked_for_and_nothing_is_noted(device, unit, is_static):
    counter = PerfCounter(device, CORE)
    with pytest.raises(leasehold.Invalid):
        counter.set_preferred_id(unit, is_static=is_static)
    counter.initialize(ACTIVE, ACTIVE)
    counter.reserve()
    assert (counter.id, counter.is_prereserved) == (0, False)


@pytest.mark.parametrize(
    ("unit", "refusal"), [(1, leasehold.Held), (4, leasehold.Invalid), (1 << 40, leasehold.Invalid)]
)
def test_a_preferred_id_is_that_one_or_refused(manager, device, unit, refusal):
    manager.acquire(leasehold.Ids("perfcnt", [1], at=[CORE]))
    counter = in_state(device, "initialized")
    counter.set_preferred_id(unit)
    with pytest.raises(refusal):
        counter.reserve()
    assert counter.state is State.INITIALIZED
    counter.set_preferred_id(None)
    counter.reserve()
    assert counter.id == 0
    manager.release(manager.leases()[0])


def test_another_users_reservation_is_not_given_to_the_pool_and_stays_held(manager, device, monkeypatch):
    manager.reserve_claims("design", leasehold.Ids("user_event", [3], at=[MEM]))
    event = UserEvent(device, MEM, reservation="design")
    event.reserve()

    def refuse(*_, **__):
        raise leasehold.NotOwner("reservation design belongs to uid 7")

    monkeypatch.setattr(manager, "release", refuse)
    with pytest.raises(leasehold.NotOwner):
        event.release()
    assert (event.state, event.is_prereserved, event.id) == (State.RESERVED, True, 3)
    monkeypatch.undo()
    event.free()
    assert reserved(manager, "user_event", MEM) == {3}


class Broken(Exception):
    """What a driver raises that cannot write its registers."""


def test_a_driver_that_fails_to_start_leaves_it_reserved(manager):
    def fail(action, resource):
        raise Broken(action)

    with Device(manager, on_program=fail) as device:
        counter = in_state(device, "reserved")
        with pytest.raises(Broken):
            counter.start()
        assert counter.state is State.RESERVED
    assert totals(manager) == {}


def test_a_driver_that_fails_to_stop_leaves_it_running_but_its_end_gives_everything_back(manager):
    def fail(action, resource):
        if action == "stop":
            raise Broken(action)

    device = Device(manager, on_program=fail)
    first, second = in_state(device, "running"), in_state(device, "running")
    with pytest.raises(Broken):
        first.stop()
    assert first.state is State.RUNNING
    with pytest.raises(Broken):
        first.close()
    assert first.state is State.INITIALIZED
    with pytest.raises(Broken):
        device.close()
    assert (second.state, totals(manager)) == (State.INITIALIZED, {})


def test_a_method_of_ones_own_may_program_instead_of_a_hook(device):
    class Driven(UserEvent):
        done = ()

        def _program(self, action):
            self.done = (*self.done, action)

    with Driven(device, CORE) as event:
        event.reserve()
        event.start()
    assert event.done == ("start", "stop")


def test_an_object_that_is_dropped_is_warned_about_stopped_and_ended_by_the_next_that_is_reserved(manager):
    told = []
    device = Device(manager, on_program=lambda action, resource: told.append((action, str(resource))))
    dropped = in_state(device, "running")
    name = str(dropped)
    with pytest.warns(ResourceWarning, match="dropped without an end"):  # noqa: PT031 - what warns is the dropping
        del dropped
        gc.collect()
    assert held(manager, "perfcnt", CORE) == {0}
    next_one = in_state(device, "reserved")

    assert (next_one.id, held(manager, "perfcnt", CORE)) == (0, {0})
    assert told == [("start", name), ("stop", name)]
    next_one.release()


def test_an_object_that_is_dropped_is_ended_also_where_warnings_are_errors(manager, monkeypatch):
    device, unraisable = Device(manager), []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: unraisable.append(raised.exc_type))
    dropped = in_state(device, "running")
    del dropped
    gc.collect()
    assert unraisable == [ResourceWarning]
    next_one = in_state(device, "reserved")
    assert (next_one.id, held(manager, "perfcnt", CORE)) == (0, {0})
    next_one.release()


def test_what_was_never_reserved_is_dropped_in_silence(manager, device):
    counter = in_state(device, "initialized")
    del counter
    gc.collect()
    with pytest.raises(leasehold.Invalid):
        PerfCounter(device, (99, 1, "core"))
    gc.collect()
    assert totals(manager) == {}
