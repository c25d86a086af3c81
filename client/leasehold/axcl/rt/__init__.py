"""The runtime by the vendor's names: devices, contexts, streams, events, memory, the engine."""

from leasehold.axcl.rt.axcl_rt import *  # noqa: F403 - one name space of many modules, as the vendor has it
from leasehold.axcl.rt.axcl_rt_context import *  # noqa: F403
from leasehold.axcl.rt.axcl_rt_device import *  # noqa: F403
from leasehold.axcl.rt.axcl_rt_engine import *  # noqa: F403
from leasehold.axcl.rt.axcl_rt_memory import *  # noqa: F403
from leasehold.axcl.rt.axcl_rt_stream import *  # noqa: F403
