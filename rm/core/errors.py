"""Refusals: what is expected to go wrong. Each changes nothing, has a stable reason, and says its facts.

One class a reason. Raised in the core, mapped to the wire in ``rm/service/status.py``, caught nowhere between.
"""

from typing import ClassVar

Fact = str | int | bool | list[dict[str, str | int]]
Facts = dict[str, Fact]


class Refusal(Exception):
    """A request that is not granted. ``facts`` holds every variable part of the text."""

    reason: ClassVar[str] = "REFUSED"

    def __init__(self, text: str, **facts: Fact) -> None:
        super().__init__(text)
        self.facts = facts


class InvalidRequest(Refusal):
    """The request can never be granted as it is written."""

    reason = "INVALID_REQUEST"


class NotNow(Refusal):
    """The request could be granted at another time, and may wait for it."""


class PoolExhausted(NotNow):
    """The pool has not enough free units, or not in a row, or not at the same place."""

    reason = "POOL_EXHAUSTED"


class UnitHeld(NotNow):
    """A unit that was claimed by id has a holder, or is in quarantine."""

    reason = "UNIT_HELD"


class StoreFull(NotNow):
    """The disk under the daemon's state is full: what is held can be given back, but nothing new be granted."""

    reason = "STORE_FULL"


class WaitTimedOut(Refusal):
    """The request waited as long as it wished to."""

    reason = "WAIT_TIMED_OUT"


class QuotaExceeded(Refusal):
    """One of the limits of ``limits.py`` is reached."""

    reason = "QUOTA_EXCEEDED"


class NotOwner(Refusal):
    """The lease or the reservation is somebody else's."""

    reason = "NOT_OWNER"


class LeaseNotFound(Refusal):
    """No live lease has this id."""

    reason = "LEASE_NOT_FOUND"


class LeaseGone(Refusal):
    """This request was granted once, and its lease has ended."""

    reason = "LEASE_GONE"


class SessionUnknown(Refusal):
    """No open session has this id and secret."""

    reason = "SESSION_UNKNOWN"


class ShuttingDown(Refusal):
    """The daemon is stopping."""

    reason = "SHUTTING_DOWN"


class CardFailed(Refusal):
    """The card, or the host on its behalf, could not carry out what the books allow."""

    reason = "CARD_FAILED"
