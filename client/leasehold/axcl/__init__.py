"""AXCL's Python interface by the vendor's names, on leases.

    import leasehold.axcl as axcl          # or none of it: rmctl run --axcl-python -- prog.py

    axcl.init()
    devices, ret = axcl.rt.get_device_list()
    ret = axcl.rt.set_device(devices[0])
    ...
    axcl.rt.reset_device(devices[0])
    axcl.finalize()

Functions answer ``value, ret`` or ``ret``; handles and addresses are numbers; codes are AXCL's, as an int32. What is
different from the vendor's library, on purpose, stands in docs/axcl.md. ``last_error`` has the words of a code.
"""

import logging

from leasehold.axcl import rt as rt
from leasehold.axcl import utils as utils
from leasehold.axcl.answers import last_error as last_error
from leasehold.axcl.answers import ret
from leasehold.axcl.constants import *  # noqa: F403 - all of them
from leasehold.axcl.lifecycle import finalize as finalize
from leasehold.axcl.lifecycle import init as init
from leasehold.axengine import InferenceSession as InferenceSession

_log = logging.getLogger("axcl")
_LEVELS = (logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


@ret
def set_log_level(level: int) -> None:
    """What ``app_log`` lets through, from 0 (trace) to 6 (nothing)."""
    if type(level) is not int or not 0 <= level <= len(_LEVELS):
        raise ValueError(f"a level is 0 to {len(_LEVELS)}, not {level!r}")
    _log.setLevel(_LEVELS[level] if level < len(_LEVELS) else logging.CRITICAL + 1)


@ret
def app_log(level: int, message: str) -> None:
    """Writes to the log ``axcl``."""
    _log.log(_LEVELS[level] if type(level) is int and 0 <= level < len(_LEVELS) else logging.INFO, "%s", message)
