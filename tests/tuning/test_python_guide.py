"""The code of docs/python.md, run as it stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.kept_model import save_model
from tests.core.test_kept_model import train, write_own_data

pytestmark = pytest.mark.study

ROOT = Path(__file__).resolve().parents[2]
STUDY, MODEL = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL
)


def run_there(folder: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error::FutureWarning", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_study_gives_data_frames(tmp_path: Path) -> None:
    printed = run_there(tmp_path, STUDY)
    assert (tmp_path / "results/colored_digits/table.csv").exists()
    for word in ("dro", "rwg", "test_worst_group_accuracy_mean", "best_epoch", "group"):
        assert word in printed


def test_a_kept_model_predicts_new_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    paths = write_own_data(data, "images")
    run = train(data, "folder:mine", "erm", model="tiny_vit")
    kept = tmp_path / "results/birds/dro/model.safetensors"
    kept.parent.mkdir(parents=True)
    save_model(run.model, run.key, run.benchmark, kept)
    (tmp_path / "new").mkdir()
    for path in paths:
        shutil.copy(path, tmp_path / "new")
    rows = "".join(f"{path.name},cat,sea\n" for path in paths)
    (tmp_path / "new" / "labels.csv").write_text(f"image,label,place\n{rows}")
    printed = run_there(tmp_path, MODEL)
    assert "('cat', 'dog')" in printed
    for word in ("cat, sea", "average", "worst group"):
        assert word in printed
    assert all(path.name in printed for path in paths)
