"""Several leases in one message: each all or nothing by itself, decided in their order, answered one by one."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from leasehold import calls
from leasehold.errors import Invalid, LeaseholdError
from leasehold.lease import Lease
from leasehold.retries import refusal_of
from rmapi.v1 import resource_manager_pb2 as pb
from rmapi.v1 import types_pb2

OPERATIONS_MAX = 256  # in one message; more of them go in several
_WORDS = frozenset({"claims", "card", "ttl", "label", "memory", "reservation"})  # those that are no pool's name
_NOT_HERE = frozenset({"wait", "priority"})


class BatchCalls(ABC):
    """The part of a blocking client that takes and ends many leases at once. It calls through ``_call``."""

    def acquire_many(self, wishes: Iterable[Mapping[str, Any]]) -> list[Lease | LeaseholdError]:
        """Takes what each of ``wishes`` claims; answers, in their order, a lease or why it was refused.

        A wish has the keywords of ``acquire``, and ``claims`` for a list of claims: ``[{"streams": 1}, {"memory":
        "1MiB", "label": "x"}]``. It is all or nothing by itself, and nothing waits.

        Raises:
            Invalid: a wish that none can be; nothing was asked.
            DaemonUnavailable: there was no answer; whatever was granted meanwhile is given back.
        """
        requests = [self._wish(wish) for wish in wishes]
        got: list[Lease | LeaseholdError] = []
        try:
            for outcome in self._batch([pb.Operation(acquire=request) for request in requests]):
                is_refused = outcome.HasField("refusal")
                got += [refusal_of(outcome.refusal) if is_refused else self._take(outcome.acquire.lease)]
        except BaseException:  # in doubt, also by Ctrl-C
            with suppress(LeaseholdError):
                self.release_many(one for one in got if isinstance(one, Lease))
            self._forgo(*(request.request_id for request in requests[len(got) :]))
            raise
        return got

    def release_many(self, leases: Iterable[Lease]) -> None:
        """Gives several leases back, as their ``release`` does each.

        Raises:
            WindowInUse: arrays of the memory of one live; none was released.
        """
        ending = [lease for lease in leases if lease._begin_ending()]
        is_released = False
        try:
            for lease in ending:
                lease._check_windows_unused(lease._windows)
            for lease in ending:
                lease._let_go()
                if lease._lost_cause:
                    self._say_let_go(lease)
            held = [lease for lease in ending if not lease._lost_cause]
            for outcome in self._batch([pb.Operation(release=pb.ReleaseRequest(lease_id=lease.id)) for lease in held]):
                if outcome.HasField("refusal"):
                    raise refusal_of(outcome.refusal)
            is_released = True
        finally:
            for lease in ending:
                lease._end_ending(is_released=is_released)
        for lease in ending:
            self._drop(lease)

    def _batch(self, operations: Sequence[pb.Operation]) -> Iterator[pb.Outcome]:
        for request in in_messages(operations):
            response: pb.BatchResponse = self._call("Batch", request)
            yield from response.outcomes

    def _wish(self, wish: Mapping[str, Any]) -> pb.AcquireRequest:
        if unfit := _NOT_HERE & wish.keys():
            raise Invalid(f"a wish of several has no {', '.join(sorted(unfit))}: nothing waits in a batch")
        if wish.get("reservation") and not wish.keys() - {"reservation", "card", "ttl", "label"}:
            raise Invalid("a wish of several names what it takes from a reservation")
        return calls.acquire_request(
            self._next_request_id(),
            wish.get("claims", ()),
            memory=wish.get("memory"),
            counts={word: count for word, count in wish.items() if word not in _WORDS},
            card=wish.get("card"),
            priority=0,
            ttl=wish.get("ttl"),
            label=wish.get("label", ""),
            reservation=wish.get("reservation", ""),
        )

    # What it asks of its client.

    @abstractmethod
    def _call(self, method: str, request: Any, *, wait_s: float = 0.0, needs_session: bool = True) -> Any:  # noqa: ANN401
        """Sends a request until it is answered."""

    @abstractmethod
    def _take(self, message: types_pb2.Lease) -> Lease:
        """Takes a granted lease into use."""

    @abstractmethod
    def _forgo(self, *request_ids: int) -> None:
        """Gives back what requests may have got."""

    @abstractmethod
    def _next_request_id(self) -> int:
        """A number that no request of this session has had."""

    @abstractmethod
    def _say_let_go(self, lease: Any) -> None:  # noqa: ANN401 - as BaseClient has it
        """Tells the daemon that a lease which it wants back is let go of."""

    @abstractmethod
    def _drop(self, lease: Any) -> None:  # noqa: ANN401
        """Renews a lease no longer."""


def in_messages(operations: Sequence[pb.Operation]) -> Iterator[pb.BatchRequest]:
    """As many messages as ``operations`` take."""
    for start in range(0, len(operations), OPERATIONS_MAX):
        yield pb.BatchRequest(operations=operations[start : start + OPERATIONS_MAX])
