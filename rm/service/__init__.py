"""What carries the core: the engine, the sessions, and the two doors. Everything runs on one event loop."""
