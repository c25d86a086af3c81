"""PostgreSQL over a Unix socket: a row a unit, taken by ``FOR UPDATE SKIP LOCKED``; psycopg, prepared, autocommit.

Durable is its default, ``synchronous_commit = on``; not durable is ``off``, where it answers before the fsync.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.peers.base import Absent, can_connect, first_line, program
from bench.peers.base import Server as BaseServer

UNIT_COUNT = 20_000
_TAKE = """
UPDATE units SET holder = %s, until = now() + interval '10 s'
WHERE id = (SELECT id FROM units WHERE holder IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id
"""
_GIVE_BACK = "UPDATE units SET holder = NULL, until = NULL WHERE id = %s AND holder = %s"
_KEEP = "UPDATE units SET until = now() + interval '10 s' WHERE id = %s AND holder = %s"
_SCHEMA = f"""
CREATE TABLE units (id int PRIMARY KEY, holder text, until timestamptz) WITH (fillfactor = 50);
INSERT INTO units SELECT number FROM generate_series(0, {UNIT_COUNT - 1}) AS number;
"""  # with room in each page, so that an update need not touch the index
NEEDS = ("psycopg",)  # what a client imports


class Server(BaseServer):
    """``postgresql`` of Debian, a cluster of its own."""

    name = "PostgreSQL"
    module = "bench.peers.postgres"
    is_durable_kind = True

    @property
    def address(self) -> str:
        """How psycopg is told of it."""
        return f"host={self.root} user=bench dbname=postgres"

    def prepare(self) -> None:
        """Makes the cluster; as another user where this one is root, for PostgreSQL serves nobody as root."""
        try:
            import psycopg  # noqa: F401
        except ImportError as fault:
            raise Absent("psycopg is not installed: .venv/bin/pip install 'psycopg[binary]'") from fault
        places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
        initdb = program("initdb", package="postgresql", places=places)
        self._program = program("postgres", package="postgresql", places=places)
        self.version = first_line([self._program, "--version"]).split()[2]
        if os.geteuid() == 0:
            self.root.parent.chmod(0o711)
            shutil.chown(self.root, self._user(), self._user())
        command = [initdb, "-D", str(self._data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.root, **self.popen())
        if made.returncode:
            raise Absent(f"initdb: {made.stderr.strip().splitlines()[-1:]}")
        self._is_filled = False

    def command(self) -> Sequence[str]:
        """Its defaults, but for what makes it durable or not."""
        settings = ["listen_addresses=", f"unix_socket_directories={self.root}", "max_connections=200"]
        settings += [f"synchronous_commit={'on' if self.is_durable else 'off'}"]
        return [self._program, "-D", str(self._data), *(part for one in settings for part in ("-c", one))]

    def is_ready(self) -> bool:
        """Whether it answers; the first time, fills its table."""
        if not can_connect(str(self.root / ".s.PGSQL.5432")):
            return False
        import psycopg

        try:
            with psycopg.connect(self.address, autocommit=True) as connection:
                if not self._is_filled:
                    connection.execute(_SCHEMA)
                    connection.execute("VACUUM ANALYZE units")
                    self._is_filled = True
        except psycopg.OperationalError:
            return False  # it is starting up
        return True

    def popen(self) -> dict[str, Any]:
        """Whose it is."""
        return {"user": self._user(), "group": self._user(), "extra_groups": []} if os.geteuid() == 0 else {}

    @property
    def _data(self) -> Path:
        return self.root / "data"

    @staticmethod
    def _user() -> str:
        try:
            return pwd.getpwnam("postgres").pw_name
        except KeyError as fault:
            raise Absent("there is no user postgres: apt-get install postgresql") from fault


class Client:
    """One connection."""

    def __init__(self, address: str, number: int) -> None:
        import psycopg

        self._connection = psycopg.connect(address, autocommit=True, prepare_threshold=0)
        self._holder = f"client-{number}"

    def acquire(self) -> int:
        """Any free unit."""
        row = self._connection.execute(_TAKE, (self._holder,), prepare=True).fetchone()
        assert row is not None, "there are enough units"
        unit: int = row[0]
        return unit

    def release(self, held: int) -> None:
        """Gives it back, where it is this client's."""
        assert self._connection.execute(_GIVE_BACK, (held, self._holder), prepare=True).rowcount == 1

    def keep_alive(self, held: int) -> None:
        """Moves the row's deadline."""
        assert self._connection.execute(_KEEP, (held, self._holder), prepare=True).rowcount == 1

    def lock(self) -> None:
        """Locks a row in a transaction that stays open, waiting for it where somebody else has it."""
        self._connection.autocommit = False
        self._connection.execute("SELECT id FROM units WHERE id = 0 FOR UPDATE")

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def hold(address: str) -> Client:
    """Holds a row's lock in an open transaction: what ends with its connection."""
    client = Client(address, 0)
    client.lock()
    return client


def wait(address: str, ready: Callable[[], None]) -> Client:
    """Gets the row's lock once it is free."""
    client = Client(address, 1)
    ready()
    client.lock()
    return client


def fill(address: str, count: int) -> list[Client]:
    """Holds so many rows."""
    client = Client(address, 0)
    for _ in range(count):
        client.acquire()
    return [client]
