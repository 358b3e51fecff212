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
NAME = "constant"
class Mine(Parent):
    {name}
    version = "1"
"""
PARENT = "from datasets.groups.colored_digits import ColoredDigits as Parent\n"
# Files whose classes have the name in other ways, by the names of the benchmarks.
NAMED_CLASS = 'class Named:\n    name = "{}"\n'
MINE = "class Mine(Named, Parent):\n    pass\n"
INHERITED = {
    "mixed": {"mixed": PARENT + NAMED_CLASS.format("mixed") + MINE},
    "elsewhere": {
        "named": NAMED_CLASS.format("elsewhere"),
        "elsewhere": f"{PARENT}from datasets.groups.named import Named\n{MINE}",
    },
    "relative": {
        "near": NAMED_CLASS.format("relative"),
        "relative": f"{PARENT}from .near import Named\n{MINE}",
    },
    "abstract": {
        "abstract": f"from datasets.groups.base import GroupBenchmark\n{PARENT}"
        f'class Named(GroupBenchmark):\n    name = "abstract"\n{MINE}'
    },
    "last": {
        "last": f'{PARENT}class Base(Parent):\n    name = "last"\nclass Mine(Base):\n    pass\n'
    },
    "dotted": {
        "dotted": "import datasets.groups.colored_digits as digits\n"
        'class Mine(digits.ColoredDigits):\n    name = "dotted"\n'
    },
    "hidden": {"hidden": f'{PARENT}if True:\n    class Mine(Parent):\n        name = "hidden"\n'},
    "same_word": {
        "same_word": "from datasets.groups.colored_digits import ColoredDigits as Mine\n"
        'class Mine(Mine):\n    name = "same_word"\n'
    },
    "capital": {"Mine": f'{PARENT}class Mine(Parent):\n    name = "capital"\n'},
}
# Ways to write the name of a class, by that name.
NAMED = {
    "plain": 'name = "plain"',
    "quoted": "name = 'quoted'",
    "annotated": 'name: ClassVar[str] = "annotated"',
    "commented": 'name: Final = """commented"""  # name = "other"',
    "constant": "name = NAME",
    "computed": 'name = "".join(["com", "puted"])',
    "single": "name: 'ClassVar[str]' = 'single'  # name",
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
    "vague": (
        BENCHMARK.format(name='name = "va" + "gue"', before="import nowhere"),
        "line 4: cannot be imported (ModuleNotFoundError: No module named 'nowhere')",
    ),
    "two": (
        f'{PARENT}class One(Parent):\n    name = "two"\nclass Two(Parent):\n    name = "two"\n',
        "classes One and Two have the same name 'two'",
    ),
    "lacking": (
        "from datasets.benchmark import Benchmark\n"
        'class Lacking(Benchmark):\n    name = "lacking"\n',
        "class Lacking does not define",
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


def test_classes_with_an_inherited_name_are_found(tmp_path: Path) -> None:
    texts = {file: text for files in INHERITED.values() for file, text in files.items()}
    files = {f"datasets/groups/{file}.py": text for file, text in texts.items()}
    found, answers = ask(tmp_path, files, *INHERITED, "colored_digits")
    assert found == sorted([*datasets.list_benchmarks(), *INHERITED])
    assert answers.pop("colored_digits") == "ColoredDigits"
    assert answers == dict.fromkeys(INHERITED, "Mine")


def test_two_files_with_one_name_are_refused_where_it_is_used(tmp_path: Path) -> None:
    first, second = "datasets/groups/one.py", "datasets/multitask/two.py"
    text = BENCHMARK.format(name='name = "twice"', before="")
    inheriting = "datasets/groups/digits_again.py"
    files = {first: text, second: text, inheriting: f"{PARENT}class Mine(Parent):\n    pass\n"}
    found, answers = ask(tmp_path, files, "twice", "colored_digits", "two_digits")
    assert found == sorted([*datasets.list_benchmarks(), "twice"])
    assert answers["two_digits"] == "TwoDigits"
    for name, paths in (
        ("twice", (first, second)),
        ("colored_digits", ("datasets/groups/colored_digits.py", inheriting)),
    ):
        assert "\n" not in answers[name]
        assert all(str(tmp_path / path) in answers[name] for path in paths)


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
