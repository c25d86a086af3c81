"""Streams and events. Events have no names in the vendor's Python package; these are those of C."""

from leasehold.axcl.answers import number, ret, value_ret
from leasehold.runtime import Code, Event, Fault, Stream, default_runtime

__all__ = [
    "create_event",
    "create_stream",
    "destroy_event",
    "destroy_stream",
    "destroy_stream_force",
    "get_default_stream",
    "record_event",
    "stream_wait_event",
    "stream_wait_event_with_timeout",
    "synchronize_stream",
    "synchronize_stream_with_timeout",
]


@value_ret(0)
def create_stream() -> int:
    """A stream of this thread's current context."""
    return default_runtime().create_stream().handle


@ret
def destroy_stream(stream: int) -> None:
    """Ends a stream when its tasks have ended."""
    stream_of(stream, stale=Code.STREAM_DESTROY).destroy()


@ret
def destroy_stream_force(stream: int) -> None:
    """Ends a stream at once: what has not begun is cancelled."""
    stream_of(stream, stale=Code.STREAM_DESTROY).destroy(is_forced=True)


@value_ret(0)
def get_default_stream(context: int) -> int:
    """The default stream of a context. Exported by the vendor's library and documented nowhere."""
    found = default_runtime().find_context(number(context))
    if found is None:
        code = Code.CONTEXT_NOT_EXIST if number(context) else Code.CONTEXT_NULL
        raise Fault(code, "there is no such context, or not any more")
    return found.default_stream.handle


@ret
def synchronize_stream(stream: int) -> None:
    """Waits until everything submitted so far has ended; answers the error that stopped the stream, which goes on."""
    _synchronize(stream, None)


@ret
def synchronize_stream_with_timeout(stream: int, timeout: int) -> None:
    """As ``synchronize_stream``, for ``timeout`` ms at most; -1 means for ever. Nothing is cancelled."""
    if type(timeout) is not int or timeout < -1:
        raise Fault(Code.STREAM_ILLEGAL, f"{timeout!r} is no number of milliseconds")
    _synchronize(stream, None if timeout < 0 else timeout / 1000)


@value_ret(0)
def create_event() -> int:
    """An event of the device of this thread's current context."""
    return default_runtime().create_event().handle


@ret
def destroy_event(event: int) -> None:
    """Ends an event."""
    _event(event).destroy()


@ret
def record_event(event: int, stream: int) -> None:
    """Has an event happen when everything submitted to a stream so far has ended well."""
    _event(event).record(stream_of(stream))


@ret
def stream_wait_event(stream: int, event: int) -> None:
    """Holds what is submitted to a stream from now on back until an event has happened."""
    _event(event).hold_back(stream_of(stream))


@ret
def stream_wait_event_with_timeout(stream: int, event: int, timeout: int) -> None:
    """As ``stream_wait_event``; after ``timeout`` ms the stream fails, and its next synchronize says so."""
    if type(timeout) is not int or timeout < -1:
        raise Fault(Code.STREAM_ILLEGAL, f"{timeout!r} is no number of milliseconds")
    _event(event).hold_back(stream_of(stream), None if timeout < 0 else timeout / 1000)


def stream_of(handle: object, *, stale: Code = Code.STREAM_NOT_EXIST) -> Stream:
    """A live stream.

    Raises:
        Fault: a null handle, or of ``stale``, one that stands for no stream, or none any more.
    """
    if not number(handle):
        raise Fault(Code.STREAM_NULL, "a null stream")
    found = default_runtime().find_stream(number(handle))
    if found is None:
        raise Fault(stale, f"there is no stream {number(handle):#x}, or not any more")
    return found


def _synchronize(handle: object, timeout_s: float | None) -> None:
    """Waits; a stream that is no more, or a default one, is -1, as the vendor's library has it."""
    stream = stream_of(handle, stale=Code.FAIL)
    if stream.is_default:
        raise Fault(Code.FAIL, "a default stream is synchronized by the calls that use it")
    try:
        stream.synchronize(timeout_s)
    except Fault as fault:
        if fault.code is Code.STREAM_NOT_EXIST:  # destroyed since it was looked up
            raise Fault(Code.FAIL, str(fault)) from fault
        raise


def _event(handle: object) -> Event:
    if not number(handle):
        raise Fault(Code.STREAM_NULL, "a null event")
    found = default_runtime().find_event(number(handle))
    if found is None:
        raise Fault(Code.EVENT_NOT_EXIST, f"there is no event {number(handle):#x}, or not any more")
    return found
