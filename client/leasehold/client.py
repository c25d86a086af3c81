"""The blocking client: one session with the daemon, shared by all threads of a process."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from leasehold import calls
from leasehold.base_client import BaseClient
from leasehold.batch import BatchCalls, in_messages
from leasehold.card import Card, LeaseInfo, card_from, lease_info_from
from leasehold.claims import Claim, Site
from leasehold.doors import Door, make_door
from leasehold.errors import Closed, LeaseholdError, LeaseLost, NotFound, NotOwner, Refused
from leasehold.inherited import inherited_lease_id, inherited_session, inherited_windows
from leasehold.lease import Lease
from leasehold.reservations import ReservationCalls
from leasehold.retries import CALL_S, FORGO_S, Attempts, NotThere, SessionUnknown
from leasehold.server import probe_server
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2


def connect(address: str | os.PathLike[str] | None = None, *, door: str | None = None) -> "Client":
    """Opens a session with the daemon, for this process. It ends with the client's block, or with the process.

    ``address`` is the daemon's run directory; unless given, ``$LEASEHOLD_ADDRESS``, the user's own, or the system's.
    ``door`` is how its calls go, ``"session"`` or ``"grpc"``; unless given, ``$LEASEHOLD_DOOR``, or the quicker one.

    Raises:
        DaemonUnavailable: no daemon is there; the text says how to start one.
    """
    client = Client(address, door=door)
    client.open()
    return client


class Client(BaseClient, ReservationCalls, BatchCalls):
    """A connection to the daemon. Any thread may use it; a forked child gets a session of its own.

    Every call outlives a daemon that restarts, for 30 s, and is carried out once, however often it is sent.

    A signal handler may call it too, and close it. Where it came in the few microseconds in which its thread sends or
    reads, or while that connects, the call is refused with ``Reentered``: let it set a flag, say.
    """

    def __init__(self, address: str | os.PathLike[str] | None = None, *, door: str | None = None) -> None:
        """Connects at the first call; ``connect`` does so at once."""
        super().__init__(address, door=door)
        self._door: Door = make_door(self.door, self.run_directory)

    def open(self) -> tuple[str, str]:
        """Opens the session where it is not open yet; answers its id and secret.

        Raises:
            DaemonUnavailable: no daemon is there; the text says how to start one.
        """
        link = self._session()
        return link.session_id, link.secret

    def check_reachable(self) -> None:
        """Makes sure that a daemon is there, without a session.

        Raises:
            DaemonUnavailable: none is; the text says how to start one.
        """
        probe_server(self.run_directory)

    # Leases.

    def acquire(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        card: str | None = None,
        wait: str | float = 0.0,
        priority: int = 0,
        ttl: str | float | None = None,
        label: str = "",
        reservation: str = "",
        **counts: float | None,
    ) -> Lease:
        """Takes everything that is claimed, from one card, or nothing.

        Any pool can be named with a count (``vdec=2``). ``wait`` is how long to queue, in seconds or as ``"30s"``; 0
        refuses at once. ``ttl`` is how long the lease outlives a process that hangs; ``math.inf`` means for ever.
        ``reservation`` (a name or content hash) is where memory and counts come from; alone, it is taken whole.

        Raises:
            Refused: one of its kinds says why; nothing was taken.
            DaemonUnavailable: there was no answer; whatever was granted meanwhile is given back.
        """
        wait_s = calls.wait_seconds(wait)
        all_counts = {"cores": cores, "streams": streams, **counts}
        reserved_pools: list[str] = []
        if calls.is_whole(reservation, claims, memory, all_counts):
            reserved_pools = calls.whole_pools(self.reservation_messages(reservation), reservation, card)
        request = calls.acquire_request(
            next(self._request_ids),
            claims,
            memory=memory,
            counts=all_counts,
            card=card,
            priority=priority,
            ttl=ttl,
            label=label,
            reservation=reservation,
            reserved_pools=reserved_pools,
        )
        try:
            response: pb.AcquireResponse = self._call("Acquire", request, wait_s=wait_s)
        except Refused:
            raise
        except BaseException:  # in doubt, also by Ctrl-C: it may have been granted
            self._forgo(request.request_id)
            raise
        try:
            return self._take(response.lease)
        except BaseException as fault:
            self._forgo(request.request_id)
            if isinstance(fault, NotFound | NotOwner):
                raise LeaseLost(response.lease.id, "the daemon was restarted meanwhile") from fault
            raise

    def inherited(self) -> Lease:
        """The lease that ``rmctl run`` took before this process became this program.

        Raises:
            NotFound: this process was not started by ``rmctl run``.
        """
        lease_id, session = inherited_lease_id(), inherited_session()
        if not lease_id or session is None or self.open()[0] != session[0]:
            raise NotFound("this process has inherited no lease that lives; start it with 'rmctl run ... -- COMMAND'")
        known = self._leases.get(lease_id)
        if isinstance(known, Lease):
            return known
        response: pb.GetLeaseResponse = self._call("GetLease", pb.GetLeaseRequest(lease_id=lease_id))
        if response.lease.session_id != session[0]:
            raise NotFound(f"lease {lease_id} is not this session's: the daemon was restarted")
        self._session().return_windows(lease_id, inherited_windows(response.lease))
        return self._take(response.lease)

    def inheritable_windows(self, lease: Lease) -> list[tuple[int, int]]:
        """The windows of a lease once more: descriptors that stay open in a command this process becomes, and sizes."""
        fetched = self._fetched(lease.id) if lease.windows else []
        for _, fd in fetched:
            os.set_inheritable(fd, True)
        return [(fd, window.size_bytes) for window, fd in fetched]

    def leases(self, pool: str = "") -> list[LeaseInfo]:
        """All live leases of all processes, oldest first; only those with units of ``pool`` where it is given."""
        return [lease_info_from(message) for message in self.lease_messages(pool)]

    def revoke(self, lease_id: str, *, notice: str | float = 2.0, why: str = "revoked") -> bool:
        """Ends somebody's lease: its holder is told ``why``, and fenced after ``notice``. For admins.

        Answers False where the lease had ended, or was about to.

        Raises:
            NotOwner: this process runs neither as root nor as the daemon's user.
            NotFound: there never was such a lease.
        """
        response: pb.RevokeResponse = self._call("Revoke", calls.revoke_request(lease_id, notice, why))
        return response.revoked

    # What there is.

    def cards(self) -> list[Card]:
        """The cards, with the state of their pools."""
        response: pb.ListCardsResponse = self._read("ListCards", pb.ListCardsRequest())
        return [card_from(card) for card in response.cards]

    def status(self) -> pb.GetStatusResponse:
        """The daemon at a glance, as its message."""
        response: pb.GetStatusResponse = self._read("GetStatus", pb.GetStatusRequest())
        return response

    def bitmap(self, pool: str, card: str | None = None) -> types_pb2.PoolBitmap:
        """The bits of a pool, as their message.

        Raises:
            Invalid: no such card or pool.
        """
        response: pb.GetBitmapResponse = self._read("GetBitmap", pb.GetBitmapRequest(card=card or "", pool=pool))
        return response.bitmap

    def lease_messages(self, pool: str = "") -> Iterator[types_pb2.Lease]:
        """All live leases as their messages, page by page."""
        request = pb.ListLeasesRequest(pool=pool)
        while True:
            page: pb.ListLeasesResponse = self._read("ListLeases", request)
            yield from page.leases
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def events(self, *, past: int = 0, follow: bool = True) -> Iterator[types_pb2.Event]:
        """What happens to leases: up to ``past`` events that were, then, with ``follow``, new ones without end.

        Raises:
            DaemonUnavailable: the daemon went away.
        """
        if self._is_closed:
            raise Closed("the client is closed")
        for response in self._door.watch(pb.WatchEventsRequest(past_count=past, follow=follow)):
            yield response.event

    def explain(
        self,
        *claims: Claim,
        memory: str | int | None = None,
        cores: float | None = None,
        streams: int | None = None,
        card: str | None = None,
        **counts: float | None,
    ) -> pb.ExplainResponse:
        """What would happen to a request now, and why, as its message. Takes nothing."""
        all_counts = {"cores": cores, "streams": streams, **counts}
        request = calls.explain_request(claims, memory=memory, counts=all_counts, card=card)
        response: pb.ExplainResponse = self._read("Explain", request)
        return response

    def check(self) -> pb.CheckConsistencyResponse:
        """Has the daemon compare its bitmaps with its leases; the differences, as their message."""
        response: pb.CheckConsistencyResponse = self._read("CheckConsistency", pb.CheckConsistencyRequest())
        return response

    # Ending.

    def close(self) -> None:
        """Ends the session: every lease of it is released, every wait withdrawn. Does nothing a second time.

        Raises:
            WindowInUse: arrays of a lease's memory live; the session goes on.
        """
        if self._is_closed or self._pid != os.getpid():
            return
        self._let_go_of_leases()
        self._hang_up()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if fault is not None:
            self._abandon_windows()
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self._leases)} leases"
        return f"<Client {self.run_directory}: {state}>"

    # What a lease asks of its client.

    def _release(self, lease: Lease, *, to_pool: bool) -> None:
        self._call("Release", pb.ReleaseRequest(lease_id=lease.id, to_pool=to_pool))

    def _extend(
        self, lease: Lease, claims: tuple[Claim, ...], memory: str | int | None, counts: dict[str, float | None]
    ) -> None:
        request = calls.extend_request(next(self._request_ids), lease.id, claims, memory, counts)
        response: pb.ExtendResponse = self._call("Extend", request)
        with self._arriving(response.lease):
            cpus = self._cpus_of(response.lease)
            lease._grow(response.lease, self._fetch_windows(response.lease), cpus)

    def _give_back(
        self, lease: Lease, pool: str, ids: Sequence[int], at: Sequence[Site], *, to_pool: bool
    ) -> types_pb2.Lease:
        request = calls.give_back_request(next(self._request_ids), lease.id, pool, ids, at, to_pool=to_pool)
        response: pb.GiveBackResponse = self._call("GiveBack", request)
        return response.lease

    # Calling.

    def _take(self, message: types_pb2.Lease) -> Lease:
        with self._arriving(message):
            cpus = self._cpus_of(message)
            windows = self._fetch_windows(message)
            lease = Lease(self, message, core_cpus=cpus, windows=windows, confirm=self._confirm)
            self._keep(lease)
        return lease

    def _cpus_of(self, message: types_pb2.Lease) -> tuple[int, ...]:
        """CPU numbers of the cores of a lease's card, where the lease has some."""
        if self._needs_cpus(message):
            self._core_cpus.update({card.id: card.core_cpus for card in self.cards()})
        return self._core_cpus.get(message.card, ())

    def _forgo(self, *request_ids: int) -> None:
        """Gives back what requests may have got; tries for a moment, for the daemon may be about to come back."""
        give_up_at = time.monotonic() + FORGO_S
        releases = [pb.ReleaseRequest(request_id=request_id) for request_id in request_ids]
        messages = list(in_messages([pb.Operation(release=one) for one in releases]))
        with suppress(LeaseholdError):
            while messages and (left_s := give_up_at - time.monotonic()) > 0:
                try:
                    self._door.call("Batch", messages[0], left_s, self._session())
                    del messages[0]
                except NotThere:
                    time.sleep(min(0.05, left_s))

    def _read(self, method: str, request: Any) -> Any:  # noqa: ANN401 - one of many messages
        return self._call(method, request, needs_session=False)

    def _call(self, method: str, request: Any, *, wait_s: float = 0.0, needs_session: bool = True) -> Any:  # noqa: ANN401
        """Sends a request until it is answered, for 30 s of a daemon that is not there."""
        calls.check_size(request)
        attempts = Attempts(method)
        wait_until = time.monotonic() + wait_s
        while True:
            if self._is_closed:
                raise Closed("the client is closed")
            link = self._session() if needs_session else self._door_link()
            known_id = link.session_id if link else ""
            left_s = 0.0
            if wait_s:
                left_s = max(0.0, wait_until - time.monotonic())
                calls.set_wait(request, left_s)
            try:
                return self._door.call(method, request, left_s + CALL_S, link)
            except SessionUnknown as fault:
                if link is None:
                    raise
                attempts.check_time_left(fault)
                link.wait_for_other_session(known_id, CALL_S)
            except NotThere as fault:
                time.sleep(attempts.after(fault))

    def _hang_up(self) -> None:
        with self._lock:
            self._is_closed = True
            link, self._link = self._link, None
        if link is not None:
            link.close()
        self._door.close()

    def _forget_parent(self) -> None:
        self._door.abandon()
        super()._forget_parent()
