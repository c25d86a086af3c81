"""What tests ask of a partition."""

from leasehold.partition import Partition


def differences_in(partition: Partition) -> list[str]:
    """What the bits, the index and the counters of its pools have against each other."""
    partition.free(partition.pools[0])  # has what went the short way written down
    return [fault for pool in partition._ground.card.pools.values() for fault in pool.check()]
