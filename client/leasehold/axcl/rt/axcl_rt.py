"""What this is."""

from leasehold.axcl.answers import Name, value, values_ret
from leasehold.runtime import Fault, default_runtime

__all__ = ["get_full_version", "get_soc_name", "get_version"]
_VERSION = (3, 10, 2)  # of the library whose answers these are


@values_ret(0, 0, 0)
def get_version() -> tuple[int, int, int]:
    """Version of the library whose answers these are: major, minor, patch."""
    return _VERSION


@value(Name(""))
def get_full_version() -> Name:
    """The same as a text."""
    return Name("V" + ".".join(str(part) for part in _VERSION))


@value(Name("UNKNOWN"))
def get_soc_name() -> Name:
    """The chip; UNKNOWN where there is no device."""
    try:
        return Name("AX650N" if default_runtime().devices() else "UNKNOWN")
    except Fault:
        return Name("UNKNOWN")
