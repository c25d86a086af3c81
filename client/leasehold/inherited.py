"""What ``rmctl run`` leaves in the environment of the command it becomes: same process, same session, same lease."""

import os
from collections.abc import Mapping
from contextlib import suppress

from rmapi.v1 import types_pb2 as pb

SESSION = "LEASEHOLD_SESSION"
LEASE = "LEASEHOLD_LEASE"
WINDOWS = "LEASEHOLD_WINDOWS"  # DESCRIPTOR:BYTES, in the order of the allotments of memory
_PID = "LEASEHOLD_PID"


def inheritance(session_id: str, secret: str, lease_id: str) -> Mapping[str, str]:
    """The variables that hand a session and its lease to the command this process becomes."""
    return {SESSION: f"{session_id}:{secret}", LEASE: lease_id, _PID: str(os.getpid())}


def inherited_session() -> tuple[str, str] | None:
    """The session (id, secret) that this process had before it became what it is; None for its children too."""
    session_id, _, secret = os.environ.get(SESSION, "").partition(":")
    is_ours = os.environ.get(_PID) == str(os.getpid())
    return (session_id, secret) if is_ours and session_id and secret else None


def inherited_lease_id() -> str:
    """The lease of that session; empty where there is none."""
    return os.environ.get(LEASE, "") if inherited_session() else ""


def inherited_windows(lease: pb.Lease) -> dict[int, int]:
    """The descriptors of that lease's windows, by the index of their allotment, as far as they are open still."""
    named = [entry.partition(":")[0] for entry in os.environ.get(WINDOWS, "").split(",")]
    indexes = [index for index, allotment in enumerate(lease.allotments) if allotment.unit_bytes and allotment.units]
    windows = {}
    for index, fd in zip(indexes, named, strict=False):
        with suppress(ValueError, OSError):
            os.fstat(int(fd))
            windows[index] = int(fd)
    return windows
