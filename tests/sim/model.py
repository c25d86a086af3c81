"""What the books must say, worked out from the same events in the plainest way: sets as bits of integers, and dicts."""

from collections.abc import Iterable
from dataclasses import dataclass

from rm.core import events, limits
from rm.core.bitmap import UnitBitmap
from rm.core.books import Books
from rm.core.card import Allotment
from rm.core.lease import Lease
from rm.core.reservation import ReservationSpec
from rm.core.types import CardId, LeaseId, SessionId, SiteName
from sim.card import POOLS, Masks, PoolKey, mask_of, masks_of


@dataclass
class Held:
    """A lease, allotment by allotment."""

    lease: Lease
    parts: list[tuple[PoolKey, int]]

    @property
    def masks(self) -> Masks:
        return _together(self.parts)


class Model:
    """The state after some events."""

    def __init__(self, history: Iterable[events.Event] = ()) -> None:
        self.leases: dict[LeaseId, Held] = {}
        self.ended: set[LeaseId] = set()
        self.revoking: dict[LeaseId, int] = {}  # the notice that each was given, in ns
        self.quarantine: dict[LeaseId, Masks] = {}
        self.reserved: dict[str, tuple[ReservationSpec, Masks]] = {}
        self.gated: dict[CardId, tuple[SiteName, ...]] = {}  # sites whose clock is off
        self.sessions: set[SessionId] = set()
        self.answers: dict[tuple[SessionId, int], LeaseId | None] = {}  # what each request began; None: given up
        self.remembered: dict[SessionId, list[int]] = {}  # requests that had an answer, oldest first
        self.last_token = 0
        self.epoch = 0
        for event in history:
            self.apply(event)

    def bits(self, what: str, key: PoolKey) -> int:
        """All units of a pool that are held, reserved or quarantined."""
        owners: Iterable[Masks]
        match what:
            case "held":
                owners = (held.masks for held in self.leases.values())
            case "reserved":
                owners = (masks for _, masks in self.reserved.values())
            case _:
                owners = self.quarantine.values()
        bits = 0
        for masks in owners:
            bits |= masks.get(key, 0)
        return bits

    def gated_bits(self, key: PoolKey) -> int:
        """All units of a pool at sites whose clock is off."""
        spec = next(pool for pool in POOLS if pool.name == key[1])
        gated = [site for site, name in enumerate(spec.sites) if name in self.gated.get(key[0], ())]
        return sum(1 << (unit * spec.site_count + site) for unit in range(spec.unit_count) for site in gated)

    def is_forgotten(self, session: SessionId, request_id: int) -> bool:
        """Whether a request was so long ago that its answer may be forgotten."""
        mine = self.remembered.get(session, [])
        return request_id in mine[: -limits.REQUESTS_REMEMBERED_PER_SESSION]

    def apply(self, event: events.Event) -> None:
        if isinstance(event, events.Granted | events.Extended | events.UnitsReturned | events.RequestForgone):
            mine = self.remembered.setdefault(event.request.session, [])
            if event.request.id not in mine:
                mine.append(event.request.id)
        match event:
            case events.Started(epoch):
                self.epoch = epoch
            case events.SessionOpened(session):
                self.sessions.add(session.id)
            case events.SessionForgotten(session_id):
                self.sessions.discard(session_id)
            case events.Granted(lease, request):
                self.leases[lease.id] = Held(lease, _parts(lease.card, lease.allotments))
                self.answers[request.session, request.id] = lease.id
                self.last_token = lease.token
            case events.Extended(lease_id, allotments):
                held = self.leases[lease_id]
                held.parts += _parts(held.lease.card, allotments)
            case events.UnitsReturned(lease_id, lost, to_pool):
                held = self.leases[lease_id]
                gone = [(key, mask_of(key[1], units)) for (key, _), units in zip(held.parts, lost, strict=True)]
                pairs = zip(held.parts, gone, strict=True)
                held.parts = [(key, mask & ~without) for (key, mask), (_, without) in pairs]
                if to_pool:
                    self._give_to_pool(_together(gone))
            case events.RevocationBegan(lease_id, _, _, notice_ns):
                self.revoking[lease_id] = notice_ns
            case events.LeaseEnded(lease_id, _, is_violent, to_pool):
                masks = self.leases.pop(lease_id).masks
                self.ended.add(lease_id)
                self.revoking.pop(lease_id, None)
                if is_violent:
                    self.quarantine[lease_id] = masks
                if to_pool:
                    self._give_to_pool(masks)
            case events.UnitsQuiet(lease_id):
                del self.quarantine[lease_id]
            case events.RequestForgone(request):
                self.answers[request.session, request.id] = None
            case events.Reserved(spec) | events.ReservationReplaced(spec):
                parts = [((spec.card, name), mask_of(name, units)) for name, units in spec.units]
                self.reserved[spec.name] = (spec, _together(parts))
            case events.SitesGated(card, sites):
                self.gated[card] = sites
            case events.Unreserved(name):
                del self.reserved[name]

    def differences(self, books: Books) -> list[str]:
        """Where ``books`` say something else."""
        faults = []
        for card in books.cards.values():
            if card.gated_sites != self.gated.get(card.id, ()):
                faults.append(f"the clocks of {card.gated_sites} are off, should be {self.gated.get(card.id)}")
            for name, pool in card.pools.items():
                for what in ("held", "reserved", "quarantined"):
                    there, here = _as_int(getattr(pool, what)), self.bits(what, (card.id, name))
                    if there != here:
                        faults.append(f"pool {name} of card {card.id}: {what} is {there:b}, should be {here:b}")
        for what, there, here in (
            ("leases", set(books.leases), set(self.leases)),
            ("revoking", set(books.revoking), set(self.revoking)),
            ("quarantine", set(books.quarantine), set(self.quarantine)),
            ("reservations", set(books.reservations), set(self.reserved)),
            ("sessions", set(books.sessions), self.sessions),
            ("last token", books.last_token, self.last_token),
            ("epoch", books.epoch, self.epoch),
        ):
            if there != here:
                faults.append(f"{what}: {_shown(there)}, should be {_shown(here)}")
        for lease_id, lease in books.leases.items():
            held = self.leases.get(lease_id)
            if held is not None:
                same = (held.lease.token, held.lease.session, held.lease.holder)
                if (lease.token, lease.session, lease.holder) != same or _plain(masks_of(lease)) != _plain(held.masks):
                    faults.append(f"{lease_id} is {lease}, should be {held}")
        return faults

    def _give_to_pool(self, given: Masks) -> None:
        for _, masks in self.reserved.values():
            for key, mask in given.items():
                if key in masks:
                    masks[key] &= ~mask


