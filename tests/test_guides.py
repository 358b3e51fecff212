"""The code of the guides: it runs as it stands, in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
METHOD = """\
# yaml-language-server: $schema=schema.json
description: A method of the guide's parts.
paper: the guide
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


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the parts of the guide, and a method of them."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("common", "core", "datasets", "tuning", "search_spaces", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for file in ("pyproject.toml", "tune.py"):
        shutil.copy(ROOT / file, folder)
    parts = blocks("extending.md")
    assert len({file for file, _ in parts}) == len(parts) == 5
    for file, code in parts:
        assert not (ROOT / file).exists(), file
        (folder / file).write_text(code, encoding="utf-8")
    (folder / "search_spaces" / "mine.yaml").write_text(METHOD, encoding="utf-8")
    return folder


def test_the_parts_of_the_guide_train(project: Path) -> None:
    cases = [("mine", "signs"), ("stl", "two_sums")]
    given = [["--method", m, "--dataset", d, "--epochs", "2"] for m, d in cases]
    code = f"from core.__main__ import main; print(*(main(a) for a in {given}), sep='')"
    lines = run(project, "-c", code).splitlines()
    assert lines[-1] == "00"  # exit codes
    for metric in ("worst_group_accuracy", "delta_m"):
        assert any(metric in line for line in lines)


def test_the_method_of_the_guide_is_a_method_of_the_project(project: Path) -> None:
    assert run(project, "tune.py", "validate", "search_spaces/mine.yaml") == "1 valid file\n"


# The test files of each kind of part, by its folder, and its cases there.
CONTRACTS = {
    "core/objectives": (["core/recipe/test_components.py"], ["entropy"]),
    "core/weighting/methods": (
        [
            "core/weighting/methods/test_families.py",
            "core/weighting/methods/test_containers.py",
            "core/training/test_run.py",
        ],
        ["worst"],
    ),
    "core/models": (["core/recipe/test_components.py"], ["two_layers"]),
    "datasets/groups": (
        ["datasets/test_benchmarks.py", "core/training/test_run.py"],
        ["signs", "mine-signs"],
    ),
    "datasets/multitask": (
        ["datasets/test_benchmarks.py", "core/training/test_run.py"],
        ["two_sums", "fairgrad-two_sums"],
    ),
    "search_spaces": (
        [
            "core/recipe/test_methods.py",
            "core/recipe/test_schema.py",
            "tuning/search/test_domains.py",
            "tuning/study/test_plan_steps.py",
        ],
        ["mine"],
    ),
}


@pytest.mark.slow
def test_the_parts_of_the_guide_pass_the_contract_tests(project: Path) -> None:
    folders = {str(Path(file).parent) for file, _ in blocks("extending.md")}
    assert folders == set(CONTRACTS) - {"search_spaces"}
    files = {f"tests/{file}" for part in CONTRACTS.values() for file in part[0]}
    cases = " or ".join(f"[{case}" for part in CONTRACTS.values() for case in part[1])
    given = ["-q", "-rA", "-p", "no:cacheprovider", "-k", cases]
    out = run(project, "-m", "pytest", *given, *sorted(files))
    for tests, names in CONTRACTS.values():
        for file in tests:
            found = [line for line in out.splitlines() if line.startswith(f"PASSED tests/{file}")]
            assert any(f"[{name}" in line for line in found for name in names), (file, names)


@pytest.mark.parametrize("guide", ["extending.md", "weighting.md"])
def test_code_of_guides_has_the_projects_style(guide: str, tmp_path: Path) -> None:
    for number, (_, code) in enumerate(blocks(guide)):
        (tmp_path / f"part_{number}.py").write_text(code, encoding="utf-8")
    # Modules there have no docstring, and the project's packages do not lie beside them.
    given = ["--config", str(ROOT / "pyproject.toml"), "--ignore", "D100,I", "--no-cache"]
    run(tmp_path, "-m", "ruff", "check", *given, str(tmp_path))


def test_every_guide_is_in_the_contents() -> None:
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").split("```{toctree}")[1]
    listed = contents.partition("```")[0].split()
    guides = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index", "log"}
    assert guides <= set(listed)


def test_the_loop_of_the_weighting_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    ((_, code),) = blocks("weighting.md")
    exec(compile(code, "weighting.md", "exec"), {"__name__": "guide"})
    assert "tensor" in capsys.readouterr().out
