"""From splits to batches."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import datasets
from benchmarks.gpu.small_runs import load_benchmark
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training import loader as data
from core.training.loader import WINDOW_BATCHES, AuxiliarySampler, Loader, make_batches
from core.training.run import Run
from datasets.benchmark import Benchmark
from tests.support import dense_files

CPU = torch.device("cpu")


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=400),
    size=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_batches_of_texts_hold_every_row_once_and_are_padded_less(
    lengths: list[int], size: int, seed: int
) -> None:
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    given_lengths = torch.tensor(lengths)
    found = make_batches(order, size, given_lengths, torch.Generator().manual_seed(seed))
    assert sorted(torch.cat(found).tolist()) == list(range(len(lengths)))
    plain = make_batches(order, size, None)

    def positions(batches: list[torch.Tensor]) -> int:
        return sum(int(given_lengths[rows].max()) * len(rows) for rows in batches)

    if len(lengths) <= WINDOW_BATCHES * size and len(lengths) % size == 0:
        assert positions(found) <= positions(plain)
    assert all(len(rows) == size for rows in plain[:-1])


def test_texts_are_sorted_within_windows_only() -> None:
    lengths = torch.arange(1000)
    order = torch.arange(1000).flip(0)
    found = make_batches(order, 2, lengths)
    first = torch.cat(found[:WINDOW_BATCHES])
    assert set(first.tolist()) == set(order[: WINDOW_BATCHES * 2].tolist())


@pytest.fixture
def texts(tmp_path: Path) -> Benchmark:
    """60 texts of 3 to 62 tokens for training, and four more for each of the other splits."""
    root = tmp_path / "folder"
    (root / "tokenizer").mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]
    (root / "tokenizer" / "vocab.txt").write_text("\n".join(words) + "\n")
    rows = [(f"{i},0,{i % 2},{i // 2 % 2}", i + 1) for i in range(60)]
    rows += [(f"{60 + i},{1 + i // 4},{i % 2},{i // 2 % 2}", 1) for i in range(8)]
    lines = [f"{row},{'word ' * length}" for row, length in rows]
    (root / "metadata.csv").write_text("\n".join(["id,split,y,a,text", *lines]))
    return datasets.load_benchmark("folder", tmp_path)


def test_a_short_batch_in_the_middle_leaves_the_others_whole(texts: Benchmark) -> None:
    sizes = [7, 4, 7, 7, 7, 7, 7, 7, 7]
    others = AuxiliarySampler(Loader(texts, CPU), torch.Generator().manual_seed(0))
    drawn = [others.draw_batch(size).inputs for size in sizes]
    lengths = torch.cat([batch.attention_mask.sum(1) for batch in drawn])
    assert sorted(lengths.tolist()) == list(range(3, 63))  # each text once
    anyhow = torch.randperm(60, generator=torch.Generator().manual_seed(0)) + 3
    padded = sum(int(part.max()) * len(part) for part in anyhow.split(sizes))
    assert sum(batch.ids.numel() for batch in drawn) < 0.75 * padded


@pytest.mark.deviation("auxiliary-draws")
@pytest.mark.parametrize("count", [1, 6, 7, 25, 90])
def test_other_examples_come_once_each_and_are_padded_less(texts: Benchmark, count: int) -> None:
    loader = Loader(texts, CPU)
    others = AuxiliarySampler(loader, torch.Generator().manual_seed(0))
    drawn = [others.draw_batch(count).inputs for _ in range(max(1, 60 // count))]
    lengths = torch.cat([batch.attention_mask.sum(1) for batch in drawn])
    assert all(len(batch.ids) == count for batch in drawn)
    assert lengths.bincount().max() == -(-count // 60)  # no text has another one's length
    if count in (6, 7):
        drawn_anyhow = torch.randperm(60, generator=torch.Generator().manual_seed(0)) + 3
        anyhow = [part.max() for part in drawn_anyhow[: len(lengths)].split(count)]
        assert sum(batch.ids.shape[1] for batch in drawn) < 0.7 * sum(anyhow)
    assert len(others.draw_batch(3).inputs.ids) == 3  # as the last batch of an epoch


def test_the_same_order_twice_from_one_seed() -> None:
    lengths = torch.randint(1, 99, (500,))
    order = torch.randperm(500)
    one, two = (make_batches(order, 8, lengths, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("name", ["colored_digits", "two_digits"])
def test_batches_are_the_rows(name: str, resident: bool) -> None:
    benchmark = datasets.load_benchmark(name)
    loader = Loader(benchmark, CPU, resident=resident)  # else as where a GPU has no room
    split = benchmark.splits["train"]
    parts = list(torch.randperm(len(split)).split(100))
    for rows, (given_rows, batch) in zip(parts, loader.load_batches("train", parts), strict=True):
        assert torch.equal(rows, given_rows)
        assert torch.equal(batch.inputs, split.inputs[rows])
        for task, target in split.targets.items():
            assert torch.equal(batch.targets[task], target[rows])


def test_two_runs_of_a_process_share_the_data() -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    one, two = (Loader(benchmark, CPU).get_split("train") for _ in range(2))
    assert one.targets["y"].data_ptr() == two.targets["y"].data_ptr()
    assert data._copy_to_device.cache_info().currsize <= 1


def test_an_epoch_of_resident_data_opens_nothing_and_copies_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense_files.write_dense(tmp_path, "nyuv2")
    benchmark = datasets.load_benchmark("nyuv2", tmp_path)
    config: Hyperparameters = {"epochs": 2, "model": "segnet_small", "batch_size": 4}
    key = resolve_method(load_method("ls"), benchmark).make_key(
        config, 0, detect_environment(gpu=False)
    )
    run = Run(key, benchmark)
    run.train_epoch()

    def refuse(*given: Any, **_: Any) -> None:
        raise AssertionError(f"opened {given[0]}")

    for place, name in ((builtins, "open"), (np, "load"), (np, "memmap"), (Image, "open")):
        monkeypatch.setattr(place, name, refuse)
    # Of what lies on the device already, .to gives the tensor itself; anything else is counted.
    moved: list[int] = []
    original = torch.Tensor.to

    def counted(tensor: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        found = original(tensor, *given, **named)
        if found.data_ptr() != tensor.data_ptr():
            moved.append(tensor.nbytes)
        return found

    monkeypatch.setattr(torch.Tensor, "to", counted)
    run.train_epoch()
    train = run.context.loader.get_split("train")
    assert isinstance(train.inputs, torch.Tensor)
    assert train.inputs.data_ptr() == benchmark.splits["train"].inputs.data_ptr()  # type: ignore[attr-defined]
    assert sum(moved) < train.nbytes / 10  # boxes and scales of the augmentation, no frames


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_small_data_are_resident() -> None:
    loader = Loader(datasets.load_benchmark("colored_digits"), torch.device("cuda"))
    assert loader.resident
    batch = loader.load_batch("train", torch.arange(4))
    assert batch.inputs.device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("name", ["colored_digits", "made_texts", "made_images"])
def test_batches_are_copied_from_the_host_beside_the_steps(name: str) -> None:
    benchmark = load_benchmark(name)
    device = torch.device("cuda")
    host, placed = (Loader(benchmark, device, resident=resident) for resident in (False, True))
    parts = list(torch.randperm(len(host.train)).split(32))
    busy = torch.randn(2048, 2048, device=device)
    expected = [batch for _, batch in placed.load_batches("train", parts)]
    next(host.load_batches("train", parts[:1]))  # makes the stream
    found = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _, batch in host.load_batches("train", parts):
            busy = busy @ busy / busy.norm()  # the copies do not wait for it
            found.append([tensor.clone() for tensor in data._list_tensors(batch)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for given_tensors, batch in zip(found, expected, strict=True):
        for one, two in zip(given_tensors, data._list_tensors(batch), strict=True):
            assert torch.equal(one, two)
