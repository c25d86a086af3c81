"""What can go wrong, as a user of the library meets it. Match on the class or on ``reason``, never on the text."""

from collections.abc import Mapping
from typing import Any, ClassVar


class LeaseholdError(Exception):
    """The base of every error that this library raises of its own."""


class Refused(LeaseholdError):
    """The daemon said no, and nothing was changed.

    ``reason`` is a stable upper-case word; ``facts`` holds every variable part of the text by name.
    """

    default_reason: ClassVar[str] = "REFUSED"

    def __init__(self, text: str, *, reason: str = "", facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.reason = reason or self.default_reason
        self.facts: dict[str, Any] = dict(facts or {})


class Exhausted(Refused):
    """Not enough is free now. ``facts["holders"]`` says who has it."""

    default_reason = "POOL_EXHAUSTED"


class Held(Refused):
    """A unit claimed by id has a holder, or is in quarantine."""

    default_reason = "UNIT_HELD"


class Invalid(Refused):
    """The request can never be granted as it is written."""

    default_reason = "INVALID_REQUEST"


class NotOwner(Refused):
    """The lease or reservation is somebody else's."""

    default_reason = "NOT_OWNER"


class NotFound(Refused):
    """No live lease has this id."""

    default_reason = "LEASE_NOT_FOUND"


class Gone(Refused):
    """This request was granted once, and its lease has ended."""

    default_reason = "LEASE_GONE"


class TimedOut(Refused):
    """The request waited as long as it wished to."""

    default_reason = "WAIT_TIMED_OUT"


class Draining(Refused):
    """The card or pool gives out nothing at the moment."""

    default_reason = "DRAINING"


class QuotaExceeded(Refused):
    """A limit of the daemon is reached."""

    default_reason = "QUOTA_EXCEEDED"


class StoreFull(Refused):
    """The disk under the daemon's state is full: nothing new is granted until there is room."""

    default_reason = "STORE_FULL"


class LeaseLost(LeaseholdError):
    """The lease has ended without its owner's asking, or is used where it does not hold."""

    def __init__(self, lease_id: str, cause: str) -> None:
        super().__init__(f"lease {lease_id} is lost: {cause}")
        self.lease_id = lease_id
        self.cause = cause


class DaemonUnavailable(LeaseholdError):
    """No daemon answers."""


class Reentered(LeaseholdError):
    """A signal handler, or a finalizer, called in the middle of another call of its thread; nothing was changed."""


class Closed(LeaseholdError):
    """The client, lease or stream was closed before it was used."""


class WrongState(LeaseholdError):
    """An object is in a state that does not allow what was asked of it; nothing was changed."""


class WindowInUse(LeaseholdError, BufferError):
    """A window cannot be closed while arrays or buffers of it live."""


_KINDS: dict[str, type[Refused]] = {kind.default_reason: kind for kind in Refused.__subclasses__()}


def refused(reason: str, text: str, facts: Mapping[str, Any]) -> Refused:
    """The error for a reason; a reason that this version does not know is a plain ``Refused``."""
    return _KINDS.get(reason, Refused)(text, reason=reason, facts=facts)
