"""Weights and conflicts of an epoch's steps are those of a plain computation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import datasets
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.context import EpochPosition
from core.training.epoch_row import EpochRow
from core.training.run import Run
from core.training.step_inputs import TrainingInputs
from core.training.step_statistics import BUFFERED_STEPS, StepStatistics
from datasets.multitask.dense_metrics import StepNormals
from tests.support.dense_files import write_dense

CPU = torch.device("cpu")
NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize("steps", [1, BUFFERED_STEPS, 2 * BUFFERED_STEPS + 3])
@pytest.mark.parametrize("has_absent", [False, True])
def test_statistics_are_those_of_all_steps(steps: int, has_absent: bool) -> None:
    random = np.random.default_rng(steps)
    statistics = StepStatistics(NAMES, CPU)
    weights: dict[str, list[float]] = {name: [] for name in NAMES}
    norms: dict[str, list[float]] = {name: [] for name in NAMES}
    signs = []
    for step in range(steps):
        mask = random.random(4) < 0.6 if has_absent and step else np.ones(4, bool)
        if not mask.any():
            mask[0] = True
        rows = random.standard_normal((int(mask.sum()), 3))
        given = np.where(mask, random.random(4), 0)
        gram = rows @ rows.T
        statistics.add_step(
            torch.from_numpy(given).float(), torch.from_numpy(gram), torch.from_numpy(mask)
        )
        present = [name for name, here in zip(NAMES, mask, strict=True) if here]
        for place, name in enumerate(present):
            weights[name].append(given[NAMES.index(name)])
            norms[name].append(float(np.linalg.norm(rows[place])))
        signs += [gram[i, j] < 0 for i in range(len(rows)) for j in range(i)]
    found, conflicts = statistics.summarize()
    assert found is not None
    assert conflicts is not None
    for name, values in weights.items():
        expected = {"mean": np.mean(values), "min": min(values), "max": max(values)}
        assert found[name] == pytest.approx(expected, rel=1e-6)
    assert conflicts["norms"] == pytest.approx({n: np.mean(v) for n, v in norms.items()})
    assert conflicts["negative_cosines"] == pytest.approx(np.mean(signs))


def test_one_loss_and_no_steps_have_none() -> None:
    assert StepStatistics(NAMES, CPU).summarize() == (None, None)
    alone = StepStatistics(("a",), CPU)
    alone.add_step(torch.ones(1), torch.ones(1, 1), None)
    assert alone.summarize() == (None, None)


def train_one_step(method: str, **values: float) -> tuple[EpochRow, Tensor]:
    """Return the row of an epoch of one step, and the tasks' gradients at its start."""
    benchmark = datasets.load_benchmark("two_digits")
    size = len(benchmark.splits["train"])
    resolved = resolve_method(load_method(method), benchmark)
    config = {"batch_size": size, "epochs": 1, **values}
    key = resolved.make_key(config, 0, detect_environment(gpu=False))
    run = Run(key, benchmark)
    trainer, (rows,) = run.prepare_epoch(EpochPosition(0, 0))
    run.model.train()
    ((_, batch),) = run.context.loader.load_batches("train", [rows])
    losses = trainer._join_covered(trainer._compute_losses(TrainingInputs(batch, {}))[0])
    gradients = [
        torch.cat(
            [
                torch.zeros(p.numel()) if g is None else g.flatten()
                for p, g in zip(
                    trainer.shared,
                    torch.autograd.grad(loss, trainer.shared, retain_graph=True, allow_unused=True),
                    strict=True,
                )
            ]
        )
        for loss in losses
    ]
    return Run(key, benchmark).train_epoch(), torch.stack(gradients).double()


