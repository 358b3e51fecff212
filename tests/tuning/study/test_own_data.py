"""Studies on own data: named, repeated from any folder, never mixed with others."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from tests.datasets.own.test_references import write_images
from tests.support.command import ROOT, clean_environment, ran_to_end
from tuning.cli.make_options import make_options
from tuning.cli.parser import make_parser
from tuning.study.checks import check_study

pytestmark = pytest.mark.study

FIXED = ["--set", "model=tiny_vit", "--set", "lr=0.01", "--set", "weight_decay=0"]
STUDY = ["--method", "erm", *FIXED, "--set", "batch_size=8", "--epochs", "1", "--seeds", "1",
         "--search", "published"]  # fmt: skip


def run_tune_from(folder: Path, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run ``python tune.py`` in a folder."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tune.py"), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=240, env=clean_environment(),
    )  # fmt: skip


def check(given: list[str]) -> None:
    check_study(make_options(make_parser().parse_args(given)))


@pytest.mark.slow
def test_a_study_of_own_data_is_named_and_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "own" / "my birds")
    (tmp_path / "data").mkdir()
    given = [*STUDY, "--dataset", "own/my birds/", "--results", "results"]
    done = run_tune_from(tmp_path, given)
    assert ran_to_end(done.returncode, done.stderr), done.stderr + done.stdout
    assert "erm on folder:my birds" in done.stdout
    folder = tmp_path / "results" / "folder:my birds"
    assert (folder / "table.md").exists()
    best = yaml.safe_load((folder / "erm" / "best_config.yaml").read_text())
    assert best["dataset"] == "folder:my birds"
    words = shlex.split(best["command"])
    assert f"{tmp_path}/own/my birds" in words
    for name in ("status", "export"):
        told = run_tune_from(tmp_path, [name, "--results", "results"])
        assert told.returncode == 0, told.stderr
    assert "folder:my birds" in (folder.parent / "best_configs.md").read_text()

    elsewhere = tmp_path / "elsewhere"
    write_images(elsewhere / "own" / "my birds", shade=9)  # other data, to which a path could lead
    done = run_tune_from(elsewhere, words[2:])
    assert ran_to_end(done.returncode, done.stderr), done.stderr
    found = elsewhere / "results-repeated" / "folder:my birds" / "erm" / "best_config.yaml"
    again = yaml.safe_load(found.read_text())
    assert again["provenance"]["data_hash"] == best["provenance"]["data_hash"]
    assert again["provenance"]["seed_keys"] == best["provenance"]["seed_keys"]

    monkeypatch.chdir(tmp_path)
    other = [*STUDY, "--dataset", "elsewhere/own/my birds", "--results", "results"]
    other[1] = "rwg"
    with pytest.raises(UserError, match=r"was made with other data .*give one of the folders"):
        check(other)
    shutil.copy("elsewhere/own/my birds/0.png", "own/my birds/0.png")
    os.utime("own/my birds/0.png")
    same = [*STUDY, "--dataset", "own/my birds", "--results", "results"]
    same[1] = "rwg"
    with pytest.raises(UserError, match="the folder has changed since"):
        check(same)
    with pytest.raises(UserError, match="differs from this command:\n  data_hash"):
        check([*given, "--resume"])


def test_texts_without_weights_and_vocabulary_lack_both_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    folder = tmp_path / "data" / "texts"
    folder.mkdir(parents=True)
    rows = [f"t{row},{'abc'[row // 4]} text,{row // 4},{row % 2}" for row in range(12)]
    (folder / "metadata.csv").write_text("\n".join(["id,text,split,y", *rows]))
    with pytest.raises(UserError) as refused:
        check(["--method", "erm", "--dataset", "folder:texts", "--data-root", str(folder.parent)])
    weights, vocabulary = str(refused.value).splitlines()
    assert "its weights are not on this machine" in weights
    assert "vocab.txt: missing" in vocabulary
