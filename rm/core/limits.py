"""Every maximum, in one place. A test stands at the edge of each (tests/core/test_limits.py and beside what it limits).

Names end in what they count or measure. Raising one is a decision about memory or time: the comment says which.
"""

from rm.core.types import NS_PER_S

# What a request may say. A claim costs a few microseconds; a site one bit and one look-up.
CLAIMS_PER_REQUEST_MAX = 64
ALTERNATIVES_PER_CLAIM_MAX = 8
COMBINATIONS_PER_REQUEST_MAX = 64  # products of alternatives tried before a request is called INVALID
SITES_PER_CLAIM_MAX = 4_096
IDS_PER_CLAIM_MAX = 65_536
ALIGN_MAX = 65_536
EXTENTS_PER_CLAIM_MAX = 16
LABEL_CHARS_MAX = 128
COMMAND_CHARS_MAX = 256
WAIT_NS_MAX = 24 * 3600 * NS_PER_S
OPERATIONS_PER_BATCH_MAX = 256  # about 10 ms in which the daemon hears nobody else

# What a lease may live without a keepalive.
TTL_NS_DEFAULT = 10 * NS_PER_S
TTL_NS_MIN = 1 * NS_PER_S
TTL_NS_MAX = 24 * 3600 * NS_PER_S

# What a lease that is to end may still live, and what every lease may after a restart of the daemon.
NOTICE_NS_DEFAULT = 2 * NS_PER_S
NOTICE_NS_MAX = 3_600 * NS_PER_S
RESTART_GRACE_NS = 5 * NS_PER_S  # a client is back within a second: its pauses between tries are at most that
UNCLAIMED_LOOKS_NS = NS_PER_S  # between two looks at what a session's keepalives leave out: a look costs its leases
UNCLAIMED_NS_MIN = 5 * NS_PER_S  # a grant whose answer was lost is asked for again within a second

# What a session may have. A lease costs about 2 KiB, a waiter 3 KiB and an open call.
SESSIONS_MAX = 4_096
SESSIONS_PER_PROCESS_MAX = 64  # no one process, and no one user, takes the places of all the others
SESSIONS_PER_UID_MAX = 2_048
LEASES_PER_SESSION_MAX = 4_096
ALLOTMENTS_PER_LEASE_MAX = 1_024
WAITERS_PER_SESSION_MAX = 2_048
WAITERS_MAX = 16_384
REQUESTS_REMEMBERED_PER_SESSION = 1_024

# What a card may have. Bits cost four bits of memory each, and the run index 200 bytes a free run.
CARDS_MAX = 64
POOLS_PER_CARD_MAX = 64
SITES_PER_POOL_MAX = 4_096
UNITS_PER_POOL_MAX = 1 << 26
SLICES_PER_UNIT_MAX = 1_024
RESERVATIONS_MAX = 1_024
NAME_CHARS_MAX = 64

# What the daemon keeps and says.
EVENTS_REMEMBERED = 1_024
WATCHERS_MAX = 128
EVENTS_PER_WATCHER_MAX = 1_024
EVENTS_TOLD_TOGETHER_MAX = 64  # to one watcher, before it must have read them
HOLDERS_PER_REFUSAL_MAX = 8
LEASES_PER_PAGE_MAX = 1_000
MESSAGE_BYTES_MAX = 1 << 20
TRAILER_BYTES_MAX = 6_000  # gRPC cuts metadata off at 8 KiB

# What is kept on disk.
RECORD_BYTES_MAX = 16 << 20
EVENTS_BETWEEN_SNAPSHOTS_MIN = 8_192
BALLAST_BYTES = 512 << 10  # dropped on a full disk, so that releases can still be written
EVENTS_PER_BATCH_MAX = 4_096

# The session socket.
CONNECTIONS_MAX = 4_096
CONNECTIONS_PER_UID_MAX = 2_560  # no one user takes the places of all the others; its sessions, and some to greet
FRAMES_PER_TURN_MAX = 16  # of one connection, before the others have their turn
FRAME_BYTES_MAX = 65_536  # of a connection that has no session yet; one that has may send MESSAGE_BYTES_MAX
LARGE_FRAMES_MAX = 64  # larger than that, and on their way at one time: what has come of them is kept
FRAMES_QUEUED_BYTES_MAX = 1 << 20  # a reader slower than this is closed
FRAMES_UNANSWERED_MAX = 256  # that wait for the disk; a client that asks for more is heard when one is answered
CALLS_WAITING_MAX = WAITERS_PER_SESSION_MAX + FRAMES_UNANSWERED_MAX  # the same with those that wait for units, or watch
DESCRIPTORS_PER_FRAME_MAX = 64  # the kernel's own limit is 253
DESCRIPTORS_QUEUED_MAX = 256  # copies held for a reader that is slow; one with more is closed
WINDOWS_PER_LEASE_MAX = DESCRIPTORS_PER_FRAME_MAX  # so that one answer has them all
HANDSHAKE_NS_MAX = 5 * NS_PER_S
