"""What ``rmd`` can be told, on the command line or in a file of the same names."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click

from rm.core import limits

CARD_MEMORY_BYTES_MAX = 8 << 30  # of the default; more can be asked for


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the daemon is told. ``card_memory_bytes`` is that of each card."""

    profile: str
    card_count: int
    card_memory_bytes: int
    state_directory: Path
    run_directory: Path
    durability: str
    salvages: bool
    kills_to_fence: bool
    ids_need_reserved: bool
    system: tuple[str, ...]
    group: str | None


def read_config_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Makes the values of a TOML file the defaults of the options; an unknown key is an error."""
    if value is None:
        return None
    try:
        values = tomllib.loads(value.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise click.BadParameter(f"cannot read {value}: {fault}", ctx, param) from fault
    known = {option.name for option in ctx.command.params if option.expose_value} - {"config"}
    given = {key.replace("-", "_"): entry for key, entry in values.items()}
    if unknown := given.keys() - known:
        there = ", ".join(sorted(name.replace("_", "-") for name in known if name))
        raise click.BadParameter(
            f"{value} has unknown keys: {', '.join(sorted(unknown))}; there are {there}", ctx, param
        )
    ctx.default_map = given
    return value


def default_card_memory_bytes(card_count: int) -> int:
    """A quarter of the host's memory, shared by the cards, and at most 8 GiB each."""
    host_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(host_bytes // 4 // card_count, CARD_MEMORY_BYTES_MAX)


def default_state_directory() -> Path:
    """Where the state lies unless it is said."""
    if home := os.environ.get("XDG_STATE_HOME"):
        return Path(home) / "leasehold"
    return Path("/var/lib/leasehold") if os.geteuid() == 0 else Path.home() / ".local/state/leasehold"


CARD_COUNT = click.IntRange(1, limits.CARDS_MAX)
