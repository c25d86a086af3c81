"""The benchmarks that the README's figures come from: each figure is a ratio against a bare or peer baseline."""
