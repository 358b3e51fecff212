"""Steps as CUDA graphs against the same steps without."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import datasets
from benchmarks.gpu import small_runs
from common.hyperparameters import Hyperparameters
from core import step_graphs
from core.batch import Batch
from core.environment import detect_environment
from core.garbage import pause_garbage_collection
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.step_graphs import StepGradients, StepGraphs
from core.training.run import Run
from core.weighting import load_weighting
from tests.support.dense_files import write_dense

PAIRS = [
    ("erm", "colored_digits"),
    ("dro", "colored_digits"),
    *(
        (name, "imbalanced_tasks")
        for name in ("ls", "uw", "dwa", "rlw", "fairgrad", "cagrad", "mgda")
    ),
]
OPTIONS: dict[str, Hyperparameters] = {"mgda": {"normalization": "loss"}}  # by method


def make_run(method: str, dataset: str, precision: str) -> Run:
    benchmark = datasets.load_benchmark(dataset)
    environment = detect_environment(True, 1, True, precision)
    resolved = resolve_method(load_method(method), benchmark)
    config: Hyperparameters = {"epochs": 3, "batch_size": 64, **OPTIONS.get(method, {})}
    return Run(resolved.make_key(config, 0, environment), benchmark)


def make_dense_run(method: str, folder: Path) -> Run:
    benchmark = datasets.load_benchmark("nyuv2", str(folder))
    config: Hyperparameters = {"model": "segnet_small", "epochs": 3}
    key = resolve_method(load_method(method), benchmark).make_key(
        # torch has no deterministic kernel for the cross-entropy of pixels on a GPU.
        config,
        0,
        detect_environment(True, 1, False, "float32"),
    )
    return Run(key, benchmark)


def train(run: Run) -> list[dict[str, Any]]:
    """Train the epochs that are left; return their rows without the time."""
    rows = []
    while run.epochs_done < run.total_epochs:
        rows.append({k: v for k, v in run.train_epoch().as_dict().items() if k != "seconds"})
    return rows


def copy_weights(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


class Cycle:
    """An object that only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_no_garbage_is_collected_during_a_capture() -> None:
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        with pause_garbage_collection():
            reference = weakref.ref(Cycle())
            assert [Cycle() for _ in range(100)]
            assert reference() is not None
        assert gc.isenabled()
        assert [Cycle() for _ in range(100)]
        assert reference() is None
    finally:
        gc.set_threshold(*before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("method", "dataset"), PAIRS)
def test_graphs_compute_the_numbers_of_single_kernels(
    method: str, dataset: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (method, dataset, precision)
    captured = make_run(*given)
    rows = train(captured)
    assert captured.stage_state.graphs.count > 0
    resumed = make_run(*given)
    first = make_run(*given)
    assert [first.train_epoch().losses] == [rows[0]["losses"]]
    resumed.load_state(first.make_state())
    assert train(resumed) == rows[1:]
    monkeypatch.setattr(step_graphs, "MAX_GRAPHS", 0)
    single = make_run(*given)
    assert train(single) == rows
    assert single.stage_state.graphs.count == 0
    for run in (single, resumed):
        assert torch.equal(copy_weights(run), copy_weights(captured))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dataset", ["made_texts", "made_images"])
def test_graphs_read_examples_that_are_drawn_before_them(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("erm_mt_l1", dataset, "cuda", "float32", True)
    captured = small_runs.make_run(*given, epochs=6)
    rows = train(captured)
    assert captured.stage_state.graphs.count > 0
    monkeypatch.setattr(step_graphs, "MAX_GRAPHS", 0)
    single = small_runs.make_run(*given, epochs=6)
    assert train(single) == rows
    assert torch.equal(copy_weights(single), copy_weights(captured))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_steps_that_cuda_cannot_capture_are_computed_without_graphs() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, device="cuda"))

    def compute(batch: Batch) -> StepGradients:
        parameter.grad = None
        loss = (parameter * batch.inputs).sum()
        loss.backward()
        assert loss.item() == 3.0  # waits for the device
        return StepGradients(loss.detach()[None], torch.ones(1, device="cuda"))

    graphs = StepGraphs(torch.optim.SGD([parameter], lr=0.1), load_weighting("ls"))
    batch = Batch(torch.arange(3.0, device="cuda"), {}, None)
    for _ in range(3):
        assert graphs.compute_gradients(batch, compute).losses.tolist() == [3.0]
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, batch.inputs)
        assert torch.randn(1, device="cuda").isfinite()  # the generator draws again
    assert graphs.count == 0


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_capture_that_fails_leaves_the_weighting_as_it_was(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    weighting = load_weighting("dro")
    weighting.setup(["first", "second"])
    graphs = StepGraphs(torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1), weighting)
    kept = dict(weighting.named_buffers())
    assert kept

    def fail_to_capture(*arguments: object) -> None:
        graphs._buffers = kept
        for name, buffer in kept.items():
            setattr(weighting, name, torch.full_like(buffer, torch.nan))
        raise error("no graph")

    monkeypatch.setattr(graphs, "_capture_graph", fail_to_capture)
    batch = Batch(torch.zeros(3), {}, None)
    assert graphs._try_to_capture(batch, lambda _: StepGradients(kept["x"], kept["x"])) is None
    assert all(weighting.get_buffer(name) is buffer for name, buffer in kept.items())
    assert not graphs.free()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["ls", "fairgrad"])
def test_graphs_measure_the_steps_of_dense_tasks(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dense(tmp_path, "nyuv2")
    captured = make_dense_run(method, tmp_path)
    rows = train(captured)
    assert captured.stage_state.graphs.count > 0
    assert all(row["training_batches"] for row in rows)
    monkeypatch.setattr(step_graphs, "MAX_GRAPHS", 0)
    single = make_dense_run(method, tmp_path)
    for found, expected in zip(train(single), rows, strict=True):
        assert found["losses"] == pytest.approx(expected["losses"], rel=0.02)
    torch.testing.assert_close(copy_weights(single), copy_weights(captured), rtol=0.02, atol=1e-3)
