"""A mistake in the file of a component is one line, and only where the component is used."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = {  # a class that each part's files derive from, by the part's folder
    "core/objectives": "core.objectives.base.Objective",
    "core/weighting/methods": "core.weighting.base.LossWeighting",
    "core/stages": "core.stages.base.Stage",
    "core/augmentations": "core.augmentations.base.Augmentation",
    "core/models": "core.models.base.Model",
}
TWO = """
from {module} import {base}
class One({base}):
    name_losses = compute_losses = compute_weights = forward = None
    transform_training = transform_evaluation = None
class Two(One):
    pass
"""
MISTAKES = {  # by the name of the component: its text, and a part of the message
    "needy": ("\nimport nowhere\n", "line 2: cannot be imported (ModuleNotFoundError: No module"),
    "failing": ("x = 1 / 0\n", "line 1: cannot be imported (ZeroDivisionError: division by zero)"),
    "leaving": ("raise SystemExit('no\\nlicense')\n", "line 1: cannot be imported (SystemExit: no"),
    "unclosed": ("class Unclosed(:\n", "line 1: invalid syntax"),
    "twins": (TWO, "defines One and Two, expected one"),
}
ASK = """
import json, sys
from pathlib import Path
import datasets
from common.errors import UserError
from core.environment import detect_environment
from core.recipe.method_files import list_methods, load_method
from core.recipe.method_parser import parse_method
from core.recipe.resolved_method import resolve_method
from core.training.run import Run

def answer(act):
    try:
        return str(act())
    except (UserError, ValueError) as error:
        return str(error)

benchmark = datasets.load_benchmark("colored_digits")
environment = detect_environment(gpu=False)

def train(method, **values):
    key = resolve_method(method, benchmark).make_key({"epochs": 1, **values}, 0, environment)
    return Run(key, benchmark).train_epoch().epoch

def parse(part, name):
    recipe = {"sampler": "uniform", "objectives": ["end_task"], "weighting": "ls",
              "stages": ["train"]}
    recipe[part] = name if part == "weighting" else [name]
    text = {"description": "X.", "recipe": recipe}
    return parse_method(Path("search_spaces/x.yaml"), text)

names = json.loads(sys.argv[1])
answers = {"works": answer(lambda: train(load_method("erm")))}
for name in names:
    for part in ("objectives", "weighting", "stages"):
        answers[f"{part} {name}"] = answer(lambda: parse(part, name))
    for field in ("model", "augmentation"):
        answers[f"{field} {name}"] = answer(lambda: train(load_method("erm"), **{field: name}))
answers["method"] = answer(lambda: load_method("worn"))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A copy of the packages with broken files in every part, and what each use says."""
    root = tmp_path_factory.mktemp("copy")
    for package in ("common", "core", "datasets", "search_spaces"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=ignored)
    for folder, base in PARTS.items():
        module, _, name = base.rpartition(".")
        for file, (text, _) in MISTAKES.items():
            text = text.replace("{module}", module).replace("{base}", name)
            (root / folder / f"{file}.py").write_text(text)
    (root / "search_spaces" / "worn.yaml").write_text("recipe: [")
    command = [sys.executable, "-c", ASK, json.dumps(list(MISTAKES))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return root, found


@pytest.mark.medium
def test_files_with_mistakes_disturb_nothing_else(answers: tuple[Path, dict[str, str]]) -> None:
    assert answers[1]["works"] == "1"
    assert answers[1]["method"].startswith("search_spaces/worn.yaml: malformed YAML")


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize(
    ("use", "folder"),
    [
        ("objectives", "core/objectives"),
        ("weighting", "core/weighting/methods"),
        ("stages", "core/stages"),
        ("model", "core/models"),
        ("augmentation", "core/augmentations"),
    ],
)
def test_a_mistake_is_told_where_its_component_is_used(
    use: str, folder: str, name: str, answers: tuple[Path, dict[str, str]]
) -> None:
    root, found = answers
    message = found[f"{use} {name}"]
    assert str(root / folder / f"{name}.py:") in message
    assert MISTAKES[name][1] in message
    assert "\n" not in message
