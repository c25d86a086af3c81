"""The session socket fed with bytes, without a process at the other end: what any bytes may and may not do to it."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from rm.service.calls import Calls
from rm.service.methods import Methods
from rm.service.session_socket import SessionSocket
from rm.service.sessions import Peer, Sessions
from rmapi.v1 import session_pb2 as pb
from support.books import pool
from support.daemon_parts import make_engine, settle
from support.descriptors import descriptor_count
from support.served import LENGTH, framed

OPENING = framed(correlation_id=1, open_session=pb.OpenSession(protocol_version=1))


async def answers_to(chunks: Sequence[bytes], sent_count: int = 0) -> list[pb.ServerFrame]:
    """Sends ``chunks``, descriptors with the first of them, and hangs up; answers with what was answered.

    Nothing may be raised, the engine goes on, and no descriptor is left behind.
    """
    parts, faults = make_engine(pool("u", 8)), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    before = descriptor_count()
    sessions = Sessions(lambda session: None)
    session_socket = SessionSocket(parts.engine, sessions, Calls(Methods.of(parts.engine, sessions)))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.settimeout(1)
    peer = Peer(os.getpid(), os.getuid(), os.pidfd_open(os.getpid()))
    connection = session_socket.connection_of(theirs, peer)
    heard = b""
    ours.setblocking(False)
    for chunk in chunks:
        with suppress(OSError):  # it may have been closed: what was refused is not heard further
            if sent_count:
                socket.send_fds(ours, [chunk], [0] * sent_count)
                sent_count = 0
            else:
                ours.send(chunk)
        await settle(4)
        with suppress(OSError):
            heard += ours.recv(1 << 20)
    with suppress(OSError):
        ours.shutdown(socket.SHUT_WR)
    await settle(8)
    with suppress(OSError):
        while chunk := ours.recv(1 << 20):
            heard += chunk
    connection.close()
    sessions.close_all()
    ours.close()
    await settle(4)
    assert not faults, faults
    assert not parts.failures, parts.engine.commits.failed_because
    assert theirs.fileno() == -1, "its own socket"
    assert descriptor_count() == before
    return _frames(heard)


def _frames(heard: bytes) -> list[pb.ServerFrame]:
    frames = []
    while len(heard) >= LENGTH.size:
        (length,) = LENGTH.unpack_from(heard)
        frames.append(pb.ServerFrame.FromString(heard[LENGTH.size : LENGTH.size + length]))
        heard = heard[LENGTH.size + length :]
    return frames
