"""The client's end of the session socket: who we are to the daemon, our windows, our keepalives, news of our leases.

One thread reads. It opens the session anew where a connection breaks: the same session where the daemon still knows it,
else a new one, and then every lease of the old one is lost. A daemon that was restarted knows the session, but has lost
its descriptors: it is handed the windows back.
"""

import os
import random
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from google.protobuf.message import DecodeError

from leasehold.address import SESSION_SOCKET, nobody_there
from leasehold.channel import CALL_S, SESSION_UNKNOWN, refusal_of
from leasehold.errors import Closed, DaemonUnavailable, LeaseholdError
from leasehold.frames import Reader, exchange, send
from leasehold.server import connect_to_server
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb

PROTOCOL_VERSION = 1
_CONFIRM_S = 1.0  # how long a call waits to hear whether its lease still stands
_GOODBYE_S = 2.0  # how long to wait for a daemon that restarts, so that it hears the goodbye


@dataclass(slots=True)
class _Answer:
    """What one frame is answered with."""

    arrived: threading.Event = field(default_factory=threading.Event)
    frame: pb.ServerFrame | None = None
    descriptors: list[int] = field(default_factory=list)


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
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._answers: dict[int, _Answer] = {}
        self._last_correlation_id = 0
        self._closing = False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._socket, opened = self._connect(inherited)
        except BaseException:
            os.close(self._wake_fd)
            raise
        self.session_id, self.secret = opened.session_id, opened.session_secret
        self._daemon_epoch = opened.daemon_epoch
        self._is_connected = True
        self._sent_at: dict[int, float] = {}  # keepalives that were not answered yet
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
        answer = self._ask(pb.ClientFrame(fetch_windows=pb.FetchWindows(lease_id=lease_id)), CALL_S)
        assert answer.frame is not None
        return list(zip(answer.frame.windows.windows, answer.descriptors, strict=True))

    def wait_for_other_session(self, known_id: str, timeout_s: float) -> None:
        """Waits until the session is another than ``known_id``, which the daemon no longer knows."""
        with self._changed:
            if self.session_id == known_id:
                self._hang_up()  # the reading thread then connects anew, and is told the same
            self._changed.wait_for(lambda: self.session_id != known_id or self._closing, timeout_s)

    def renew_now(self) -> None:
        """Makes the thread look anew at which leases to renew, and when."""
        self._renew_at = min(self._renew_at, time.monotonic() + self._period_s())
        self._wake()

    def confirm(self, ttl_s: float) -> None:
        """Makes sure that the leases are known to live: what the daemon says of them is not older than ``ttl_s``.

        It is older where this process was stopped, or starved; then this asks, and waits a moment for the answer. It
        waits for no daemon that is not there: that takes nothing away either.
        """
        now = time.monotonic()
        if now - self._confirmed_at < ttl_s:
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
        frame = pb.ClientFrame(release=rm_pb.ReleaseRequest(lease_id=lease_id))
        with self._lock, suppress(OSError):  # a daemon that is gone asks again when it is back
            send(self._socket, frame)

    def return_windows(self, lease_id: str, windows: Mapping[int, int]) -> None:
        """Hands the daemon windows of a lease that this process had before it became what it is."""
        with self._lock, suppress(OSError):  # what is not handed over is told when it is asked for
            self._send_windows(lease_id, windows)

    def close(self) -> None:
        """Says goodbye: the session ends with its leases, politely. Waits for no daemon that stays away."""
        give_up_at = time.monotonic() + _GOODBYE_S
        while not self._closing and (left_s := give_up_at - time.monotonic()) > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._is_connected, left_s)
            with suppress(LeaseholdError):
                left_s = max(0.0, give_up_at - time.monotonic())
                self._ask(pb.ClientFrame(close_session=pb.CloseSession()), left_s)
        self._closing = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._socket.close()
        fd, self._wake_fd = self._wake_fd, -1
        os.close(fd)

    def abandon(self) -> None:
        """Lets go of the descriptors without a word: in a forked child the session is the parent's."""
        for fd in (self._socket.detach(), self._wake_fd):
            with suppress(OSError):
                os.close(fd)

    # Asking.

    def _ask(self, frame: pb.ClientFrame, timeout_s: float) -> _Answer:
        answer = _Answer()
        with self._lock:
            if self._closing:
                raise Closed("the client is closed")
            self._last_correlation_id += 1
            frame.correlation_id = self._last_correlation_id
            self._answers[frame.correlation_id] = answer
            try:
                send(self._socket, frame)
            except OSError as fault:
                del self._answers[frame.correlation_id]
                self._is_connected = False  # as the reading thread is about to find out too
                raise DaemonUnavailable("the connection to the daemon is broken") from fault
        if not answer.arrived.wait(timeout_s):
            self._answers.pop(frame.correlation_id, None)
            raise DaemonUnavailable(f"the daemon gave no answer for {timeout_s:g} s")
        if answer.frame is None:
            raise DaemonUnavailable("the connection to the daemon broke")
        if answer.frame.WhichOneof("body") == "fault":
            raise refusal_of(answer.frame.fault.detail)
        return answer

    # The reading thread.

    def _run(self) -> None:
        try:
            self._read_and_reconnect()
        except BaseException as fault:  # nobody would renew the leases, or hear of their end
            self._owner._on_session_lost(f"its session failed: {fault}")
            raise

    def _read_and_reconnect(self) -> None:
        while True:
            reader = Reader(self._socket)
            self._read_until_broken(reader)
            reader.close()
            for answer in list(self._answers.values()):
                answer.arrived.set()
            self._answers.clear()
            if self._closing or not self._reconnect():
                return

    def _read_until_broken(self, reader: Reader) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, self._renew_at - time.monotonic()) * 1000))
            if self._wake_fd in ready:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake_fd)
            try:
                if time.monotonic() >= self._renew_at:
                    self._renew()
                if self._socket.fileno() in ready:
                    for frame, descriptors in reader.read():
                        self._take(frame, descriptors)
            except (OSError, EOFError, DecodeError):
                return
            if self._closing and not self._answers:
                return

    def _take(self, frame: pb.ServerFrame, descriptors: list[int]) -> None:
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
                answer = self._answers.pop(frame.correlation_id, None)
                if answer is None:
                    for fd in descriptors:
                        os.close(fd)
                    return
                answer.frame, answer.descriptors = frame, descriptors
                self._closing = self._closing or frame.WhichOneof("body") == "session_closed"
                answer.arrived.set()

    def _renew(self) -> None:
        lease_ids, _ = self._owner._leases_to_renew()
        self._renew_at = time.monotonic() + self._period_s()
        if self._sent_at:  # a daemon that stands still is told once: it would not read more
            return
        with self._lock:
            self._last_correlation_id += 1
            frame = pb.ClientFrame(
                correlation_id=self._last_correlation_id, keep_alive=rm_pb.KeepAliveRequest(lease_ids=lease_ids)
            )
            self._sent_at[frame.correlation_id] = time.monotonic()
            send(self._socket, frame)

    def _period_s(self) -> float:
        """A third of the shortest ttl, less some jitter."""
        _, ttl_s = self._owner._leases_to_renew()
        return ttl_s / 3 * random.uniform(0.8, 1.0)

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
            with self._changed:
                self._socket.close()
                self._socket = connection
                self.session_id, self.secret = opened.session_id, opened.session_secret
                self._return_windows(opened.daemon_epoch)
                self._is_connected = True
                self._changed.notify_all()
            self._renew_at = time.monotonic()
            return True
        return False

    def _return_windows(self, daemon_epoch: int) -> None:
        """Hands the windows to a daemon that was started since, before anything else is asked of it."""
        if daemon_epoch == self._daemon_epoch:
            return
        try:
            for lease_id, windows in self._owner._windows_held():
                try:
                    self._send_windows(lease_id, windows)
                finally:
                    for fd in windows.values():
                        os.close(fd)
            self._daemon_epoch = daemon_epoch
        except OSError:  # broken again, or no descriptor is left for copies: the next connection begins anew
            self._hang_up()

    def _send_windows(self, lease_id: str, windows: Mapping[int, int]) -> None:
        if windows:
            returned = pb.ReturnWindows(lease_id=lease_id, allotment_indexes=list(windows))
            send(self._socket, pb.ClientFrame(return_windows=returned), list(windows.values()))

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

    def _hang_up(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _wake(self) -> None:
        with suppress(OSError):  # it is closed
            os.eventfd_write(self._wake_fd, 1)
