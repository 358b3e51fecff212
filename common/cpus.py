"""The CPUs of this machine."""

import os


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system; respects containers
    return len(affinity(0)) if affinity else os.cpu_count() or 1
