"""``import axengine`` for programs that were written for it; see ``leasehold.axengine``."""

import sys

import leasehold.axengine

sys.modules["axengine"] = leasehold.axengine
