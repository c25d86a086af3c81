"""Which requests of a session were granted, so that the same request again finds the same lease.

Ids count up within a session. The latest are remembered; one below the mark of those forgotten counts as gone, so that
it can never become a second lease. Refusals are not remembered: they are decided afresh.
"""

from dataclasses import dataclass

from rm.core import limits
from rm.core.errors import InvalidRequest, LeaseGone
from rm.core.events import Request
from rm.core.types import LeaseId, SessionId


@dataclass(frozen=True, slots=True)
class Answered:
    """A remembered request. ``lease_id`` is None where it was given up; ``is_beginning``: the lease began with it."""

    id: int
    fingerprint: bytes
    lease_id: LeaseId | None
    is_beginning: bool


@dataclass(frozen=True, slots=True)
class SessionRequests:
    """All that is remembered of one session, oldest first. Ids up to ``forgotten_mark`` that are not here are gone."""

    session: SessionId
    answered: tuple[Answered, ...]
    forgotten_mark: int


@dataclass(slots=True)
class _SessionRequests:
    answers: dict[int, Answered]
    forgotten_mark: int = 0


class Requests:
    """The remembered requests of all sessions."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        self._sessions: dict[SessionId, _SessionRequests] = {}

    def find(self, request: Request) -> LeaseId | None:
        """The lease that ``request`` was answered with, or None where it is new.

        Raises:
            InvalidRequest: the id was used for other parameters.
            LeaseGone: it was given up, or is older than what is remembered.
        """
        known = self._sessions.get(request.session)
        if not request.id or known is None:
            return None
        answer = known.answers.get(request.id)
        if answer is None:
            if request.id <= known.forgotten_mark:
                raise LeaseGone(f"request {request.id} is too old to be remembered", request_id=request.id)
            return None
        if answer.lease_id is None:
            raise LeaseGone(f"request {request.id} was given up", request_id=request.id)
        if answer.fingerprint != request.fingerprint:
            raise InvalidRequest(f"request id {request.id} was used for another request", request_id=request.id)
        return answer.lease_id

    def lease_of(self, session: SessionId, request_id: int) -> LeaseId | None:
        """The lease that began with a request, whatever its parameters; None where none did, or it is forgotten.

        Raises:
            InvalidRequest: the request changed a lease that was there before.
        """
        known = self._sessions.get(session)
        if known is None or request_id not in known.answers:
            return None
        answer = known.answers[request_id]
        if answer.lease_id is not None and not answer.is_beginning:
            text = f"request {request_id} began no lease: it changed {answer.lease_id}"
            raise InvalidRequest(text, request_id=request_id)
        return answer.lease_id

    def remember(self, request: Request, lease_id: LeaseId | None, *, is_beginning: bool = False) -> None:
        """Notes the answer to ``request``: a lease that began with it or was changed by it, or None: given up."""
        if not request.id:
            return
        known = self._sessions.setdefault(request.session, _SessionRequests({}))
        known.answers[request.id] = Answered(request.id, request.fingerprint, lease_id, is_beginning)
        if len(known.answers) > limits.REQUESTS_REMEMBERED_PER_SESSION:
            oldest = next(iter(known.answers))
            del known.answers[oldest]
            known.forgotten_mark = max(known.forgotten_mark, oldest)

    def remembered(self) -> list[SessionRequests]:
        """Everything, for a snapshot."""
        return [
            SessionRequests(session, tuple(known.answers.values()), known.forgotten_mark)
            for session, known in self._sessions.items()
        ]

    def restore(self, requests: SessionRequests) -> None:
        """Puts back what a snapshot says of one session."""
        answers = {answer.id: answer for answer in requests.answered}
        self._sessions[requests.session] = _SessionRequests(answers, requests.forgotten_mark)

    def forget(self, session: SessionId) -> None:
        """Drops all that is remembered of a session that has ended."""
        self._sessions.pop(session, None)
