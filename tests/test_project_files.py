"""The files around the code: CI, citation, pre-commit, editors."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(workflow: dict[Any, Any]) -> list[str]:
    return [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_existing_make_targets(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"push", "pull_request"} <= set(workflow[True])  # YAML 1.1 reads `on` as a boolean
    called = {
        target
        for command in commands(workflow)
        for target in re.findall(r"\bmake ([a-z-]+)", command)
    }
    assert called
    assert called <= make_targets()


def test_the_workflow_runs_what_make_test_runs() -> None:
    (path,) = WORKFLOWS
    called = " ".join(commands(yaml.safe_load(path.read_text())))
    (prerequisites,) = re.findall(r"^test: ([a-z ]+) ##", (ROOT / "Makefile").read_text(), re.M)
    for target in (*prerequisites.split(), "test-studies", "test-cluster"):
        assert f"make {target}" in called


def test_the_workflow_covers_the_supported_pythons() -> None:
    (path,) = WORKFLOWS
    versions = yaml.safe_load(path.read_text())["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == f">={versions[0]}"


def test_phony_targets_exist() -> None:
    (line,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(line.split()) == make_targets()


def test_one_version_in_all_files() -> None:
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert citation["cff-version"] == "1.2.0"
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_pre_commit_runs_the_checks_of_the_makefile() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = " ".join(hook["entry"] for hook in repo["hooks"])
    makefile = (ROOT / "Makefile").read_text()
    for check in ("ruff check", "ruff format", "mypy"):
        assert f"-m {check}" in entries
        assert f"-m {check}" in makefile
