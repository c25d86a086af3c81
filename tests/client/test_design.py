"""Array designs: what each table asks is what it gets, and what cannot be met is refused by its table."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import leasehold
from leasehold import Invalid
from leasehold.artifacts import design
from leasehold.artifacts.design import DESIGN_BYTES_MAX, PATTERNS_PER_USE_MAX, USES_MAX, compile_design, read_design
from leasehold.artifacts.manifest import hash_text
from leasehold.local import Manager
from support.strategies import SAME_EVERY_RUN


def text_of(*uses: str, profile: str = "aie:4x3", name: str = "fir") -> bytes:
    """A design of tables, each given by its lines."""
    return "\n".join([f'name = "{name}"', f'profile = "{profile}"', *(f"[[use]]\n{use}" for use in uses)]).encode()


def use(resource: str, what: str, *tiles: str) -> str:
    return f'resource = "{resource}"\n{what}\ntiles = {list(tiles)}'


def compiled(*uses: str, profile: str = "aie:4x3") -> design.Compiled:
    return compile_design(read_design(text_of(*uses, profile=profile)))


def test_each_kind_of_use_gets_what_it_asks_in_the_order_of_the_design():
    text = text_of(
        use("perfcnt", "count = 2", "1,1,core", "2,1-2,mem"),
        use("combo_event", "run = 2", "1,1,core"),
        use("perfcnt", "ids = [0, 3]", "1,1,core"),
        use("bcast_channel", "common = true", "all"),
    )
    done = compile_design(read_design(text))

    assert [got.pool for got in done.granted] == ["perfcnt", "combo_event", "perfcnt", "bcast_channel"]
    assert done.granted[0].at == ((1, 1, "core"), (2, 1, "mem"), (2, 2, "mem"))
    assert done.granted[0].ids == (1, 2, 0, 1, 0, 1)
    assert done.granted[1].ids == (0, 1)
    assert done.granted[2].ids == (0, 3)
    assert done.granted[3].ids == (0,) * 20
    assert (done.manifest.name, done.manifest.profile, done.manifest.content_hash) == (
        "fir",
        "aie:4x3",
        hash_text(text),
    )


def test_the_file_is_the_dump_of_the_same_claims_and_loads_again():
    done = compiled(use("perfcnt", "count = 2", "0-3,1-2,core"), use("pc_event", "ids = [1]", "3,2,core"))
    manager = Manager("aie:4x3")
    every = [(column, row, "core") for column in range(4) for row in (1, 2)]
    manager.acquire(leasehold.Units("perfcnt", 2, at=every), leasehold.Ids("pc_event", [1], at=["3,2,core"]))
    assert done.data == manager.dump()

    other = Manager("aie:4x3")
    other.load(done.data)
    assert other.static("perfcnt", (0, 1, "core")) == 2
    assert other.request_specific("pc_event", (3, 2, "core"), 1) == 1


def test_exact_ids_are_placed_before_what_has_a_choice():
    """In the order of the tables the counts would take id 0, and the table that needs it would fail."""
    done = compiled(
        use("perfcnt", "count = 1", "0,1,core"),
        use("perfcnt", "run = 2", "0,1,core"),
        use("perfcnt", "common = true", "0,1,core"),
    )
    assert [got.ids for got in done.granted] == [(1,), (2, 3), (0,)]
    done = compiled(use("perfcnt", "count = 3", "0,1,core"), use("perfcnt", "ids = [0]", "0,1,core"))
    assert [got.ids for got in done.granted] == [(1, 2, 3), (0,)]


@pytest.mark.parametrize(
    ("patterns", "tiles"),
    [
        (["1,2,core"], [(1, 2, "core")]),
        (["*,1,core"], [(column, 1, "core") for column in range(4)]),
        (["2-3,1-2,mem"], [(2, 1, "mem"), (2, 2, "mem"), (3, 1, "mem"), (3, 2, "mem")]),
        (["0,*,*"], [(0, 0, "pl"), (0, 1, "mem"), (0, 1, "core"), (0, 2, "mem"), (0, 2, "core")]),
        (["*,0,pl", "0-1,0,pl"], [(column, 0, "pl") for column in range(4)]),
        (["3,0,pl", "0,0,pl", "3,0,*"], [(3, 0, "pl"), (0, 0, "pl")]),
    ],
)
def test_a_pattern_means_these_tiles_and_each_once(patterns, tiles):
    (got,) = compiled(use("perfcnt", "count = 1", *patterns)).granted
    assert list(got.at) == tiles


def test_all_means_the_tiles_that_have_the_resource():
    (got,) = compiled(use("pc_event", "count = 1", "all")).granted
    assert {module for _, _, module in got.at} == {"core"}
    assert len(got.at) == 8


def test_a_profile_of_memory_tiles_and_one_of_ones_own(tmp_path):
    (got,) = compiled(use("user_event", "count = 2", "0,1,mem"), profile="aie-ml:3x6x2").granted
    assert got.ids == (0, 1)
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\n[array]\ncolumns = 2\ntile_rows = 1\n'
        + "".join(f"[array.units.{kind}]\nperfcnt = 1\n" for kind in ("core", "mem", "shim"))
    )
    done = compiled(use("perfcnt", "count = 1", "all"), profile=str(file))
    assert done.manifest.profile == "small"


@pytest.mark.parametrize(
    ("uses", "kind", "match"),
    [
        ([use("perfcnt", "count = 5", "0,1,core")], Invalid, r"\[\[use\]\] 1 \(perfcnt\): .* 4 "),
        ([use("perfcnt", "ids = [4]", "0,1,core")], Invalid, r"\[\[use\]\] 1 \(perfcnt\): .*0 to 3, not 4"),
        ([use("perfcnt", "ids = [1, 1]", "0,1,core")], Invalid, r"\[\[use\]\] 1 \(perfcnt\): .*twice"),
        ([use("combo_event", "run = 5", "0,1,core")], Invalid, r"\[\[use\]\] 1 \(combo_event\)"),
        (
            [use("locks", "count = 1", "0,1,core")],
            Invalid,
            r"\[\[use\]\] 1 \(locks\): .*no such resource; it has perfcnt",
        ),
        ([use("columns", "ids = [1]", "all")], Invalid, r"\[\[use\]\] 1 \(columns\): .*no such resource"),
        ([use("pc_event", "count = 1", "0,1,mem")], Invalid, r"tiles '0,1,mem': no tile there has a pc_event"),
        ([use("perfcnt", "count = 1", "0,0,core")], Invalid, "no tile there"),
        ([use("perfcnt", "count = 1", "4,1,core")], Invalid, "the columns 0 to 3"),
        ([use("perfcnt", "count = 1", "0-99999,1,core")], Invalid, "the columns 0 to 3"),
        ([use("perfcnt", "count = 1", "0,1-3,core")], Invalid, "the rows 0 to 2"),
        (
            [use("perfcnt", "count = 3", "0,1,core"), use("perfcnt", "count = 2", "0-1,1,core")],
            leasehold.Exhausted,
            r"\[\[use\]\] 2 \(perfcnt\)",
        ),
        (
            [use("perfcnt", "ids = [1]", "0,1,core"), use("perfcnt", "ids = [1]", "*,1,core")],
            leasehold.Held,
            r"\[\[use\]\] 2 \(perfcnt\): .*1",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_by_its_table(uses, kind, match):
    with pytest.raises(kind, match=match) as caught:
        compiled(*uses)
    assert caught.value.facts["use"] == len(uses)


def test_a_card_that_is_no_array_has_no_designs():
    for profile in ("embedded", "ax-m1"):
        with pytest.raises(Invalid, match="no AI Engine array"):
            compiled(use("cores", "count = 1", "all"), profile=profile)
    with pytest.raises(Invalid, match="no profile 'nothing'"):
        compiled(use("perfcnt", "count = 1", "all"), profile="nothing")


GOOD = use("perfcnt", "count = 1", "0,1,core")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "tables"),
        (b"\xff", "no TOML"),
        (b"name = ", "no TOML"),
        (b"x = " + b"[" * 100_000, "no TOML"),
        (text_of(), "tables"),
        (b'name = "a"\nprofile = "aie"\nuse = 3', "tables"),
        (b'name = "a"\nprofile = "aie"\nuse = [3]', r"\[\[use\]\] 1 is no table"),
        (text_of(GOOD, name=""), "name must be"),
        (text_of(GOOD, name="x" * 65), "name must be"),
        (text_of(GOOD, profile=""), "profile must be"),
        (b"x = 1\n" + text_of(GOOD), "unknown keys: 'x'"),
        (text_of(GOOD, GOOD + "\nat = 1"), r"\[\[use\]\] 2 \(perfcnt\) has unknown keys: 'at'"),
        (text_of("count = 1"), r"\[\[use\]\] 1: resource must be"),
        (text_of(use("perfcnt", "", "all")), r"\[\[use\]\] 1 \(perfcnt\) needs one of .* none"),
        (text_of(use("perfcnt", "count = 1\nrun = 2", "all")), "has run and count"),
        (text_of(use("perfcnt", "count = 0", "all")), "count must be"),
        (text_of(use("perfcnt", "count = true", "all")), "count must be"),
        (text_of(use("perfcnt", "count = 1.0", "all")), "count must be"),
        (text_of(use("perfcnt", "run = -1", "all")), "run must be"),
        (text_of(use("perfcnt", "common = false", "all")), "common can only be true"),
        (text_of(use("perfcnt", "common = 1", "all")), "common can only be true"),
        (text_of(use("perfcnt", "ids = []", "all")), "ids must be"),
        (text_of(use("perfcnt", "ids = [-1]", "all")), "ids must be"),
        (text_of(use("perfcnt", "ids = [true]", "all")), "ids must be"),
        (text_of(use("perfcnt", "count = 1")), "tiles must be a list"),
        (text_of('resource = "perfcnt"\ncount = 1'), "tiles must be a list"),
        (text_of('resource = "perfcnt"\ncount = 1\ntiles = "all"'), "tiles must be a list"),
        (text_of('resource = "perfcnt"\ncount = 1\ntiles = [1]'), "tiles 1: write"),
        *(
            (text_of(use("perfcnt", "count = 1", tiles)), "write column,row,module")
            for tiles in ("", "1,2", "1,2,gpu", "a,1,core", "2-1,1,core", "-1,1,core", "1-,1,core", "1,1,core,1",
                          "123456,1,core", " 1,1,core", "**,1,core", "ALL", "\u0661,1,core")
        ),
    ],
)  # fmt: skip
def test_what_is_no_design_is_refused_by_its_table(data, match):
    with pytest.raises(Invalid, match=match) as caught:
        read_design(data)
    assert len(str(caught.value)) < 400


def test_each_limit_has_an_edge(monkeypatch):
    assert len(read_design(text_of(*[GOOD] * USES_MAX)).uses) == USES_MAX
    with pytest.raises(Invalid, match=f"1 to {USES_MAX} tables"):
        read_design(text_of(*[GOOD] * (USES_MAX + 1)))
    (full,) = read_design(text_of(use("perfcnt", "count = 1", *["all"] * PATTERNS_PER_USE_MAX))).uses
    assert len(full.patterns) == PATTERNS_PER_USE_MAX
    with pytest.raises(Invalid, match="tiles must be a list"):
        read_design(text_of(use("perfcnt", "count = 1", *["all"] * (PATTERNS_PER_USE_MAX + 1))))
    data = text_of(GOOD)
    data += b"#" * (DESIGN_BYTES_MAX - len(data) - 1)
    assert read_design(b"#\n"[1:] + data).name == "fir"
    with pytest.raises(Invalid, match="more than"):
        read_design(b"#\n" + data)


@given(st.data())
@settings(SAME_EVERY_RUN, max_examples=300)
def test_no_bytes_crash_the_reader(data):
    good = text_of(
        GOOD, use("bcast_channel", "common = true", "all", "0-3,*,mem"), use("perfcnt", "ids = [1, 2]", "all")
    )
    start = data.draw(st.integers(0, len(good)))
    change = data.draw(st.binary(max_size=6) | st.text(max_size=6).map(str.encode))
    changed = good[:start] + change + good[data.draw(st.integers(start, min(start + 6, len(good)))) :]
    try:
        read = read_design(changed)
        compile_design(read)
    except leasehold.Refused as fault:
        assert len(str(fault)) < 2_000  # noqa: PT017 - most of what is drawn is refused, and some is a design
