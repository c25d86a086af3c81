"""What a store says that cannot be trusted, and what an operator can do then."""

WHAT_TO_DO = (
    "Start with 'rmd --recover=salvage' to go on without it: the damaged file is put aside, reservations that can be "
    "read stand, sessions and leases are forgotten, and no unit is given out before its card is quiet "
    "(see docs/operations.md)"
)


class StoreDamaged(Exception):
    """What is on disk is not what was written there. The text says what and where; nothing is guessed or repaired."""
