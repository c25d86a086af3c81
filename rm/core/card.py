"""One device: its shape, and the state of its pools."""

from dataclasses import dataclass

from rm.core.pool import Pool, PoolSpec
from rm.core.types import CardId, PoolName, SiteName, UnitSet


@dataclass(frozen=True, slots=True)
class CardSpec:
    """The shape of a card, as its profile and its back end give it.

    ``core_cpus`` holds the CPU number behind each unit of the pool ``cores``, where cores are CPUs.
    """

    id: CardId
    profile: str
    backend: str
    pools: tuple[PoolSpec, ...]
    core_cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Allotment:
    """The units that one claim got."""

    pool: PoolName
    units: UnitSet


class Card:
    """The state of one card: its pools, in the order of its profile."""

    __slots__ = ("gated_sites", "pools", "spec")

    def __init__(self, spec: CardSpec) -> None:
        """Makes a card with every unit free."""
        self.spec = spec
        self.gated_sites: tuple[SiteName, ...] = ()
        self.pools: dict[PoolName, Pool] = {pool.name: Pool(pool) for pool in spec.pools}

    @property
    def id(self) -> CardId:
        """Its id: "0", "1", ..."""
        return self.spec.id

    def gate(self, sites: tuple[SiteName, ...]) -> None:
        """Turns the clocks of exactly these sites off, in every pool that has them."""
        for site in sites:
            assert any(site in pool.site_index for pool in self.pools.values()), f"card {self.id} has no site {site}"
        self.gated_sites = sites
        for pool in self.pools.values():
            pool.gate(sites)
