"""The command ``rmd``: configuration, logs, and the life of the process."""

import sys


def main() -> None:
    """Runs the command, or says what to install for it."""
    try:
        from rm.daemon.main import main as run
    except ModuleNotFoundError as fault:
        sys.exit(f"rmd: the package {fault.name} is missing: pip install 'leasehold[daemon]'")
    run()
