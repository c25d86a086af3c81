"""Cards: what the daemon does to a device, behind one small interface."""
