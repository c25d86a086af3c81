"""Which gRPC status each refusal is, in one table, and the detail that travels with it."""

import grpc
from google.protobuf import struct_pb2

from rm.core import errors, limits
from rm.core.errors import Facts, Refusal
from rmapi.v1 import types_pb2 as pb

ERROR_TRAILER = "rmapi-error-bin"

_CODES: dict[type[Refusal], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PoolExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.WaitTimedOut: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnitHeld: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotOwner: grpc.StatusCode.PERMISSION_DENIED,
    errors.LeaseNotFound: grpc.StatusCode.NOT_FOUND,
    errors.LeaseGone: grpc.StatusCode.NOT_FOUND,
    errors.SessionUnknown: grpc.StatusCode.UNAUTHENTICATED,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    errors.CardFailed: grpc.StatusCode.INTERNAL,
}


def code_of(refusal: Refusal) -> grpc.StatusCode:
    """The status of a refusal."""
    return _CODES[type(refusal)]


def text_of(refusal: Refusal) -> str:
    """The text of a refusal, short enough to travel beside its detail: each of its bytes may become three there."""
    return _cut(str(refusal), limits.TRAILER_BYTES_MAX // 16)


def detail_of(refusal: Refusal) -> pb.ErrorDetail:
    """The detail of a refusal, short enough for a trailer: facts that are too long are left out."""
    detail = pb.ErrorDetail(reason=refusal.reason, message=_cut(str(refusal), limits.TRAILER_BYTES_MAX // 4))
    detail.facts.CopyFrom(_struct(refusal.facts))
    if detail.ByteSize() > limits.TRAILER_BYTES_MAX:
        short: Facts = {key: value for key, value in refusal.facts.items() if isinstance(value, int)}
        detail.facts.CopyFrom(_struct(short))
    return detail


def _cut(text: str, byte_count: int) -> str:
    return text.encode(errors="replace")[:byte_count].decode(errors="ignore")


def _struct(facts: Facts) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(facts)
    return struct
