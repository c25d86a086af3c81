"""Redis over a Unix socket: a Lua script finds and sets the first clear bit and notes the owner, another undoes it.

The client speaks RESP itself, as that is several times as quick as the package ``redis``. Durable is ``appendfsync
always``: the answer leaves after the fsync.
"""

import hashlib
import socket
from collections.abc import Sequence

from bench.peers.base import Server as BaseServer
from bench.peers.base import can_connect, first_line, program

UNIT_COUNT = 65_536
KEEP_MS = 10_000
_ACQUIRE = f"""
local unit = redis.call('BITPOS', KEYS[1], 0)
if unit < 0 or unit >= {UNIT_COUNT} then return -1 end
redis.call('SETBIT', KEYS[1], unit, 1)
redis.call('HSET', KEYS[2], unit, ARGV[1])
return unit
"""
_RELEASE = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('SETBIT', KEYS[1], ARGV[1], 0)
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
"""


class Server(BaseServer):
    """``redis-server`` of Debian."""

    name = "Redis"
    module = "bench.peers.redis"
    is_durable_kind = True

    @property
    def address(self) -> str:
        """The socket's path."""
        return str(self.root / "redis.sock")

    def prepare(self) -> None:
        """Finds it."""
        self._program = program("redis-server", package="redis-server")
        self.version = first_line([self._program, "--version"]).split()[2].removeprefix("v=")

    def command(self) -> Sequence[str]:
        """No TCP, no snapshots."""
        kept = ["--appendonly", "yes", "--appendfsync", "always"] if self.is_durable else ["--appendonly", "no"]
        places = ["--port", "0", "--unixsocket", self.address, "--dir", str(self.root)]
        return [self._program, *places, "--save", "", *kept]

    def is_ready(self) -> bool:
        """Whether it has loaded what it kept."""
        if not can_connect(self.address):
            return False
        client = _Connection(self.address)
        try:
            return client.ask(b"PING") == b"+PONG"
        finally:
            client.close()


class _Connection:
    """RESP as far as it is needed: commands of words; integers and simple strings as answers."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)

    def ask(self, *words: bytes) -> bytes:
        """The first line of the answer."""
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        self._socket.sendall(b"".join(parts))
        data = self._socket.recv(4096)
        while not data.endswith(b"\r\n"):
            data += self._socket.recv(4096)
        return data[:-2]

    def close(self) -> None:
        self._socket.close()


class Client(_Connection):
    """One connection; the scripts are sent once and called by their hash."""

    def __init__(self, address: str, number: int) -> None:
        super().__init__(address)
        self._owner = b"client-%d" % number
        for script in (_ACQUIRE, _RELEASE):
            self.ask(b"SCRIPT", b"LOAD", script.encode())
        self._acquire, self._release = (_hash(script) for script in (_ACQUIRE, _RELEASE))
        self.ask(b"SET", self._owner, b"1", b"PX", b"%d" % KEEP_MS)

    def acquire(self) -> bytes:
        """The lowest free unit."""
        answer = self.ask(b"EVALSHA", self._acquire, b"2", b"units", b"owners", self._owner)
        assert answer[:1] == b":", answer
        assert answer != b":-1", answer
        return answer[1:]

    def release(self, held: bytes) -> None:
        """Gives it back, where it is this client's."""
        answer = self.ask(b"EVALSHA", self._release, b"2", b"units", b"owners", held, self._owner)
        assert answer == b":1", answer

    def keep_alive(self, _: bytes) -> None:
        """Moves the deadline of this client's key; who sweeps up after it is another matter."""
        assert self.ask(b"PEXPIRE", self._owner, b"%d" % KEEP_MS) == b":1"


def fill(address: str, count: int) -> list[Client]:
    """Holds so many units."""
    client = Client(address, 0)
    for _ in range(count):
        client.acquire()
    return [client]


def _hash(script: str) -> bytes:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest().encode()
