"""Leases on the units of an accelerator card: memory, cores, streams, and whatever else can run out.

    import leasehold

    with leasehold.connect() as client:
        with client.acquire(memory="512MiB", cores=1, streams=2, wait=30.0) as lease:
            model = lease.load("model.onnx")
            out = model.run({"x": x}, stream=lease.stream(0))

``leasehold.aio`` has the same names with ``await``; ``leasehold.testing`` a card for your own tests.

Each name is loaded when it is first used: ``import leasehold`` alone costs next to nothing.
A program that gives up its rights, or its root directory, writes ``import leasehold.client`` before it does.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        Reentered,
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
else:
    from importlib import import_module

    _NAMES = {
        "card": "Allotment Card LeaseInfo PoolStatus ReservationInfo",
        "claims": "Claim Common FirstOf Ids Run Units",
        "client": "Client connect",
        "errors": (
            "Closed DaemonUnavailable Draining Exhausted Gone Held Invalid LeaseholdError LeaseLost NotFound NotOwner "
            "QuotaExceeded Reentered Refused StoreFull TimedOut WindowInUse WrongState"
        ),
        "lease": "Lease",
        "statistics": "SiteCounts",
        "stream": "Stream Task",
        "window": "Window",
    }
    _HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        """Loads a name, or one of the modules that names come from."""
        if name in _NAMES:
            return import_module(f"leasehold.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"leasehold.{_HOMES[name]}"), name)
        return found

    def __dir__() -> list[str]:
        """What it has, loaded or not."""
        return sorted({*globals(), *__all__, *_NAMES})


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
    "Reentered",
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
