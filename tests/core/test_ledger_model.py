"""Random clients against the real ledger and a model made of dicts: they must agree after every step."""

import pytest
from hypothesis import Phase, settings

from support.machine import LedgerMachine
from support.strategies import SAME_EVERY_RUN

# The long limit is for the day it fails: the example is then cut down to a short one, which takes a few minutes.
TestTheLedgerDoesAsTheModelSays = pytest.mark.timeout(600)(LedgerMachine.TestCase)
TestTheLedgerDoesAsTheModelSays.settings = settings(
    SAME_EVERY_RUN, max_examples=150, stateful_step_count=50, phases=[Phase.generate, Phase.shrink]
)
