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
    "chained": 'other = name = "chained"',
    "unpacked": 'name, other = "unpacked", 1',
    "nested": 'if NAME:\n        name = "nested"',
    "twice": 'name = "colored_digits"\n    if NAME:\n        name = "twice"',
    "walrus": 'other = (name := "walrus")',
    "looped": 'for name in ["colored_digits", "looped"]:\n        pass',
    "added": 'name = "add"\n    name += "ed"',
    "tried": 'try:\n        name = "tried"\n    finally:\n        pass',
    "imported": "from datasets.groups.words import WORD as name",
    "declared": 'name: str\n    name = "declared"',
    "comprehended": 'name = "comprehended"\n    rest = [name for name in NAME]',
}
# Ways to name or make a class outside its body, by that name.
NAMED_OUTSIDE = {
    "attribute": 'class Mine(Parent):\n    pass\nMine.name = "attribute"\n',
    "setter": 'class Mine(Parent):\n    pass\nsetattr(Mine, "name", "setter")\n',
    "decorated": 'def add(made):\n    made.name = "decorated"\n    return made\n'
    "@add\nclass Mine(Parent):\n    pass\n",
    "decorator": 'from datasets.groups.words import add_name\n@add_name("decorator")\n'
    "class Mine(Parent):\n    pass\n",
    "keyword": "class Base(Parent):\n    def __init_subclass__(cls, word):\n"
    '        cls.name = word\nclass Mine(Base, word="keyword"):\n    pass\n',
    "typed": 'Mine = type("Mine", (Parent,), {"name": "typed"})\n',
    "metatype": "from abc import ABCMeta\n"
    'Mine = ABCMeta("Mine", (Parent,), {"name": "metatype"})\n',
    "made": "def make(word):\n    class Mine(Parent):\n        name = word\n    return Mine\n"
    'Mine = make("made")\n',
    "in_loop": 'for word in ["in_loop"]:\n    class Mine(Parent):\n        name = word\n',
    "either": 'if True:\n    class Mine(Parent):\n        name = "either"\n'
    'else:\n    class Mine(Parent):\n        name = "colored_digits"\n',
    "alias": 'class Mine(Parent):\n    name = "alias"\nOther = Mine\n',
}
WORDS = """
WORD = "imported"
def add_name(word):
    def add(made):
        made.name = word
        return made
    return add
"""
# Files that derive from a built-in benchmark, by the name of the one that they define.
DERIVED = {
    "mine": 'class Shared(Parent):\n    pass\nclass Mine(Shared):\n    name = "mine"\n',
    "chain": 'class Mine(Parent):\n    version = name = "chain"\n',
    "condition": 'class Mine(Parent):\n    if True:\n        name = "condition"\n',
    "later": 'class Mine(Parent):\n    pass\nMine.name = "later"\n',
    "unnamed": "class Mine(Parent):\n    pass\n",
    "again": "from datasets.groups.unnamed import Mine as Again\nclass Mine(Again):\n    pass\n",
    "needy": "import nowhere\nclass Mine(Parent):\n    pass\n",
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
    files["datasets/groups/words.py"] = WORDS
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


def test_classes_named_outside_their_bodies_are_found(tmp_path: Path) -> None:
    files = {f"datasets/groups/{name}.py": PARENT + text for name, text in NAMED_OUTSIDE.items()}
    files["datasets/groups/words.py"] = WORDS
    found, answers = ask(tmp_path, files, *NAMED_OUTSIDE, "colored_digits")
    assert found == sorted([*datasets.list_benchmarks(), *NAMED_OUTSIDE])
    assert answers.pop("colored_digits") == "ColoredDigits"
    assert answers == dict.fromkeys(NAMED_OUTSIDE, "Mine")


def test_a_built_in_benchmark_stays_usable_whichever_files_derive_from_it(tmp_path: Path) -> None:
    files = {f"datasets/groups/{name}.py": PARENT + text for name, text in DERIVED.items()}
    files["datasets/multitask/colored_digits.py"] = "class Broken(:\n"
    defined = [name for name in DERIVED if name not in ("unnamed", "again", "needy")]
    found, answers = ask(tmp_path, files, *defined, "colored_digits")
    assert found == sorted([*datasets.list_benchmarks(), *defined])
    assert answers.pop("colored_digits") == "ColoredDigits"
    assert answers == dict.fromkeys(defined, "Mine")


def test_an_incomplete_benchmark_leaves_its_name_to_the_nearest_file(tmp_path: Path) -> None:
    texts = {
        "a_base": "from datasets.groups.base import GroupBenchmark\n"
        'class Base(GroupBenchmark):\n    name = "shared"\n',
        "b_near": PARENT + "from datasets.groups.a_base import Base\n"
        "class Mine(Base, Parent):\n    pass\n",
        "c_far": "from datasets.groups.b_near import Mine\nclass Far(Mine):\n    pass\n",
    }
    files = {f"datasets/groups/{name}.py": text for name, text in texts.items()}
    found, answers = ask(tmp_path, files, "shared")
    assert found == sorted([*datasets.list_benchmarks(), "shared"])
    assert answers == {"shared": "Mine"}


def test_a_list_imports_no_benchmark() -> None:
    code = "import sys, datasets; datasets.list_benchmarks(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [m for m in done.stdout.split() if m.startswith(("datasets.groups.", "datasets.mu"))]


def test_two_files_with_one_name_are_refused_where_it_is_used(tmp_path: Path) -> None:
    first, second = "datasets/groups/one.py", "datasets/multitask/two.py"
    text = BENCHMARK.format(name='name = "twice"', before="")
    files = {first: text, second: text}
    found, answers = ask(tmp_path, files, "twice", "two_digits")
    assert found == sorted([*datasets.list_benchmarks(), "twice"])
    assert answers["two_digits"] == "TwoDigits"
    assert "\n" not in answers["twice"]
    assert all(str(tmp_path / path) in answers["twice"] for path in (first, second))


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
