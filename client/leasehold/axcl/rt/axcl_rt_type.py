"""The vendor's constants, in the module where its programs look for them.

Those programs also take ``os``, ``sys`` and some of ctypes from here, by ``import *``: the vendor's samples do.
"""

import os  # noqa: F401
import sys  # noqa: F401
from ctypes import c_int32, c_uint8, c_uint32, c_uint64, c_void_p  # noqa: F401

from leasehold.axcl.constants import *  # noqa: F403 - all of them
