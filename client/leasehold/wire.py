"""One connection to the session socket on which many calls are under way, from any thread.

Whoever waits for an answer reads the socket himself, where nobody else does: he leads, takes every frame that comes to
whoever it is for, and when he has his own answer another of those who wait leads on. So one thread alone pays for no
other. Nobody reads beside a thread that leads, unless it is held up: it sleeps until something comes, and would hear
only a little later that its answer has been read. An event loop may lead for good. What is no answer is news, and left
for the session's own thread.

A signal handler may call while its thread waits. In the few microseconds in which that sends or reads, the call is
refused: it could neither wait for its own thread nor come between.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from select import POLLIN, POLLOUT, poll

from google.protobuf.message import DecodeError

from leasehold.entered import Section
from leasehold.frames import Reader, framed
from leasehold.retries import NotThere, refusal_of
from rmapi.v1 import session_pb2 as pb

_ENDS = (BrokenPipeError, ConnectionResetError)  # of the daemon's end of the connection
_SLEEP_S = 1.0  # before who waits looks for himself whether his answer has been read, or never will be


class Answer:
    """What one frame is answered with. ``tell`` is called when it is there, by whoever read it."""

    __slots__ = ("_turn", "beneath", "descriptors", "frame", "is_done", "tell")

    def __init__(self, tell: Callable[[], None] | None = None) -> None:
        self.frame: pb.ServerFrame | None = None
        """None where it is done: the connection broke."""
        self.descriptors: Sequence[int] = ()
        self.is_done = False
        self.tell = tell
        self.beneath: Answer | None = None
        """What the same thread leads for while a signal handler of it asks."""
        self._turn: SimpleQueue[None] | None = None  # and no Event, in the middle of which a signal handler may come

    def done(self, frame: pb.ServerFrame | None, descriptors: Sequence[int] = ()) -> None:
        """It is there, or never will be."""
        self.frame, self.descriptors = frame, descriptors
        self.is_done = True
        if self.tell is not None:
            self.tell()
        self.wake()

    def wake(self) -> None:
        """Has whoever waits for it look: whether it is there, or whether he can lead."""
        if self._turn is not None:
            self._turn.put(None)

    def will_wait(self) -> None:
        """Is to be woken from now on."""
        if self._turn is None:
            self._turn = SimpleQueue()

    def wait(self, timeout_s: float) -> None:
        """Waits to be woken, so long at most."""
        assert self._turn is not None, "who waits has said so before"
        with suppress(Empty):
            self._turn.get(timeout=timeout_s)

    @property
    def is_awaited(self) -> bool:
        """Whether a thread waits for it that could lead."""
        return self._turn is not None and not self.is_done

    def told(self) -> pb.ServerFrame:
        """The frame of an answer that is done.

        Raises:
            NotThere: the connection broke.
            Refused, SessionUnknown, DaemonUnavailable: the daemon said no.
        """
        if self.frame is None:
            raise NotThere("the connection to the daemon broke")
        if self.frame.HasField("fault"):
            raise refusal_of(self.frame.fault.detail)
        return self.frame


class Wire:
    """A connection that was greeted. ``on_news`` is called where there is something in ``news``, or it broke."""

    def __init__(self, connection: socket.socket, on_news: Callable[[], None] = lambda: None) -> None:
        """Takes over ``connection``."""
        connection.setblocking(False)
        self._socket = connection
        self._on_news = on_news
        self.news: deque[tuple[pb.ServerFrame, Sequence[int]]] = deque()
        self.is_broken = False
        self.was_led = False  # since somebody last looked
        self.is_led_by_loop = False
        self._sending, self._receiving = Section(), Section()
        self._lock = self._sending.lock  # guards what is sent, who leads, and who waits
        self._reading = self._receiving.lock
        self._reader = Reader(connection)
        self._unsent = bytearray()
        self._last_id = 1_000  # the greeting has lower ones
        self._answers: dict[int, Answer] = {}
        self._leader: Answer | None = None
        self._leading_thread = 0
        self._readable = _poll_of(connection)

    def forget_news(self) -> None:
        """Keeps no news: nobody takes them."""
        self._on_news = self.news.clear

    def fileno(self) -> int:
        """The descriptor of its socket, to wait for what comes."""
        return self._socket.fileno()

    @property
    def is_led(self) -> bool:
        """Whether somebody reads what comes."""
        return self._leader is not None or self.is_led_by_loop

    @property
    def is_entered(self) -> bool:
        """Whether this very thread is in the middle of sending or reading."""
        return self._sending.is_entered() or self._receiving.is_entered()

    def check_not_entered(self) -> None:
        """Makes sure that this very thread is not in the middle of sending or reading.

        Raises:
            Reentered: it is.
        """
        self._sending.check()
        self._receiving.check()

    # Asking.

    def ask(self, frame: pb.ClientFrame, timeout_s: float, answer: Answer | None = None) -> Answer:
        """Sends a frame and waits for its answer, which is done then; it is ``answer``, where that is given.

        Raises:
            NotThere: the connection broke, or there was no answer in time.
            Reentered: as ``begin`` says.
        """
        give_up_at = time.monotonic() + timeout_s
        answer = answer or Answer()
        try:
            self.send(self.begin(frame, answer), give_up_at)
            self._await(answer, give_up_at)
        finally:
            self._leave(frame.correlation_id, answer)
        return answer

    def begin(self, frame: pb.ClientFrame, answer: Answer) -> bytes:
        """Numbers a frame, and has ``answer`` done with what it is answered with; answers its bytes, still to be sent.

        Raises:
            NotThere: the connection is broken.
            Reentered: this very thread is in the middle of sending or reading.
        """
        self.check_not_entered()
        with self._lock:
            if self.is_broken:
                raise NotThere("the connection to the daemon is broken")
            self._last_id += 1
            frame.correlation_id = self._last_id
            self._answers[self._last_id] = answer
        return framed(frame)

    def give_up(self, frame: pb.ClientFrame) -> None:
        """Waits for the answer to ``frame`` no longer, and tells the daemon."""
        if self._answers.pop(frame.correlation_id, None) is not None and not self.is_broken:
            cancel = pb.ClientFrame(cancel=pb.Cancel(called_id=frame.correlation_id))
            self.send_now(framed(cancel))

    def send(self, data: bytes, give_up_at: float) -> None:
        """Sends bytes, and waits until the last of them is on its way.

        Raises:
            NotThere: the connection broke, or the daemon does not read.
        """
        if self.send_now(data):
            return
        writable = _poll_of(self._socket, POLLOUT)
        while not self.send_now(b""):
            if self.is_broken or time.monotonic() >= give_up_at:
                raise NotThere("the daemon does not read")
            writable.poll(max(0.0, give_up_at - time.monotonic()) * 1000)
        if self.is_broken:
            raise NotThere("the connection to the daemon broke")

    def send_now(self, data: bytes) -> bool:
        """Sends bytes, as far as the daemon reads; the rest goes before what is sent next. Answers if all has gone."""
        with self._lock:
            if self._unsent:
                self._unsent += data
                data = bytes(self._unsent)
            try:
                sent = self._socket.send(data) if data else 0
            except BlockingIOError:
                sent = 0
            except _ENDS:  # whoever reads hears what was said before the end, and then of that
                sent = len(data)
            except OSError:
                sent = len(data)
                self._break()
            except BaseException:  # Ctrl-C: nobody knows what has gone
                self._break()
                raise
            if sent == len(data):
                self._unsent.clear()
                return True
            self._unsent[:] = data[sent:]
            return False

    def send_descriptors(self, frame: pb.ClientFrame, descriptors: Sequence[int]) -> None:
        """Sends a frame with copies of descriptors, where the daemon reads; else nothing."""
        with self._lock:
            data = framed(frame)
            try:
                if not self._unsent:
                    self._unsent += data[socket.send_fds(self._socket, [data], list(descriptors)) :]
            except (BlockingIOError, *_ENDS):
                return
            except OSError:
                self._break()

    def _await(self, answer: Answer, give_up_at: float) -> None:
        while not answer.is_done:
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                raise NotThere("the daemon gave no answer in time")
            if self.is_broken and not answer.is_done:  # nor was he told: Ctrl-C met whoever read his answer
                raise NotThere("the connection to the daemon broke")
            with self._lock:
                leads = self._leader is answer or self._may_lead()
                if not leads:
                    answer.will_wait()  # before whoever leads can have left
                elif self._leader is not answer:
                    answer.beneath, self._leader = self._leader, answer
                    self._leading_thread = threading.get_ident()
                    self.was_led = True
            if answer.is_done:  # who led before has read it, and nothing else may come
                return
            if leads:
                readable = self._readable if answer.beneath is None else _poll_of(self._socket)  # that one is in use
                readable.poll(min(left_s, _SLEEP_S) * 1000)
                self.read()
            else:
                answer.wait(min(left_s, _SLEEP_S))

    def _may_lead(self) -> bool:
        """Whether nobody leads, or this thread itself does, beneath the signal handler that asks."""
        if self.is_led_by_loop:
            return False
        return self._leader is None or self._leading_thread == threading.get_ident()

    def _stop_leading(self, leader: Answer) -> None:
        """Leads no longer, and wakes one of those who wait, who may lead on."""
        with self._lock:
            if self._leader is leader:
                self._leader = leader.beneath
            if self._leader is None:
                waiting = (other for other in list(self._answers.values()) if other.is_awaited and other is not leader)
                if (next_one := next(waiting, None)) is not None:
                    next_one.wake()

    def _leave(self, correlation_id: int, answer: Answer) -> None:
        """Waits no longer, and lets another lead."""
        is_given_up = not answer.is_done
        if not is_given_up:
            self._answers.pop(correlation_id, None)
        self._stop_leading(answer)
        if is_given_up:
            self.give_up(pb.ClientFrame(correlation_id=correlation_id))

    # Reading.

    def read_unless_led(self) -> None:
        """As ``read``, where no thread waits for an answer: one that does reads at once whatever comes."""
        nobody = Answer()
        with self._lock:
            if self._leader is not None:
                return
            self._leader, self._leading_thread = nobody, threading.get_ident()
        try:
            self.read()
        finally:
            self._stop_leading(nobody)

    def read(self) -> None:
        """Takes what has come, once, and hands it on; waits for nothing."""
        with self._reading:
            try:
                frames = self._reader.read()
                for frame, descriptors in frames:
                    answer = self._answers.pop(frame.correlation_id, None)
                    if answer is not None:
                        answer.done(frame, descriptors)
                    else:
                        self.news.append((frame, descriptors))
            except BlockingIOError:
                return
            except (OSError, EOFError, DecodeError):
                self._break()
                return
            except BaseException:  # Ctrl-C: what was read may be lost, and somebody would wait for it for ever
                self._break()
                raise
        if self.news:
            self._on_news()

    def _break(self) -> None:
        """Nothing comes any more: whoever waits is told, and whoever reads is woken."""
        self.is_broken = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for answer in list(self._answers.values()):
            if not answer.is_done:
                answer.done(None)
        self._answers.clear()
        self._on_news()

    def hang_up(self) -> None:
        """Ends the connection; whoever waits is told."""
        self._break()

    def close(self) -> None:
        """Lets go of the socket, and of descriptors that nobody claimed."""
        if not self.is_broken:
            self._break()
        with self._reading:
            self._reader.close()
            self._socket.close()

    def detach(self) -> int:
        """Lets go of the socket without a word: its descriptor."""
        return self._socket.detach()


def _poll_of(connection: socket.socket, event: int = POLLIN) -> poll:
    """Waits until something can be read, or sent; of a connection that was closed meanwhile its time alone."""
    waiting = poll()
    with suppress(ValueError):
        waiting.register(connection, event)
    return waiting
