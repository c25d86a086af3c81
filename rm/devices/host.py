"""What the host says of itself."""

from pathlib import Path


def boot_id() -> str:
    """What tells this boot of the host from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
