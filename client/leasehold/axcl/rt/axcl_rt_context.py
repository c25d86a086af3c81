"""Contexts. A handle that is stale is refused (0x80305224), where the vendor's library would touch freed memory."""

from leasehold.axcl.answers import number, ret, value_ret
from leasehold.runtime import Code, Context, Fault, default_runtime

__all__ = [
    "create_context",
    "destroy_context",
    "get_current_context",
    "get_default_context",
    "set_current_context",
]


@value_ret(0)
def create_context(device_id: int) -> int:
    """A context of its own, bound to this thread. A device that is not active becomes so."""
    if device_id is None:
        raise Fault(Code.CONTEXT_NULL, "no device is named")
    return default_runtime().create_context(device_id).handle


@ret
def destroy_context(context: int) -> None:
    """Ends a context when its tasks have ended; no thread is bound to it any more."""
    default_runtime().destroy_context(_context(context))


@ret
def set_current_context(context: int) -> None:
    """Binds this thread."""
    default_runtime().set_current_context(_context(context))


@value_ret(0)
def get_current_context() -> int:
    """What this thread is bound to."""
    return default_runtime().current_context().handle


@value_ret(0)
def get_default_context(device_id: int) -> int:
    """The default context of a device that is active."""
    return default_runtime().device(device_id).default_context.handle


def _context(handle: object) -> Context:
    """A live context.

    Raises:
        Fault: a null handle, or one that stands for no context, or none any more.
    """
    found = default_runtime().find_context(number(handle))
    if not number(handle):
        raise Fault(Code.CONTEXT_NULL, "a null context")
    if found is None:
        raise Fault(Code.CONTEXT_NOT_EXIST, f"there is no context {number(handle):#x}, or not any more")
    return found
