"""Who calls in the middle of what its own thread does: a signal handler, or a finalizer of the garbage collector.

He cannot wait for his own thread, and must not come between what it does. So he is refused.
"""

import threading
from collections.abc import Callable
from typing import Any, cast

from leasehold.errors import Reentered


class Section:
    """A lock, to be entered by ``with section.lock``, that knows whether this very thread is in it already."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_entered: Callable[[], bool] = cast(Any, self.lock)._is_owned  # as threading.Condition asks of an RLock

    def check(self) -> None:
        """Makes sure that this thread is not in it.

        Raises:
            Reentered: it is.
        """
        if self.is_entered():
            raise Reentered("called by a signal handler or finalizer in the middle of another call of its thread")
