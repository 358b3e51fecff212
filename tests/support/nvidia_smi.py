"""A stand-in for NVIDIA's program nvidia-smi."""

import os
from pathlib import Path

import pytest

# As NVIDIA's guide to MIG shows `nvidia-smi -L`: one GPU cut into three, one whole; and in the form
# of drivers before R470.
MIG = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb      Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
  MIG 1g.5gb      Device  2: (UUID: MIG-GPU-1/9/0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2)
"""


def stand_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str, queried: str = "", held: str = ""
) -> None:
    """Put a stand-in for NVIDIA's program in front, which prints this for its three questions."""
    for name, text in (("listed", listed), ("queried", queried), ("held", held)):
        (folder / name).write_text(text + "\n")
    nvidia = folder / "nvidia-smi"
    nvidia.write_text(
        "#!/bin/bash\ncase $1 in\n"
        f"-L) cat {folder}/listed;;\n"
        f"*query-gpu*) cat {folder}/queried;;\n"
        f"*) cat {folder}/held;;\nesac\n"
    )
    nvidia.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
