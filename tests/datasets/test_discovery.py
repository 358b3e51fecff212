"""Benchmarks are found by their classes, and a mistake in one file does not touch the others."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

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
# Ways to write the name of a class, by that name.
NAMED = {
    "plain": 'name = "plain"',
    "quoted": "name = 'quoted'",
    "annotated": 'name: ClassVar[str] = "annotated"',
    "commented": 'name: Final = """commented"""  # name = "other"',
    "joined": 'name = (  # in parts\n        "joi"\n        "ned"\n    )',
}
# Files with a mistake, by the name of the file and benchmark, and a part of the message.
MISTAKES = {
    "broken": ("class Broken(:\n    pass\n", "line 1: invalid syntax"),
    "null": ("\0", "null bytes"),
    "needy": (
        BENCHMARK.format(name='name = "needy"', before="import nowhere"),
        "line 4: cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
    ),
    "failing": (
        BENCHMARK.format(name='name = "failing"', before="\n1 / 0"),
        "line 5: cannot be imported (ZeroDivisionError: division by zero)",
    ),
    "other": ('class Other:\n    name = "other"\n', "class Other is not a Benchmark"),
}
ASK = """
import json, sys
import datasets
from common.errors import UserError
answers = {}
for name in sys.argv[1:]:
    try:
        answers[name] = type(datasets.load_benchmark(name)).__name__
    except UserError as error:
        answers[name] = str(error)
print(json.dumps([datasets.list_benchmarks(), answers]))
"""


def ask(root: Path, files: dict[str, str], *names: str) -> tuple[list[str], dict[str, str]]:
    """Return all benchmarks of a copy of the packages with more files, and an answer per name."""
    for package in ("common", "datasets"):
        shutil.copytree(
            ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, text in files.items():
        (root / name).write_text(text)
    answer = subprocess.run(
        [sys.executable, "-c", ASK, *names], cwd=root, capture_output=True, text=True, check=True
    )
    found, answers = json.loads(answer.stdout)
    return found, answers


def test_a_class_with_a_name_is_found(tmp_path: Path) -> None:
    files = {
        f"datasets/groups/file_{name}.py": BENCHMARK.format(
            name=line, before='# class Other: name = "another"'
        )
        for name, line in NAMED.items()
    }
    found, answers = ask(tmp_path, files, *NAMED)
    assert found == sorted([*datasets.list_benchmarks(), *NAMED])
    assert answers == dict.fromkeys(NAMED, "Mine")


def test_a_mistake_is_one_line_and_only_where_it_is_used(tmp_path: Path) -> None:
    files = {f"datasets/multitask/{name}.py": text for name, (text, _) in MISTAKES.items()}
    found, answers = ask(tmp_path, files, *MISTAKES, "colored_digits")
    assert found == sorted([*datasets.list_benchmarks(), *MISTAKES])
    assert answers.pop("colored_digits") == "ColoredDigits"
    for name, (_, words) in MISTAKES.items():
        assert answers[name].startswith(str(tmp_path / "datasets" / "multitask" / f"{name}.py:"))
        assert words in answers[name]
        assert "\n" not in answers[name]


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
