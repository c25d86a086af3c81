"""Recordings of the real AI Engine driver, and what replays them: a manager in this process, or a daemon's client.

A recording is a list of steps and what the driver (release 2023.2, its resource manager) answered to each; those named
``runtime`` first load what the ``compile`` of the same number dumped. Whoever replays one answers in the same words.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import leasehold
from leasehold import Common, Ids, Lease, Refused, Run, Units
from leasehold.local import Manager
from leasehold.statistics import count_sites

DATA = Path(__file__).resolve().parents[1] / "conformance" / "aie"
NAMES = sorted(path.name for path in DATA.glob("*.json"))
Tile = tuple[int, int, str]
Step = dict[str, Any]
_ALSO_ANSWERED = {"available": ["count"], "static": ["count"], "request_common": ["id"]}  # elsewhere they are asked


class Player(Protocol):
    """Carries out steps; each method answers what the driver would, or raises ``Refused``."""

    def request(self, kind: str, tiles: list[Tile]) -> list[int]: ...
    def request_range(self, kind: str, tile: Tile, count: int) -> list[int]: ...
    def request_specific(self, kind: str, tile: Tile, unit: int) -> object: ...
    def request_common(self, kind: str, tiles: list[Tile], unit: int | None) -> int: ...
    def free(self, kind: str, tile: Tile, unit: int) -> None: ...
    def release(self, kind: str, tile: Tile, unit: int) -> None: ...
    def available(self, kind: str, tile: Tile) -> int: ...
    def static(self, kind: str, tile: Tile) -> int: ...
    def load(self, path: Path) -> None: ...
    def dump(self) -> bytes: ...


def replay(name: str, player: Player) -> list[str]:
    """Plays a recording; one sentence a difference."""
    steps: list[Step] = json.loads((DATA / name).read_text())["steps"]
    differences = []
    for number, step in enumerate(steps):
        answered = ("ok", "ids", "sha256", *_ALSO_ANSWERED.get(step["op"], ()))
        expected = {key: step[key] for key in answered if key in step}
        try:
            answer = {"ok": True} | _carry_out(step, player)
        except Refused as refusal:
            answer = {"ok": False, "refusal": f"{type(refusal).__name__}: {refusal}"}
        if any(answer.get(key) != value for key, value in expected.items()):
            differences.append(f"step {number}, {step}: {answer}")
    return differences


def _carry_out(step: Step, player: Player) -> Step:
    kind = step.get("type", "")
    tiles = [(one["col"], one["row"], one["module"]) for one in step.get("tiles", ())]
    tile = (step["col"], step["row"], step["module"]) if "col" in step else tiles[0] if tiles else (0, 0, "")
    match step["op"]:
        case "request":
            return {"ids": player.request(kind, tiles)}
        case "request_range":
            return {"ids": player.request_range(kind, tile, step["count"])}
        case "request_specific":
            player.request_specific(kind, tile, step["id"])
        case "request_common":
            return {"id": player.request_common(kind, tiles, None)}
        case "request_common_specific":
            player.request_common(kind, tiles, step["id"])
        case "free":
            player.free(kind, tile, step["id"])
        case "release":
            player.release(kind, tile, step["id"])
        case "available":
            return {"count": player.available(kind, tile)}
        case "static":
            return {"count": player.static(kind, tile)}
        case "load":
            player.load(DATA / step["file"])
        case "dump":
            data = player.dump()
            assert hashlib.sha256((DATA / step["file"]).read_bytes()).hexdigest() == step["sha256"]
            return {"sha256": hashlib.sha256(data).hexdigest()}
        case unknown:
            raise AssertionError(f"a step of an unknown kind: {unknown}")
    return {}


class ManagerPlayer:
    """Replays in this process."""

    def __init__(self, profile: str) -> None:
        self.manager = Manager(profile)
        self.request = self.manager.request
        self.request_range = self.manager.request_range
        self.request_specific = self.manager.request_specific
        self.request_common = self.manager.request_common
        self.free = self.manager.free
        self.release = self.manager.release_unit
        self.available = self.manager.available
        self.static = self.manager.static
        self.dump = self.manager.dump

    def load(self, path: Path) -> None:
        self.manager.load(path.read_bytes())


class DaemonPlayer:
    """Replays through a daemon, as a user of the library would: claims, and leases that give single units back."""

    def __init__(self, client: leasehold.Client) -> None:
        self.client = client
        self._leases: dict[tuple[str, Tile, int], Lease] = {}
        self._reservations: list[str] = []

    def request(self, kind: str, tiles: list[Tile]) -> list[int]:
        return self._took(kind, tiles, self.client.acquire(Units(kind, 1, at=tiles)))

    def request_range(self, kind: str, tile: Tile, count: int) -> list[int]:
        lease = self.client.acquire(Run(kind, count, align=count, at=[tile]))
        return self._took(kind, [tile] * count, lease)

    def request_specific(self, kind: str, tile: Tile, unit: int) -> None:
        self._took(kind, [tile], self.client.acquire(Ids(kind, [unit], at=[tile])))

    def request_common(self, kind: str, tiles: list[Tile], unit: int | None) -> int:
        claim = Common(kind, at=tiles) if unit is None else Ids(kind, [unit], at=tiles)
        distinct = list(dict.fromkeys(tiles))
        return self._took(kind, distinct, self.client.acquire(claim))[0]

    def free(self, kind: str, tile: Tile, unit: int) -> None:
        self._lease_of(kind, tile, unit).give_back(kind, [unit], at=[tile])
        del self._leases[kind, tile, unit]

    def release(self, kind: str, tile: Tile, unit: int) -> None:
        self._lease_of(kind, tile, unit).give_back(kind, [unit], at=[tile], to_pool=True)
        del self._leases[kind, tile, unit]

    def available(self, kind: str, tile: Tile) -> int:
        return self._counts(kind, tile).available

    def static(self, kind: str, tile: Tile) -> int:
        return self._counts(kind, tile).static

    def load(self, path: Path) -> None:
        self._reservations.append(self.client.reserve(path).name)

    def dump(self) -> bytes:
        return self.client.dump()

    def end(self) -> None:
        """Gives everything back."""
        for lease in set(self._leases.values()):
            lease.release()
        for name in self._reservations:
            self.client.unreserve(name)

    def _took(self, kind: str, tiles: list[Tile], lease: Lease) -> list[int]:
        ids = list(lease.allotments[0].ids)
        self._leases |= {(kind, tile, unit): lease for tile, unit in zip(tiles, ids, strict=True)}
        return ids

    def _lease_of(self, kind: str, tile: Tile, unit: int) -> Lease:
        lease = self._leases.get((kind, tile, unit))
        if lease is None:
            raise Refused("nobody holds it")
        return lease

    def _counts(self, kind: str, tile: Tile) -> leasehold.SiteCounts:
        found = next((one for one in count_sites(self.client.bitmap(kind), [], []) if one.site == tile), None)
        if found is None:
            raise Refused(f"{tile} has no {kind}")
        return found
