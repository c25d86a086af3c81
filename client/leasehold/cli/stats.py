"""``rmctl stats``: how much of each pool is free, held and reserved, by pool, by site or by owner."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict

import click

from leasehold import Client
from leasehold.claims import site_text
from leasehold.cli.output import as_json, console, reading, say_json, table, user_name
from leasehold.statistics import SiteCounts

_EPILOG = """\b
Examples:
  rmctl stats                          every pool of the first card
  rmctl stats perfcnt --by site        each module of an AI Engine array that is used
  rmctl stats bcast_channel --by owner
"""
_COLUMNS = ("TOTAL", "FREE", "HELD", "RESERVED", "QUARANTINED")


@click.command(epilog=_EPILOG)
@click.argument("pool", required=False, default="")
@click.option(
    "--by",
    type=click.Choice(["pool", "site", "owner"]),
    default="pool",
    show_default=True,
    help="A line for each pool, for each site that is used, or for each user who has something.",
)
@click.option("--card", metavar="ID", help="One of several cards.  [default: the first]")
@as_json
@click.pass_obj
def stats(connect: Callable[[], Client], *, pool: str, by: str, card: str | None, as_json: bool) -> None:
    """Counts the units of POOL, or of every pool: free, held, reserved, and whose they are.

    Where a pool has slices, slices are counted.
    """
    with reading(connect) as client:
        cards = client.cards()
        first = next((one for one in cards if card in {None, one.id}), None)
        if first is None:
            raise click.ClickException(f"there is no card {card!r}; there are {', '.join(one.id for one in cards)}")
        names = [pool] if pool else [one.name for one in first.pools]
        counted = [site for name in names for site in client.statistics(name, first.id)]
    if as_json:
        say_json([asdict(site) | {"site": site_text(site.site)} for site in counted])
    elif by == "owner":
        _show_owners(counted)
    else:
        _show_counts(counted, by_site=by == "site")


def _show_counts(counted: list[SiteCounts], *, by_site: bool) -> None:
    shown: dict[tuple[str, ...], Counter[str]] = {}
    for one in counted:
        if by_site and not one.held + one.static + one.quarantined:
            continue
        key = (one.pool, site_text(one.site)) if by_site else (one.pool,)
        numbers = (one.total, one.available, one.held, one.static, one.quarantined)
        shown.setdefault(key, Counter()).update(dict(zip(_COLUMNS, numbers, strict=True)))
    if not shown:
        console().print("nothing is held or reserved")
        return
    rows = [(*key, *(str(counts[column]) for column in _COLUMNS)) for key, counts in shown.items()]
    names = ("POOL", "SITE") if by_site else ("POOL",)
    console().print(table((*names, *_COLUMNS), rows, right=_COLUMNS))


def _show_owners(counted: Iterable[SiteCounts]) -> None:
    held: Counter[tuple[str, int]] = Counter()
    reserved: Counter[tuple[str, int]] = Counter()
    for one in counted:
        held.update({(one.pool, uid): count for uid, count in one.held_by.items()})
        reserved.update({(one.pool, uid): count for uid, count in one.reserved_for.items()})
    keys = sorted(held.keys() | reserved.keys())
    if not keys:
        console().print("nothing is held or reserved")
        return
    rows = [
        (pool, "nobody" if uid < 0 else user_name(uid), str(held[pool, uid]), str(reserved[pool, uid]))
        for pool, uid in keys
    ]
    console().print(table(("POOL", "OWNER", "HELD", "RESERVED"), rows, right=("HELD", "RESERVED")))
