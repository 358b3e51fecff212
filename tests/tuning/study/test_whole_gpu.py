"""A trial that does not fit into its share of a GPU gets a whole one, once, and says so."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from core.training.epoch_row import EpochRow
from core.training.run import Run
from tests.support.command import copy_project, ran_to_end, run_tune_in
from tests.support.ray_clusters import cluster_with_declared_gpu
from tests.support.real_searches import search_of
from tests.support.run_records import end_of
from tests.tuning.worker.test_recorded_run import folders, numbers, work
from tuning.records.run_record import RunRecord
from tuning.worker.trial_runner import TrialRunner
from tuning.worker.trial_work import OUT_OF_MEMORY, EpochReport, TrialWork

pytestmark = pytest.mark.study

TRAIN_EPOCH = Run.train_epoch


def too_large(self: Run, *options: Any) -> EpochRow:
    """Stand for a second epoch that takes more memory than there is."""
    if self.epochs_done == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Trial to allocate 2.00 GiB.")
    return TRAIN_EPOCH(self, *options)


def run_out(given: TrialWork, monkeypatch: pytest.MonkeyPatch) -> EpochReport:
    with monkeypatch.context() as patched:
        patched.setattr(Run, "train_epoch", too_large)
        configuration = TrialRunner(given)
        configuration.train_epoch()
        return configuration.train_epoch()


def test_it_goes_on_with_a_whole_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = work(tmp_path / "a")
    (folder,) = folders(given)
    step = run_out(replace(given, gpu_share=0.25), monkeypatch)
    assert step.status == OUT_OF_MEMORY
    assert folder.read_end() is None
    before = folder.read_rows()
    again = TrialRunner(replace(given, gpu_share=1.0))
    steps = [again.train_epoch() for _ in range(3)]
    assert [s.status for s in steps] == ["", "", "completed"]
    assert folder.read_rows()[:1] == before
    assert end_of(folder).retried_whole_gpu
    assert "ran again on a whole GPU after OutOfMemoryError: CUDA out" in end_of(folder).reason
    whole = work(tmp_path / "whole")
    other = TrialRunner(whole)
    for _ in range(3):
        other.train_epoch()
    assert numbers(folder.read_rows()) == numbers(folders(whole)[0].read_rows())
    assert not end_of(folders(whole)[0]).retried_whole_gpu


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0])
def test_who_has_a_whole_gpu_or_none_fails_at_once(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = work(tmp_path)
    step = run_out(replace(given, gpu_share=share), monkeypatch)
    assert step.status == "failed"
    assert "OutOfMemoryError" in step.reason


def test_a_second_time_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = work(tmp_path)
    assert run_out(replace(given, gpu_share=0.5), monkeypatch).status == OUT_OF_MEMORY
    assert run_out(replace(given, gpu_share=0.5), monkeypatch).status == "failed"  # wrongly handed
    (folder,) = folders(given)
    assert end_of(folder).status == "failed"
    assert end_of(folder).retried_whole_gpu


def test_it_waits_for_a_whole_gpu_also_after_a_resume(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=1, search="random")
    trial = search.next_trial()
    assert trial is not None
    trial.runs[0].write_oom_reason("OutOfMemoryError: too large")  # as its actor does
    assert not search.report_epoch(
        trial, EpochReport(status=OUT_OF_MEMORY, reason="OutOfMemoryError: too large")
    )
    assert not trial.is_finished
    for session in (search, search_of(tmp_path, trials=1, search="random")):
        assert session.next_trial() is None
        waiting = session.next_trial(whole_gpu=True)
        assert waiting is not None
        assert waiting.number == trial.number


HUNGRY = '''
"""A network that takes large batches only where it has a whole GPU, as Ray counts it."""
import ray
import torch
from core.models.digits_cnn import DigitsCNN

class Hungry(DigitsCNN):
    large = False

    def forward(self, inputs):
        self.large = self.large or (self.training and len(inputs) > 32)
        if self.large and ray.is_initialized():
            mine = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
            if mine < 1:
                raise torch.OutOfMemoryError(f"CUDA out of memory. {mine:g} of a GPU is mine")
        return super().forward(inputs)
'''


@pytest.fixture
def declared_gpu() -> Iterator[str]:
    """A Ray cluster with a GPU that is only declared; gives its address."""
    with cluster_with_declared_gpu("whole") as address:
        yield address


@pytest.mark.cluster
@pytest.mark.slow
def test_a_study_on_shares(declared_gpu: str, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "core" / "models" / "hungry.py").write_text(HUNGRY)
    results = tmp_path / "results"
    done = run_tune_in(
        project,
        ["--method", "erm", "--dataset", "colored_digits", "--search", "grid", "--epochs", "2",
         "--seeds", "1", "--set", "model=hungry", "--set", "lr=0.05", "--set", "weight_decay=0.001",
         "--scheduler", "none", "--gpus-per-trial", "0.5", "--address", declared_gpu,
         "--results", results],
    )  # fmt: skip
    assert ran_to_end(done.returncode, done.stderr), done.stdout + done.stderr
    assert "; up to 2 trials in parallel on 1 node" in done.stdout
    trials = pd.read_csv(results / "colored_digits" / "erm" / "trials.csv")
    assert set(trials.status) == {"completed"}
    assert sorted(trials.batch_size) == [16, 32, 64]
    retried = trials[trials.reason.notna()]
    assert list(retried.batch_size) == [64]
    assert retried.reason.str.contains("whole GPU after BatchTooLarge").all()
    small = trials[trials.reason.isna()]
    share, whole = (part.device_hours / part.seconds * 3600 for part in (small, retried))
    assert share.round(6).eq(0.5).all()
    assert whole.round(6).eq(1.0).all()
    runs = [RunRecord(p.parent) for p in (tmp_path / "results.records").rglob("end.json")]
    marked = [end_of(run).retried_whole_gpu for run in runs]
    assert sum(marked) in (1, 2)  # the trial, and its seed if it won
    assert not list((tmp_path / "results.records").rglob("oom.json"))
