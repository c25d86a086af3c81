"""What Leasehold is measured against: one file a peer, each started by the benchmark in a directory of its own.

A peer's file has a ``Server``, which the benchmark starts, kills and stops, and a ``Client``, whose ``acquire`` and
``release`` are what a user of that peer would write. Where the quicker of two ways is allowed, it is taken.
"""
