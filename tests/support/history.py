"""Events of every kind in a legal order, made by hand: what the tests of the store write down, lose and read again."""

from collections.abc import Iterator
from random import Random

from rm.core import events
from rm.core.books import Books
from rm.core.card import Allotment, CardSpec
from rm.core.events import Event, Request
from rm.core.lease import Lease, WindowMark, without
from rm.core.ledger import Ledger
from rm.core.reservation import ReservationSpec
from rm.core.session import ProcessKey, SessionRecord
from rm.core.snapshot import Snapshot, take
from rm.core.types import NO_UNITS, Holder, LeaseId, PoolName, SessionId, SiteName, UnitRange, UnitSet
from support.books import CARD, card, pool

CARDS: tuple[CardSpec, ...] = (
    card(pool("u", 96), pool("mem", 32, unit_bytes=65_536), pool("ch", 6, sites=("a", "b"))),
)

_SESSIONS = ("s1", "s2", "s3")
_GUEST = "s4"  # comes and goes without ever having a lease
_HOLDER = Holder(pid=100, uid=1000, command="/usr/bin/app")


def history(count: int, seed: int = 0) -> list[Event]:
    """``count`` events, the same ones for the same ``seed``. Every kind that is stored comes up in the first sixty."""
    writer = _Writer(Random(seed))
    made: list[Event] = []
    for event in writer.events():
        writer.books.apply(event)
        made.append(event)
        if len(made) == count:
            break
    return made


def states(made: list[Event]) -> list[Snapshot]:
    """The books after none of the events, after the first, after the second, and so on."""
    books = Ledger(())
    taken = [take(books)]
    for event in made:
        books.apply(event)
        taken.append(take(books))
    return taken


class _Writer:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.books = Books(())
        self.request_id = 0

    def events(self) -> Iterator[Event]:
        yield events.Started(1, "boot-1", CARDS, ((CARD, "0"),))
        for index, name in enumerate((*_SESSIONS, _GUEST)):
            process = ProcessKey(pid=100 + index, pidfd_inode=1 << 40, start_ticks=index)
            yield events.SessionOpened(SessionRecord(SessionId(name), bytes(32), _HOLDER, process))
        kept = ((PoolName("u"), _row(90, 96)), (PoolName("ch"), UnitSet((0, 1), ((UnitRange(5, 6),),))))
        yield events.Reserved(ReservationSpec("kept", "hash", CARD, kept, owner_uid=1000))
        yield events.Reserved(ReservationSpec("passing", "", CARD, ((PoolName("mem"), _row(30, 32)),)))
        moved = ((PoolName("mem"), _row(29, 32)),)
        yield events.ReservationReplaced(
            ReservationSpec("passing", "other", CARD, moved, owner_uid=1000, is_shared=True)
        )
        yield events.SitesGated(CARD, (SiteName("b"),))
        while True:
            for change in self.random.sample(self._changes(), k=3):
                yield from change()
            yield from self._grant()

    def _changes(self):
        return [
            self._grant,
            self._grant,
            self._extend,
            self._remake,
            self._give_part_back,
            self._revoke,
            self._end,
            self._end_in_violence,
            self._quiet,
            self._forgo,
            self._come_or_go,
            self._unreserve,
            self._restart,
        ]

    def _grant(self) -> Iterator[Event]:
        units, memory = self._free("u", 3), self._free("mem", 2)
        allotments = tuple(Allotment(name, found) for name, found in (units, memory) if found is not NO_UNITS)
        if not allotments:
            yield from self._end()
            return
        token = self.books.last_token + 1
        windows = tuple(
            WindowMark(index, 65_536, 7, 1_000 + token)
            for index, allotment in enumerate(allotments)
            if allotment.pool == "mem"
        )
        lease = Lease(
            LeaseId(f"L{token}"),
            token,
            CARD,
            allotments,
            SessionId(self.random.choice(_SESSIONS)),
            _HOLDER,
            self.random.choice([None, 10_000_000_000]),
            self.random.choice(["", "étude"]),
            1_700_000_000_000_000_000,
            windows,
        )
        yield events.Granted(lease, self._request(lease.session), None)

    def _extend(self) -> Iterator[Event]:
        name, found = self._free("u", 2)
        if self.books.leases and found is not NO_UNITS:
            lease = self._lease()
            yield events.Extended(lease.id, (Allotment(name, found),), self._request(lease.session))

    def _remake(self) -> Iterator[Event]:
        for lease in self.books.leases.values():
            if lease.windows:
                remade = tuple(WindowMark(mark.allotment_index, mark.size_bytes, 8, 9) for mark in lease.windows)
                yield events.WindowsRemade(lease.id, remade)
                return

    def _give_part_back(self) -> Iterator[Event]:
        for lease in self.books.leases.values():
            whole = [allotment for allotment in lease.allotments if allotment.units.sites]
            if len(whole) > 1:
                lost = tuple(one.units if one is whole[0] else NO_UNITS for one in lease.allotments)
                assert without(lease, lost).allotments
                yield events.UnitsReturned(lease.id, lost, False, self._request(lease.session))
                return

    def _revoke(self) -> Iterator[Event]:
        calm = [lease_id for lease_id in self.books.leases if lease_id not in self.books.revoking]
        if calm:
            yield events.RevocationBegan(self.random.choice(calm), "an admin's wish", None)

    def _end(self, *, is_violent: bool = False) -> Iterator[Event]:
        if self.books.leases:
            yield events.LeaseEnded(self._lease().id, "process died" if is_violent else "released", is_violent)

    def _end_in_violence(self) -> Iterator[Event]:
        return self._end(is_violent=True)

    def _quiet(self) -> Iterator[Event]:
        for lease_id in self.books.quarantine:
            yield events.UnitsQuiet(lease_id)
            return

    def _forgo(self) -> Iterator[Event]:
        yield events.RequestForgone(self._request(SessionId(self.random.choice(_SESSIONS))))

    def _come_or_go(self) -> Iterator[Event]:
        if _GUEST in self.books.sessions:
            self.guest = self.books.sessions[SessionId(_GUEST)]
            yield events.SessionForgotten(self.guest.id)
        else:
            yield events.SessionOpened(self.guest)

    def _unreserve(self) -> Iterator[Event]:
        if "passing" in self.books.reservations:
            yield events.Unreserved("passing", CARD)

    def _restart(self) -> Iterator[Event]:
        yield events.Started(self.books.epoch + 1, "boot-2", CARDS)

    def _request(self, session: SessionId) -> Request:
        self.request_id += 1
        return Request(session, self.request_id, bytes([self.request_id % 256] * 16))

    def _lease(self) -> Lease:
        return self.books.leases[self.random.choice(list(self.books.leases))]

    def _free(self, name: str, count: int) -> tuple[PoolName, UnitSet]:
        """The first ``count`` units in a row that nobody has, or none."""
        runs = self.books.cards[CARD].pools[PoolName(name)].free_runs
        start = next((run.start for run in runs or () if len(run) >= count), None)
        return PoolName(name), NO_UNITS if start is None else _row(start, start + count)


def _row(start: int, stop: int) -> UnitSet:
    return UnitSet((0,), ((UnitRange(start, stop),),))
