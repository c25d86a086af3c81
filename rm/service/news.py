"""What the engine tells to whoever is interested, once it is safe to tell."""

from collections.abc import Callable
from typing import Protocol

from rm.core.lease import Lease


class _Revoking(Protocol):
    def __call__(self, lease: Lease, cause: str, /, *, notice_ns: int) -> None: ...


def _nobody(*about: object, **more: object) -> None:
    """Listens to nothing."""


class News:
    """Who listens to what; nobody at first."""

    def __init__(self) -> None:
        self.revoking: _Revoking = _nobody
        """A lease is to end, and its holder has ``notice_ns`` to let go."""
        self.lost: Callable[[Lease, str], None] = _nobody
        """A lease ended without its owner's asking, and why; it is being fenced."""
        self.out_of_reach: Callable[[Lease], None] = _nobody
        """An ended lease of a living process cannot be fenced; its units stay in quarantine."""
