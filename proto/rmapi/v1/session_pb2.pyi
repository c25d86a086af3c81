import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from rmapi.v1 import resource_manager_pb2 as _resource_manager_pb2
from rmapi.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientFrame(_message.Message):
    __slots__ = ("correlation_id", "open_session", "attach_session", "close_session", "fetch_windows", "keep_alive", "return_windows", "release", "acquire", "extend", "give_back", "revoke", "reserve", "unreserve", "list_reservations", "gate_sites", "get_lease", "list_leases", "list_cards", "get_bitmap", "get_status", "watch_events", "explain", "check_consistency", "batch", "cancel", "visit")
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    ATTACH_SESSION_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    FETCH_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    RETURN_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    GIVE_BACK_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    UNRESERVE_FIELD_NUMBER: _ClassVar[int]
    LIST_RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    GATE_SITES_FIELD_NUMBER: _ClassVar[int]
    GET_LEASE_FIELD_NUMBER: _ClassVar[int]
    LIST_LEASES_FIELD_NUMBER: _ClassVar[int]
    LIST_CARDS_FIELD_NUMBER: _ClassVar[int]
    GET_BITMAP_FIELD_NUMBER: _ClassVar[int]
    GET_STATUS_FIELD_NUMBER: _ClassVar[int]
    WATCH_EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    CHECK_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    VISIT_FIELD_NUMBER: _ClassVar[int]
    correlation_id: int
    open_session: OpenSession
    attach_session: AttachSession
    close_session: CloseSession
    fetch_windows: FetchWindows
    keep_alive: _resource_manager_pb2.KeepAliveRequest
    return_windows: ReturnWindows
    release: _resource_manager_pb2.ReleaseRequest
    acquire: _resource_manager_pb2.AcquireRequest
    extend: _resource_manager_pb2.ExtendRequest
    give_back: _resource_manager_pb2.GiveBackRequest
    revoke: _resource_manager_pb2.RevokeRequest
    reserve: _resource_manager_pb2.ReserveRequest
    unreserve: _resource_manager_pb2.UnreserveRequest
    list_reservations: _resource_manager_pb2.ListReservationsRequest
    gate_sites: _resource_manager_pb2.GateSitesRequest
    get_lease: _resource_manager_pb2.GetLeaseRequest
    list_leases: _resource_manager_pb2.ListLeasesRequest
    list_cards: _resource_manager_pb2.ListCardsRequest
    get_bitmap: _resource_manager_pb2.GetBitmapRequest
    get_status: _resource_manager_pb2.GetStatusRequest
    watch_events: _resource_manager_pb2.WatchEventsRequest
    explain: _resource_manager_pb2.ExplainRequest
    check_consistency: _resource_manager_pb2.CheckConsistencyRequest
    batch: _resource_manager_pb2.BatchRequest
    cancel: Cancel
    visit: Visit
    def __init__(self, correlation_id: _Optional[int] = ..., open_session: _Optional[_Union[OpenSession, _Mapping]] = ..., attach_session: _Optional[_Union[AttachSession, _Mapping]] = ..., close_session: _Optional[_Union[CloseSession, _Mapping]] = ..., fetch_windows: _Optional[_Union[FetchWindows, _Mapping]] = ..., keep_alive: _Optional[_Union[_resource_manager_pb2.KeepAliveRequest, _Mapping]] = ..., return_windows: _Optional[_Union[ReturnWindows, _Mapping]] = ..., release: _Optional[_Union[_resource_manager_pb2.ReleaseRequest, _Mapping]] = ..., acquire: _Optional[_Union[_resource_manager_pb2.AcquireRequest, _Mapping]] = ..., extend: _Optional[_Union[_resource_manager_pb2.ExtendRequest, _Mapping]] = ..., give_back: _Optional[_Union[_resource_manager_pb2.GiveBackRequest, _Mapping]] = ..., revoke: _Optional[_Union[_resource_manager_pb2.RevokeRequest, _Mapping]] = ..., reserve: _Optional[_Union[_resource_manager_pb2.ReserveRequest, _Mapping]] = ..., unreserve: _Optional[_Union[_resource_manager_pb2.UnreserveRequest, _Mapping]] = ..., list_reservations: _Optional[_Union[_resource_manager_pb2.ListReservationsRequest, _Mapping]] = ..., gate_sites: _Optional[_Union[_resource_manager_pb2.GateSitesRequest, _Mapping]] = ..., get_lease: _Optional[_Union[_resource_manager_pb2.GetLeaseRequest, _Mapping]] = ..., list_leases: _Optional[_Union[_resource_manager_pb2.ListLeasesRequest, _Mapping]] = ..., list_cards: _Optional[_Union[_resource_manager_pb2.ListCardsRequest, _Mapping]] = ..., get_bitmap: _Optional[_Union[_resource_manager_pb2.GetBitmapRequest, _Mapping]] = ..., get_status: _Optional[_Union[_resource_manager_pb2.GetStatusRequest, _Mapping]] = ..., watch_events: _Optional[_Union[_resource_manager_pb2.WatchEventsRequest, _Mapping]] = ..., explain: _Optional[_Union[_resource_manager_pb2.ExplainRequest, _Mapping]] = ..., check_consistency: _Optional[_Union[_resource_manager_pb2.CheckConsistencyRequest, _Mapping]] = ..., batch: _Optional[_Union[_resource_manager_pb2.BatchRequest, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., visit: _Optional[_Union[Visit, _Mapping]] = ...) -> None: ...

class ServerFrame(_message.Message):
    __slots__ = ("correlation_id", "session_opened", "session_closed", "windows", "keep_alive", "lease_ended", "fault", "windows_returned", "lease_revoking", "release", "acquire", "extend", "give_back", "revoke", "reserve", "unreserve", "list_reservations", "gate_sites", "get_lease", "list_leases", "list_cards", "get_bitmap", "get_status", "watch_events", "explain", "check_consistency", "batch", "watch_ended", "visited")
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_OPENED_FIELD_NUMBER: _ClassVar[int]
    SESSION_CLOSED_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ENDED_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_RETURNED_FIELD_NUMBER: _ClassVar[int]
    LEASE_REVOKING_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    GIVE_BACK_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    UNRESERVE_FIELD_NUMBER: _ClassVar[int]
    LIST_RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    GATE_SITES_FIELD_NUMBER: _ClassVar[int]
    GET_LEASE_FIELD_NUMBER: _ClassVar[int]
    LIST_LEASES_FIELD_NUMBER: _ClassVar[int]
    LIST_CARDS_FIELD_NUMBER: _ClassVar[int]
    GET_BITMAP_FIELD_NUMBER: _ClassVar[int]
    GET_STATUS_FIELD_NUMBER: _ClassVar[int]
    WATCH_EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    CHECK_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    WATCH_ENDED_FIELD_NUMBER: _ClassVar[int]
    VISITED_FIELD_NUMBER: _ClassVar[int]
    correlation_id: int
    session_opened: SessionOpened
    session_closed: SessionClosed
    windows: Windows
    keep_alive: _resource_manager_pb2.KeepAliveResponse
    lease_ended: LeaseEnded
    fault: Fault
    windows_returned: WindowsReturned
    lease_revoking: LeaseRevoking
    release: _resource_manager_pb2.ReleaseResponse
    acquire: _resource_manager_pb2.AcquireResponse
    extend: _resource_manager_pb2.ExtendResponse
    give_back: _resource_manager_pb2.GiveBackResponse
    revoke: _resource_manager_pb2.RevokeResponse
    reserve: _resource_manager_pb2.ReserveResponse
    unreserve: _resource_manager_pb2.UnreserveResponse
    list_reservations: _resource_manager_pb2.ListReservationsResponse
    gate_sites: _resource_manager_pb2.GateSitesResponse
    get_lease: _resource_manager_pb2.GetLeaseResponse
    list_leases: _resource_manager_pb2.ListLeasesResponse
    list_cards: _resource_manager_pb2.ListCardsResponse
    get_bitmap: _resource_manager_pb2.GetBitmapResponse
    get_status: _resource_manager_pb2.GetStatusResponse
    watch_events: _resource_manager_pb2.WatchEventsResponse
    explain: _resource_manager_pb2.ExplainResponse
    check_consistency: _resource_manager_pb2.CheckConsistencyResponse
    batch: _resource_manager_pb2.BatchResponse
    watch_ended: WatchEnded
    visited: Visited
    def __init__(self, correlation_id: _Optional[int] = ..., session_opened: _Optional[_Union[SessionOpened, _Mapping]] = ..., session_closed: _Optional[_Union[SessionClosed, _Mapping]] = ..., windows: _Optional[_Union[Windows, _Mapping]] = ..., keep_alive: _Optional[_Union[_resource_manager_pb2.KeepAliveResponse, _Mapping]] = ..., lease_ended: _Optional[_Union[LeaseEnded, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., windows_returned: _Optional[_Union[WindowsReturned, _Mapping]] = ..., lease_revoking: _Optional[_Union[LeaseRevoking, _Mapping]] = ..., release: _Optional[_Union[_resource_manager_pb2.ReleaseResponse, _Mapping]] = ..., acquire: _Optional[_Union[_resource_manager_pb2.AcquireResponse, _Mapping]] = ..., extend: _Optional[_Union[_resource_manager_pb2.ExtendResponse, _Mapping]] = ..., give_back: _Optional[_Union[_resource_manager_pb2.GiveBackResponse, _Mapping]] = ..., revoke: _Optional[_Union[_resource_manager_pb2.RevokeResponse, _Mapping]] = ..., reserve: _Optional[_Union[_resource_manager_pb2.ReserveResponse, _Mapping]] = ..., unreserve: _Optional[_Union[_resource_manager_pb2.UnreserveResponse, _Mapping]] = ..., list_reservations: _Optional[_Union[_resource_manager_pb2.ListReservationsResponse, _Mapping]] = ..., gate_sites: _Optional[_Union[_resource_manager_pb2.GateSitesResponse, _Mapping]] = ..., get_lease: _Optional[_Union[_resource_manager_pb2.GetLeaseResponse, _Mapping]] = ..., list_leases: _Optional[_Union[_resource_manager_pb2.ListLeasesResponse, _Mapping]] = ..., list_cards: _Optional[_Union[_resource_manager_pb2.ListCardsResponse, _Mapping]] = ..., get_bitmap: _Optional[_Union[_resource_manager_pb2.GetBitmapResponse, _Mapping]] = ..., get_status: _Optional[_Union[_resource_manager_pb2.GetStatusResponse, _Mapping]] = ..., watch_events: _Optional[_Union[_resource_manager_pb2.WatchEventsResponse, _Mapping]] = ..., explain: _Optional[_Union[_resource_manager_pb2.ExplainResponse, _Mapping]] = ..., check_consistency: _Optional[_Union[_resource_manager_pb2.CheckConsistencyResponse, _Mapping]] = ..., batch: _Optional[_Union[_resource_manager_pb2.BatchResponse, _Mapping]] = ..., watch_ended: _Optional[_Union[WatchEnded, _Mapping]] = ..., visited: _Optional[_Union[Visited, _Mapping]] = ...) -> None: ...

class OpenSession(_message.Message):
    __slots__ = ("protocol_version", "command")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    command: str
    def __init__(self, protocol_version: _Optional[int] = ..., command: _Optional[str] = ...) -> None: ...

class AttachSession(_message.Message):
    __slots__ = ("protocol_version", "session_id", "session_secret")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_SECRET_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    session_id: str
    session_secret: str
    def __init__(self, protocol_version: _Optional[int] = ..., session_id: _Optional[str] = ..., session_secret: _Optional[str] = ...) -> None: ...

class CloseSession(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Visit(_message.Message):
    __slots__ = ("protocol_version",)
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    def __init__(self, protocol_version: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("called_id",)
    CALLED_ID_FIELD_NUMBER: _ClassVar[int]
    called_id: int
    def __init__(self, called_id: _Optional[int] = ...) -> None: ...

class FetchWindows(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class SessionOpened(_message.Message):
    __slots__ = ("session_id", "session_secret", "pid", "daemon_epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_SECRET_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    DAEMON_EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    session_secret: str
    pid: int
    daemon_epoch: int
    def __init__(self, session_id: _Optional[str] = ..., session_secret: _Optional[str] = ..., pid: _Optional[int] = ..., daemon_epoch: _Optional[int] = ...) -> None: ...

class SessionClosed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Visited(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchEnded(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Windows(_message.Message):
    __slots__ = ("windows",)
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[Window]
    def __init__(self, windows: _Optional[_Iterable[_Union[Window, _Mapping]]] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("allotment_index", "size_bytes", "lease_id")
    ALLOTMENT_INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    allotment_index: int
    size_bytes: int
    lease_id: str
    def __init__(self, allotment_index: _Optional[int] = ..., size_bytes: _Optional[int] = ..., lease_id: _Optional[str] = ...) -> None: ...

class ReturnWindows(_message.Message):
    __slots__ = ("lease_id", "allotment_indexes")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOTMENT_INDEXES_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    allotment_indexes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, lease_id: _Optional[str] = ..., allotment_indexes: _Optional[_Iterable[int]] = ...) -> None: ...

class WindowsReturned(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class LeaseRevoking(_message.Message):
    __slots__ = ("lease_id", "cause", "notice_duration")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    NOTICE_DURATION_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    cause: str
    notice_duration: _duration_pb2.Duration
    def __init__(self, lease_id: _Optional[str] = ..., cause: _Optional[str] = ..., notice_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeaseEnded(_message.Message):
    __slots__ = ("lease_id", "cause")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    cause: str
    def __init__(self, lease_id: _Optional[str] = ..., cause: _Optional[str] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("detail",)
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    detail: _types_pb2.ErrorDetail
    def __init__(self, detail: _Optional[_Union[_types_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...
