"""The vendor's constants once more, under the other name by which its programs know them."""

from leasehold.axcl.rt.axcl_rt_type import *  # noqa: F403 - all of them
