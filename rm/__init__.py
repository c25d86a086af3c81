"""The daemon of Leasehold: pure rules in ``core``, and what carries them around it. Arrows only point down."""
