"""The code of the guides: it runs as it stands, in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run

ROOT = Path(__file__).resolve().parent.parent
METHOD = """\
description: A method of the guide's parts.
recipe:
  sampler: uniform
  objectives: [end_task, {entropy: {floor: floor}}]
  weighting: worst
  stages: [train]
search:
  floor: {uniform: [0.0, 0.6], default: 0.3}
"""


def blocks(name: str) -> list[tuple[str, str]]:
    """Return the Python blocks of a guide, each with the file named last before it."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    found = []
    for block in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        files = re.findall(r"`((?:core|datasets)/[a-z_/]+\.py)`\):\n", text[: block.start()])
        found.append((files[-1] if files else "", block.group(1)))
    return found


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_parts_of_the_guide_train(tmp_path: Path) -> None:
    for package in ("common", "core", "datasets", "search_spaces"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    parts = blocks("extending.md")
    assert len({file for file, _ in parts}) == len(parts) == 5
    for file, code in parts:
        assert not (ROOT / file).exists(), file
        (tmp_path / file).write_text(code, encoding="utf-8")
    (tmp_path / "search_spaces" / "mine.yaml").write_text(METHOD, encoding="utf-8")
    for method, dataset in (("mine", "signs"), ("stl", "two_sums")):
        given = ["-m", "core", "--method", method, "--dataset", dataset, "--epochs", "2"]
        out = run(tmp_path, *given)
        assert "worst_group_accuracy" in out or "delta_m" in out


def test_the_method_of_the_readme_trains(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"```yaml\n(# yaml-language-server.*?)```", text, re.DOTALL)
    (tmp_path / "dro_l1.yaml").write_text(content, encoding="utf-8")
    benchmark = datasets.load_benchmark("colored_digits")
    resolved = resolve_method(load_method("dro_l1", tmp_path), benchmark)
    run = Run(resolved.make_key({"epochs": 1, "reg": 2.0}, 0, detect_environment()), benchmark)
    assert run.context.fixed_weights == {"l1": 2.0}
    assert run.train_epoch().losses["l1"] > 0


@pytest.mark.parametrize("guide", ["extending.md", "weighting.md"])
def test_code_of_guides_has_the_projects_style(guide: str, tmp_path: Path) -> None:
    for number, (_, code) in enumerate(blocks(guide)):
        (tmp_path / f"part_{number}.py").write_text(code, encoding="utf-8")
    # Modules there have no docstring, and the project's packages do not lie beside them.
    given = ["--config", str(ROOT / "pyproject.toml"), "--ignore", "D100,I", "--no-cache"]
    run(tmp_path, "-m", "ruff", "check", *given, str(tmp_path))


def test_the_loop_of_the_weighting_guide_runs() -> None:
    ((_, code),) = blocks("weighting.md")
    assert "tensor" in run(ROOT, "-c", code)
