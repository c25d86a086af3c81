"""One connection under many calls: who waits reads, hands on what is not his, and hands over when he has his own."""

import signal
import socket
import threading
import time

import pytest

from leasehold import wire as wire_module
from leasehold.retries import NotThere
from leasehold.wire import Answer, Wire
from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb
from support.served import LENGTH
from support.waiting import in_thread, until

DEADLINE_S = 20


class Peer:
    """The daemon's end."""

    def __init__(self, connection) -> None:
        self.connection = connection
        connection.settimeout(DEADLINE_S)

    def heard(self) -> pb.ClientFrame:
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        return pb.ClientFrame.FromString(self._read(length))

    def _read(self, byte_count: int) -> bytes:
        data = b""
        while len(data) < byte_count:
            data += self.connection.recv(byte_count - len(data))
        return data

    def say(self, frame: pb.ServerFrame) -> None:
        body = frame.SerializeToString()
        self.connection.sendall(LENGTH.pack(len(body)) + body)

    def answer(self, asked: pb.ClientFrame) -> None:
        told = rm_pb.GetLeaseResponse(revision=int(asked.get_lease.lease_id))
        self.say(pb.ServerFrame(correlation_id=asked.correlation_id, get_lease=told))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    wire = Wire(ours)
    yield wire, Peer(theirs)
    wire.close()
    theirs.close()


def asking(number: int) -> pb.ClientFrame:
    return pb.ClientFrame(get_lease=rm_pb.GetLeaseRequest(lease_id=str(number)))


def ask(wire: Wire, number: int, timeout_s: float = DEADLINE_S) -> int:
    return wire.ask(asking(number), timeout_s).told().get_lease.revision


def test_whoever_reads_hands_the_others_theirs_and_another_reads_on(ends):
    wire, peer = ends
    first = in_thread(lambda: ask(wire, 1))
    calls = [peer.heard()]
    until(lambda: wire.is_led)
    others = [in_thread(lambda number=number: ask(wire, number)) for number in (2, 3, 4)]
    calls += [peer.heard() for _ in others]
    by_number = {int(call.get_lease.lease_id): call for call in calls}
    peer.answer(by_number[3])  # not the one who reads
    assert others[1]() == 3
    peer.answer(by_number[1])  # the one who reads: another must go on
    assert first() == 1
    for number in (4, 2):
        peer.answer(by_number[number])
    assert (others[2](), others[0]()) == (4, 2)
    assert not wire.is_led


def test_an_answer_is_not_taken_from_beside_a_thread_that_sleeps_until_it_comes(ends, monkeypatch):
    wire, peer = ends
    about_to_sleep, may_sleep = threading.Event(), threading.Event()
    readable, woken_by = wire._readable, []

    class Slow:
        def poll(self, timeout_ms: float) -> None:
            about_to_sleep.set()
            may_sleep.wait(DEADLINE_S)
            woken_by.append(readable.poll(timeout_ms))

    monkeypatch.setattr(wire, "_readable", Slow())
    asked = in_thread(lambda: ask(wire, 1))
    peer.answer(peer.heard())
    about_to_sleep.wait(DEADLINE_S)
    wire.read_unless_led()
    may_sleep.set()
    assert asked() == 1
    assert all(woken_by), "it slept until its time was over"


def test_who_is_about_to_lead_sees_that_his_answer_was_read_meanwhile(ends, monkeypatch):
    wire, peer = ends

    class Endless:
        def poll(self, _: float) -> None:
            pytest.fail("it sleeps, and nothing more will come")

    monkeypatch.setattr(wire, "_readable", Endless())

    class Robbed(Answer):
        """Its answer is read by another thread between the look whether it is there and the beginning to lead."""

        looks = 0
        _is_done = False

        @property
        def is_done(self) -> bool:
            self.looks += 1
            if self.looks == 1:
                peer.answer(peer.heard())
                in_thread(wire.read_unless_led)()
                return False
            return self._is_done

        @is_done.setter
        def is_done(self, value: bool) -> None:
            self._is_done = value

    assert wire.ask(asking(1), DEADLINE_S, Robbed()).told().get_lease.revision == 1


@pytest.mark.parametrize("comes_while_reading", [True, False])
def test_who_asks_while_the_session_s_thread_reads_is_handed_his_answer_or_the_lead(
    ends, monkeypatch, comes_while_reading
):
    wire, peer = ends
    reading, may_read = threading.Event(), threading.Event()
    reader_read = wire._reader.read

    def slow_read():
        reading.set()
        may_read.wait(DEADLINE_S)
        return reader_read()

    monkeypatch.setattr(wire._reader, "read", slow_read)
    read = in_thread(wire.read_unless_led)
    reading.wait(DEADLINE_S)
    asked = in_thread(lambda: ask(wire, 1))
    frame = peer.heard()
    if comes_while_reading:
        peer.answer(frame)
    until(lambda: any(answer.is_awaited for answer in wire._answers.values()))
    may_read.set()
    read()
    if not comes_while_reading:
        peer.answer(frame)
    assert asked() == 1


def test_a_call_out_of_a_signal_handler_is_answered_beneath_it_and_above(ends):
    wire, peer = ends
    heard = []

    def handler(*_: object) -> None:
        heard.append(ask(wire, 2))

    before = signal.signal(signal.SIGUSR1, handler)
    try:

        def daemon() -> None:
            outer = peer.heard()
            until(lambda: wire.is_led)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            peer.answer(peer.heard())
            peer.answer(outer)

        done = in_thread(daemon)
        assert ask(wire, 1) == 1
        done()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [2]
    assert not wire.is_led


