"""Commands and YAML of README and the guides are parsed, quick ones run, in one process."""

import ast
import importlib
import re
import shlex
import shutil
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import pytest
from ray.scripts.scripts import cli

import datasets
from common.yaml_files import parse_yaml
from tests.support.study_records import StudyNames, write_studies
from tests.test_guides import ROOT
from tuning.cli.main import COMMANDS, main
from tuning.cli.main import _load_command as load_command
from tuning.cli.parser import make_parser
from tuning.option_values import read_space

GUIDES = ("README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"\bpython (tune\.py|-m (?:core|datasets|tuning)[\w.]*)( [^`'\n|]*)?")
PLACEHOLDER = re.compile(r"\.\.\.|\[[A-Z-]|<[a-z]|\.\*")  # of a synopsis, or a pattern
# Tests that run the Python blocks of a guide.
RUN_BY = {
    "docs/extending.md": "tests/test_guides.py",
    "docs/weighting.md": "tests/test_guides.py",
    "docs/python.md": "tests/tuning/test_python_guide.py",
}
# Beginnings of commands that a test runs as they stand; those that train are planned.
RUN_HERE = (
    "tune.py --method rwg --dataset colored_digits --search published",
    "tune.py --method erm rwg jtt --dataset colored_digits --trials 64 --gpus-per-trial 0.25 "
    "--storage /mnt",
    "tune.py --config docs/",
    "tune.py reproduce --plan",
    "tune.py status",
    "tune.py compare",
    "tune.py report$",
)
# Beginnings of all others, which are only parsed, with the reason.
PARSED_ONLY = {
    "tune.py --help": "every command's help is tested in tests/tuning/test_commands.py",
    "tune.py --config study.yaml": "tests/tuning/test_study_files.py runs a study from its file",
    "tune.py --method erm rwg dro jtt --dataset colored_digits": "needs a bucket",
    "tune.py --method erm_mt_l1 --dataset waterbirds": "needs data",
    "tune.py --method erm rwg dro erm_mt_l1 --dataset colored_digits": "trains for minutes",
    "tune.py --method erm rwg dro --dataset folder:NAME": "needs the reader's data",
    "tune.py --method ls fairgrad cagrad --dataset two_digits": "times steps for seconds",
    "tune.py --method stl --dataset two_sums": "needs the guide's data set",
    "tune.py --method ls fairgrad --dataset mt1": "needs Meta-World",
    "tune.py --method ls pcgrad fairgrad --dataset mt1": "needs Meta-World",
    "tune.py clean": "reads temporary folders of the whole machine",
    "tune.py doctor": "starts Ray",
    "tune.py export": "tests/tuning/reporting/ exports real records",
    "tune.py publish": "needs a kept model: tests/tuning/publishing/",
    "tune.py verify": "needs an archive: tests/tuning/publishing/",
    "tune.py report ": "draws for seconds: tests/tuning/reporting/report/",
    "tune.py reproduce$": "trains for days",
    "tune.py reproduce civilcomments_small": "needs data",
    "tune.py resume": "continues a study",
    "tune.py trace": "needs real records",
    "tune.py validate data/NAME": "needs the reader's data",
    "-m core": "trains, or needs a model",
    "-m datasets": "needs data, or downloads them",
}


def read_guide(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def list_commands() -> list[tuple[str, str]]:
    """Return all commands of the project in the guides, with the guide of each."""
    found = []
    for name in GUIDES:
        parts = re.split(r"```[a-z{}]*\n", read_guide(name))
        # Lines of code may be continued, commands in running text wrapped.
        code = [re.sub(r" *\\\n *", " ", part) for part in parts[1::2]]
        spans = [span for part in parts[::2] for span in re.findall(r"`([^`]+)`", part)]
        text = "\n".join([*code, *(span.replace("\n", " ") for span in spans)])
        for match in COMMAND.finditer(text):
            command = f"{match.group(1)}{match.group(2) or ''}".partition(" #")[0]
            command = re.split(r" [>&]| 2>", command)[0]
            if not PLACEHOLDER.search(command):
                found.append((name, command.strip()))
    return sorted(set(found))


def find_parser(words: list[str]) -> tuple[ArgumentParser, list[str]] | None:
    """Return the parser of a command and its arguments; None for one whose parser is inside it."""
    if words[0] == "tune.py":
        if words[1:2] and words[1] in COMMANDS:
            module = importlib.import_module(load_command(words[1]).__module__)
            make = getattr(module, f"make_{words[1]}_parser", None) or module.make_parser
            return make(), words[2:]
        return make_parser(), words[1:]
    package = words[1]
    name = f"{package}.__main__" if (ROOT / package.replace(".", "/")).is_dir() else package
    module = importlib.import_module(name)
    return (module.make_parser(), words[2:]) if hasattr(module, "make_parser") else None


def test_all_commands_of_the_guides_parse(capsys: pytest.CaptureFixture[str]) -> None:
    commands = list_commands()
    assert len(commands) > 35
    parsed = 0
    for guide, command in commands:
        words = shlex.split(command)
        found = find_parser(words)
        if (
            found is None or len(words) <= 2 or "--help" in words
        ):  # the name of a command in running text
            continue
        try:
            given = found[0].parse_args(found[1])
        except SystemExit as end:
            raise AssertionError(f"{guide}: {command}: {capsys.readouterr().err}") from end
        parsed += 1
        for name in getattr(given, "methods", ()):
            assert name == "all" or (ROOT / f"search_spaces/{name}.yaml").exists(), command
        names = getattr(given, "dataset", ())
        for name in [names] if isinstance(names, str) else names:
            known = {*datasets.list_benchmarks(), "NAME", "D", "signs", "two_sums"}
            assert name in known or name.startswith(("folder", "./")), command
    assert parsed > 25


def find_beginnings(command: str, beginnings: Iterable[str]) -> list[str]:
    """Return the beginnings that a command has; one that ends in ``$`` is a whole command."""
    return [b for b in beginnings if f"{command}$".startswith(b)]


def test_every_command_is_run_or_has_a_reason() -> None:
    commands = {command for _, command in list_commands()}
    used = set()
    for command in commands:
        found = find_beginnings(command, (*RUN_HERE, *PARSED_ONLY))
        assert len(found) == 1, f"{command}: add it to RUN_HERE, or to PARSED_ONLY with a reason"
        used |= set(found)
    assert used == {*RUN_HERE, *PARSED_ONLY}


@pytest.mark.medium
def test_quick_commands_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Studies are planned; the rest reads the carried results and the records of a study."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    commands = sorted({c for _, c in list_commands() if find_beginnings(c, RUN_HERE)})
    studies = [command for command in commands if command.startswith("tune.py --")]
    for command in studies:
        assert main([*shlex.split(command)[1:], "--plan"]) == 0, capsys.readouterr().err
        assert "nothing was started" in capsys.readouterr().out, command
    shutil.copytree(ROOT / "results/embedded", tmp_path / "results")
    names = StudyNames(dataset="colored_digits", methods=("erm",))
    write_studies(tmp_path / "results.records", names, trials=2, epochs=2)
    for command in sorted(set(commands) - set(studies)):
        assert main(shlex.split(command)[1:]) == 0, f"{command}: {capsys.readouterr().err}"
        assert capsys.readouterr().out, command
    assert (tmp_path / "results/comparison.csv").is_file()


def test_yaml_of_the_guides_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [
        (name, block)
        for name in GUIDES
        for block in re.findall(r"```yaml\n(.*?)```", read_guide(name), re.DOTALL)
    ]
    kinds = []
    for name, block in blocks:
        if block.startswith("weighting: "):  # two lines, each of another method
            contents: list[object] = [parse_yaml(line) for line in block.splitlines()]
        else:
            contents = [parse_yaml(block)]
        for content in contents:
            assert isinstance(content, dict), name
            if "recipe" in content:
                path = tmp_path / "dro_l1.yaml"
                path.write_text(block)
                assert main(["validate", str(path)]) == 0, capsys.readouterr().err
                kinds.append("method")
            elif "weighting" in content:
                kinds.append("weighting")
            elif "columns" in content:
                assert set(content) == {"columns", "split", "search", "protocol"}
                kinds.append("dataset")
            else:
                assert read_space(content)[1]
                kinds.append("domains")
    assert set(kinds) == {"method", "weighting", "dataset", "domains"}
    assert len(kinds) == len(blocks) + 1


def test_all_python_of_the_guides_is_run() -> None:
    assert {name for name in GUIDES if "```python" in read_guide(name)} == set(RUN_BY)
    for name, test in RUN_BY.items():
        tree = ast.parse((ROOT / test).read_text(encoding="utf-8"))
        strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        assert strings & {name, Path(name).name}, test


def list_shell_blocks(name: str) -> list[str]:
    """Return the blocks of a guide that a shell runs: those without a language, but listings."""
    blocks = re.findall(r"^```(\S*)\n(.*?)^```", read_guide(name), re.DOTALL | re.MULTILINE)
    return [
        block
        for language, block in blocks
        if not language and not re.match(r"\S+[/.]\S* {3}", block)
    ]


def is_argument(word: str) -> bool:
    """Return whether a word of a line is no operator of the shell."""
    return word not in ("|", "||", "&&", ">", ">>", "<", "2>&1")


def test_a_shell_reads_all_blocks_of_commands() -> None:
    blocks = [(name, block) for name in GUIDES for block in list_shell_blocks(name)]
    assert len(blocks) > 20
    script = "\n".join(f": {name}\n{block}" for name, block in blocks)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.stderr == ""


def test_commands_of_clusters_exist_with_their_options_and_files() -> None:
    seen = set()
    for name in GUIDES:
        text = re.sub(r" *\\\n *", " ", "\n".join(list_shell_blocks(name)))
        text = re.sub(r"\$\([^)]*\)", "1", text)  # what another command prints
        for line in text.splitlines():
            if not line.startswith(("ray ", "sbatch ")):
                continue
            words = list(takewhile(is_argument, shlex.split(line, comments=True)))
            files = [word for word in words if re.fullmatch(r"[\w/]+\.(yaml|sh)", word)]
            assert all((ROOT / file).is_file() for file in files), line
            seen |= {*files, f"{words[0]} {words[1].partition('=')[0]}"}
            if words[0] == "sbatch":
                make_parser().parse_args(words[words.index(files[0]) + 1 :])
                continue
            options = {
                o for p in cli.commands[words[1]].params for o in (*p.opts, *p.secondary_opts)
            }
            given = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert given <= options, line
    assert seen >= {"ray up", "ray start", "sbatch --nodes", "clusters/slurm.sh", "cluster.yaml"}
