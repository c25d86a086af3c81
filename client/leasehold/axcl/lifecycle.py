"""The beginning and the end: counted, as the next generation has it. Programs that never begin are served as well."""

import threading

from leasehold.axcl.answers import ret
from leasehold.runtime import Code, Fault, default_runtime

_lock = threading.Lock()
_count = 0


@ret
def init(config: str | None = None) -> None:
    """Connects to the daemon; ``config`` is taken and not read. Each call wants a ``finalize``."""
    global _count  # noqa: PLW0603 - of this process
    if not default_runtime().devices():
        raise Fault(Code.NO_CONNECT, "the daemon has no card")
    with _lock:
        _count += 1


@ret
def finalize() -> None:
    """After as many calls as there were of ``init``: resets every device, whatever its count, and disconnects."""
    global _count  # noqa: PLW0603 - of this process
    default_runtime().check_process()
    with _lock:
        _count = max(0, _count - 1)
        is_over = not _count
    if is_over:
        default_runtime().close()