@pytest.mark.parametrize("method", ["fairgrad", "cagrad", "mgda", "pcgrad", "graddrop", "moco"])
def test_conflicts_are_those_of_the_tasks_gradients(method: str) -> None:
    row, gradients = train_one_step(method)
    gram = gradients @ gradients.T
    upper = [float(gram[i, j]) for i in range(3) for j in range(i)]
    assert row.conflicts is not None
    norms = dict(zip(row.losses, gradients.norm(dim=1).tolist(), strict=True))
    assert row.conflicts["norms"] == pytest.approx(norms, rel=1e-4)
    assert row.conflicts["negative_cosines"] == sum(value < 0 for value in upper) / 3


def test_weights_are_the_derivatives_of_the_objective() -> None:
    row, _ = train_one_step("ls")
    assert row.weights is not None
    assert set(row.weights) == set(row.losses)
    first = next(iter(row.weights.values()))
    assert all(found == pytest.approx(first) for found in row.weights.values())
    assert row.conflicts is None
    scale_free, _ = train_one_step("si")
    assert scale_free.weights is not None
    assert {name: found["mean"] for name, found in scale_free.weights.items()} == pytest.approx(
        dict.fromkeys(row.losses, 1.0)
    )  # of the losses' logarithms, whose sum is descended
    fair, gradients = train_one_step("fairgrad", alpha=2.0)
    assert fair.weights is not None
    weights = torch.tensor([fair.weights[name]["mean"] for name in fair.losses]).double()
    residual = (gradients @ gradients.T) @ weights - weights ** (-1 / 2.0)
    assert float((residual / weights ** (-1 / 2.0)).abs().max()) < 1e-3


def test_split_batches_have_the_weights_of_whole_ones() -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    resolved = resolve_method(load_method("erm_l1"), benchmark)
    found = []
    for size in (0, 8):
        config = {"epochs": 1, "microbatch": size, "batch_size": 32, "reg": 0.5}
        key = resolved.make_key(config, 0, detect_environment(gpu=False))
        found.append(Run(key, benchmark).train_epoch().weights)
    expected = {"end_task": 1.0, "l1": 0.5}
    for weights in found:
        assert weights is not None
        assert {name: weights[name]["max"] for name in weights} == pytest.approx(expected)


def test_dense_tasks_report_the_metrics_of_their_steps(tmp_path: Path) -> None:
    write_dense(tmp_path, "nyuv2")
    benchmark = datasets.load_benchmark("nyuv2", str(tmp_path))
    resolved = resolve_method(load_method("ls"), benchmark)
    config: Hyperparameters = {"model": "segnet_small", "epochs": 1}
    key = resolved.make_key(config, 0, detect_environment(gpu=False))
    row = Run(key, benchmark).train_epoch(measure_training=True)
    for found in (row.training, row.training_batches):
        assert found is not None
        assert set(found) == set(benchmark.higher_is_better)
        assert all(math.isfinite(value) for value in found.values())
    assert row.training != row.training_batches
    assert EpochRow.from_dict(row.as_dict()) == row


def test_normals_of_steps_are_means_over_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    meter, expected = StepNormals(), []
    for _ in range(3):
        output, target = (
            torch.nn.functional.normalize(torch.randn(2, 3, 5, 7, generator=generator), dim=1)
            for _ in range(2)
        )
        target[:, :, 0] = 0
        errors = meter.update(output, target)
        cosine = (output * target).sum(dim=1)[(target != 0).any(dim=1)].clamp(-1, 1)
        angles = np.rad2deg(np.arccos(cosine.double().numpy()))
        shares = [(angles < limit).mean() for limit in (11.25, 22.5, 30.0)]
        expected.append([angles.mean(), np.median(angles), *shares])
        assert errors.mean() == pytest.approx(angles.mean(), rel=1e-4)
    found = list(meter.compute_metrics().values())
    means = np.mean(expected, axis=0)
    assert found[0] == pytest.approx(means[0], rel=1e-4)
    assert found[1] == pytest.approx(means[1], abs=3)  # of an even number, torch takes the lower
    assert found[2:] == pytest.approx(means[2:], abs=0.02)
