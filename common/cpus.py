"""The CPUs of this machine that a process may use.

Python 3.13's ``os.process_cpu_count`` and psutil know no quotas; joblib and Ray read the quota of
the mounted hierarchy's root only, where that of a nested group (systemd, Slurm, a container without
a cgroup namespace) does not stand.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SYSTEM = Path("/")


def count_cpus(root: Path = SYSTEM) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    These are the CPUs of its affinity, but no more than a container's quota pays for: a quota of
    2.5 CPUs counts as 2, as in Ray, because a third busy process would slow down the others.

    Args:
        root: The root of the file system, another one in tests.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cpus, *(int(quota) for quota in _read_quotas(root)), cpus))


def _read_quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas of this process's control groups and of all groups around them."""
    for folder, mounted in _find_groups(root):
        while True:
            quota = _read_quota_v2(folder) or _read_quota_v1(folder)
            if quota:
                yield quota
            if folder == mounted:
                break
            folder = folder.parent


def _find_groups(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the folder of each control group of this process, and where its hierarchy is mounted.

    Lines of ``/proc/self/cgroup`` are ``number:controllers:group``, without controllers for version
    2. Lines of ``/proc/self/mountinfo`` hold the mounted group in the fourth column, the folder in
    the fifth, and after a dash the type, the device and the options (controllers of version 1).
    """
    groups: dict[str, str] = {}  # by controller, empty for version 2
    for line in _read_lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), group)
    for line in _read_lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        columns = mount.split()
        kind, *_, options = filesystem.split()
        controller = {"cgroup": "cpu", "cgroup2": ""}.get(kind)
        if controller is None or (controller and controller not in options.split(",")):
            continue
        if controller in groups:
            mounted = root / columns[4].lstrip("/")
            inside, top = PurePosixPath(groups[controller]), PurePosixPath(columns[3])
            # A group outside of the mounted ones, as in a container, is the mounted one itself.
            below = inside.relative_to(top) if inside.is_relative_to(top) else ""
            yield (mounted / below if ".." not in inside.parts else mounted), mounted


def _read_quota_v2(folder: Path) -> float | None:
    """Return the quota of a group of version 2 in CPUs; None where there is none."""
    quota, period, *_ = [*" ".join(_read_lines(folder / "cpu.max")).split(), "max", "max"]
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _read_quota_v1(folder: Path) -> float | None:
    """Return the quota of a group of version 1 in CPUs; None where there is none."""
    quota = " ".join(_read_lines(folder / "cpu.cfs_quota_us"))  # -1: no quota
    period = " ".join(_read_lines(folder / "cpu.cfs_period_us"))
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
