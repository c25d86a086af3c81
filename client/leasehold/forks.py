"""Forks of a process that speaks gRPC: it must not be in the middle of a call, or its child would hang in the next.

Before a fork, new calls are held back and those under way are waited for, a moment. Where one is still under way then
(an acquire that waits, say), the child is told so by a clear error instead of a hang.
"""

import os
import threading
from types import TracebackType

from leasehold.errors import DaemonUnavailable, Reentered

_SETTLE_S = 0.5  # how long a fork waits for calls that are under way


class _Gate:
    """Counts the calls under way. A context manager round each of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._call_count = 0
        self._forking_thread = 0  # its id
        self._is_unusable = False

    def __enter__(self) -> None:
        if self._forking_thread == threading.get_ident():
            raise Reentered("called by a signal handler while its thread forks")
        with self._changed:
            if self._is_unusable:
                raise DaemonUnavailable(
                    "this process was forked while its parent was in the middle of a call, and gRPC does not survive "
                    "that; fork at another time, or start processes by 'spawn'"
                )
            self._changed.wait_for(lambda: not self._forking_thread)
            self._call_count += 1

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._call_count -= 1
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Holds new calls back, and waits for those under way."""
        self._changed.acquire()
        self._forking_thread = threading.get_ident()
        self._changed.wait_for(lambda: not self._call_count, _SETTLE_S)

    def after_in_parent(self) -> None:
        """Lets calls go on."""
        self._forking_thread = 0
        self._changed.notify_all()
        self._changed.release()

    def after_in_child(self) -> None:
        """Begins anew: the threads that made calls are not here."""
        self._changed = threading.Condition()
        self._is_unusable = self._is_unusable or self._call_count > 0
        self._call_count = 0
        self._forking_thread = 0


calls_under_way = _Gate()

os.register_at_fork(
    before=calls_under_way.before_fork,
    after_in_parent=calls_under_way.after_in_parent,
    after_in_child=calls_under_way.after_in_child,
)
