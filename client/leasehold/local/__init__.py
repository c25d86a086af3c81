"""The ledger in this process, without a daemon: for compilers that reserve, for bare metal, for tests.

The same rules and the same claims as through the daemon. It needs the extra ``daemon`` (bitarray), and is the one part
of this library, beside ``leasehold.testing``, that imports the daemon's rules.
"""

from leasehold.local.manager import MEMORY_DEFAULT, Manager

__all__ = ["MEMORY_DEFAULT", "Manager"]