def names_of(event: events.Event) -> list[tuple[object, ...]]:
    """Under which names an event is asked for when it is told."""
    match event:
        case events.SessionOpened(session):
            return [("open", session.id)]
        case events.SessionForgotten(session_id):
            return [("bye", session_id)]
        case events.Granted(lease, request):
            return [("grant", lease.id), ("request", request.session, request.id)]
        case events.Extended(_, _, request) | events.UnitsReturned(_, _, _, request) | events.RequestForgone(request):
            return [("request", request.session, request.id)]
        case events.RevocationBegan(lease_id):
            return [("revoking", lease_id)]
        case events.LeaseEnded(lease_id):
            return [("end", lease_id)]
        case events.Reserved(spec) | events.ReservationReplaced(spec):
            return [("reserve", f"reserve {spec.name} {spec.content_hash}")]
        case events.SitesGated(card, sites):
            return [("gate", f"gate {card} {' '.join(sites)}")]
        case events.Unreserved(name):
            return [("unreserve", f"unreserve {name}")]
    return []


def _parts(card: CardId, allotments: Iterable[Allotment]) -> list[tuple[PoolKey, int]]:
    return [((card, one.pool), mask_of(one.pool, one.units)) for one in allotments]


def _together(parts: Iterable[tuple[PoolKey, int]]) -> Masks:
    masks: Masks = {}
    for key, mask in parts:
        masks[key] = masks.get(key, 0) | mask
    return masks


def _plain(masks: Masks) -> Masks:
    return {key: mask for key, mask in masks.items() if mask}


def _as_int(bitmap: UnitBitmap) -> int:
    return int.from_bytes(bitmap.bits.tobytes(), "little")


def _shown(value: object) -> object:
    return sorted(value) if isinstance(value, set) else value
