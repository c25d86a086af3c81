"""What Hypothesis draws from: pools of every shape, and claims that mostly can be met and sometimes never."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st

from rm.core.card import CardSpec
from rm.core.claims import Common, FirstOf, Ids, PlainClaim, Run, Units
from rm.core.pool import PoolSpec
from rm.core.types import PoolName, SiteName
from support.books import card

# The same examples in every run, so that a red build is red again at the desk; no clock, nothing kept on disk.
# Hypothesis would also draw from the constants of whatever modules are loaded: tests/conftest.py has it not do so.
SAME_EVERY_RUN = settings(derandomize=True, database=None, deadline=None)

RESERVATIONS = ("r0", "r1", "r2")
HASHES = ("h0", "h1")

SITES = tuple(SiteName(f"t{index}") for index in range(4))


def single_site_pools(name: str, most: int = 8) -> st.SearchStrategy[PoolSpec]:
    return st.builds(PoolSpec, st.just(PoolName(name)), st.integers(2, most))


def memory_pools(name: str = "memory") -> st.SearchStrategy[PoolSpec]:
    return st.builds(PoolSpec, st.just(PoolName(name)), st.integers(6, 20), unit_bytes=st.just(65_536))


def sliced_pools(name: str) -> st.SearchStrategy[PoolSpec]:
    slices = st.integers(2, 4)
    return st.builds(PoolSpec, st.just(PoolName(name)), st.integers(1, 4), slices_per_unit=slices)


@st.composite
def multi_site_pools(draw: st.DrawFn, name: str) -> PoolSpec:
    sites = SITES[: draw(st.sampled_from([2, 3, 4, 1]))]
    return PoolSpec(PoolName(name), draw(st.integers(2, 4)), sites, slices_per_unit=draw(st.sampled_from([1, 1, 2])))


@st.composite
def uneven_pools(draw: st.DrawFn, name: str) -> PoolSpec:
    """Sites of which some have fewer units than others, or none."""
    sites = SITES[: draw(st.integers(2, 3))]
    most = draw(st.integers(2, 4))
    counts = [most, *(draw(st.integers(0, most)) for _ in sites[1:])]
    return PoolSpec(PoolName(name), most, sites, tuple(counts), slices_per_unit=draw(st.sampled_from([1, 1, 3])))


def pool_specs(name: str = "p") -> st.SearchStrategy[PoolSpec]:
    """A pool of any shape."""
    plain = [single_site_pools(name), memory_pools(name), sliced_pools(name)]
    return st.one_of(*plain, multi_site_pools(name), uneven_pools(name))


@st.composite
def card_specs(draw: st.DrawFn) -> tuple[CardSpec, ...]:
    """One card with a pool of each shape, or two of them, of which the second may lack some, or be of another kind."""
    memory, streams = draw(memory_pools()), draw(single_site_pools("streams"))
    sited = draw(
        multi_site_pools(draw(st.sampled_from(["bcast", "bcast", "bcast", "vnpu"])))
    )  # the latter's sites are modes
    pools = [memory, streams, draw(sliced_pools("cores")), sited, draw(uneven_pools("perf"))]
    if draw(st.booleans()):
        return (card(*pools),)
    other = card(*pools[: draw(st.integers(1, 5))], card_id="1")
    return card(*pools), replace(other, profile=draw(st.sampled_from(["test", "other"])))


def claims_on(pool: PoolSpec) -> st.SearchStrategy[PlainClaim]:
    """A claim of any plain kind; one in a handful can never be met."""
    most = pool.unit_count
    name, at = st.just(pool.name), _sites_of(pool)
    reservation = st.sampled_from(("",) * 20 + RESERVATIONS + HASHES)
    few = st.integers(1, max(1, most // 2)) | st.integers(0, most + 1)
    fractions = st.builds(Fraction, st.integers(1, 4), st.integers(1, 4))
    counts = few | fractions if pool.slices_per_unit > 1 else few
    ids = st.lists(st.integers(0, most - 1), min_size=1, max_size=3, unique=True)
    odd_ids = st.lists(st.integers(-1, most), max_size=3)
    runs = st.builds(
        Run,
        name,
        unit_count=few,
        align_count=st.sampled_from([1, 1, 1, 2, 3, 4]),
        extent_count_max=st.sampled_from([1, 1, 1, 2, 3]),
        at=at,
        reservation=reservation,
    )
    sized = st.builds(Run, name, size_bytes=st.integers(1, 5 * 65_536), at=at)
    return st.one_of(
        st.builds(Units, name, counts, at, reservation),
        runs,
        sized if pool.unit_bytes else runs,
        st.builds(Ids, name, (ids | ids | ids | odd_ids).map(tuple), at, reservation),
        st.builds(Common, name, st.just(()) | at, reservation),
    )


def requests_to(card_spec: CardSpec) -> st.SearchStrategy[tuple]:
    """The claims of one request: often one, sometimes several, sometimes with alternatives."""
    plain = st.one_of(*(claims_on(pool) for pool in card_spec.pools))
    unknown = st.just(Units(PoolName("nowhere"), 1))
    first_of = st.lists(plain | plain | plain | unknown, min_size=1, max_size=3).map(lambda ways: FirstOf(tuple(ways)))
    return st.one_of(
        plain.map(lambda claim: (claim,)),
        st.lists(plain, min_size=1, max_size=4).map(tuple),
        st.lists(plain | first_of, min_size=1, max_size=3).map(tuple),
    )


def _sites_of(pool: PoolSpec) -> st.SearchStrategy[tuple[SiteName, ...]]:
    if not pool.sites:
        return st.just(())
    unique = st.lists(st.sampled_from(pool.sites), min_size=1, max_size=len(pool.sites), unique=True)
    odd = st.lists(st.sampled_from((*pool.sites, SiteName("elsewhere"))), max_size=3)
    return (unique | unique | unique | odd).map(tuple)
