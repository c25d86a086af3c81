"""Leases on the units of an accelerator card: memory, cores, streams, and whatever else can run out.

    import leasehold

    with leasehold.connect() as client:
        with client.acquire(memory="512MiB", cores=1, streams=2, wait=30.0) as lease:
            model = lease.load("model.onnx")
            out = model.run({"x": x}, stream=lease.stream(0))

``leasehold.aio`` has the same names with ``await``; ``leasehold.testing`` a card for your own tests.
"""

from leasehold.card import Allotment, Card, LeaseInfo, PoolStatus, ReservationInfo
from leasehold.claims import Claim, Common, FirstOf, Ids, Run, Units
from leasehold.client import Client, connect
from leasehold.errors import (
    Closed,
    DaemonUnavailable,
    Draining,
    Exhausted,
    Gone,
    Held,
    Invalid,
    LeaseholdError,
    LeaseLost,
    NotFound,
    NotOwner,
    QuotaExceeded,
    Refused,
    StoreFull,
    TimedOut,
    WindowInUse,
    WrongState,
)
from leasehold.lease import Lease
from leasehold.statistics import SiteCounts
from leasehold.stream import Stream, Task
from leasehold.window import Window

__all__ = [
    "Allotment",
    "Card",
    "Claim",
    "Client",
    "Closed",
    "Common",
    "DaemonUnavailable",
    "Draining",
    "Exhausted",
    "FirstOf",
    "Gone",
    "Held",
    "Ids",
    "Invalid",
    "Lease",
    "LeaseInfo",
    "LeaseLost",
    "LeaseholdError",
    "NotFound",
    "NotOwner",
    "PoolStatus",
    "QuotaExceeded",
    "Refused",
    "ReservationInfo",
    "Run",
    "SiteCounts",
    "StoreFull",
    "Stream",
    "Task",
    "TimedOut",
    "Units",
    "Window",
    "WindowInUse",
    "WrongState",
    "connect",
]
