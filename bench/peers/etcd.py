"""etcd: a transaction puts a key under a lease where the key is not there, and a delete takes it away.

A client asks for one lease when it starts, as a session does, and its units' keys hang on that. Each client wants a
unit of its own, so no transaction is ever in vain: both are in etcd's favour. The messages are built from the numbers
in etcd's published API, for gRPC without generated code. Durable is etcd's default; not durable ``--unsafe-no-fsync``.
"""

import queue
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from typing import Any

from bench.peers.base import Server as BaseServer
from bench.peers.base import can_connect, first_line, free_port, program

TTL_S = 10
TTL_S_SHORT = 2  # the least that etcd grants
_INT64, _MESSAGE, _BYTES, _BOOL, _ENUM_AS_INT32 = 3, 11, 12, 8, 5
# Message: field, number, type (or the message it is, repeated where it ends in *).
_FIELDS: dict[str, tuple[tuple[str, int, int | str], ...]] = {
    "LeaseGrantRequest": (("TTL", 1, _INT64),),
    "LeaseGrantResponse": (("ID", 2, _INT64), ("TTL", 3, _INT64)),
    "LeaseRevokeRequest": (("ID", 1, _INT64),),
    "LeaseRevokeResponse": (),
    "LeaseKeepAliveRequest": (("ID", 1, _INT64),),
    "LeaseKeepAliveResponse": (("ID", 2, _INT64), ("TTL", 3, _INT64)),
    "Compare": (
        ("result", 1, _ENUM_AS_INT32),  # 0: equal
        ("target", 2, _ENUM_AS_INT32),  # 0: the version
        ("key", 3, _BYTES),
        ("version", 4, _INT64),
    ),
    "PutRequest": (("key", 1, _BYTES), ("value", 2, _BYTES), ("lease", 3, _INT64)),
    "DeleteRangeRequest": (("key", 1, _BYTES),),
    "DeleteRangeResponse": (("deleted", 2, _INT64),),
    "RequestOp": (("request_put", 2, "PutRequest"),),
    "TxnRequest": (("compare", 1, "Compare*"), ("success", 2, "RequestOp*")),
    "TxnResponse": (("succeeded", 2, _BOOL),),
    "WatchCreateRequest": (("key", 1, _BYTES),),
    "WatchRequest": (("create_request", 1, "WatchCreateRequest"),),
    "Event": (("type", 1, _ENUM_AS_INT32),),  # 1: deleted
    "WatchResponse": (("created", 3, _BOOL), ("events", 11, "Event*")),
}
NEEDS = ("grpc", "google.protobuf.message_factory", "google.protobuf.descriptor_pb2")  # what a client imports


class Server(BaseServer):
    """``etcd`` of Debian, one member."""

    name = "etcd"
    module = "bench.peers.etcd"
    is_durable_kind = True

    @property
    def address(self) -> str:
        """The port on the loopback."""
        return f"127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Finds it, and two ports."""
        self._program = program("etcd", package="etcd-server")
        self.version = first_line([self._program, "--version"]).rpartition(" ")[2]
        self._port, self._peer_port = free_port(), free_port()

    def command(self) -> Sequence[str]:
        """A cluster of one."""
        mine, peers = f"http://{self.address}", f"http://127.0.0.1:{self._peer_port}"
        command = [self._program, "--name", "bench", "--data-dir", str(self.root / "data")]
        command += ["--listen-client-urls", mine, "--advertise-client-urls", mine, "--listen-peer-urls", peers]
        command += ["--initial-advertise-peer-urls", peers, "--initial-cluster", f"bench={peers}"]
        return command if self.is_durable else [*command, "--unsafe-no-fsync"]

    def is_ready(self) -> bool:
        """Whether it has elected itself and answers."""
        if not can_connect(("127.0.0.1", self._port)):
            return False
        import grpc

        client = None
        try:
            client = Client(self.address, 0)
        except grpc.RpcError:
            return False
        finally:
            if client is not None:
                client.close()
        return True


