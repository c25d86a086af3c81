"""``import axengine`` for programs that were written for it; see ``leasehold.axcl.inference``."""

import sys

import leasehold.axcl.inference

sys.modules["axengine"] = leasehold.axcl.inference
