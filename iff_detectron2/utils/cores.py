"""How many processors this process may use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Number of cores; containers and job schedulers often grant fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
