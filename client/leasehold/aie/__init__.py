"""The resources of an AI Engine array as objects: what users of the Functional Abstraction Layer (FAL) know.

    from leasehold.aie import Device, PerfCounter
    from leasehold.local import Manager

    with Device(Manager("aie")) as device, PerfCounter(device, (1, 3, "core")) as counter:
        counter.initialize(start=("core", "ACTIVE_CORE"), stop=("core", "DISABLED_CORE"))
        counter.reserve()
        counter.start()

The device may as well be a daemon's: ``Device(leasehold.connect())``. Each name is loaded where it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leasehold.aie.broadcast import Broadcast
    from leasehold.aie.combo import ComboEvent
    from leasehold.aie.device import Device
    from leasehold.aie.event import Event
    from leasehold.aie.events import PCEvent, PCRange, UserEvent
    from leasehold.aie.group import GroupEvent
    from leasehold.aie.perf import PerfCounter
    from leasehold.aie.ports import StreamPortSelect
    from leasehold.aie.resource import Resource, State
    from leasehold.aie.resource_group import ResourceGroup
    from leasehold.aie.trace import TraceControl
    from leasehold.aie.trace_event import TraceEvent
    from leasehold.errors import WrongState

__all__ = [
    "Broadcast",
    "ComboEvent",
    "Device",
    "Event",
    "GroupEvent",
    "PCEvent",
    "PCRange",
    "PerfCounter",
    "Resource",
    "ResourceGroup",
    "State",
    "StreamPortSelect",
    "TraceControl",
    "TraceEvent",
    "UserEvent",
    "WrongState",
]

_HOMES = {
    "Broadcast": "leasehold.aie.broadcast",
    "ComboEvent": "leasehold.aie.combo",
    "Device": "leasehold.aie.device",
    "Event": "leasehold.aie.event",
    "GroupEvent": "leasehold.aie.group",
    "PCEvent": "leasehold.aie.events",
    "PCRange": "leasehold.aie.events",
    "PerfCounter": "leasehold.aie.perf",
    "Resource": "leasehold.aie.resource",
    "ResourceGroup": "leasehold.aie.resource_group",
    "State": "leasehold.aie.resource",
    "StreamPortSelect": "leasehold.aie.ports",
    "TraceControl": "leasehold.aie.trace",
    "TraceEvent": "leasehold.aie.trace_event",
    "UserEvent": "leasehold.aie.events",
    "WrongState": "leasehold.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
