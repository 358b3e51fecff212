"""Benchmarks are found by their classes, and a mistake in one file does not touch the others."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from tests.conftest import EMBEDDED

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = """
from typing import ClassVar, Final
from datasets.groups.colored_digits import ColoredDigits as Parent
{before}
class Mine(Parent):
    {name}
    version = "1"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the packages, to which files can be added."""
    root = tmp_path_factory.mktemp("project")
    for package in ("common", "datasets"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return root


def ask(project: Path, name: str) -> tuple[list[str], str]:
    """Return the names of benchmarks in a project, and the class of one or the error message."""
    code = (
        "import datasets\n"
        "from common.errors import UserError\n"
        "print(*datasets.list_benchmarks())\n"
        "assert datasets.load_benchmark('colored_digits').name == 'colored_digits'\n"
        f"try: print(type(datasets.load_benchmark({name!r})).__name__)\n"
        "except UserError as error: print(error)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    names, found = answer.stdout.splitlines()
    return names.split(), found


@pytest.mark.parametrize(
    "name",
    [
        'name = "mine"',
        "name = 'mine'",
        'name: ClassVar[str] = "mine"',
        'name: Final = """mine"""  # name = "other"',
        'name = (  # in parts\n        "mi"\n        "ne"\n    )',
    ],
)
def test_a_class_with_a_name_is_found(name: str, project: Path) -> None:
    path = project / "datasets" / "groups" / "another_file.py"
    path.write_text(BENCHMARK.format(name=name, before='# class Other: name = "other"'))
    try:
        names, found = ask(project, "mine")
    finally:
        path.unlink()
    assert names == sorted([*datasets.list_benchmarks(), "mine"])
    assert found == "Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Broken(:\n    pass\n", "line 1: invalid syntax"),
        ("\0", "broken.py: line"),
        (
            BENCHMARK.format(name='name = "broken"', before="import nowhere"),
            "line 4: cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
        ),
        (
            BENCHMARK.format(name='name = "broken"', before="\n1 / 0"),
            "line 5: cannot be imported (ZeroDivisionError: division by zero)",
        ),
        ('class Broken:\n    name = "broken"\n', "class Broken is not a Benchmark"),
    ],
)
def test_a_mistake_is_one_line_and_only_where_it_is_used(
    text: str, words: str, project: Path
) -> None:
    path = project / "datasets" / "multitask" / "broken.py"
    path.write_text(text)
    try:
        names, found = ask(project, "broken")
    finally:
        path.unlink()
    assert names == sorted([*datasets.list_benchmarks(), "broken"])
    assert found.startswith(str(path))
    assert words in found


def test_no_benchmark_imports_another() -> None:
    paths = [path for kind in datasets.FOLDERS for path in (ROOT / "datasets" / kind).glob("*.py")]
    modules = {
        f"datasets.{path.parent.name}.{path.stem}"
        for path in paths
        if path.stem in datasets.list_benchmarks()
    }
    assert len(modules) == len(datasets.list_benchmarks()) >= len(EMBEDDED)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            assert not names & modules, path
