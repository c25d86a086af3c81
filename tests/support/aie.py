"""What tests of an array look at and set up, alike on a manager in this process and on a daemon."""

from leasehold.aie import Device
from leasehold.claims import site_text

CORE, MEM, SHIM = (1, 3, "core"), (1, 3, "mem"), (1, 0, "pl")
BOTH = (MEM, CORE)


class KeepingDevice(Device):
    """A device that keeps the objects made for it: those that a test is done with end with the device."""

    def __init__(self, manager, **more) -> None:
        self.kept = []
        super().__init__(manager, **more)

    def note(self, resource) -> None:
        super().note(resource)
        self.kept.append(resource)


def held(manager, pool: str, tile) -> set[int]:
    """Ids of a pool that are held at a module."""
    bitmap = manager.bitmap(pool)
    return _ids(bitmap, bitmap.held_bits, tile)


def reserved(manager, pool: str, tile) -> set[int]:
    """Ids of a pool that are set aside at a module, held or not."""
    bitmap = manager.bitmap(pool)
    return _ids(bitmap, bitmap.reserved_bits, tile)


def taken(manager, pool: str, tile) -> set[int]:
    """Ids of a pool that no plain claim gets at a module."""
    return held(manager, pool, tile) | reserved(manager, pool, tile)


def totals(manager) -> dict[str, tuple[float, float]]:
    """Units held and reserved of each pool that has any; empty where the whole card is as it was made."""
    pools = manager.cards()[0].pools
    return {pool.name: (pool.used, pool.reserved) for pool in pools if pool.used or pool.reserved or pool.quarantined}


def _ids(bitmap, bits: bytes, tile) -> set[int]:
    sites = list(bitmap.sites)
    site, number = sites.index(site_text(tile)), int.from_bytes(bits, "little")
    return {unit for unit in range(bitmap.pool.unit_count) if number >> (unit * len(sites) + site) & 1}
