"""Profiles: those that come with the package say what the design says, and a broken one is refused, whatever it is."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rm.core import limits
from rm.core.errors import InvalidRequest
from rm.core.pool import Pool
from rm.core.profile import Profile, parse_profile
from rm.core.types import CardId
from support.strategies import SAME_EVERY_RUN

DATA = Path(__file__).resolve().parents[2] / "rm" / "devices" / "profile_data"
BUILT_IN = sorted(path.stem for path in DATA.glob("*.toml"))

MEMORY_UNITS_PER_MIB = 16
AX8850 = {
    "memory": (7040 - 19) * MEMORY_UNITS_PER_MIB,
    "cores": 3,
    "streams": 256,
    "contexts": 256,
    "processes": 26,
    "vdec": 164,
    "venc": 64,
    "ivps": 256,
    "vnpu": 26,
}
EMBEDDED = {
    "memory": 512 * MEMORY_UNITS_PER_MIB,
    "cores": 3,
    "streams": 256,
    "contexts": 256,
    "vdec": 16,
    "venc": 16,
    "ivps": 16,
    "vnpu": 256,
}


def built_in(name: str) -> Profile:
    return parse_profile((DATA / f"{name}.toml").read_text())


def card_of(profile: Profile, *, memory_bytes: int = 512 << 20, cpus: tuple[int, ...] = (0, 2, 4)):
    return profile.card(CardId("0"), backend="fake", memory_bytes=memory_bytes, cpus=cpus)


def parse(body: str) -> Profile:
    return parse_profile(f'name = "x"\n[pools.p]\n{body}\n')


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_profile_is_read_and_is_named_as_its_file(name) -> None:
    profile = built_in(name)
    assert profile.name == name
    assert profile.description
    assert all(Pool(spec).counts().free > 0 for spec in card_of(profile).pools)


@pytest.mark.parametrize(("name", "counts"), [("embedded", EMBEDDED), ("ax-m1", AX8850), ("llm-8850", AX8850)])
def test_a_built_in_profile_has_the_pools_of_the_design(name, counts) -> None:
    card = card_of(built_in(name))
    assert {pool.name: pool.unit_count for pool in card.pools} == counts
    assert {pool.name: pool.unit_bytes for pool in card.pools if pool.unit_bytes} == {"memory": 65_536}
    assert card.core_cpus == ((0, 2, 4) if name == "embedded" else ())


def test_what_only_the_host_can_tell_comes_from_the_host() -> None:
    card = card_of(built_in("embedded"), memory_bytes=(1 << 20) + 65_535, cpus=(7,))
    sizes = {pool.name: pool.unit_count for pool in card.pools}
    assert (sizes["memory"], sizes["cores"], card.core_cpus) == (16, 1, (7,))


@pytest.mark.parametrize(("memory_bytes", "cpus"), [(65_535, (0,)), (1 << 20, ())])
def test_a_host_that_gives_less_than_one_unit_is_refused(memory_bytes, cpus) -> None:
    with pytest.raises(InvalidRequest):
        card_of(built_in("embedded"), memory_bytes=memory_bytes, cpus=cpus)


def test_a_pool_may_have_sites_of_several_sizes_and_slices() -> None:
    (spec,) = card_of(parse('unit_count = 4\nsites = ["a", "b"]\nsite_unit_counts = [4, 2]\nslices = 8')).pools
    assert (spec.sites, spec.site_unit_counts, spec.slices_per_unit) == (("a", "b"), (4, 2), 8)
    assert Pool(spec).counts().total == 48


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name = ",
        'name = "x"',
        'name = "x"\npools = 3',
        'name = "x"\npools = {}',
        'name = "x"\n[pools]\np = 3',
        "name = 3\n[pools.p]\nunit_count = 1",
        'name = ""\n[pools.p]\nunit_count = 1',
        'name = "x\\u0007"\n[pools.p]\nunit_count = 1',
        'name = "x"\ncolour = 1\n[pools.p]\nunit_count = 1',
        'name = "x"\n[pools.""]\nunit_count = 1',
        'name = "x"\n[pools.p]\nunit_count = 1\n[pools.p]\nunit_count = 1',
        'name = "x"\n[pools.p]\nunit_count = ' + "1" * 5_000,
        'name = "x"\nname2 = ' + "[" * 10_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_text_that_is_no_profile_is_refused(text) -> None:
    with pytest.raises(InvalidRequest):
        parse_profile(text)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "unit_count = 0",
        "unit_count = -1",
        "unit_count = 1.0",
        "unit_count = true",
        'unit_count = "many"',
        "unit_count = 1979-05-27",
        "memory_mib = 0",
        'memory_mib = "all"',
        "memory_mib = 1\nunit_kib = 0",
        "unit_count = 1\nslices = 0",
        "unit_count = 1\ncount = 1",
        'unit_count = 1\nsites = "a"',
        "unit_count = 1\nsites = [1]",
        'unit_count = 1\nsites = [""]',
        'unit_count = 1\nsites = ["a", "a"]',
        'unit_count = 2\nsites = ["a", "b"]\nsite_unit_counts = [1]',
        'unit_count = 2\nsites = ["a"]\nsite_unit_counts = [3]',
        'unit_count = 2\nsites = ["a"]\nsite_unit_counts = [-1]',
        'unit_count = 2\nsites = ["a"]\nsite_unit_counts = ["1"]',
        'unit_count = 2\nsites = ["a"]\nsite_unit_counts = [true]',
        'unit_count = 2\nsites = ["a"]\nsite_unit_counts = 2',
        "unit_count = 2\nsite_unit_counts = [2]",
    ],
)
def test_a_pool_that_no_card_can_have_is_refused_and_named(body) -> None:
    with pytest.raises(InvalidRequest, match="p") as found:
        parse(body)
    assert found.value.facts["pool"] == "p"


@pytest.mark.parametrize("body", ["memory_mib = 1\nunit_kib = 4096", f"memory_mib = {limits.UNITS_PER_POOL_MAX}"])
def test_a_size_that_no_card_can_have_is_refused_when_the_card_is_made(body) -> None:
    with pytest.raises(InvalidRequest):
        card_of(parse(body))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=5) | st.just("cpus"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(["unit_count", "memory_mib", "unit_kib", "sites", "site_unit_counts", "slices", "odd"])
tables = st.dictionaries(keys, values, max_size=4)


def toml(value: object) -> str:
    """``value`` as TOML, more or less: what has no form there becomes something that is refused."""
    match value:
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case bool() | None:
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        case _:
            return str(value)


def refused_or_read(text: str) -> None:
    """Nothing but a profile or a refusal may come of a text, and of a profile nothing but a card or a refusal."""
    with suppress(InvalidRequest):
        card_of(parse_profile(text))


@SAME_EVERY_RUN
@given(st.dictionaries(st.sampled_from(["a", "b", ""]), tables | values, max_size=3), values)
def test_whatever_a_document_says_it_is_read_or_refused(pools, name) -> None:
    refused_or_read(f"name = {toml(name)}\npools = {toml(pools)}")
    refused_or_read(f'name = "x"\npools = {toml(pools)}')


@SAME_EVERY_RUN
@given(st.text())
def test_whatever_a_text_is_it_is_read_or_refused(text) -> None:
    refused_or_read(text)
    refused_or_read(f'name = "x"\n[pools.p]\n{text}')
