"""Run a command while a folder cannot be written, also as root."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_read_only(
    folder: Path, command: Sequence[object], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command that sees ``folder`` mounted read-only; skips the test where that is refused.

    Args:
        folder: The folder.
        command: The command, run in the project's root.
        environment: Variables to add.
    """
    place, text = shlex.quote(str(folder)), shlex.join(map(str, command))
    mount = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    probe = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", mount], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"nothing can be mounted here: {probe.stderr.decode()}")
    return subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", f"{mount} && exec {text}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
