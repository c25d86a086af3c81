"""The log of events: what is remembered, what is told, and how much of it at most."""

import asyncio

import pytest

from rm.core import events, limits
from rm.core.errors import QuotaExceeded, ShuttingDown
from rm.core.reservation import ReservationSpec
from rm.core.types import UnitRange, UnitSet
from rm.service.event_log import EventLog, Happening, describe, is_told
from support.books import CARD, NO_REQUEST, acquire, asker, ledger_of, pool
from support.daemon_parts import run_async, settle, units

SPEC = ReservationSpec("r", "", CARD, (("u", UnitSet((0,), ((UnitRange(0, 1),),))),), None)


def numbered(revision: int) -> Happening:
    return Happening(revision, "granted", "", 0)


def revisions_of(happenings: list[Happening]) -> list[int]:
    return [one.revision for one in happenings]


@run_async
async def test_a_watcher_hears_of_what_comes_after_it_in_order_and_of_nothing_before() -> None:
    log = EventLog()
    log.add(numbered(1))
    watcher = log.watch()
    for revision in (2, 3):
        log.add(numbered(revision))
    assert revisions_of(await watcher.next()) == [2, 3]
    waiting = asyncio.create_task(watcher.next())
    await settle()
    assert not waiting.done()
    log.add(numbered(4))
    assert revisions_of(await waiting) == [4]


@run_async
async def test_every_watcher_hears_of_everything_for_itself() -> None:
    log = EventLog()
    watchers = [log.watch() for _ in range(3)]
    log.add(numbered(1))
    assert [revisions_of(await watcher.next()) for watcher in watchers] == [[1], [1], [1]]


@run_async
async def test_who_begins_to_watch_before_others_were_told_hears_of_nothing_before() -> None:
    log = EventLog()
    first = log.watch()
    log.add(numbered(1))
    second = log.watch()
    log.add(numbered(2))
    assert revisions_of(await second.next()) == [2]
    assert revisions_of(await first.next()) == [1, 2]


@run_async
async def test_so_many_events_are_told_together_and_no_more() -> None:
    log = EventLog()
    watcher = log.watch()
    most = limits.EVENTS_TOLD_TOGETHER_MAX
    for revision in range(most + 1):
        log.add(numbered(revision))
    assert revisions_of(await watcher.next()) == list(range(most))
    assert revisions_of(await watcher.next()) == [most]


@run_async
async def test_who_stopped_watching_hears_nothing_more() -> None:
    log = EventLog()
    watcher = log.watch()
    log.unwatch(watcher)
    log.unwatch(watcher)
    log.add(numbered(1))
    log._tell()
    assert len(watcher._queue) == 0


@pytest.mark.parametrize("surplus", [0, 1, 2, 2_500])
@run_async
async def test_a_watcher_that_reads_too_slowly_loses_events_and_is_told_so_first(surplus) -> None:
    log = EventLog()
    watcher = log.watch()
    told = limits.EVENTS_PER_WATCHER_MAX + surplus
    for revision in range(told):
        log.add(numbered(revision))
        assert len(watcher._queue) <= limits.EVENTS_PER_WATCHER_MAX
        assert len(log._news) < limits.EVENTS_PER_WATCHER_MAX
    log._tell()
    heard = []
    while watcher._queue:
        heard += await watcher.next()
    assert heard[0].kind == ("resync" if surplus else "granted")
    revisions = [one.revision for one in heard if one.kind != "resync"]
    assert revisions == list(range(told - len(revisions), told)), "what comes after the gap has no gap"


def test_only_the_latest_events_are_remembered() -> None:
    log = EventLog()
    for revision in range(limits.EVENTS_REMEMBERED + 5):
        log.add(numbered(revision))
    assert [one.revision for one in log.past(limits.EVENTS_REMEMBERED)] == list(range(5, limits.EVENTS_REMEMBERED + 5))
    assert [one.revision for one in log.past(2)] == [limits.EVENTS_REMEMBERED + 3, limits.EVENTS_REMEMBERED + 4]
    assert log.past(0) == []


@run_async
async def test_there_are_no_more_watchers_than_the_limit() -> None:
    log = EventLog()
    watchers = [log.watch() for _ in range(limits.WATCHERS_MAX)]
    with pytest.raises(QuotaExceeded):
        log.watch()
    log.unwatch(watchers[0])
    log.watch()


@run_async
async def test_closing_lets_a_watcher_read_to_the_end_and_then_sends_it_away() -> None:
    log = EventLog()
    watcher, idle = log.watch(), log.watch()
    waiting = asyncio.create_task(idle.next())
    await settle()
    log.add(numbered(1))
    assert revisions_of(await waiting) == [1]
    waiting = asyncio.create_task(idle.next())
    await settle()
    log.close()
    with pytest.raises(ShuttingDown):
        await waiting
    assert revisions_of(await watcher.next()) == [1]
    with pytest.raises(ShuttingDown):
        await watcher.next()
    with pytest.raises(ShuttingDown):
        log.watch()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (events.Extended("L1", (), NO_REQUEST), "extended"),
        (events.UnitsReturned("L1", (), False, NO_REQUEST), "units_returned"),
        (events.LeaseEnded("L1", "released", is_violent=False), "ended"),
        (events.UnitsQuiet("L1"), "units_quiet"),
        (events.RevocationBegan("L1", "asked to", 5), "revoking"),
        (events.Reserved(SPEC), "reserved"),
        (events.Unreserved("r", CARD), "unreserved"),
    ],
)
def test_every_event_that_people_watch_for_is_put_into_words(event, kind) -> None:
    ledger = ledger_of(pool("u", 4))
    lease = acquire(ledger, units(2), who=asker("s1"), label="mine")
    happening = describe(event, lease, revision=7, wall_ns=5)
    assert (happening.kind, happening.revision, happening.wall_ns) == (kind, 7, 5)
    assert happening.card == CARD
    assert happening.text
    assert is_told(event)


def test_a_grant_says_who_got_what() -> None:
    ledger = ledger_of(pool("u", 4), pool("v", 4))
    lease = acquire(ledger, units(2), units(1, "v"), label="mine")
    happening = describe(events.Granted(lease, NO_REQUEST, None), lease, revision=1, wall_ns=0)
    assert happening.text == "L1 'mine' (pid 100, s1) was granted u, v"
    assert (happening.lease_id, happening.holder) == ("L1", lease.holder)


@pytest.mark.parametrize(
    "event", [events.Renewed((("L1", 5),)), events.RequestForgone(NO_REQUEST), events.SessionForgotten("s1")]
)
def test_what_nobody_watches_for_is_not_told(event) -> None:
    assert describe(event, None, revision=1, wall_ns=0) is None
    assert not is_told(event)
