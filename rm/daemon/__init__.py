"""The command ``rmd``: configuration, logs, and the life of the process."""

import sys


def main() -> None:
    """Runs the command, or says what to install for it."""
    try:
        _import_structlog()
        from rm.daemon.main import main as run
    except ModuleNotFoundError as fault:
        sys.exit(f"rmd: the package {fault.name} is missing: pip install 'leasehold[daemon]'")
    run()


def _import_structlog() -> None:
    """Imports structlog without rich, which it would take for colours that the daemon's logs have not.

    That is a fifth of the time that a start takes until it serves.
    """
    rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]  # what import takes for: there is none
    try:
        import structlog  # noqa: F401
    finally:
        if rich is None:
            del sys.modules["rich"]
        else:
            sys.modules["rich"] = rich
