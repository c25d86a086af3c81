"""The commands that look at a daemon."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from leasehold import Card, Client, LeaseInfo, PoolStatus
from leasehold.claims import site_text
from leasehold.cli.claims import claim_options, claims_of
from leasehold.cli.exits import EXIT_REFUSED
from leasehold.cli.output import (
    as_json,
    console,
    number_text,
    reading,
    say_json,
    table,
    units_text,
    user_name,
)
from leasehold.quantity import duration_text, size_text
from rmapi.v1 import resource_manager_pb2 as pb

_WIDE_COLUMNS = 100


@click.command()
@as_json
@click.pass_obj
def status(connect: Callable[[], Client], as_json: bool) -> None:
    """Shows the cards with their pools, sessions and waiters."""
    with reading(connect) as client:
        told, cards = client.status(), client.cards()
    if as_json:
        say_json({"daemon": _status_json(told), "cards": [asdict(card) for card in cards]})
        return
    durability = "none: leases end with the daemon" if told.durability == told.DURABILITY_NONE else "full"
    uptime = duration_text(told.uptime_duration.ToSeconds())
    out = console()
    out.print(f"Leasehold {told.version}, pid {told.pid}, up {uptime}")
    out.print(f"durability {durability}" + (f", start {told.epoch} on its state" if told.epoch > 1 else ""))
    sessions, leases = _counted(told.session_count, "session"), _counted(told.lease_count, "lease")
    out.print(f"{sessions}, {leases}, {told.waiter_count} waiting")
    for warning in told.warnings:
        out.print(f"note: {warning}", style="yellow")
    for card in cards:
        off = f", the clocks of {len(card.gated_sites)} sites are off" if card.gated_sites else ""
        out.print(Text.assemble("\n", (f"card {card.id}", "bold"), f" ({card.profile}, on {card.backend}){off}"))
        out.print(_pool_table(card, is_wide=out.width >= _WIDE_COLUMNS))


@click.command()
@as_json
@click.pass_obj
def cards(connect: Callable[[], Client], as_json: bool) -> None:
    """Lists the cards, one line a pool."""
    with reading(connect) as client:
        found = client.cards()
    if as_json:
        say_json([asdict(card) for card in found])
        return
    rows = [
        (card.id, card.profile, pool.name, _amount(pool, pool.free), _amount(pool, pool.total))
        for card in found
        for pool in card.pools
    ]
    console().print(table(("CARD", "PROFILE", "POOL", "FREE", "TOTAL"), rows, right=("FREE", "TOTAL")))


@click.command()
@as_json
@click.pass_obj
def leases(connect: Callable[[], Client], as_json: bool) -> None:
    """Lists the leases, oldest first."""
    with reading(connect) as client:
        found = client.leases()
    if as_json:
        say_json([_lease_json(lease) for lease in found])
        return
    if not found:
        console().print("there are no leases")
        return
    is_any_odd = any(lease.state != "held" for lease in found)
    rows = [
        (
            lease.id,
            lease.card,
            str(lease.pid),
            user_name(lease.uid),
            duration_text(_age_s(lease)),
            "none" if lease.ttl is None else duration_text(lease.ttl),
            *((lease.state,) if is_any_odd else ()),
            lease.label,
            _units_text(lease),
        )
        for lease in found
    ]
    state = ("STATE",) if is_any_odd else ()
    console().print(table(("LEASE", "CARD", "PID", "USER", "SINCE", "TTL", *state, "LABEL", "UNITS"), rows))


@click.command()
@click.argument("pool", required=False, default="")
@as_json
@click.pass_obj
def who(connect: Callable[[], Client], pool: str, as_json: bool) -> None:
    """Names who holds the units of POOL, or of every pool."""
    with reading(connect) as client:
        if pool:
            client.bitmap(pool)  # refuses an unknown pool
        found = client.leases(pool)
    held = [
        (lease, name, [allotment for allotment in lease.allotments if allotment.pool == name and allotment.ranges])
        for lease in found
        for name in dict.fromkeys(allotment.pool for allotment in lease.allotments)
        if not pool or name == pool
    ]
    if as_json:
        say_json([_lease_json(lease) | {"pool": name} for lease, name, _ in held])
        return
    if not held:
        console().print(f"nobody holds units of {pool}" if pool else "nobody holds anything")
        return
    rows = [
        (
            name,
            units_text(allotments),
            lease.id,
            lease.label,
            str(lease.pid),
            user_name(lease.uid),
            duration_text(_age_s(lease)),
            lease.command,
        )
        for lease, name, allotments in held
        if allotments
    ]
    console().print(table(("POOL", "UNITS", "LEASE", "LABEL", "PID", "USER", "SINCE", "COMMAND"), rows))


@click.command(name="map")
@click.argument("pool", required=False, default="")
@click.option("--card", metavar="ID", help="Only this card.")
@as_json
@click.pass_obj
def map_command(connect: Callable[[], Client], pool: str, card: str | None, as_json: bool) -> None:
    """Draws the bitmaps of POOL, or of every pool: a letter and a colour a lease."""
    from leasehold.cli.map import draw_map, map_json

    with reading(connect) as client:
        if as_json:
            say_json(map_json(client, pool, card))
        else:
            draw_map(client, console(), pool, card)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with new events, until Ctrl-C.")
@click.option("--past", type=click.IntRange(0, 1024), default=50, show_default=True, help="Past events to show first.")
@as_json
@click.pass_obj
def events(connect: Callable[[], Client], follow: bool, past: int, as_json: bool) -> None:
    """Shows what happened to leases; with --json, one object a line."""
    with reading(connect) as client:
        for event in client.events(past=past, follow=follow):
            when = datetime.fromtimestamp(event.event_time.ToNanoseconds() / 1e9, UTC).astimezone()
            if as_json:
                line = {"revision": event.revision, "kind": event.Kind.Name(event.kind), "time": when.isoformat()}
                line |= {"lease": event.lease_id, "card": event.card, "cause": event.cause, "text": event.text}
                line["pid"] = event.holder.pid
                click.echo(_one_line_json(line))
            else:
                click.echo(f"{when:%H:%M:%S.%f}"[:-3] + f"  {event.revision:>6}  {event.text}")


@click.command()
@claim_options
@as_json
@click.pass_obj
def explain(
    connect: Callable[[], Client],
    *,
    memory: int | None,
    cores: float | None,
    streams: int | None,
    units: tuple[str, ...],
    card: str | None,
    as_json: bool,
) -> None:
    """Says what would happen to a request, and who is in the way. Takes nothing; exits 1 where it would be refused."""
    asked = claims_of(memory=memory, cores=cores, streams=streams, units=units)
    with reading(connect) as client:
        told = client.explain(card=card, **asked)
    if as_json:
        from google.protobuf.json_format import MessageToDict

        say_json(MessageToDict(told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
    elif told.grantable:
        click.echo(f"would be granted at once, from card {told.card}")
    elif told.HasField("refusal"):
        click.echo(f"would be refused: {told.refusal.message} ({told.refusal.reason})")
    if not as_json and told.waiter_count:
        click.echo(f"{told.waiter_count} waiting in front")
    if not told.grantable:
        sys.exit(EXIT_REFUSED)


@click.command()
@as_json
@click.pass_obj
def check(connect: Callable[[], Client], as_json: bool) -> None:
    """Compares bitmaps, leases and what is on disk, unit by unit; exits 1 and names the differences."""
    with reading(connect) as client:
        told = client.check()
    if as_json:
        say_json(
            {
                "differences": list(told.differences),
                "units": told.unit_count,
                "leases": told.lease_count,
                "compared_store": told.compared_store,
                "revision": told.revision,
            }
        )
    else:
        for difference in told.differences:
            click.echo(difference)
        verdict = f"{len(told.differences)} differences" if told.differences else "everything agrees"
        store = ", and what is on disk" if told.compared_store else ""
        click.echo(f"{told.unit_count} units, {told.lease_count} leases{store}: {verdict}")
    if told.differences:
        sys.exit(EXIT_REFUSED)


def _pool_table(card: Card, *, is_wide: bool) -> Any:  # noqa: ANN401 - a rich renderable
    """What is used of each pool, and how much else stands against it. Narrow, it fits into 80 columns."""
    rows = []
    for pool in card.pools:
        share = pool.used / pool.total if pool.total else 0
        bar = "█" * round(share * 10) + "░" * (10 - round(share * 10)) + " " if is_wide else ""
        rows.append(
            (
                pool.name,
                _amount(pool, pool.used),
                _amount(pool, pool.total),
                f"{bar}{share:4.0%}",
                _amount(pool, pool.reserved),
                _amount(pool, pool.quarantined),
                _amount(pool, pool.largest_run),
                str(pool.waiters),
                size_text(pool.used_bytes) if pool.unit_bytes else "",
            )
        )
    columns = ("POOL", "USED", "TOTAL", "", "RESERVED", "QUARANTINED", "FREE RUN", "WAIT", "TOUCHED")
    return table(columns, rows, right=[*columns[1:3], *columns[4:]])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _amount(pool: PoolStatus, count: float) -> str:
    return size_text(int(count * pool.unit_bytes)) if pool.unit_bytes else number_text(count)


def _units_text(lease: LeaseInfo) -> str:
    amounts = []
    for pool in dict.fromkeys(allotment.pool for allotment in lease.allotments):
        if pool == "memory":
            amounts.append(f"memory {size_text(lease.memory_bytes)}")
        else:
            amounts.append(f"{pool} {units_text([one for one in lease.allotments if one.pool == pool])}")
    return "; ".join(amounts)


def _age_s(lease: LeaseInfo) -> float:
    return max(0.0, (datetime.now(UTC) - lease.granted).total_seconds())


def _lease_json(lease: LeaseInfo) -> dict[str, Any]:
    units = [
        {
            "pool": allotment.pool,
            "at": [site_text(site) for site in allotment.at],
            "ranges": [[[one.start, one.stop] for one in runs] for runs in allotment.ranges],
        }
        for allotment in lease.allotments
    ]
    plain = {name: getattr(lease, name) for name in lease.__dataclass_fields__ if name != "allotments"}
    return plain | {"granted": lease.granted.isoformat(), "allotments": units}


def _status_json(told: pb.GetStatusResponse) -> dict[str, Any]:
    return {
        "version": told.version,
        "pid": told.pid,
        "durability": "none" if told.durability == told.DURABILITY_NONE else "full",
        "uptime_s": told.uptime_duration.ToNanoseconds() / 1e9,
        "sessions": told.session_count,
        "leases": told.lease_count,
        "waiters": told.waiter_count,
        "warnings": list(told.warnings),
        "revision": told.revision,
        "epoch": told.epoch,
    }


def _one_line_json(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value)
