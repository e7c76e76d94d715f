"""The most memory that a process held."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_bytes() -> int | None:
    """Return the most memory that this process held so far, or None where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        # On Linux this would be no less than the peak of the process that started this one.
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
