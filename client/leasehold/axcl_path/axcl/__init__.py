"""``import axcl`` for programs that were written for the vendor's package: ``rmctl run --axcl-python`` puts it first.

It is ``leasehold.axcl`` itself, under the name that those programs know.
"""

import importlib
import sys

try:
    import leasehold.axcl
except ModuleNotFoundError as fault:  # another interpreter than the one of rmctl
    text = f"{sys.executable} has no module {fault.name!r}: install leasehold for it, or name one that has it"
    raise ImportError(text) from None

_MODULES = (
    "rt",
    "rt.axcl_rt",
    "rt.axcl_rt_context",
    "rt.axcl_rt_device",
    "rt.axcl_rt_engine",
    "rt.axcl_rt_engine_type",
    "rt.axcl_rt_memory",
    "rt.axcl_rt_stream",
    "rt.axcl_rt_type",
    "utils",
)
for _name in _MODULES:
    sys.modules[f"axcl.{_name}"] = importlib.import_module(f"leasehold.axcl.{_name}")
sys.modules["axcl"] = leasehold.axcl
