"""Workers of a local study: they find what the command finds, or the study ends with the cause."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import clean_environment, copy_project, ran_to_end

pytestmark = pytest.mark.study

STUDY = [
    "--method", "erm_l1", "--dataset", "colored_digits", "--trials", "1", "--epochs", "1",
    "--seeds", "1", "--address", "local", "--results", "results",
]  # fmt: skip
# Python runs a file of this name at its start, if it is on its path.
ONLY_ON_WORKERS = """
import os, sys
if any("default_worker.py" in argument for argument in sys.orig_argv):
    {statement}
"""


def run_study(project: Path, python_path: str) -> "subprocess.CompletedProcess[str]":
    """Run the study of a copied project with packages in a folder of it."""
    return subprocess.run(
        [sys.executable, "tune.py", *STUDY],
        cwd=project, capture_output=True, text=True, timeout=400,
        env={
            **clean_environment(),
            "PYTHONPATH": python_path,
            "RAY_worker_register_timeout_seconds": "15",
        },
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project whose L1 objective needs a package that is not installed."""
    made = copy_project(tmp_path / "project")
    with (made / "core" / "objectives" / "l1.py").open("a", encoding="utf-8") as file:
        file.write("\nimport my_package\n")
    (made / "mine").mkdir()
    (made / "mine" / "my_package.py").touch()
    return made


@pytest.mark.slow
def test_workers_find_the_packages_of_the_python_path(project: Path) -> None:
    done = run_study(project, f"mine{os.pathsep}")
    assert ran_to_end(done.returncode, done.stderr), done.stderr
    assert "erm_l1" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("print('no room for Python', file=sys.stderr); os._exit(3)", "no room for Python"),
        ("sys.modules['torch'] = None", "import of torch halted"),
        ("sys.modules['my_package'] = None", "import of my_package halted"),
    ],
    ids=["interpreter", "package", "component"],
)
def test_a_study_whose_workers_cannot_start_ends_with_the_cause(
    project: Path, statement: str, cause: str
) -> None:
    file = project / "mine" / "sitecustomize.py"
    file.write_text(ONLY_ON_WORKERS.format(statement=statement))
    done = run_study(project, str(project / "mine"))
    assert done.returncode in (1, 2)
    assert cause in done.stderr
    assert "Traceback" not in done.stderr
