"""Devices."""

from leasehold.axcl.answers import ret, value_ret
from leasehold.runtime import Code, Fault, default_runtime

__all__ = [
    "get_device",
    "get_device_count",
    "get_device_list",
    "get_device_properties",
    "reset_device",
    "set_device",
    "synchronize_device",
]
_KIB = 1024


@ret
def set_device(device_id: int) -> None:
    """Uses a device once more, and binds this thread to its default context, unless to another of its contexts."""
    default_runtime().set_device(device_id)


@ret
def reset_device(device_id: int) -> None:
    """Uses a device once less; after the last time everything of it is gone."""
    default_runtime().reset_device(device_id)


@value_ret(-1)
def get_device() -> int:
    """The device of this thread's current context."""
    return default_runtime().current_device().id


@value_ret(0)
def get_device_count() -> int:
    """How many devices there are; none where no daemon is."""
    return len(_device_ids())


@value_ret([])
def get_device_list() -> list[int]:
    """The ids of all devices, in the order of their cards; none where no daemon is."""
    return _device_ids()


@ret
def synchronize_device() -> None:
    """Waits for everything on the device of this thread's current context."""
    default_runtime().synchronize_device()


@value_ret({})
def get_device_properties(device_id: int) -> dict[str, str | int]:
    """What a device is and has, by the names of the C structure; sizes in KiB, loads in percent times 100."""
    told = default_runtime().properties(device_id)
    total, free = told.total_memory // _KIB, told.free_memory // _KIB
    return {
        "swVersion": told.software_version,
        "uid": 0,
        "pciDomain": 0,
        "pciBusID": device_id,
        "pciDeviceID": 0,
        "temperature": told.temperature,
        "totalMemSize": total,
        "freeMemSize": free,
        "totalCmmSize": total,
        "freeCmmSize": free,
        "cpuLoading": 0,
        "npuLoading": round(told.core_load * 100),
    }


def _device_ids() -> list[int]:
    try:
        return [device.id for device in default_runtime().devices()]
    except Fault as fault:
        if fault.code is Code.OPEN:
            return []
        raise
