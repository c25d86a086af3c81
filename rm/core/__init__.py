"""Pure rules: who may have which unit. No I/O, no clock, no locks, no protobuf."""
