"""The CPUs that a container's quota leaves."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.cpus import count_cpus
from tests.support.command import ROOT

V1 = Path("/sys/fs/cgroup/cpu")
MOUNTED_V2 = "30 24 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
MOUNTED_V1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have 64 CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def make_system(
    root: Path, mounted: str, group: str, quotas: dict[str, tuple[int | str, int]], top: str = "/"
) -> Path:
    """Write the files of a kernel in which this process is in a control group.

    Args:
        root: Where.
        mounted: The line of ``mountinfo``.
        group: The line of ``cgroup``.
        quotas: The quota and period of groups, by their folder below the mount.
        top: The group that is mounted.
    """
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(f"{mounted.format(top=top)}\n")
    (root / "proc/self/cgroup").write_text(f"4:memory:/elsewhere\n{group}\n")
    hierarchy = root / mounted.split()[4].lstrip("/")
    for name, (quota, period) in quotas.items():
        folder = hierarchy / name
        folder.mkdir(parents=True, exist_ok=True)
        if "cgroup2" in mounted:
            (folder / "cpu.max").write_text(f"{quota} {period}\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{-1 if quota == 'max' else quota}\n")
            (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    return root


@pytest.mark.parametrize(
    ("mounted", "group"), [(MOUNTED_V2, "0::"), (MOUNTED_V1, "2:cpu,cpuacct:")], ids=["v2", "v1"]
)
class TestQuotas:
    """Both versions of control groups."""

    def test_the_smallest_quota_on_the_path_counts(
        self, tmp_path: Path, mounted: str, group: str
    ) -> None:
        quotas: dict[str, tuple[int | str, int]] = {
            "": ("max", 100000), "a": (300000, 100000), "a/b": ("max", 100000),
            "a/b/c": (800000, 100000), "other": (100000, 100000),
        }  # fmt: skip
        assert count_cpus(make_system(tmp_path, mounted, f"{group}/a/b/c", quotas)) == 3

    @pytest.mark.parametrize(
        ("quota", "period", "expected"),
        [("max", 100000, 64), (100000, 100000, 1), (50000, 100000, 1), (1000, 100000, 1),
         (250000, 100000, 2), (25000, 10000, 2), (10_000_000, 100000, 64)],
    )  # fmt: skip
    def test_a_fraction_is_rounded_down_to_at_least_one(
        self, tmp_path: Path, mounted: str, group: str, quota: int | str, period: int, expected: int
    ) -> None:
        system = make_system(tmp_path, mounted, f"{group}/a", {"a": (quota, period)})
        assert count_cpus(system) == expected

    def test_a_container_sees_its_own_group_as_the_root(
        self, tmp_path: Path, mounted: str, group: str
    ) -> None:
        quotas: dict[str, tuple[int | str, int]] = {"": (200000, 100000)}
        inside = make_system(tmp_path / "own", mounted, f"{group}/", quotas)
        assert count_cpus(inside) == 2
        host = make_system(tmp_path / "host", mounted, f"{group}/docker/1", quotas, "/docker/1")
        assert count_cpus(host) == 2


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert count_cpus(tmp_path) == 64


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of the kernel with a quota of one CPU."""
    folder = V1 / f"evenhand-{os.getpid()}"
    try:
        (folder / "inner").mkdir(parents=True)
        (folder / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made: {error}")
    yield folder / "inner"
    (folder / "inner").rmdir()
    folder.rmdir()


@pytest.mark.medium
def test_a_study_in_a_real_group_plans_for_its_quota(group: Path, tmp_path: Path) -> None:
    plan = ["--method", "erm", "--dataset", "colored_digits", "--plan", "--address", "local"]
    done = subprocess.run(
        ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh",
         sys.executable, "tune.py", *plan, "--results", str(tmp_path / "results")],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(1 CPU, " in done.stdout
    assert "1 trial in parallel" in done.stdout
