"""The weightings as a package of their own, built and used without the project."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from core.weighting import list_weightings

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "core/weighting"
SETUPTOOLS = tuple(map(int, importlib.metadata.version("setuptools").split(".")[:1]))

# Take a step with every weighting and compare scalarized ones with plain backpropagation.
USE = """
import sys
import torch
from torch import nn
from evenhand_weighting import LossWeighting, backward, list_weightings, load_weighting

for name in list_weightings():
    torch.manual_seed(0)
    trunk, heads = nn.Linear(4, 5), nn.ModuleList(nn.Linear(5, 1) for _ in range(3))
    features = trunk(torch.randn(8, 4)).tanh()
    losses = [head(features).square().mean() for head in heads]
    weighting = load_weighting(name)
    weighting.setup(["a", "b", "c"])
    plain = torch.autograd.grad(sum(losses), list(trunk.parameters()), retain_graph=True)
    backward(losses, weighting, shared=trunk.parameters(), heads=heads.parameters())
    found = [parameter.grad for parameter in trunk.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in found), name
    if name == "ls":
        torch.testing.assert_close(found, list(plain))
strangers = [name for name in sys.modules if name.split(".")[0] in ("core", "common", "datasets")]
assert not strangers, strangers
print(*list_weightings())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the unpacked wheel."""
    if SETUPTOOLS < (77,):
        pytest.skip("setuptools is older than 77, with which the package is built")
    folder = tmp_path_factory.mktemp("weighting")
    source = shutil.copytree(SOURCE, folder / "core" / "weighting")
    given = ["--no-build-isolation", "--no-deps", "-q", "-w", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *given], check=True)
    (wheel,) = folder.glob("evenhand_weighting-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run_there(folder: Path, code: str) -> str:
    """Run code in a process that sees the installed package and no file of the project."""
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    given = [sys.executable, "-I", "-W", "error", "-c", start + code]
    done = subprocess.run(given, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_weighting_works_without_the_project(installed: Path) -> None:
    assert run_there(installed, USE).split() == list_weightings()


def test_the_readme_of_the_package_runs(installed: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert "fairgrad" in run_there(installed, code)


def test_the_package_has_all_modules_and_few_dependencies(installed: Path) -> None:
    sources = {path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")}
    package = installed / "evenhand_weighting"
    assert {path.relative_to(package) for path in package.rglob("*.py")} == sources
    assert (package / "py.typed").exists()
    own = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert own["version"] == whole["version"]
    assert set(own["dependencies"]) <= set(whole["dependencies"])
    assert {re.match(r"\w+", need)[0] for need in own["dependencies"]} == {  # type: ignore[index]
        "torch", "numpy", "scipy",
    }  # fmt: skip
