"""The client's end of the session socket: who we are to the daemon, our windows, our keepalives, news of our leases.

One thread keeps it: it renews, takes news, and reads where nobody does who waits for an answer (see ``wire``). It opens
the session anew where a connection breaks: the same session where the daemon still knows it, else a new one, and then
every lease of the old one is lost. A daemon that was restarted knows the session, but has lost its descriptors: it is
handed the windows back.
"""

import itertools
import math
import os
import random
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from google.protobuf.message import DecodeError

from leasehold.address import SESSION_SOCKET, nobody_there
from leasehold.entered import Section
from leasehold.errors import Closed, DaemonUnavailable, LeaseholdError
from leasehold.frames import exchange, framed, send
from leasehold.retries import CALL_S, SESSION_UNKNOWN, NotThere, refusal_of
from leasehold.server import connect_to_server
from leasehold.wire import Answer, Wire
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb

PROTOCOL_VERSION = 1
_CONFIRM_S = 1.0  # how long a call waits to hear whether its lease still stands
_LOOK_S = 0.02  # between looks whether callers still read the socket: as long may news wait that nobody reads
_TOGETHER_S = 0.05  # of a clock that all processes share: many sessions wake the daemon 20 times a second, not 300
_TOGETHER_FROM_S = 1.0  # a ttl below is renewed too often for that
_GOODBYE_S = 2.0  # how long to wait for a daemon that restarts, so that it hears the goodbye
_END_S = 10.0  # how long it waits for its own thread, which has nothing to wait for


class Owner(Protocol):
    """Whom a session tells and asks, from its reading thread."""

    def _on_lost(self, lease_id: str, cause: str) -> None:
        """A lease is lost."""

    def _on_revoking(self, lease_id: str, cause: str) -> None:
        """A lease is lost, and waits to be released until it is fenced."""

    def _on_session_lost(self, cause: str) -> None:
        """The session is lost with all its leases."""

    def _leases_to_renew(self) -> tuple[Sequence[str], float]:
        """All leases that are believed in, and the shortest ttl among them in seconds."""

    def _windows_held(self) -> Iterator[tuple[str, dict[int, int]]]:
        """Leases, each with copies of the descriptors of its windows by the index of their allotment.

        They are made one lease at a time, and whoever asks closes them.
        """