class Client:
    """One channel and one lease."""

    def __init__(self, address: str, number: int, ttl_s: int = TTL_S) -> None:
        import grpc

        self._messages = _messages()
        self._channel = grpc.insecure_channel(address)
        self._grant = self._unary("Lease/LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse")
        self._txn = self._unary("KV/Txn", "TxnRequest", "TxnResponse")
        self._delete = self._unary("KV/DeleteRange", "DeleteRangeRequest", "DeleteRangeResponse")
        self._lease_id = self._grant(self._messages["LeaseGrantRequest"](TTL=ttl_s), timeout=10).ID
        self._number = number
        self._units = count()
        self._renewals: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._renewed: Iterator[Any] | None = None

    def acquire(self) -> bytes:
        """This client's next unit."""
        return self.acquire_key(b"unit/%d/%d" % (self._number, next(self._units)))

    def acquire_key(self, key: bytes) -> bytes:
        """Puts that key, which must not be there."""
        messages = self._messages
        compare = messages["Compare"](key=key)  # version == 0: there is none
        put = messages["RequestOp"](request_put=messages["PutRequest"](key=key, value=b"held", lease=self._lease_id))
        assert self._txn(messages["TxnRequest"](compare=[compare], success=[put]), timeout=10).succeeded
        return key

    def release(self, held: bytes) -> None:
        """Deletes the key."""
        assert self._delete(self._messages["DeleteRangeRequest"](key=held), timeout=10).deleted == 1

    def keep_alive(self, _: bytes) -> None:
        """Renews the lease, on the stream that is meant for it."""
        if self._renewed is None:
            method = self._channel.stream_stream(
                "/etcdserverpb.Lease/LeaseKeepAlive",
                self._messages["LeaseKeepAliveRequest"].SerializeToString,
                self._messages["LeaseKeepAliveResponse"].FromString,
            )
            self._renewed = method(iter(self._renewals.get, None))
        self._renewals.put(self._messages["LeaseKeepAliveRequest"](ID=self._lease_id))
        assert next(self._renewed).TTL > 0

    def wait_key(self, key: bytes, ready: Callable[[], None]) -> bytes:
        """Watches, calls ``ready``, waits until somebody else's key is deleted, then puts it."""
        method = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            self._messages["WatchRequest"].SerializeToString,
            self._messages["WatchResponse"].FromString,
        )
        asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        asked.put(self._messages["WatchRequest"](create_request=self._messages["WatchCreateRequest"](key=key)))
        for response in method(iter(asked.get, None)):
            if response.created:
                ready()
            if any(event.type == 1 for event in response.events):
                break
        asked.put(None)
        return self.acquire_key(key)

    def close(self) -> None:
        """Ends the lease with all its keys, and closes the channel."""
        self._renewals.put(None)
        revoke = self._unary("Lease/LeaseRevoke", "LeaseRevokeRequest", "LeaseRevokeResponse")
        revoke(self._messages["LeaseRevokeRequest"](ID=self._lease_id), timeout=10)
        self._channel.close()

    def _unary(self, method: str, request: str, response: str) -> Any:  # noqa: ANN401 - a stub of grpc
        return self._channel.unary_unary(
            f"/etcdserverpb.{method}", self._messages[request].SerializeToString, self._messages[response].FromString
        )


def hold(address: str) -> Client:
    """Holds a key under a lease of the least ttl, and renews it no more."""
    client = Client(address, 0, TTL_S_SHORT)
    client.acquire_key(b"wanted")
    return client


def wait(address: str, ready: Callable[[], None]) -> Client:
    """Puts the key once it is gone."""
    client = Client(address, 1)
    client.wait_key(b"wanted", ready)
    return client


def fill(address: str, count: int) -> list[Client]:
    """Puts so many keys under a lease that lasts."""
    client = Client(address, 0, ttl_s=3_600)
    for _ in range(count):
        client.acquire()
    return [client]


@cache
def _messages() -> dict[str, Any]:
    """The message classes by their names."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="bench/etcd.proto", package="etcdserverpb", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            is_many = isinstance(kind, str) and kind.endswith("*")
            added = message.field.add(name=field, number=number, label=3 if is_many else 1)
            added.type = _MESSAGE if isinstance(kind, str) else kind  # type: ignore[assignment]
            if isinstance(kind, str):
                added.type_name = f".etcdserverpb.{kind.removesuffix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = (pool.FindMessageTypeByName(f"etcdserverpb.{name}") for name in _FIELDS)
    return {descriptor.name: message_factory.GetMessageClass(descriptor) for descriptor in found}
