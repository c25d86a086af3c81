"""Examples of AXCL's model on leases. Each is a program of its own, and a test runs it."""
