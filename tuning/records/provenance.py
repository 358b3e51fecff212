"""Provenance: what made a result."""

import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from typing import Any

from common.project import ROOT, SOURCE_FOLDERS

PACKAGES = ("ray", "torch", "torchvision", "transformers", "optuna", "numpy", "pandas", "scipy")
CODE = ("tune.py", *SOURCE_FOLDERS, "requirements*.txt")


@cache
def provenance() -> dict[str, Any]:
    """Return commit, whether the code differed from it, package versions and machine."""
    changed = _git("status", "--porcelain", "--", *CODE)
    return {
        "commit": _git("rev-parse", "HEAD"),
        "code_differs": None if changed is None else bool(changed),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None where this is no checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
