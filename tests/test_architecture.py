"""The rules of the house: who may import what, and what lies at the top."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import datasets

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["common", "datasets", "core", "tuning"]  # each may import itself and those before it

# The floors of tuning, from the ground up: a folder or file imports only from floors below.
FLOORS = [
    ["records"],
    ["option_values", "gpus"],
    ["options"],
    ["resources", "selection"],
    ["worker"],
    ["search"],
    ["cluster", "reporting"],
    ["doctor", "loggers", "publishing"],
    ["study"],
    ["cli"],
]

# Folders and files that may import a library that the rest must not know.
USERS = {
    "ray": ["tuning/cluster/", "tuning/worker/actor.py", "tuning/doctor/ask_nodes.py"],
    "yaml": ["common/yaml_files.py", "tuning/reporting/export_method.py"],
    "optuna": [
        "tuning/search/searchers/tpe.py",
        "tuning/loggers/optuna_journal.py",
        "tuning/reporting/report/figures/importance.py",
    ],
    "matplotlib": ["core/toy/figure.py", "tuning/reporting/report/"],
    "jinja2": ["tuning/reporting/report/write_report.py"],
    "tensorboardX": ["tuning/loggers/tensorboard.py"],
    "mlflow": ["tuning/loggers/mlflow.py"],
    "wandb": ["tuning/loggers/wandb.py"],
    "ray._common": ["tuning/cluster/ray_private.py"],
    "ray._private": ["tuning/cluster/ray_private.py"],
    "ray._raylet": ["tuning/cluster/ray_private.py"],
}

MAX_MODULES = 15  # in a folder, unless it holds one thing per file
ONE_THING_PER_FILE = {
    "core/models", "core/weighting/methods", "datasets/groups", "datasets/multitask",
    "tuning/reporting/report/figures",
}  # fmt: skip


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, [start, node.module]))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def starts(name: str, module: str) -> bool:
    """Return whether a dotted name is a module or lies in it."""
    return name == module or name.startswith(f"{module}.")


@cache
def import_graph() -> dict[str, set[str]]:
    """Return the project's modules, each with those that it imports."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in (*PACKAGES, "benchmarks", "tests", "tools")
        for path in modules(package)
    }
    return {
        module: {
            target
            for name in imports(path)
            for target in [name if name in paths else name.rpartition(".")[0]]
            if target in paths and target != module
        }
        for module, path in paths.items()
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_downwards(package: str) -> None:
    above = PACKAGES[PACKAGES.index(package) + 1 :]
    for path in modules(package):
        wrong = [name for name in imports(path) if name.split(".")[0] in (*above, "tune", "tests")]
        assert not wrong, f"{path} imports {wrong}"


def test_the_floors_of_tuning() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for module, imported in import_graph().items():
        package, _, rest = module.partition(".")
        if package != "tuning" or not rest:  # tuning itself prepares Ray before anything else
            continue
        own = rest.split(".")[0]
        assert own in floor, f"{module}: no floor of tuning"
        above = [
            name
            for name in imported
            if name.startswith("tuning.")
            and name.split(".")[1] != own
            and floor[name.split(".")[1]] >= floor[own]
        ]
        assert not above, f"{module} imports {above}"


@pytest.mark.medium
@pytest.mark.parametrize("library", USERS)
def test_few_files_know_a_library(library: str) -> None:
    for package in PACKAGES:
        for path in modules(package):
            file = path.relative_to(ROOT).as_posix()
            if not file.startswith(tuple(USERS[library])):
                assert not [name for name in imports(path) if starts(name, library)], file


def test_recipes_do_not_know_how_they_are_trained() -> None:
    for module, imported in import_graph().items():
        trains = starts(module, "core.training") or starts(module, "core.reinforcement")
        if starts(module, "core") and not trains:
            wrong = [name for name in imported if starts(name, "core.training")]
            allowed = {
                "core.__main__", "core.constant_prediction", "core.make_run", "core.selected_run",
                "core.stages.refit_last_layer",
            }  # fmt: skip
            assert module in allowed or not wrong, f"{module} imports {wrong}"


def test_weightings_need_nothing_else_of_the_project() -> None:
    """They are also installed alone, under another name."""
    for package in PACKAGES:
        for path in modules(package):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            relative = any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)
            assert not relative or path.is_relative_to(ROOT / "core/weighting"), path
    for path in modules("core/weighting"):
        tops = {name.split(".")[0] for name in imports(path) if not starts(name, "core.weighting")}
        # Triton is installed with torch for CUDA, and imported there alone.
        own = tops - sys.stdlib_module_names - {"torch", "numpy", "scipy", "triton"}
        assert not own, f"{path} imports {own}"
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) core\b", text, re.MULTILINE), path


