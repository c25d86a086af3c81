"""What the blocking and the ``await`` client share: the session of this process, the leases it holds, and forks."""

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from leasehold.address import find_run_directory
from leasehold.doors import SESSION, chosen_door
from leasehold.entered import Section
from leasehold.errors import Closed, DaemonUnavailable, WindowInUse
from leasehold.frames import copies_of
from leasehold.held_lease import HeldLease
from leasehold.inherited import inherited_session
from leasehold.retries import RETRY_S
from leasehold.session import SessionLink
from rmapi.v1 import session_pb2, types_pb2

_IDLE_TTL_S = 30.0  # three times as long as it takes between two keepalives where no lease needs them sooner
_LET_GO_MAX = 1_024
_clients: "weakref.WeakSet[BaseClient]" = weakref.WeakSet()


class BaseClient:
    """A session with the daemon, opened at the first call, and the leases that this process holds."""

    def __init__(self, address: str | os.PathLike[str] | None = None, *, door: str | None = None) -> None:
        """Connects at the first call; ``connect`` does so at once."""
        self.door = chosen_door(door)
        """The name of its way to the daemon: ``"session"`` or ``"grpc"``."""
        self.run_directory = find_run_directory(address)
        self.shown_command = ""  # instead of this process's own command line; it counts when the session is opened
        self._core_cpus: dict[str, tuple[int, ...]] = {}
        self._reset()
        _clients.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connecting = Section()
        self._link: SessionLink | None = None
        self._leases: dict[str, HeldLease] = {}
        self._lost: list[HeldLease] = []
        self._arriving_leases: dict[str, dict[int, int]] = {}  # granted, with the windows that have come already
        self._let_go_of: deque[str] = deque(maxlen=_LET_GO_MAX)  # said to a daemon that may not have heard it
        # A session that this process had before it became this program has seen requests: these count up behind them.
        self._request_ids = itertools.count(time.monotonic_ns() if inherited_session() else 1)
        self._is_closed = False

    def _session(self) -> SessionLink:
        """The session, opened at the first call; a forked child opens one of its own."""
        with self._lock:
            if self._is_closed:
                raise Closed("the client is closed")
            link = self._link
            if link is not None:
                return link
            self._connecting.check()
            with self._connecting.lock:
                link = SessionLink(self.run_directory, self, inherited=inherited_session(), command=self.shown_command)
            if not self._is_closed:
                self._link = link
                return link
        link.close()  # and not under the lock, which the session's thread wants
        raise Closed("the client was closed by a signal handler while it connected")

    def _check_may_call(self) -> None:
        """Makes sure that this thread is not in the middle of a call, where a signal handler asks.

        Raises:
            Reentered: it is.
        """
        self._connecting.check()
        if self._link is not None:
            self._link.wire.check_not_entered()

    def _next_request_id(self) -> int:
        """A number that no request of this session has had."""
        return next(self._request_ids)

    def _door_link(self) -> SessionLink | None:
        """The session to read as: over the session door the one that is open, else none."""
        return self._link if self.door == SESSION else None

    def _fetch_windows(self, message: types_pb2.Lease) -> dict[int, int]:
        """The windows of a lease that has memory: descriptors by the index of their allotment."""
        if not has_windows(message):
            return {}
        windows = {window.allotment_index: fd for window, fd in self._fetched(message.id)}
        with self._lock:
            if message.id in self._arriving_leases:
                self._arriving_leases[message.id] = dict(windows)
        return windows

    def _fetched(self, lease_id: str) -> list[tuple[session_pb2.Window, int]]:
        """The windows of a lease, each with a descriptor of its own; outlives a daemon that restarts."""
        give_up_at = time.monotonic() + RETRY_S
        while True:
            try:
                return self._session().fetch_windows(lease_id)
            except DaemonUnavailable:
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(0.05)

    @contextmanager
    def _arriving(self, message: types_pb2.Lease) -> Iterator[None]:
        """While a granted lease is taken into use, it is claimed in keepalives as those are that were."""
        with self._lock:
            self._arriving_leases[message.id] = {}
        try:
            yield
        finally:
            with self._lock:
                self._arriving_leases.pop(message.id, None)

    def _needs_cpus(self, message: types_pb2.Lease) -> bool:
        """Whether the CPU numbers of the lease's cores are still to be asked for."""
        has_cores = any(allotment.pool == "cores" for allotment in message.allotments)
        return has_cores and message.card not in self._core_cpus

    def _keep(self, lease: HeldLease) -> None:
        """Begins to renew a lease."""
        with self._lock:
            self._leases[lease.id] = lease
        if lease.ttl_s:
            self._session().renew_within(lease.ttl_s)

    def _drop(self, lease: HeldLease) -> None:
        with self._lock:
            if self._leases.get(lease.id) is lease:  # after a restart of the daemon another may have its id
                del self._leases[lease.id]
            if lease in self._lost:
                self._lost.remove(lease)

    def _leases_to_renew(self) -> tuple[list[str], float]:
        with self._lock:
            lease_ids = list(dict.fromkeys([*self._leases, *self._arriving_leases]))
            ttls = [lease.ttl_s for lease in self._leases.values() if lease.ttl_s]
        return lease_ids, min([*ttls, _IDLE_TTL_S])

    def _windows_held(self) -> Iterator[tuple[str, dict[int, int]]]:
        with self._lock:
            leases = [*self._leases.values(), *(lease for lease in self._lost if lease._is_wanted_back)]
            arriving = list(self._arriving_leases.items())
        for lease in leases:
            yield lease.id, lease._window_copies()
        for lease_id, windows in arriving:
            yield lease_id, copies_of(windows)

    def _confirm(self, ttl_s: float) -> None:
        """Asks the daemon whether the leases stand, where that is not known for less than ``ttl_s``."""
        link = self._link
        if link is not None:
            link.confirm(ttl_s)

    def _on_lost(self, lease_id: str, cause: str) -> None:
        with self._lock:
            lease = self._leases.pop(lease_id, None)
            if lease is None:
                return
            self._lost.append(lease)
        lease._lose(cause)

    def _on_revoking(self, lease_id: str, cause: str) -> None:
        with self._lock:
            known = [*self._leases.values(), *self._lost]  # a daemon that was restarted tells of lost ones once more
            lease = next((one for one in known if one.id == lease_id), None)
        if lease is None:
            if lease_id in self._let_go_of and self._link is not None:
                self._link.release(lease_id)
            return
        lease._is_wanted_back = True
        self._on_lost(lease_id, cause)
        threading.Thread(target=self._yield_up, args=(lease,), name="leasehold-revoked", daemon=True).start()

    def _yield_up(self, lease: HeldLease) -> None:
        """Lets go of a lease that is wanted back, where nothing uses it; else whoever does has until it is fenced."""
        with suppress(WindowInUse):
            lease._yield_up()
            self._say_let_go(lease)
            self._drop(lease)

    def _say_let_go(self, lease: HeldLease) -> None:
        """Tells the daemon that a lease which it wants back is let go of."""
        link = self._link
        if lease._is_wanted_back and link is not None:
            lease._is_wanted_back = False
            self._let_go_of.append(lease.id)
            link.release(lease.id)

    def _let_go_of_leases(self) -> None:
        """Ends what runs on the leases; the end of the session ends them at the daemon.

        Raises:
            WindowInUse: arrays of one live; no lease was ended.
        """
        with self._lock:
            leases = [*self._leases.values(), *self._lost]
        for lease in leases:
            lease._close_streams()
        for lease in leases:
            if not lease._lost_cause:
                lease._check_unused()
        for lease in leases:
            lease._let_go()
            lease._is_released = True
        with self._lock:
            self._leases.clear()
            self._lost.clear()

    def _abandon_windows(self) -> None:
        """Lets windows go though arrays live, as those do that the frames of a traceback hold on to."""
        for lease in list(self._leases.values()):
            lease._abandon_windows()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client belongs to its process: it cannot be copied or pickled; connect there")

    def _on_session_lost(self, cause: str) -> None:
        for lease_id in list(self._leases):
            self._on_lost(lease_id, cause)

    def _forget_parent(self) -> None:
        """In a forked child: the session, the channel and the leases are the parent's."""
        if self._link is not None:
            self._link.abandon()
        self._reset()


def has_windows(message: types_pb2.Lease) -> bool:
    """Whether a lease has memory."""
    return any(allotment.unit_bytes for allotment in message.allotments)


def _forget_parents() -> None:
    for client in list(_clients):
        client._forget_parent()


os.register_at_fork(after_in_child=_forget_parents)
