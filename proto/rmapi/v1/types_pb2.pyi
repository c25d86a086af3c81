import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UnitRange(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: int
    stop: int
    def __init__(self, start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class UnitRanges(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[UnitRange]
    def __init__(self, ranges: _Optional[_Iterable[_Union[UnitRange, _Mapping]]] = ...) -> None: ...

class Fraction(_message.Message):
    __slots__ = ("numerator", "denominator")
    NUMERATOR_FIELD_NUMBER: _ClassVar[int]
    DENOMINATOR_FIELD_NUMBER: _ClassVar[int]
    numerator: int
    denominator: int
    def __init__(self, numerator: _Optional[int] = ..., denominator: _Optional[int] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("pool", "sites", "reservation", "units", "run", "ids", "common", "first_of", "whole")
    POOL_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    COMMON_FIELD_NUMBER: _ClassVar[int]
    FIRST_OF_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    pool: str
    sites: _containers.RepeatedScalarFieldContainer[str]
    reservation: str
    units: UnitsClaim
    run: RunClaim
    ids: IdsClaim
    common: CommonClaim
    first_of: FirstOfClaim
    whole: WholeClaim
    def __init__(self, pool: _Optional[str] = ..., sites: _Optional[_Iterable[str]] = ..., reservation: _Optional[str] = ..., units: _Optional[_Union[UnitsClaim, _Mapping]] = ..., run: _Optional[_Union[RunClaim, _Mapping]] = ..., ids: _Optional[_Union[IdsClaim, _Mapping]] = ..., common: _Optional[_Union[CommonClaim, _Mapping]] = ..., first_of: _Optional[_Union[FirstOfClaim, _Mapping]] = ..., whole: _Optional[_Union[WholeClaim, _Mapping]] = ...) -> None: ...

class UnitsClaim(_message.Message):
    __slots__ = ("unit_count", "fraction")
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    unit_count: int
    fraction: Fraction
    def __init__(self, unit_count: _Optional[int] = ..., fraction: _Optional[_Union[Fraction, _Mapping]] = ...) -> None: ...

class RunClaim(_message.Message):
    __slots__ = ("unit_count", "size_bytes", "align_count", "extent_count_max")
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALIGN_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXTENT_COUNT_MAX_FIELD_NUMBER: _ClassVar[int]
    unit_count: int
    size_bytes: int
    align_count: int
    extent_count_max: int
    def __init__(self, unit_count: _Optional[int] = ..., size_bytes: _Optional[int] = ..., align_count: _Optional[int] = ..., extent_count_max: _Optional[int] = ...) -> None: ...

class IdsClaim(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class CommonClaim(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WholeClaim(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FirstOfClaim(_message.Message):
    __slots__ = ("alternatives",)
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    alternatives: _containers.RepeatedCompositeFieldContainer[Claim]
    def __init__(self, alternatives: _Optional[_Iterable[_Union[Claim, _Mapping]]] = ...) -> None: ...

class Allotment(_message.Message):
    __slots__ = ("pool", "sites", "units", "slices_per_unit", "unit_bytes")
    POOL_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    SLICES_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    pool: str
    sites: _containers.RepeatedScalarFieldContainer[str]
    units: _containers.RepeatedCompositeFieldContainer[UnitRanges]
    slices_per_unit: int
    unit_bytes: int
    def __init__(self, pool: _Optional[str] = ..., sites: _Optional[_Iterable[str]] = ..., units: _Optional[_Iterable[_Union[UnitRanges, _Mapping]]] = ..., slices_per_unit: _Optional[int] = ..., unit_bytes: _Optional[int] = ...) -> None: ...

class Holder(_message.Message):
    __slots__ = ("pid", "uid", "command")
    PID_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    pid: int
    uid: int
    command: str
    def __init__(self, pid: _Optional[int] = ..., uid: _Optional[int] = ..., command: _Optional[str] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("id", "token", "card", "allotments", "session_id", "holder", "label", "ttl_duration", "grant_time", "used_bytes", "state", "revoked_because")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Lease.State]
        STATE_HELD: _ClassVar[Lease.State]
        STATE_SUSPECT: _ClassVar[Lease.State]
        STATE_REVOKING: _ClassVar[Lease.State]
    STATE_UNSPECIFIED: Lease.State
    STATE_HELD: Lease.State
    STATE_SUSPECT: Lease.State
    STATE_REVOKING: Lease.State
    ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    ALLOTMENTS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    GRANT_TIME_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REVOKED_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    id: str
    token: int
    card: str
    allotments: _containers.RepeatedCompositeFieldContainer[Allotment]
    session_id: str
    holder: Holder
    label: str
    ttl_duration: _duration_pb2.Duration
    grant_time: _timestamp_pb2.Timestamp
    used_bytes: int
    state: Lease.State
    revoked_because: str
    def __init__(self, id: _Optional[str] = ..., token: _Optional[int] = ..., card: _Optional[str] = ..., allotments: _Optional[_Iterable[_Union[Allotment, _Mapping]]] = ..., session_id: _Optional[str] = ..., holder: _Optional[_Union[Holder, _Mapping]] = ..., label: _Optional[str] = ..., ttl_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., grant_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., used_bytes: _Optional[int] = ..., state: _Optional[_Union[Lease.State, str]] = ..., revoked_because: _Optional[str] = ...) -> None: ...

class PoolStatus(_message.Message):
    __slots__ = ("name", "unit_count", "site_count", "unit_bytes", "slices_per_unit", "total_count", "free_count", "held_count", "reserved_count", "quarantined_count", "largest_run_count", "waiter_count", "used_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SLICES_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    FREE_COUNT_FIELD_NUMBER: _ClassVar[int]
    HELD_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESERVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LARGEST_RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITER_COUNT_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit_count: int
    site_count: int
    unit_bytes: int
    slices_per_unit: int
    total_count: int
    free_count: int
    held_count: int
    reserved_count: int
    quarantined_count: int
    largest_run_count: int
    waiter_count: int
    used_bytes: int
    def __init__(self, name: _Optional[str] = ..., unit_count: _Optional[int] = ..., site_count: _Optional[int] = ..., unit_bytes: _Optional[int] = ..., slices_per_unit: _Optional[int] = ..., total_count: _Optional[int] = ..., free_count: _Optional[int] = ..., held_count: _Optional[int] = ..., reserved_count: _Optional[int] = ..., quarantined_count: _Optional[int] = ..., largest_run_count: _Optional[int] = ..., waiter_count: _Optional[int] = ..., used_bytes: _Optional[int] = ...) -> None: ...

class Card(_message.Message):
    __slots__ = ("id", "profile", "pools", "core_cpus", "backend", "gated_sites")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    CORE_CPUS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    GATED_SITES_FIELD_NUMBER: _ClassVar[int]
    id: str
    profile: str
    pools: _containers.RepeatedCompositeFieldContainer[PoolStatus]
    core_cpus: _containers.RepeatedScalarFieldContainer[int]
    backend: str
    gated_sites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., profile: _Optional[str] = ..., pools: _Optional[_Iterable[_Union[PoolStatus, _Mapping]]] = ..., core_cpus: _Optional[_Iterable[int]] = ..., backend: _Optional[str] = ..., gated_sites: _Optional[_Iterable[str]] = ...) -> None: ...

class Reservation(_message.Message):
    __slots__ = ("name", "content_hash", "card", "owner_uid", "shared", "pools", "units")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    OWNER_UID_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    content_hash: str
    card: str
    owner_uid: int
    shared: bool
    pools: _containers.RepeatedCompositeFieldContainer[ReservedPool]
    units: _containers.RepeatedCompositeFieldContainer[Allotment]
    def __init__(self, name: _Optional[str] = ..., content_hash: _Optional[str] = ..., card: _Optional[str] = ..., owner_uid: _Optional[int] = ..., shared: bool = ..., pools: _Optional[_Iterable[_Union[ReservedPool, _Mapping]]] = ..., units: _Optional[_Iterable[_Union[Allotment, _Mapping]]] = ...) -> None: ...

class ReservedPool(_message.Message):
    __slots__ = ("pool", "unit_count", "held_count", "quarantined_count", "slices_per_unit", "unit_bytes")
    POOL_FIELD_NUMBER: _ClassVar[int]
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    HELD_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SLICES_PER_UNIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    pool: str
    unit_count: int
    held_count: int
    quarantined_count: int
    slices_per_unit: int
    unit_bytes: int
    def __init__(self, pool: _Optional[str] = ..., unit_count: _Optional[int] = ..., held_count: _Optional[int] = ..., quarantined_count: _Optional[int] = ..., slices_per_unit: _Optional[int] = ..., unit_bytes: _Optional[int] = ...) -> None: ...

class PoolBitmap(_message.Message):
    __slots__ = ("pool", "card", "held_bits", "reserved_bits", "quarantined_bits", "sites", "site_unit_counts")
    POOL_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    HELD_BITS_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BITS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_BITS_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    SITE_UNIT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    pool: PoolStatus
    card: str
    held_bits: bytes
    reserved_bits: bytes
    quarantined_bits: bytes
    sites: _containers.RepeatedScalarFieldContainer[str]
    site_unit_counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pool: _Optional[_Union[PoolStatus, _Mapping]] = ..., card: _Optional[str] = ..., held_bits: _Optional[bytes] = ..., reserved_bits: _Optional[bytes] = ..., quarantined_bits: _Optional[bytes] = ..., sites: _Optional[_Iterable[str]] = ..., site_unit_counts: _Optional[_Iterable[int]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("revision", "kind", "lease_id", "card", "cause", "text", "event_time", "holder")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Event.Kind]
        KIND_GRANTED: _ClassVar[Event.Kind]
        KIND_EXTENDED: _ClassVar[Event.Kind]
        KIND_UNITS_RETURNED: _ClassVar[Event.Kind]
        KIND_ENDED: _ClassVar[Event.Kind]
        KIND_UNITS_QUIET: _ClassVar[Event.Kind]
        KIND_RESERVED: _ClassVar[Event.Kind]
        KIND_UNRESERVED: _ClassVar[Event.Kind]
        KIND_RESYNC: _ClassVar[Event.Kind]
        KIND_REVOKING: _ClassVar[Event.Kind]
        KIND_STARTED: _ClassVar[Event.Kind]
        KIND_GATED: _ClassVar[Event.Kind]
    KIND_UNSPECIFIED: Event.Kind
    KIND_GRANTED: Event.Kind
    KIND_EXTENDED: Event.Kind
    KIND_UNITS_RETURNED: Event.Kind
    KIND_ENDED: Event.Kind
    KIND_UNITS_QUIET: Event.Kind
    KIND_RESERVED: Event.Kind
    KIND_UNRESERVED: Event.Kind
    KIND_RESYNC: Event.Kind
    KIND_REVOKING: Event.Kind
    KIND_STARTED: Event.Kind
    KIND_GATED: Event.Kind
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    revision: int
    kind: Event.Kind
    lease_id: str
    card: str
    cause: str
    text: str
    event_time: _timestamp_pb2.Timestamp
    holder: Holder
    def __init__(self, revision: _Optional[int] = ..., kind: _Optional[_Union[Event.Kind, str]] = ..., lease_id: _Optional[str] = ..., card: _Optional[str] = ..., cause: _Optional[str] = ..., text: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., holder: _Optional[_Union[Holder, _Mapping]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("reason", "message", "facts")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    facts: _struct_pb2.Struct
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., facts: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...