def test_no_import_circle() -> None:
    order = TopologicalSorter(import_graph())
    try:
        order.prepare()
    except CycleError as error:
        circle = error.args[1]
        raise AssertionError(f"import circle: {' <- '.join(circle)}") from None


def test_folders_are_small() -> None:
    for package in PACKAGES:
        for folder in {path.parent for path in modules(package)}:
            name = folder.relative_to(ROOT).as_posix()
            count = sum(path.name != "__init__.py" for path in folder.glob("*.py"))
            assert count <= MAX_MODULES or name in ONE_THING_PER_FILE, f"{name}: {count} modules"


def test_a_benchmark_imports_no_other() -> None:
    benchmarks = {
        f"datasets.{folder}.{name}"
        for folder in datasets.FOLDERS
        for name in datasets.list_benchmarks()
    }
    for module, imported in import_graph().items():
        others = imported & benchmarks
        assert module not in benchmarks or not others, f"{module} imports {others}"


def test_top_level_is_as_agreed() -> None:
    agreed = {
        "tuning", "core", "common", "datasets", "search_spaces", "clusters", "tests", "benchmarks",
        "docs", "tools",
    }  # fmt: skip
    folders = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir()
        and not path.name.startswith((".", "results", "demo"))
        and any(path.iterdir())
    }
    assert folders - agreed <= {"__pycache__", "build", "data", "repeated"}
    assert {"tune.py", "pyproject.toml", "cluster.yaml"} <= {path.name for path in ROOT.iterdir()}


def test_hugging_face_datasets_is_no_dependency() -> None:
    for path in ROOT.glob("requirements*.txt"):
        names = {line.split("==")[0] for line in path.read_text().splitlines() if "==" in line}
        assert "datasets" not in names, path
    assert Path(datasets.__file__).parent == ROOT / "datasets"


def test_what_we_use_of_transformers_imports_beside_our_datasets() -> None:
    from transformers.optimization import get_scheduler

    assert callable(get_scheduler)


def test_no_file_names_an_index() -> None:
    for path in ROOT.glob("requirements*.txt"):
        assert "://" not in path.read_text(), path


def unpicklers(tree: ast.AST) -> list[str]:
    """Return all imports of what can unpickle, and calls of torch's loader that would."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            names = [alias.name for alias in node.names if alias.name not in PICKLE_ERRORS]
            found += [f"{node.module}.{name}" for name in names]
        elif isinstance(node, ast.ImportFrom) and node.module == "torch":
            found += ["torch.load" for alias in node.names if alias.name == "load"]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            found += [] if safe.get("weights_only") == "True" else ["torch.load"]
    return found


PICKLES = ("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve")
# Its subclass admits lists, numbers, texts and one plain class.
RESTRICTED = ROOT / "datasets" / "formats" / "glue_features.py"
PICKLE_ERRORS = ("PickleError", "UnpicklingError")


def test_no_file_unpickles() -> None:
    for package in PACKAGES:
        for path in modules(package):
            found = unpicklers(ast.parse(path.read_text()))
            if path == RESTRICTED:
                assert found == ["pickle.Unpickler"]
            else:
                assert not found, f"{path} can unpickle: {found}"


@pytest.mark.parametrize(
    ("code", "unsafe"),
    [
        ("import pickle", True),
        ("import pickle as p", True),
        ("from pickle import loads", True),
        ("def f():\n    from pickle import Unpickler as U", True),
        ("from pickle import UnpicklingError", False),
        ("from torch import load", True),
        ("torch.load(file)", True),
        ("torch.load(file, weights_only=False)", True),
        ("torch.load(file, weights_only=True)", False),
    ],
)
def test_every_way_to_unpickle_is_seen(code: str, unsafe: bool) -> None:
    assert bool(unpicklers(ast.parse(code))) == unsafe