def test_a_thread_that_leads_hears_in_time_that_its_answer_was_read_beside_it(ends, monkeypatch):
    wire, peer = ends
    monkeypatch.setattr(wire_module, "_SLEEP_S", 0.02)
    asleep = threading.Event()
    readable = wire._readable

    class Deaf:
        """Sleeps for its time whatever comes, as one whose answer was read before it could see it."""

        def poll(self, timeout_ms: float) -> None:
            asleep.set()
            assert timeout_ms <= 20
            while not answer.is_done:
                pass

    answer = Answer()
    monkeypatch.setattr(wire, "_readable", Deaf())
    asked = in_thread(lambda: wire.ask(asking(1), DEADLINE_S, answer).told().get_lease.revision)
    peer.answer(peer.heard())
    asleep.wait(DEADLINE_S)
    readable.poll(DEADLINE_S * 1000)
    wire.read()
    assert asked() == 1


def test_a_connection_that_breaks_tells_everybody_who_waits_and_whoever_comes(ends):
    wire, peer = ends
    waiting = [in_thread(lambda number=number: ask(wire, number)) for number in (1, 2, 3)]
    for _ in waiting:
        peer.heard()
    peer.connection.close()
    for one in waiting:
        with pytest.raises(NotThere):
            one()
    with pytest.raises(NotThere):
        ask(wire, 4)
    assert wire.is_broken


def test_what_the_daemon_said_before_it_closed_is_heard_though_nothing_can_be_sent_any_more(ends):
    wire, peer = ends
    answer = Answer()
    wire.send_now(wire.begin(asking(1), answer))
    peer.answer(peer.heard())
    peer.connection.close()
    assert wire.send_now(b"a keepalive")
    until(lambda: wire.read() or answer.is_done)
    assert answer.told().get_lease.revision == 1
    until(lambda: wire.read() or wire.is_broken)


def test_a_call_without_an_answer_is_given_up_and_the_daemon_is_told(ends):
    wire, peer = ends
    with pytest.raises(NotThere, match="in time"):
        ask(wire, 1, timeout_s=0.01)
    asked = peer.heard()
    assert peer.heard().cancel.called_id == asked.correlation_id
    peer.answer(asked)  # too late: nobody takes it for his own
    later = in_thread(lambda: ask(wire, 2))
    peer.answer(peer.heard())
    assert later() == 2
    assert [frame.correlation_id for frame, _ in wire.news] == [asked.correlation_id]


def test_a_daemon_that_does_not_read_costs_a_call_its_time_and_what_was_begun_is_ended_first(ends):
    wire, peer = ends
    large = pb.ClientFrame(get_lease=rm_pb.GetLeaseRequest(lease_id="1" * 900_000))
    with pytest.raises(NotThere, match="does not read"):
        wire.ask(large, 0.05)
    heard = in_thread(lambda: [peer.heard() for _ in range(3)])
    answer = Answer()
    wire.send(wire.begin(asking(5), answer), give_up_at=time.monotonic() + DEADLINE_S)
    kinds = [frame.WhichOneof("body") for frame in heard()]
    assert kinds == ["get_lease", "cancel", "get_lease"]


def test_who_is_told_by_a_callback_is_told_once(ends):
    wire, peer = ends
    told, answer = [], Answer()
    answer.tell = lambda: told.append(threading.get_ident())
    wire.send(wire.begin(asking(7), answer), give_up_at=time.monotonic() + DEADLINE_S)
    peer.answer(peer.heard())
    until(lambda: wire.read() or answer.is_done)
    wire.hang_up()
    assert told == [threading.get_ident()]
    assert answer.told().get_lease.revision == 7


def test_ctrl_c_while_answers_are_handed_on_leaves_nobody_waiting(ends, monkeypatch):
    wire, peer = ends
    monkeypatch.setattr(wire_module, "_SLEEP_S", 0.02)

    class Interrupts(Answer):
        """Ctrl-C comes when it is handed over."""

        def done(self, frame, descriptors=()) -> None:
            if frame is not None:
                raise KeyboardInterrupt
            super().done(frame, descriptors)

    def leads():
        with pytest.raises(KeyboardInterrupt):
            wire.ask(asking(1), DEADLINE_S, Interrupts())

    leader = in_thread(leads)
    first = peer.heard()
    until(lambda: wire.is_led)
    other = in_thread(lambda: ask(wire, 2))
    peer.heard()
    until(lambda: any(answer.is_awaited for answer in wire._answers.values()))
    peer.answer(first)
    leader()
    with pytest.raises(NotThere, match="broke"):  # and not only when his time is over
        other()


def test_who_lost_his_answer_to_ctrl_c_looks_for_himself(ends, monkeypatch):
    wire, _ = ends
    monkeypatch.setattr(wire_module, "_SLEEP_S", 0.02)
    wire.is_led_by_loop = True  # so that he does not read himself
    asked = in_thread(lambda: ask(wire, 1))
    until(lambda: any(answer.is_awaited for answer in wire._answers.values()))
    wire._answers.clear()  # it was taken out to be handed over, and was not
    wire.hang_up()
    with pytest.raises(NotThere, match="broke"):
        asked()
