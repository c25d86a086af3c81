"""What a request costs whatever it asks for: all maps are made with their pools, and none on its way."""

import pytest

from rm.core.bitmap import UnitBitmap
from rm.core.claims import Claim, Common, FirstOf, Ids, Run, Units, Whole
from rm.core.errors import NotNow
from rm.core.ledger import Ledger
from rm.devices.profiles import load_profile
from support.books import CARD, NO_REQUEST, acquire, asker, kill, release, reserve_claims, wish_for

CORES = tuple(f"{column},{row},core" for column in range(4) for row in range(1, 3))
MEMORIES = tuple(f"{column},{row},mem" for column in range(4) for row in range(1, 3))
T = CORES[0]

REQUESTS: dict[str, tuple[Claim, ...]] = {
    "units of one tile": (Units("perfcnt", 2, (T,)),),
    "units of several tiles": (Units("perfcnt", 1, CORES),),
    "a tile twice": (Units("perfcnt", 1, (T, T)),),
    "a run": (Run("combo_event", 2, align_count=2, at=CORES),),
    "a run of a tile twice": (Run("pc_event", 2, align_count=2, at=(T, T)),),
    "ids": (Ids("perfcnt", (1, 3), CORES),),
    "a channel of all": (Common("bcast_channel"),),
    "a channel of some": (Common("bcast_channel", (*CORES, *MEMORIES, "0,0,pl")),),
    "columns": (Run("columns", 4),),
    "claims of several pools": (Units("perfcnt", 1, CORES), Common("bcast_channel"), Run("columns", 2)),
    "claims of one pool": (Units("perfcnt", 1, CORES), Ids("perfcnt", (0,), (T,)), Run("perfcnt", 2, at=CORES[1:3])),
    "runs of one row": (Run("columns", 3), Run("columns", 4), Ids("columns", (2,))),
    "a first that fits": (FirstOf((Units("perfcnt", 2, (T,)), Units("perfcnt", 1, (T,)))), Ids("perfcnt", (0,), (T,))),
    "units of a reservation": (Units("perfcnt", 1, (T,), "graph"), Units("perfcnt", 1, (T,), "graph")),
    "ids of a reservation": (Ids("perfcnt", (3,), (T,), "graph"),),
    "reserved ids": (Ids("perfcnt", (3,), (T,)), Units("perfcnt", 1, (T,))),
    "a channel of a reservation": (Common("bcast_channel", MEMORIES, "graph"),),
    "a whole reservation": (Whole("perfcnt", "graph"), Whole("bcast_channel", "graph"), Units("perfcnt", 1, (T,))),
    "more than there is": (Units("perfcnt", 3, (T,)), Ids("perfcnt", (1,), (T,))),
    "what is held": (Ids("user_event", (0,), (T,)),),
}  # fmt: skip


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    made = Ledger((load_profile("aie").card(CARD, backend="fake", memory_bytes=0, cpus=()),))
    reserve_claims(made, "graph", Ids("perfcnt", (2, 3), (T,)), Common("bcast_channel", MEMORIES))
    acquire(made, Units("user_event", 1, (T,)))
    return made


@pytest.fixture
def made_maps(monkeypatch) -> list[str]:
    """Takes note of every map that is made from now on."""
    made: list[str] = []
    init, copy = UnitBitmap.__init__, UnitBitmap.copy

    def noted_init(self, *shape) -> None:
        made.append("made")
        init(self, *shape)

    def noted_copy(self) -> UnitBitmap:
        made.append("copied")
        return copy(self)

    monkeypatch.setattr(UnitBitmap, "__init__", noted_init)
    monkeypatch.setattr(UnitBitmap, "copy", noted_copy)
    return made


@pytest.mark.parametrize("claims", REQUESTS.values(), ids=REQUESTS)
def test_no_map_is_made_on_the_way_of_a_request(ledger, made_maps, claims) -> None:
    if claims not in (REQUESTS["more than there is"], REQUESTS["what is held"]):
        release(ledger, acquire(ledger, *claims))
    lease = acquire(ledger, Units("trace_ctrl", 1, (T,)), who=asker("s2"))
    try:
        ledger.apply(ledger.decide_extend(lease.id, claims, asker("s2"), NO_REQUEST))
    except NotNow:
        assert claims in (REQUESTS["more than there is"], REQUESTS["what is held"])
    back = ledger.decide_give_back(lease.id, asker("s2"), NO_REQUEST, pool="trace_ctrl", ids=[0], at=(T,))
    ledger.apply(back)
    kill(ledger, "s2")
    for lease_id in list(ledger.quarantine):
        ledger.apply(ledger.decide_quiet(lease_id))
    assert made_maps == []


def test_the_watch_on_maps_sees_one_that_is_made(made_maps) -> None:
    UnitBitmap(1, 1).copy()
    assert made_maps == ["made", "copied"]


def test_what_a_decision_left_in_the_spare_maps_is_nothing_to_the_next(ledger) -> None:
    """Whatever was asked before, refused or granted, the same request gets the same units."""
    expected = {name: _got(ledger, claims) for name, claims in REQUESTS.items()}
    for before in REQUESTS.values():
        for name, claims in REQUESTS.items():
            _got(ledger, before)
            assert _got(ledger, claims) == expected[name]


def _got(ledger: Ledger, claims: tuple[Claim, ...]) -> object:
    try:
        return ledger.decide_acquire(wish_for(*claims), now_ns=0, now_wall_ns=0)
    except NotNow as refusal:
        return str(refusal)