class SessionLink:
    """A session with the daemon. Thread-safe."""

    def __init__(
        self,
        run_directory: Path,
        owner: Owner,
        *,
        inherited: tuple[str, str] | None = None,
        command: str = "",
    ) -> None:
        """Opens a session, or attaches to the ``inherited`` one (id, secret) that this process had before an exec.

        ``command`` is what to show for this process, where that is not its own command line.

        Raises:
            DaemonUnavailable: no daemon is there.
        """
        self._path = run_directory / SESSION_SOCKET
        self._owner = owner
        self._command = command
        self._changing = Section()
        self._lock = self._changing.lock
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            connection, opened = self._connect(inherited)
        except BaseException:
            os.close(self._wake_fd)
            raise
        self.wire = Wire(connection, self._wake)
        self.session_id, self.secret = opened.session_id, opened.session_secret
        self._daemon_epoch = opened.daemon_epoch
        self._is_connected = True
        self._sent_at: dict[int, float] = {}  # keepalives that were not answered yet
        self._keepalive_numbers = itertools.count(1 << 40)  # above those of calls: their answers are news
        self._confirmed_at = self._renew_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="leasehold-session", daemon=True)
        self._thread.start()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What tells a gRPC call's server who calls."""
        with self._lock:
            return (("rmapi-session-id", self.session_id), ("rmapi-session-secret", self.secret))

    def fetch_windows(self, lease_id: str) -> list[tuple[pb.Window, int]]:
        """The windows of a lease, each with a descriptor that the caller owns.

        Raises:
            Refused: the lease is not ours, or has ended.
            DaemonUnavailable: there was no answer.
        """
        answer = self.ask(pb.ClientFrame(fetch_windows=pb.FetchWindows(lease_id=lease_id)), CALL_S)
        return list(zip(answer.told().windows.windows, answer.descriptors, strict=True))

    def wait_for_other_session(self, known_id: str, timeout_s: float) -> None:
        """Waits until the session is another than ``known_id``, which the daemon no longer knows."""
        with self._changed:
            if self.session_id == known_id:
                self.wire.hang_up()  # the session's thread then connects anew, and is told the same
            self._changed.wait_for(lambda: self.session_id != known_id or self._closing, timeout_s)

    def renew_within(self, ttl_s: float) -> None:
        """Sees to it that a lease of this ttl is renewed in time; the thread need not be woken where it will be."""
        renew_at = _next_renewal(ttl_s)
        with self._lock:
            is_sooner = renew_at < self._renew_at
            self._renew_at = min(self._renew_at, renew_at)
        if is_sooner:
            self._wake()

    def confirm(self, ttl_s: float) -> None:
        """Makes sure that the leases are known to live: what the daemon says of them is not older than ``ttl_s``.

        It is older where this process was stopped, or starved; then this asks, and waits a moment for the answer. It
        waits for no daemon that is not there: that takes nothing away.
        """
        now = time.monotonic()
        if now - self._confirmed_at < ttl_s or self.wire.is_entered:  # nobody could read the answer, beneath a handler
            return
        with self._changed:
            self._renew_at = now
            self._wake()
            self._changed.wait_for(
                lambda: self._confirmed_at >= now or not self._is_connected or self._closing, _CONFIRM_S
            )
            self._confirmed_at = max(self._confirmed_at, now)

    def release(self, lease_id: str) -> None:
        """Tells the daemon that a lease which it wants back is let go of. Waits for no answer."""
        data = framed(pb.ClientFrame(release=rm_pb.ReleaseRequest(lease_id=lease_id)))
        if self.wire.is_entered:  # by a signal handler or finalizer: as soon as what it came into goes on
            threading.Thread(target=self.wire.send_now, args=(data,), name="leasehold-let-go").start()
        else:
            self.wire.send_now(data)  # a daemon that is gone asks again when it is back

    def return_windows(self, lease_id: str, windows: Mapping[int, int]) -> None:
        """Hands the daemon windows of a lease that this process had before it became what it is."""
        if windows:  # what is not handed over is told when it is asked for
            self.wire.send_descriptors(_returned(lease_id, windows), list(windows.values()))

    def close(self) -> None:
        """Says goodbye: the session ends with its leases, politely. Waits for no daemon that stays away.

        Where a signal handler closes it in the middle of a call, a thread says it as soon as that call goes on.
        """
        if self.wire.is_entered or self._changing.is_entered():
            threading.Thread(target=self._end, name="leasehold-goodbye").start()
        else:
            self._end()

    def _end(self) -> None:
        give_up_at = time.monotonic() + _GOODBYE_S
        while not self._closing and (left_s := give_up_at - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._is_connected, left_s)
            with suppress(LeaseholdError):
                left_s = max(0.0, give_up_at - time.monotonic())
                self._say_goodbye(left_s)
        self._closing = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_S)
            if self._thread.is_alive():  # it may wait for what this very thread does, beneath a signal handler
                return
        self.wire.close()
        fd, self._wake_fd = self._wake_fd, -1
        os.close(fd)

    def abandon(self) -> None:
        """Lets go of the descriptors without a word: in a forked child the session is the parent's."""
        for fd in (self.wire.detach(), self._wake_fd):
            with suppress(OSError):
                os.close(fd)

    # Asking.

    def ask(self, frame: pb.ClientFrame, timeout_s: float, answer: Answer | None = None) -> Answer:
        """Sends a frame and waits for its answer, which is done then.

        Raises:
            NotThere: there was none.
            Closed: the session was.
        """
        if self._closing:
            raise Closed("the client is closed")
        wire = self.wire
        try:
            return wire.ask(frame, timeout_s, answer)
        except NotThere:
            with self._lock:
                if wire is self.wire and wire.is_broken:
                    self._is_connected = False  # as its thread is about to find out too
            raise

    def _say_goodbye(self, timeout_s: float) -> None:
        answer = Answer()
        answer.tell = lambda: self._note_goodbye(answer)
        self.ask(pb.ClientFrame(close_session=pb.CloseSession()), timeout_s, answer)

    def _note_goodbye(self, answer: Answer) -> None:
        """The session is over: the end of the connection, which comes next, is none to connect anew for."""
        if answer.frame is not None and answer.frame.HasField("session_closed"):
            self._closing = True

    # The session's thread.

    def _run(self) -> None:
        try:
            self._keep_and_reconnect()
        except BaseException as fault:  # nobody would renew the leases, or hear of their end
            self._owner._on_session_lost(f"its session failed: {fault}")
            raise

    def _keep_and_reconnect(self) -> None:
        while True:
            self._keep(self.wire)
            if self._closing or not self._reconnect():
                return

    def _keep(self, wire: Wire) -> None:
        """Renews, and takes what nobody else does, until the connection breaks."""
        polls = {True: select.poll(), False: select.poll()}
        for listens, poll in polls.items():
            poll.register(self._wake_fd, select.POLLIN)
            if listens:
                poll.register(wire.fileno(), select.POLLIN)
        while not self._closing:
            is_busy, wire.was_led = wire.is_led or wire.was_led, False
            until_renewal_s = max(0.0, self._renew_at - time.monotonic())
            looks_soon = is_busy and not wire.is_led_by_loop
            ready = dict(
                polls[not is_busy].poll((min(_LOOK_S, until_renewal_s) if looks_soon else until_renewal_s) * 1000)
            )
            if self._wake_fd in ready:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake_fd)
            is_due = time.monotonic() >= self._renew_at
            if is_due or (not wire.is_led and len(ready) > (self._wake_fd in ready)):
                if is_due and self._sent_at:  # not answered for a period: the thread that leads is held up
                    wire.read()
                else:
                    wire.read_unless_led()
            while wire.news:
                self._take(*wire.news.popleft())
            if wire.is_broken:
                return
            if is_due:
                self._renew(wire)

    def _take(self, frame: pb.ServerFrame, descriptors: Sequence[int]) -> None:
        match frame.WhichOneof("body"):
            case "lease_ended":
                self._owner._on_lost(frame.lease_ended.lease_id, frame.lease_ended.cause)
            case "lease_revoking":
                self._owner._on_revoking(frame.lease_revoking.lease_id, frame.lease_revoking.cause)
            case "keep_alive":
                for lease_id in frame.keep_alive.lost_lease_ids:
                    self._owner._on_lost(lease_id, "the daemon no longer has it")
                with self._changed:
                    self._confirmed_at = self._sent_at.pop(frame.correlation_id, self._confirmed_at)
                    self._changed.notify_all()
            case _:
                self._sent_at.pop(frame.correlation_id, None)
                for fd in descriptors:
                    os.close(fd)

    def _renew(self, wire: Wire) -> None:
        with self._lock:
            self._renew_at = math.inf  # before the leases are looked up: one that comes meanwhile sets its own time
        lease_ids, ttl_s = self._owner._leases_to_renew()
        with self._lock:
            self._renew_at = min(self._renew_at, _next_renewal(ttl_s))
        if self._sent_at:  # a daemon that stands still is told once: it would not read more
            return
        request = rm_pb.KeepAliveRequest(lease_ids=lease_ids)
        number = next(self._keepalive_numbers)
        self._sent_at[number] = time.monotonic()
        wire.send_now(framed(pb.ClientFrame(correlation_id=number, keep_alive=request)))

    def _reconnect(self) -> bool:
        """Connects again, however long that takes; answers False where the client is closed meanwhile."""
        with self._changed:
            self._is_connected = False
            self._sent_at.clear()
            self._changed.notify_all()
        pause_s = 0.02
        while not self._closing:
            try:
                connection, opened = self._connect((self.session_id, self.secret))
            except (LeaseholdError, OSError):  # nobody there yet, nobody who lets us in, or no descriptor left for it
                select.select([self._wake_fd], [], [], pause_s * random.uniform(0.5, 1.0))
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake_fd)
                pause_s = min(pause_s * 2, 0.5)
                continue
            if opened.session_id != self.session_id:  # before anybody can take a lease under the new one
                self._owner._on_session_lost("the daemon was restarted and does not know it")
            is_whole = self._return_windows(connection, opened.daemon_epoch)
            with self._changed:
                broken, self.wire = self.wire, Wire(connection, self._wake)
                self.session_id, self.secret = opened.session_id, opened.session_secret
                self._is_connected = True
                self._changed.notify_all()
            broken.close()  # without the lock: a signal handler may be long in the middle of its last use
            if not is_whole:  # broken again, or no descriptor is left for copies: the next connection begins anew
                self.wire.hang_up()
            self._renew_at = time.monotonic()
            return True
        return False

    def _return_windows(self, connection: socket.socket, daemon_epoch: int) -> bool:
        """Hands the windows to a daemon that was started since, before anything else is said; answers if it has all."""
        if daemon_epoch == self._daemon_epoch:
            return True
        try:
            for lease_id, windows in self._owner._windows_held():
                try:
                    if windows:
                        send(connection, _returned(lease_id, windows), list(windows.values()))
                finally:
                    for fd in windows.values():
                        os.close(fd)
        except OSError:
            return False
        self._daemon_epoch = daemon_epoch
        return True

    # Connecting.

    def _connect(self, known: tuple[str, str] | None) -> tuple[socket.socket, pb.SessionOpened]:
        connection = connect_to_server(self._path)
        try:
            opened = self._greet(connection, known)
            connection.settimeout(None)
        except TimeoutError as fault:
            connection.close()
            raise DaemonUnavailable(f"the daemon in {self._path.parent} does not answer") from fault
        except (OSError, DecodeError) as fault:
            connection.close()
            raise nobody_there(self._path.parent) from fault
        except BaseException:
            connection.close()
            raise
        return connection, opened

    def _greet(self, connection: socket.socket, known: tuple[str, str] | None) -> pb.SessionOpened:
        """Attaches to the known session, or opens one where there is none any more."""
        if known is not None:
            attach = pb.AttachSession(protocol_version=PROTOCOL_VERSION, session_id=known[0], session_secret=known[1])
            answer = exchange(connection, pb.ClientFrame(correlation_id=1, attach_session=attach))
            if answer.WhichOneof("body") == "session_opened":
                return answer.session_opened
            if answer.fault.detail.reason != SESSION_UNKNOWN:
                raise refusal_of(answer.fault.detail)
        opening = pb.OpenSession(protocol_version=PROTOCOL_VERSION, command=self._command)
        answer = exchange(connection, pb.ClientFrame(correlation_id=2, open_session=opening))
        if answer.WhichOneof("body") != "session_opened":
            raise refusal_of(answer.fault.detail)
        return answer.session_opened

    def _wake(self) -> None:
        with suppress(OSError, ValueError):  # it is closed
            os.eventfd_write(self._wake_fd, 1)


def _next_renewal(ttl_s: float) -> float:
    """When the next keepalive is due: in a third of a ttl, less some jitter, at a moment that others choose as well."""
    moment = time.monotonic() + ttl_s / 3 * random.uniform(0.8, 1.0)
    return moment if ttl_s < _TOGETHER_FROM_S else moment - moment % _TOGETHER_S


def _returned(lease_id: str, windows: Mapping[int, int]) -> pb.ClientFrame:
    return pb.ClientFrame(return_windows=pb.ReturnWindows(lease_id=lease_id, allotment_indexes=list(windows)))
