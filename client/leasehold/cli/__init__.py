"""The command ``rmctl``: looks at a daemon, and runs programs under a lease."""

import sys


def main() -> None:
    """Runs the command, or says what to install for it."""
    try:
        import click  # noqa: F401 - to see whether it is there
        import rich  # noqa: F401
    except ImportError:
        sys.exit("rmctl: needs a few packages more: pip install 'leasehold[cli]'")
    from leasehold.cli.app import run_app

    run_app()
