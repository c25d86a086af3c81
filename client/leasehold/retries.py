"""What is the same through both doors: what the daemon's refusals are to a user, and when a call is tried again."""

import random
import time
from typing import Any

from google.protobuf.json_format import MessageToDict

from leasehold.errors import DaemonUnavailable, LeaseholdError, refused
from rmapi.v1 import types_pb2 as pb

RETRY_S = 30.0  # how long a call outlives a daemon that restarts
CALL_S = 10.0  # how long the daemon may take for an answer that waits for nothing
FORGO_S = 2.0  # how long to try to give back what may have been granted and was not told
SESSION_UNKNOWN = "SESSION_UNKNOWN"
SHUTTING_DOWN = "SHUTTING_DOWN"
INTERNAL = "INTERNAL"


class SessionUnknown(LeaseholdError):
    """The daemon does not know the session: it was restarted. Never leaves the library."""


class NotThere(DaemonUnavailable):
    """There was no answer, and the same call may be answered a little later."""


def refusal_of(detail: pb.ErrorDetail) -> LeaseholdError:
    """The error that a user gets for a refusal."""
    if detail.reason == SESSION_UNKNOWN:
        return SessionUnknown(detail.message)
    if detail.reason == SHUTTING_DOWN:  # as good as gone: another daemon will answer
        return NotThere(detail.message)
    if detail.reason == INTERNAL:
        return DaemonUnavailable(f"the daemon failed: {detail.message}")
    return refused(detail.reason, detail.message, _facts(MessageToDict(detail.facts)))


class Attempts:
    """The tries of one call. ``after`` is asked after each fault whether there is another."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._give_up_at = time.monotonic() + RETRY_S
        self._pause_s = 0.05

    def after(self, fault: LeaseholdError) -> float:
        """How long to pause before the next try.

        Raises:
            DaemonUnavailable: there was no answer for 30 s.
        """
        self.check_time_left(fault)
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(self._pause_s * 2, 0.25)
        return pause_s

    def check_time_left(self, fault: LeaseholdError) -> None:
        """Gives up where the call was tried for long enough.

        Raises:
            DaemonUnavailable: it was.
        """
        if time.monotonic() >= self._give_up_at:
            raise DaemonUnavailable(f"no daemon answered {self._what} for {RETRY_S:g} s") from fault


def _facts(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Numbers that are whole as ``int``: the wire knows only doubles."""
    if isinstance(value, dict):
        return {key: _facts(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_facts(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
