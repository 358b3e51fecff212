"""A last batch of one example, on which batch normalization cannot train."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import datasets
from common.errors import UserError
from core.batch import Output
from core.environment import detect_environment
from core.models.digits_cnn import DigitsCNN
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.evaluation import needs_two_examples
from core.training.loader import count_batches, make_batches
from core.training.run import Run
from datasets.benchmark import Benchmark
from tests.datasets.multitask.test_celeba40 import write_celeba
from tests.support import dense_files

SMALL: dict[str, Any] = {"model": "celeba_cnn_small", "epochs": 2}


@given(
    lengths=st.lists(st.integers(1, 99), min_size=1, max_size=300),
    size=st.integers(1, 9),
    are_texts=st.booleans(),
    seed=st.integers(0, 3),
)
def test_a_single_example_joins_the_batch_before(
    lengths: list[int], size: int, are_texts: bool, seed: int
) -> None:
    n = len(lengths)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))

    def cut(joins_single: bool) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        given = torch.tensor(lengths) if are_texts else None
        return make_batches(order, size, given, generator, joins_single)

    joined, plain = cut(True), cut(False)
    for batches, joins in ((joined, True), (plain, False)):
        assert len(batches) == count_batches(n, size, joins)
        assert sorted(torch.cat(batches).tolist()) == list(range(n))
    sizes = sorted(len(rows) for rows in joined)
    if size > 1 and n % size == 1 and n > 1:
        assert sizes == [size] * (n // size - 1) + [size + 1]
    else:
        assert [rows.tolist() for rows in joined] == [rows.tolist() for rows in plain]


def start(benchmark: Benchmark, method: str, **config: Any) -> Run:
    resolved = resolve_method(load_method(method), benchmark)
    return Run(resolved.make_key(config, 0, detect_environment(gpu=False)), benchmark)


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = tmp_path_factory.mktemp("celeba40")
    write_celeba(root, 14)
    benchmark = datasets.load_benchmark.__wrapped__("celeba40", root)
    assert len(benchmark.splits["train"]) == 7
    return benchmark


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("method", ["ls", "fairgrad", "famo", "stl"])
def test_every_method_trains_with_every_batch_size(
    celeba: Benchmark, method: str, size: int
) -> None:
    run = start(celeba, method, batch_size=size, schedule="cosine_with_restarts", **SMALL)
    rows = [run.train_epoch() for _ in range(2)]
    assert [row.steps for row in rows] == [7 // size] * 2
    assert run.stage_state.lr == pytest.approx(0, abs=1e-9)  # all steps of the schedule are taken


@pytest.mark.parametrize("size", [4, 5, 7, 8])
def test_other_batches_are_left_as_they_are(celeba: Benchmark, size: int) -> None:
    run = start(celeba, "ls", batch_size=size, **SMALL)
    assert not run.stage_state.joins_single
    assert run.train_epoch().steps == -(-7 // size)


def test_batches_of_one_example_are_refused(celeba: Benchmark) -> None:
    with pytest.raises(UserError, match=r"batch_size: received 1.*'celeba_cnn_small' has batch"):
        start(celeba, "ls", batch_size=1, **SMALL)


def test_batch_normalization_over_pixels_trains_on_one_image(tmp_path: Path) -> None:
    dense_files.write_dense(tmp_path, "nyuv2", size=(32, 32))
    benchmark = datasets.load_benchmark.__wrapped__("nyuv2", tmp_path)
    rows = len(benchmark.splits["train"])
    run = start(benchmark, "ls", model="segnet_small", epochs=1, batch_size=rows - 1)
    assert not run.stage_state.joins_single
    assert run.train_epoch().steps == 2


class Normalized(DigitsCNN):
    """A network with batch normalization before its last layer."""

    def __init__(self, outputs: dict[str, int]) -> None:
        super().__init__(outputs)
        self.norm = nn.BatchNorm1d(outputs["y"])

    def forward(self, inputs: torch.Tensor) -> Output:
        found = super().forward(inputs)
        assert isinstance(found.outputs, torch.Tensor)
        return found._replace(outputs=self.norm(found.outputs))


@pytest.mark.parametrize("method", ["erm", "subg", "rwg", "jtt"])
def test_every_sampler_and_stage(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models.digits_cnn.DigitsCNN", Normalized)
    monkeypatch.setattr("core.models._find_models", lambda: {"digits_cnn": Normalized})
    benchmark = datasets.load_benchmark("colored_digits")
    examples = 0
    for _ in range(2):  # the number of examples that the sampler draws, then one batch too many
        size = examples - 1 if examples else 64
        small = {"T": 1, "up": 3} if method == "jtt" else {}
        run = start(benchmark, method, batch_size=size, epochs=1, **small)
        while run.epochs_done < run.total_epochs:
            _, batches = run.prepare_epoch(run.context.locate_epoch(run.epochs_done))
            examples = len(torch.cat(batches))
            run.train_epoch()
    assert needs_two_examples(run.context, run.model)
