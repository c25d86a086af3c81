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
    __slots__ = ("correlation_id", "open_session", "attach_session", "close_session", "fetch_windows", "keep_alive", "return_windows", "release")
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    ATTACH_SESSION_FIELD_NUMBER: _ClassVar[int]
    CLOSE_SESSION_FIELD_NUMBER: _ClassVar[int]
    FETCH_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    RETURN_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    correlation_id: int
    open_session: OpenSession
    attach_session: AttachSession
    close_session: CloseSession
    fetch_windows: FetchWindows
    keep_alive: _resource_manager_pb2.KeepAliveRequest
    return_windows: ReturnWindows
    release: _resource_manager_pb2.ReleaseRequest
    def __init__(self, correlation_id: _Optional[int] = ..., open_session: _Optional[_Union[OpenSession, _Mapping]] = ..., attach_session: _Optional[_Union[AttachSession, _Mapping]] = ..., close_session: _Optional[_Union[CloseSession, _Mapping]] = ..., fetch_windows: _Optional[_Union[FetchWindows, _Mapping]] = ..., keep_alive: _Optional[_Union[_resource_manager_pb2.KeepAliveRequest, _Mapping]] = ..., return_windows: _Optional[_Union[ReturnWindows, _Mapping]] = ..., release: _Optional[_Union[_resource_manager_pb2.ReleaseRequest, _Mapping]] = ...) -> None: ...

class ServerFrame(_message.Message):
    __slots__ = ("correlation_id", "session_opened", "session_closed", "windows", "keep_alive", "lease_ended", "fault", "windows_returned", "lease_revoking", "release")
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
    def __init__(self, correlation_id: _Optional[int] = ..., session_opened: _Optional[_Union[SessionOpened, _Mapping]] = ..., session_closed: _Optional[_Union[SessionClosed, _Mapping]] = ..., windows: _Optional[_Union[Windows, _Mapping]] = ..., keep_alive: _Optional[_Union[_resource_manager_pb2.KeepAliveResponse, _Mapping]] = ..., lease_ended: _Optional[_Union[LeaseEnded, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., windows_returned: _Optional[_Union[WindowsReturned, _Mapping]] = ..., lease_revoking: _Optional[_Union[LeaseRevoking, _Mapping]] = ..., release: _Optional[_Union[_resource_manager_pb2.ReleaseResponse, _Mapping]] = ...) -> None: ...

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
