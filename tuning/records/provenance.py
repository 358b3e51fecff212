"""The provenance of results: code, packages and machine."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from common.project import ROOT, SOURCE_FOLDERS

PACKAGES = ("ray", "torch", "torchvision", "transformers", "optuna", "numpy", "pandas", "scipy")
CODE = ("tune.py", *SOURCE_FOLDERS, "requirements*.txt")


@dataclass(frozen=True)
class Provenance:
    """The code, packages and machine behind a result.

    Args:
        commit: Commit of the code; None outside a checkout.
        code_differs: Whether the code had uncommitted changes; None outside a checkout.
        python: Version of Python.
        packages: Versions of the packages that results depend on.
        machine: Operating system and architecture.
    """

    commit: str | None
    code_differs: bool | None
    python: str
    packages: Mapping[str, str]
    machine: str


@cache
def collect_provenance() -> Provenance:
    """Return the provenance of results that this process makes."""
    changed = _run_git("status", "--porcelain", "--", *CODE)
    return Provenance(
        commit=_run_git("rev-parse", "HEAD"),
        code_differs=None if changed is None else bool(changed),
        python=sys.version.split()[0],
        packages={name: version(name) for name in PACKAGES},
        machine=f"{platform.system()} {platform.machine()}",
    )


def _run_git(*arguments: str) -> str | None:
    """Return the output of a git command; None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
