"""The commands that only read: ls, show, validate, status."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from core.recipe.method_files import list_methods, load_method
from tests.conftest import EMBEDDED, fitting
from tests.support.command import ROOT, clean_environment
from tests.support.undisturbed import undisturbed as undisturbed
from tuning.cli.main import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"tune.py {command}" in capsys.readouterr().out


def test_methods_and_data_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "methods"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows] == list_methods()
    assert main(["ls", "methods", "--dataset", "two_digits"]) == 0
    listed = {row.split()[1] for row in capsys.readouterr().out.splitlines()[2:]}
    assert listed == {name for name, _ in fitting(list_methods(), ("two_digits",))}
    assert main(["ls", "datasets"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows] == list(datasets.list_benchmarks())


LIST_TWICE = r"""
import sys
from tuning.cli.main import main
code = main(["ls", "methods"])
print(end="\0")
print(end="\0", file=sys.stderr)
sys.exit(code or main(["ls", "methods", "--dataset", "two_digits"]))
"""


@pytest.mark.medium
def test_a_method_with_a_mistake_keeps_its_row(tmp_path: Path) -> None:
    for package in ("common", "core", "datasets", "search_spaces", "tuning"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "tune.py", tmp_path)
    methods = tmp_path / "search_spaces"
    (methods / "torn.yaml").write_text("recipe: [\n")
    recipe = "{sampler: uniform, objectives: [leaving], weighting: ls, stages: [train]}"
    (methods / "left.yaml").write_text(f"description: X.\nrecipe: {recipe}\n")
    (tmp_path / "core/objectives/leaving.py").write_text("raise SystemExit('no license')\n")
    done = subprocess.run(
        [sys.executable, "-c", LIST_TWICE], cwd=tmp_path,
        env=clean_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs = zip(done.stdout.split("\0"), done.stderr.split("\0"), strict=True)
    fitting_two_digits = [name for name, _ in fitting(list_methods(), ("two_digits",))]
    for (out, err), expected in zip(outputs, (list_methods(), fitting_two_digits), strict=True):
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in out.split("\n")]
        rows = [row for row in rows[2:] if row]
        assert sorted(row[0] for row in rows) == sorted([*expected, "left", "torn"])
        assert [row for row in rows if "-" in row[1:2]] == [["left", "-", "-"], ["torn", "-", "-"]]
        left, torn = err.splitlines()
        assert left.startswith("error: search_spaces/left.yaml: ")
        assert "leaving.py: line 1: cannot be imported (SystemExit: no license)" in left
        assert torn.startswith("error: search_spaces/torn.yaml: malformed YAML")


@pytest.mark.parametrize(("method", "name"), fitting(list_methods(), EMBEDDED))
def test_a_method_is_shown(method: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", method, "--dataset", name]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{method}: {load_method(method).description}")
    assert f"search space on {name}:" in text
    for hyperparameter in datasets.load_benchmark(name).search_space:
        assert hyperparameter in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "jjt"], "did you mean 'jtt'"),
        (["show", "jtt", "--dataset", "waterbird"], "did you mean 'waterbirds'"),
        (["ls", "methods", "--dataset", "waterbird"], "did you mean 'waterbirds'"),
        (["status", "--results", "/no/such/results"], "no study found"),
        (["ls", "studies", "--results", "/no/such/results"], "no study found"),
        (["validate", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["reproduce", "civilcoments_small"], "did you mean 'civilcomments_small'"),
        (["publish", "/no/such", "--method", "a", "--dataset", "b", "--to", "c"], "no results in"),
        (["clean", "--storage", "s4://bucket"], "s4"),
        (["verify", "/no/such.zip"], "/no/such.zip: missing"),
        (["statsu"], "did you mean 'status'"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_missing_kind_is_asked_for_by_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["ls"])
    assert capsys.readouterr().err == (
        "error: the following arguments are required: kind; kind is one of methods, datasets, "
        "studies, such as: python tune.py ls methods\n"
    )


def test_method_files_are_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == f"{len(list_methods())} valid method files\n"
    good = ROOT / "search_spaces" / "jtt.yaml"
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text().replace("sampler: uniform", "sampler: unifrom"))
    assert main(["validate", str(good), str(bad)]) == 2
    message = capsys.readouterr().err
    assert "bad.yaml" in message
    assert "did you mean 'uniform'" in message


@pytest.mark.slow
def test_a_finished_study_has_a_status(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``tests/tuning/study/test_stopping.py`` has the status of a running one."""
    assert main(["status", "--results", str(undisturbed), "--follow"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "colored_digits" in line]
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    assert [row[3:6] for row in cells] == [["complete", "3/3", "0"]] * 2
    assert all(row.count("3/3") == 2 for row in rows)  # trials and seeds
    assert main(["status", "--results", f"{undisturbed}.records"]) == 0
    assert "complete" in capsys.readouterr().out
