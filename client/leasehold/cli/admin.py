"""What only root and the daemon's own user may do to others."""

from collections.abc import Callable

import click

from leasehold import Client
from leasehold.cli.parameters import DURATION
from leasehold.quantity import duration_text

_REVOKE_EPILOG = """\b
Examples:
  rmctl revoke L17                              its holder has 2 s to let go
  rmctl revoke L17 --notice 30s --why upgrade   or half a minute, and is told why
  rmctl revoke L17 --notice 0s                  at once
"""


@click.command(epilog=_REVOKE_EPILOG)
@click.argument("lease")
@click.option(
    "--notice", type=DURATION, default="2s", show_default=True, metavar="D", help="How long its holder has to let go."
)
@click.option("--why", default="revoked", show_default=True, metavar="TEXT", help="What its holder and the events say.")
@click.pass_obj
def revoke(connect: Callable[[], Client], lease: str, notice: float, why: str) -> None:
    """Ends somebody's LEASE: its holder is told to let go, and loses its memory by force when the notice is over.

    A program that touches the memory after that ends by SIGBUS. Only root and the daemon's own user may do this.
    """
    with connect() as client:
        has_begun = client.revoke(lease, notice=notice, why=why)
    if has_begun:
        click.echo(f"{lease} is to end: its holder has {duration_text(notice)} to let go")
    else:
        click.echo(f"{lease} has ended, or is about to")
