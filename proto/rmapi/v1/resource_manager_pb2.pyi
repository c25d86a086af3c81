import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from rmapi.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AcquireRequest(_message.Message):
    __slots__ = ("request_id", "claims", "card", "wait_duration", "ttl_duration", "label")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    WAIT_DURATION_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    claims: _containers.RepeatedCompositeFieldContainer[_types_pb2.Claim]
    card: str
    wait_duration: _duration_pb2.Duration
    ttl_duration: _duration_pb2.Duration
    label: str
    def __init__(self, request_id: _Optional[int] = ..., claims: _Optional[_Iterable[_Union[_types_pb2.Claim, _Mapping]]] = ..., card: _Optional[str] = ..., wait_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ttl_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., label: _Optional[str] = ...) -> None: ...

class AcquireResponse(_message.Message):
    __slots__ = ("lease", "revision")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    lease: _types_pb2.Lease
    revision: int
    def __init__(self, lease: _Optional[_Union[_types_pb2.Lease, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("request_id", "lease_id", "claims")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    lease_id: str
    claims: _containers.RepeatedCompositeFieldContainer[_types_pb2.Claim]
    def __init__(self, request_id: _Optional[int] = ..., lease_id: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[_types_pb2.Claim, _Mapping]]] = ...) -> None: ...

class ExtendResponse(_message.Message):
    __slots__ = ("lease", "revision")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    lease: _types_pb2.Lease
    revision: int
    def __init__(self, lease: _Optional[_Union[_types_pb2.Lease, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class GiveBackRequest(_message.Message):
    __slots__ = ("request_id", "lease_id", "pool", "ranges", "sites", "to_pool")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    TO_POOL_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    lease_id: str
    pool: str
    ranges: _containers.RepeatedCompositeFieldContainer[_types_pb2.UnitRange]
    sites: _containers.RepeatedScalarFieldContainer[str]
    to_pool: bool
    def __init__(self, request_id: _Optional[int] = ..., lease_id: _Optional[str] = ..., pool: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[_types_pb2.UnitRange, _Mapping]]] = ..., sites: _Optional[_Iterable[str]] = ..., to_pool: bool = ...) -> None: ...

class GiveBackResponse(_message.Message):
    __slots__ = ("lease", "revision")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    lease: _types_pb2.Lease
    revision: int
    def __init__(self, lease: _Optional[_Union[_types_pb2.Lease, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("lease_id", "request_id", "to_pool")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TO_POOL_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    request_id: int
    to_pool: bool
    def __init__(self, lease_id: _Optional[str] = ..., request_id: _Optional[int] = ..., to_pool: bool = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("released", "revision")
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    released: bool
    revision: int
    def __init__(self, released: bool = ..., revision: _Optional[int] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("lease_ids",)
    LEASE_IDS_FIELD_NUMBER: _ClassVar[int]
    lease_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lease_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("lost_lease_ids", "revision")
    LOST_LEASE_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    lost_lease_ids: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    def __init__(self, lost_lease_ids: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("lease_id", "notice_duration", "cause")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    NOTICE_DURATION_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    notice_duration: _duration_pb2.Duration
    cause: str
    def __init__(self, lease_id: _Optional[str] = ..., notice_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., cause: _Optional[str] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("revoked", "revision")
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revoked: bool
    revision: int
    def __init__(self, revoked: bool = ..., revision: _Optional[int] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("name", "claims", "content_hash", "card", "profile", "shared", "replace")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    name: str
    claims: _containers.RepeatedCompositeFieldContainer[_types_pb2.Claim]
    content_hash: str
    card: str
    profile: str
    shared: bool
    replace: bool
    def __init__(self, name: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[_types_pb2.Claim, _Mapping]]] = ..., content_hash: _Optional[str] = ..., card: _Optional[str] = ..., profile: _Optional[str] = ..., shared: bool = ..., replace: bool = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("reservation", "existed", "revision")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    reservation: _types_pb2.Reservation
    existed: bool
    revision: int
    def __init__(self, reservation: _Optional[_Union[_types_pb2.Reservation, _Mapping]] = ..., existed: bool = ..., revision: _Optional[int] = ...) -> None: ...

class UnreserveRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UnreserveResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class ListReservationsRequest(_message.Message):
    __slots__ = ("key", "with_units")
    KEY_FIELD_NUMBER: _ClassVar[int]
    WITH_UNITS_FIELD_NUMBER: _ClassVar[int]
    key: str
    with_units: bool
    def __init__(self, key: _Optional[str] = ..., with_units: bool = ...) -> None: ...

class ListReservationsResponse(_message.Message):
    __slots__ = ("reservations", "revision")
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    reservations: _containers.RepeatedCompositeFieldContainer[_types_pb2.Reservation]
    revision: int
    def __init__(self, reservations: _Optional[_Iterable[_Union[_types_pb2.Reservation, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class GateSitesRequest(_message.Message):
    __slots__ = ("card", "sites")
    CARD_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    card: str
    sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, card: _Optional[str] = ..., sites: _Optional[_Iterable[str]] = ...) -> None: ...

class GateSitesResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class GetLeaseRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class GetLeaseResponse(_message.Message):
    __slots__ = ("lease", "revision")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    lease: _types_pb2.Lease
    revision: int
    def __init__(self, lease: _Optional[_Union[_types_pb2.Lease, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ListLeasesRequest(_message.Message):
    __slots__ = ("pool", "page_size", "page_token")
    POOL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pool: str
    page_size: int
    page_token: str
    def __init__(self, pool: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLeasesResponse(_message.Message):
    __slots__ = ("leases", "next_page_token", "revision")
    LEASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedCompositeFieldContainer[_types_pb2.Lease]
    next_page_token: str
    revision: int
    def __init__(self, leases: _Optional[_Iterable[_Union[_types_pb2.Lease, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class ListCardsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCardsResponse(_message.Message):
    __slots__ = ("cards", "revision")
    CARDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    cards: _containers.RepeatedCompositeFieldContainer[_types_pb2.Card]
    revision: int
    def __init__(self, cards: _Optional[_Iterable[_Union[_types_pb2.Card, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class GetBitmapRequest(_message.Message):
    __slots__ = ("card", "pool")
    CARD_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    card: str
    pool: str
    def __init__(self, card: _Optional[str] = ..., pool: _Optional[str] = ...) -> None: ...

class GetBitmapResponse(_message.Message):
    __slots__ = ("bitmap", "revision")
    BITMAP_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    bitmap: _types_pb2.PoolBitmap
    revision: int
    def __init__(self, bitmap: _Optional[_Union[_types_pb2.PoolBitmap, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "durability", "session_count", "lease_count", "waiter_count", "uptime_duration", "pid", "warnings", "revision", "epoch")
    class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DURABILITY_UNSPECIFIED: _ClassVar[GetStatusResponse.Durability]
        DURABILITY_NONE: _ClassVar[GetStatusResponse.Durability]
        DURABILITY_FULL: _ClassVar[GetStatusResponse.Durability]
    DURABILITY_UNSPECIFIED: GetStatusResponse.Durability
    DURABILITY_NONE: GetStatusResponse.Durability
    DURABILITY_FULL: GetStatusResponse.Durability
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    SESSION_COUNT_FIELD_NUMBER: _ClassVar[int]
    LEASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITER_COUNT_FIELD_NUMBER: _ClassVar[int]
    UPTIME_DURATION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    version: str
    durability: GetStatusResponse.Durability
    session_count: int
    lease_count: int
    waiter_count: int
    uptime_duration: _duration_pb2.Duration
    pid: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    epoch: int
    def __init__(self, version: _Optional[str] = ..., durability: _Optional[_Union[GetStatusResponse.Durability, str]] = ..., session_count: _Optional[int] = ..., lease_count: _Optional[int] = ..., waiter_count: _Optional[int] = ..., uptime_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., pid: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("past_count", "follow")
    PAST_COUNT_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    past_count: int
    follow: bool
    def __init__(self, past_count: _Optional[int] = ..., follow: bool = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _types_pb2.Event
    def __init__(self, event: _Optional[_Union[_types_pb2.Event, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("claims", "card")
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    claims: _containers.RepeatedCompositeFieldContainer[_types_pb2.Claim]
    card: str
    def __init__(self, claims: _Optional[_Iterable[_Union[_types_pb2.Claim, _Mapping]]] = ..., card: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("grantable", "allotments", "card", "refusal", "waiter_count", "cards", "revision")
    GRANTABLE_FIELD_NUMBER: _ClassVar[int]
    ALLOTMENTS_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    WAITER_COUNT_FIELD_NUMBER: _ClassVar[int]
    CARDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    grantable: bool
    allotments: _containers.RepeatedCompositeFieldContainer[_types_pb2.Allotment]
    card: str
    refusal: _types_pb2.ErrorDetail
    waiter_count: int
    cards: _containers.RepeatedCompositeFieldContainer[_types_pb2.Card]
    revision: int
    def __init__(self, grantable: bool = ..., allotments: _Optional[_Iterable[_Union[_types_pb2.Allotment, _Mapping]]] = ..., card: _Optional[str] = ..., refusal: _Optional[_Union[_types_pb2.ErrorDetail, _Mapping]] = ..., waiter_count: _Optional[int] = ..., cards: _Optional[_Iterable[_Union[_types_pb2.Card, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class CheckConsistencyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckConsistencyResponse(_message.Message):
    __slots__ = ("differences", "unit_count", "lease_count", "compared_store", "revision")
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    LEASE_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMPARED_STORE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    differences: _containers.RepeatedScalarFieldContainer[str]
    unit_count: int
    lease_count: int
    compared_store: bool
    revision: int
    def __init__(self, differences: _Optional[_Iterable[str]] = ..., unit_count: _Optional[int] = ..., lease_count: _Optional[int] = ..., compared_store: bool = ..., revision: _Optional[int] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("acquire", "extend", "give_back", "release")
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    GIVE_BACK_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    acquire: AcquireRequest
    extend: ExtendRequest
    give_back: GiveBackRequest
    release: ReleaseRequest
    def __init__(self, acquire: _Optional[_Union[AcquireRequest, _Mapping]] = ..., extend: _Optional[_Union[ExtendRequest, _Mapping]] = ..., give_back: _Optional[_Union[GiveBackRequest, _Mapping]] = ..., release: _Optional[_Union[ReleaseRequest, _Mapping]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("outcomes", "revision")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    revision: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("acquire", "extend", "give_back", "release", "refusal")
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    GIVE_BACK_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    acquire: AcquireResponse
    extend: ExtendResponse
    give_back: GiveBackResponse
    release: ReleaseResponse
    refusal: _types_pb2.ErrorDetail
    def __init__(self, acquire: _Optional[_Union[AcquireResponse, _Mapping]] = ..., extend: _Optional[_Union[ExtendResponse, _Mapping]] = ..., give_back: _Optional[_Union[GiveBackResponse, _Mapping]] = ..., release: _Optional[_Union[ReleaseResponse, _Mapping]] = ..., refusal: _Optional[_Union[_types_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...
