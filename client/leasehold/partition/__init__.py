"""Units inside a lease, handed out in the client's own process: the claims of a lease, and no call to the daemon.

    with lease.partition() as partition:
        with partition.acquire(memory="256KiB", streams=1) as part:
            part.units("streams"), part.memory

To the daemon all of it stays one lease. The rules are the daemon's own (``rm.core``): a card that has nothing but the
units of the lease, on which a part is what a lease is on a card. It needs the extra ``daemon``.

There are two ways to a part. One run of a pool without sites goes the short way: it is taken from the index of free
runs alone. Everything else is placed as the daemon places it, on the bits, into which the runs of the short way are
written first. Both find the same units.
"""

from leasehold.partition.part import Part
from leasehold.partition.partition import Partition

__all__ = ["Part", "Partition"]
