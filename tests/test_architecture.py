"""The rules of the house: who may import what, and what lies at the top."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ORDER = ["common", "datasets", "core", "tuning"]  # each may import itself and those before it


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_downwards(package: str) -> None:
    above = ORDER[ORDER.index(package) + 1 :]
    for path in modules(package):
        wrong = [name for name in imports(path) if name.split(".")[0] in (*above, "tune", "tests")]
        assert not wrong, f"{path} imports {wrong}"


def test_only_tuning_knows_the_engine() -> None:
    for path in [*modules("common"), *modules("core"), *modules("datasets")]:
        assert not {name.split(".")[0] for name in imports(path)} & {"ray", "optuna"}, path


def test_few_files_know_the_engine() -> None:
    users = {
        engine: {path.stem for path in modules("tuning") for name in imports(path)
                 if name.split(".")[0] == engine}
        for engine in ("ray", "optuna")
    }  # fmt: skip
    assert users["ray"] <= {
        "actor", "capacity", "connection", "nodes", "ray_private",
        "remote", "tuner",
    }  # fmt: skip
    assert users["optuna"] == {"searchers"}


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
    assert folders - agreed <= {"__pycache__", "data", "repeated"}
    assert {"tune.py", "pyproject.toml", "cluster.yaml"} <= {path.name for path in ROOT.iterdir()}


def test_hugging_face_datasets_is_no_dependency() -> None:
    for path in ROOT.glob("requirements*.txt"):
        names = {line.split("==")[0] for line in path.read_text().splitlines() if "==" in line}
        assert "datasets" not in names, path
    import datasets

    assert Path(datasets.__file__).parent == ROOT / "datasets"


def test_what_we_use_of_transformers_imports_beside_our_datasets() -> None:
    from transformers.optimization import get_scheduler

    assert callable(get_scheduler)


def test_no_file_names_an_index_or_unpickles() -> None:
    texts = {path: path.read_text() for package in ORDER for path in modules(package)}
    for path, text in texts.items():
        assert "import pickle" not in text, path
        loads = text.count("torch.load(")
        assert loads == text.count("weights_only=True)"), f"{path}: torch.load without weights_only"
    for path in ROOT.glob("requirements*.txt"):
        assert "://" not in path.read_text(), path
